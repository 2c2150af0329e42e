//! `--validate`: looks at everything that could keep the system from working, and says what to do.

mod cameras;
mod clock;
mod hooks;
mod places;
mod plugin;
mod ports;

use crate::cli::Cli;
use crate::plain;
use crate::setup::{Loaded, program_dir};
use settings::Environment;

/// What one check found.
pub(crate) struct Finding {
    verdict: Verdict,
    what: String,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Works, but somebody should know.
    Note,
    Wrong,
}

impl Finding {
    fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            what: what.into(),
            detail: detail.into(),
        }
    }

    fn note(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            what: what.into(),
            detail: detail.into(),
        }
    }

    fn wrong(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Wrong,
            what: what.into(),
            detail: detail.into(),
        }
    }

    fn print(&self) {
        let verdict = match self.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };
        plain::line(&format!(
            "{verdict}  {}  {}",
            plain::padded(&self.what, 28),
            self.detail.replace('\n', "\n        ")
        ));
    }
}

/// Runs all checks; the result is the exit code.
pub(crate) async fn run(cli: &Cli) -> u8 {
    let (loaded, problems) = Loaded::read(cli, &Environment::of_process());
    let mut findings = settings_findings(&loaded, problems);
    findings.extend(programs(cli));
    let directories = places::directories(&loaded);
    let are_good = directories.iter().all(|it| it.verdict == Verdict::Ok);
    findings.extend(directories);
    findings.extend(places::space(&loaded));
    if let Some((file, blur)) = &loaded.blur {
        findings.extend(plugin::check(blur, file, are_good).await);
    }
    findings.push(clock::check(&loaded));
    findings.extend(ports::check(&loaded));
    findings.extend(ports::tls(&loaded));
    findings.extend(ports::originals(&loaded));
    findings.extend(hooks::check(&loaded.system.hooks));
    findings.iter().for_each(Finding::print);
    if let Some((file, recorder)) = &loaded.recorder {
        let mut cameras = cameras::check(recorder, file).await;
        cameras
            .findings
            .extend(places::forecast(&loaded, cameras.bitrate));
        cameras.findings.iter().for_each(Finding::print);
        if !cameras.table.is_empty() {
            plain::line(&format!("\n{}", cameras.table.trim_end()));
        }
        findings.extend(cameras.findings);
    }
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let wrong = count(Verdict::Wrong);
    plain::line(&match (wrong, count(Verdict::Note)) {
        (0, 0) => "\nEverything is in order.".to_owned(),
        (0, notes) => format!("\nReady to run; {notes} to note."),
        (wrong, _) => format!("\n{wrong} wrong: mend what is marked WRONG and run this again."),
    });
    if wrong == 0 {
        daemon::exit::STOPPED
    } else {
        daemon::exit::SETTINGS
    }
}

fn settings_findings(loaded: &Loaded, problems: Vec<String>) -> Vec<Finding> {
    let files = [
        loaded
            .recorder
            .as_ref()
            .map(|(file, settings)| (file, format!("sources: {}", settings.sources.len()))),
        loaded
            .blur
            .as_ref()
            .map(|(file, _)| (file, "blurring".to_owned())),
    ];
    let good = files
        .into_iter()
        .flatten()
        .map(|(file, detail)| Finding::ok("settings", format!("{}: {detail}", file.display())));
    let wrong = problems
        .into_iter()
        .chain(loaded.contradictions())
        .map(|problem| Finding::wrong("settings", problem));
    let sources = loaded.recorder.iter().flat_map(|(_, it)| &it.sources);
    let doubts = sources.filter_map(|source| {
        let doubt = source.doubt()?;
        Some(Finding::note(format!("camera {}", source.name), doubt))
    });
    let notes = loaded.notes().into_iter();
    let notes = notes.map(|note| Finding::note("settings", note));
    good.chain(wrong).chain(doubts).chain(notes).collect()
}

fn programs(cli: &Cli) -> Vec<Finding> {
    let dir = match program_dir() {
        Ok(dir) => dir,
        Err(error) => return vec![Finding::wrong("programs", format!("{error:#}"))],
    };
    let wanted = [
        ("rtsp-recorder", !cli.blur_only),
        ("blur-processor", !cli.recorder_only),
    ];
    let check = |name: &str| {
        let path = dir.join(name);
        if path.is_file() {
            Finding::ok(name, path.display().to_string())
        } else {
            Finding::wrong(
                name,
                format!(
                    "{} is missing; build everything: cargo build --release --workspace",
                    path.display()
                ),
            )
        }
    };
    wanted
        .iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(name, _)| check(name))
        .collect()
}
