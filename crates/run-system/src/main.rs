//! Runs the recorder and the blur processor. See `run-system --help`.

use clap::Parser;
use run_system::cli::Cli;
use run_system::setup::NotUsable;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run_system::run(&cli).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let text = format!("{error:#}");
            daemon::complain!("run-system: {}", daemon::redact::text(&text));
            ExitCode::from(match error.downcast_ref::<NotUsable>() {
                Some(_) => daemon::exit::SETTINGS,
                None => daemon::exit::FAILED,
            })
        }
    }
}
