//! Words for whoever reads standard output or standard error.
//!
//! The standard library's `println!` panics where nobody reads any more, as behind `| head`, and would end work that is
//! half done for it.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// As `println!`; when nobody reads any more there is nobody to tell.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::say::to_stdout(format_args!($($words)*)) };
}

/// As `eprintln!`; when nobody reads any more there is nobody to tell.
#[macro_export]
macro_rules! complain {
    ($($words:tt)*) => { $crate::say::to_stderr(format_args!($($words)*)) };
}

/// What [`say!`](crate::say!) does.
pub fn to_stdout(words: Arguments<'_>) {
    writeln!(io::stdout().lock(), "{words}").ok();
}

/// What [`complain!`](crate::complain!) does.
pub fn to_stderr(words: Arguments<'_>) {
    writeln!(io::stderr().lock(), "{words}").ok();
}
