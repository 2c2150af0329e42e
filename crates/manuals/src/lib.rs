//! Two commands that every program has: its completions for shells, and its manual page, both made from its command line.
//!
//! It writes to what it is given and does nothing else.

use clap::{Subcommand, ValueEnum};
use clap_complete::{generate, shells};
use std::io::{self, Write};

/// To be flattened into a program's own commands.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Print what lets a shell complete this program's options.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// A shell that can complete options.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

impl Command {
    /// Writes what was asked for of that command line to standard output.
    ///
    /// # Errors
    /// Of writing.
    pub fn print(self, of: clap::Command) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.write(of, &mut bytes)?;
        io::stdout().lock().write_all(&bytes)
    }

    fn write(self, mut of: clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
        let name = of.get_name().to_owned();
        match self {
            Self::Completions { shell } => match shell {
                Shell::Bash => generate(shells::Bash, &mut of, name, out),
                Shell::Zsh => generate(shells::Zsh, &mut of, name, out),
                Shell::Fish => generate(shells::Fish, &mut of, name, out),
            },
            Self::Man => {
                of.build();
                clap_mangen::Man::new(of.clone()).render(out)?;
                for command in of.get_subcommands().filter(|sub| sub.get_name() != "help") {
                    if command.is_hide_set() {
                        continue;
                    }
                    // One page for all: each command follows as a section of its own.
                    let page = clap_mangen::Man::new(command.clone());
                    let title = command.get_name().to_uppercase();
                    writeln!(out, ".SH \"COMMAND {title}\"")?;
                    page.render_description_section(out)?;
                    page.render_options_section(out)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(command: Command) -> String {
        let look = clap::Command::new("look").about("Looks");
        let of = clap::Command::new("probe-thing")
            .about("Looks at things")
            .arg(clap::Arg::new("depth").long("how-deep"))
            .subcommand(look)
            .subcommand(clap::Command::new("secret").hide(true));
        let mut out = Vec::new();
        command.write(of, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_shell_and_the_manual_know_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = written(Command::Completions { shell });
            assert!(
                text.contains("probe-thing") && text.contains("how-deep"),
                "{text}"
            );
        }
        let page = written(Command::Man);
        assert!(
            page.contains("how\\-deep") && page.contains("COMMAND LOOK"),
            "{page}"
        );
        assert!(
            !page.contains("secret") && !page.contains("SECRET"),
            "{page}"
        );
    }
}
