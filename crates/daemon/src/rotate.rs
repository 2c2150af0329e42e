//! A log file that starts anew when it has grown large. The last few are kept as `x.log.1`, `x.log.2`.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Appends to a file and turns it over before it grows beyond a size.
///
/// Writing never fails: a full disk must not stop a daemon. Lines lost that way are counted, and the
/// count is written as soon as there is room again.
pub(crate) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: Option<File>,
    written: u64,
    lost: u64,
}

impl RotatingFile {
    /// Opens the file, behind what it holds already.
    pub(crate) fn open(path: PathBuf, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let file = append(&path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path,
            max_bytes,
            keep,
            file: Some(file),
            written,
            lost: 0,
        })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.written > 0 && self.written + line.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            missing => missing.insert(append(&self.path)?),
        };
        if self.lost > 0 {
            writeln!(file, "({} log lines were lost here)", self.lost)?;
            self.lost = 0;
        }
        file.write_all(line)?;
        self.written += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for n in (1..self.keep).rev() {
            // A missing one leaves a hole in the numbers, which harms nobody.
            rename(numbered(&self.path, n), numbered(&self.path, n + 1)).ok();
        }
        rename(&self.path, numbered(&self.path, 1))?;
        self.written = 0;
        self.file = Some(append(&self.path)?);
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.write_line(line).is_err() {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_over_and_keeps_the_last_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = RotatingFile::open(path.clone(), 20, 2).unwrap();
        for i in 0..7 {
            log.write_all(format!("line {i} ..\n").as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "line 6 ..\n");
        assert_eq!(read(&numbered(&path, 1)), "line 4 ..\nline 5 ..\n");
        assert_eq!(read(&numbered(&path, 2)), "line 2 ..\nline 3 ..\n");
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        for _ in 0..3 {
            RotatingFile::open(path.clone(), 20, 2)
                .unwrap()
                .write_all(b"12345678\n")
                .unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "12345678\n");
        assert_eq!(std::fs::metadata(numbered(&path, 1)).unwrap().len(), 18);
    }

    #[test]
    fn says_how_many_lines_were_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x.log");
        let mut log = RotatingFile {
            path: path.clone(),
            max_bytes: 100,
            keep: 2,
            file: None,
            written: 0,
            lost: 0,
        };
        log.write_all(b"a\n").unwrap();
        log.write_all(b"b\n").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        log.write_all(b"c\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "(2 log lines were lost here)\nc\n"
        );
    }
}
