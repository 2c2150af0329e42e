//! `queue` and `retry`: what is in the queue, and putting back what was given up.

use std::process::ExitCode;
use std::time::SystemTime;

use daemon::exit;
use settings::BlurSettings;
use ticket_queue::{DirectoryQueue, Entry, Options, Queue as _, RetryWhich, State, Stats, Stem};

/// Arguments of `queue`.
#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// Every waiting ticket too, not only those that need attention.
    #[arg(long)]
    all: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct RetryArguments {
    /// Name of the ticket, as `queue` shows it.
    stem: Option<String>,
    /// All tickets that were given up.
    #[arg(long)]
    all: bool,
}

/// Shows the queue.
///
/// # Errors
/// The queue cannot be read.
pub fn show(arguments: &ShowArguments, settings: &BlurSettings) -> anyhow::Result<ExitCode> {
    let queue = open(settings)?;
    let (stats, entries) = (queue.stats()?, queue.list()?);
    if arguments.json {
        let whole = serde_json::json!({ "stats": stats, "tickets": entries });
        daemon::say!("{}", serde_json::to_string_pretty(&whole)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_stats(&stats);
    for entry in &entries {
        if arguments.all || entry.state != State::Ready {
            print_entry(entry);
        }
    }
    if let Some(way) = way_back(&stats) {
        daemon::say!("\nput back with: blur-processor {way}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts tickets back.
///
/// # Errors
/// The name is not one, nothing of that name was given up, the disk.
pub fn retry(arguments: &RetryArguments, settings: &BlurSettings) -> anyhow::Result<ExitCode> {
    let which = match &arguments.stem {
        Some(stem) => RetryWhich::One(stem.trim_end_matches(".json").parse()?),
        None => RetryWhich::All,
    };
    match open(settings)?.retry_in(&which, &settings.raw_dir, &settings.output_dir) {
        Ok(stems) => {
            print_put_back(&stems);
            Ok(ExitCode::SUCCESS)
        }
        Err(ticket_queue::Error::NotAllBack { back, source }) => {
            print_put_back(&back);
            Err(anyhow::Error::from(*source).context("not all could be put back"))
        }
        Err(error @ ticket_queue::Error::NotFound { .. }) => {
            daemon::complain!("{error}");
            Ok(ExitCode::from(exit::FAILED))
        }
        Err(error) => Err(error.into()),
    }
}

fn print_put_back(stems: &[Stem]) {
    stems
        .iter()
        .for_each(|stem| daemon::say!("{stem} is back in the queue"));
    daemon::say!("{} put back", stems.len());
}

fn open(settings: &BlurSettings) -> anyhow::Result<DirectoryQueue> {
    let options = Options {
        max_attempts: settings.max_attempts,
        ..Options::default()
    };
    DirectoryQueue::open(&settings.queue_dir, options)
        .map_err(|error| daemon::place::unusable("queue_dir", error))
}

/// How to put tickets back that need it; none when none does.
fn way_back(stats: &Stats) -> Option<&'static str> {
    match (stats.failed > 0, stats.corrupt > 0) {
        (false, false) => None,
        (true, false) => Some("retry NAME, or retry --all"),
        (true, true) => Some("retry NAME, or retry --all (all but those that were refused)"),
        (false, true) => Some("retry NAME"),
    }
}

fn print_stats(stats: &Stats) {
    let Stats {
        ready,
        active,
        deferred,
        failed,
        corrupt,
        done,
        ..
    } = stats;
    daemon::say!(
        "waiting {ready}, at work {active}, to be tried again {deferred}, given up {failed}, refused {corrupt}, done {done}"
    );
    if let Some(age) = stats.oldest_age {
        daemon::say!("the oldest has waited {} s", age.as_secs());
    }
}

fn print_entry(entry: &Entry) {
    let state = match entry.state {
        State::Ready => "waiting",
        State::Active => "at work",
        State::Deferred => "later",
        State::Failed => "given up",
        State::Corrupt => "refused",
    };
    let due = match (
        entry.state,
        entry.modified.duration_since(SystemTime::now()),
    ) {
        (State::Deferred, Ok(wait)) => format!(", in {} s", wait.as_secs()),
        _ => String::new(),
    };
    daemon::say!("{state:<9} {} (attempt {}{due})", entry.stem, entry.attempt);
    if let Some(why) = &entry.why {
        daemon::say!("          {}", why.reason);
        if let Some(original) = &why.original {
            daemon::say!("          original: {original}");
        }
    }
}
