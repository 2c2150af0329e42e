//! A log file that starts anew when it has grown large. The last few are kept as `x.log.1`, `x.log.2`. One that somebody
//! else moves away or deletes (logrotate, `rm`) starts anew, too.

use std::fs::{File, OpenOptions, metadata, rename};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked whether the file is still the one of that name.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    look_every: Duration,
    looked: Instant,
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
            look_every: LOOK_EVERY,
            looked: Instant::now(),
        })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= self.look_every {
            self.look();
        }
        if self.is_full(line) {
            // Nobody else's file is renamed.
            self.look();
        }
        if self.is_full(line) {
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

    fn is_full(&self, line: &[u8]) -> bool {
        self.written > 0 && self.written + line.len() as u64 > self.max_bytes
    }

    /// Lets go of a file that has lost its name.
    fn look(&mut self) {
        self.looked = Instant::now();
        let Some(Ok(ours)) = self.file.as_ref().map(File::metadata) else {
            return;
        };
        match metadata(&self.path) {
            // Also when somebody made it shorter.
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                self.written = named.len();
            }
            Ok(named) => {
                self.file = None;
                self.written = named.len();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.file = None;
                self.written = 0;
            }
            // Nothing is known, and nothing gained by letting go.
            Err(_) => {}
        }
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

    /// A log that looks before every line whether its file is still there.
    fn watchful(path: &Path, max_bytes: u64) -> RotatingFile {
        let log = RotatingFile::open(path.to_owned(), max_bytes, 2).expect("it can be opened");
        RotatingFile {
            look_every: Duration::ZERO,
            ..log
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("it can be read")
    }

    #[test]
    fn goes_on_under_its_name_when_the_file_is_deleted_moved_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let moved = dir.path().join("moved");
        let mut log = watchful(&path, 100);
        log.write_all(b"a\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        log.write_all(b"b\n").unwrap();
        assert_eq!(read(&path), "b\n");
        rename(&path, &moved).unwrap();
        log.write_all(b"c\n").unwrap();
        assert_eq!((read(&moved), read(&path)), ("b\n".into(), "c\n".into()));
        rename(&path, &moved).unwrap();
        std::fs::write(&path, "made by logrotate\n").unwrap();
        log.write_all(b"d\n").unwrap();
        assert_eq!(read(&path), "made by logrotate\nd\n");
    }

    #[test]
    fn what_somebody_else_moved_away_is_not_turned_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = RotatingFile::open(path.clone(), 20, 2).unwrap();
        log.write_all(b"nearly full and so on\n").unwrap();
        rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "new\n").unwrap();
        log.write_all(b"a\n").unwrap();
        assert_eq!(read(&path), "new\na\n");
        assert!(!numbered(&path, 1).exists());
    }

    #[test]
    fn a_file_that_was_emptied_has_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = watchful(&path, 20);
        log.write_all(b"123456789012345678\n").unwrap();
        std::fs::write(&path, "").unwrap();
        log.write_all(b"a\n").unwrap();
        assert_eq!(read(&path), "a\n");
        assert!(!numbered(&path, 1).exists());
    }

    #[test]
    fn does_not_look_before_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = RotatingFile::open(path.clone(), 100, 2).unwrap();
        log.looked = Instant::now() + Duration::from_secs(3600);
        std::fs::remove_file(&path).unwrap();
        log.write_all(b"a\n").unwrap();
        assert!(!path.exists());
        log.looked = Instant::now() - LOOK_EVERY;
        log.write_all(b"b\n").unwrap();
        assert_eq!(read(&path), "b\n");
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
            look_every: LOOK_EVERY,
            looked: Instant::now(),
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
