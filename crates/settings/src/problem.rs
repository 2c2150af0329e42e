//! What is wrong with a settings file, in words for the person who has to mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, counted from 1, when the problem has one.
    pub line: Option<u32>,
    /// Path of the key, such as `sources[1].url`; empty for the file as a whole.
    pub key: String,
    /// The value found, what is allowed, what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            // An address may have been written where a key belongs.
            write!(f, "{}: ", secrets::hide_secrets(&self.key))?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with one file; never empty when it is an `Err`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    /// The file, when the settings came from one.
    pub file: Option<PathBuf>,
    /// In the order of the file where that is known.
    pub list: Vec<Problem>,
}

impl Problems {
    pub(crate) fn one(line: Option<u32>, message: String) -> Self {
        let problem = Problem {
            line,
            key: String::new(),
            message,
        };
        Self {
            file: None,
            list: vec![problem],
        }
    }

    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = match self.list.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        match &self.file {
            Some(file) => write!(f, "{count} in {}", file.display())?,
            None => write!(f, "{count} in the settings")?,
        }
        for problem in &self.list {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
