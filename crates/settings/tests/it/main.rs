//! What a user writes, and what comes of it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod blur;
mod files;
mod old_files;
mod problems;
mod recorder;
mod schedule;
mod system;
mod urls;

use settings::Environment;
use std::path::PathBuf;

/// An environment with three variables and a program directory.
fn environment() -> Environment<'static> {
    Environment {
        variable: &|name| match name {
            "CAMERA_PASSWORD" => Some("p@ss/wörd".to_owned()),
            "EMPTY" => Some(String::new()),
            "PLACE" => Some("gate".to_owned()),
            _ => None,
        },
        program_dir: Some(PathBuf::from("/opt/bin")),
    }
}
