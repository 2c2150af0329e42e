//! Which daemons there are and where everything lies, from command line and settings.

mod agreement;

use crate::cli::Cli;
use daemon::disk::real_place;
use daemon::status;
use settings::{
    BLUR_FILE, BlurSettings, DiskBudget, Environment, Monitoring, Places, RECORDER_FILE,
    RecorderSettings, SYSTEM_FILE, SystemSettings,
};
use std::path::{Path, PathBuf};

/// Settings that cannot be used; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotUsable(pub String);

/// A daemon to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// `rtsp_recorder` or `blur_processor`: its name in logs and file names.
    pub name: &'static str,
    /// Its executable.
    pub executable: PathBuf,
    /// Its settings file.
    pub settings_file: PathBuf,
    /// Where its status and lock files are.
    pub status_dir: PathBuf,
}

impl Program {
    /// The lock it holds while it runs.
    pub fn lock_file(&self) -> PathBuf {
        status::lock_file(&self.status_dir, self.name)
    }

    /// The status file it writes.
    pub fn status_file(&self) -> PathBuf {
        status::file(&self.status_dir, self.name)
    }
}

/// Everything there is to supervise and to report on.
#[derive(Debug, Clone)]
pub struct Setup {
    /// In the order in which they are stopped, which follows the data.
    pub programs: Vec<Program>,
    /// Where tickets lie.
    pub queue_dir: PathBuf,
    /// A longer queue than this is an alarm.
    pub max_queue_size: Option<usize>,
    /// What each directory with videos holds, and where it is.
    pub video_dirs: Vec<(&'static str, PathBuf)>,
    /// The disk budget.
    pub disk: DiskBudget,
    /// How often the state is reported.
    pub monitoring: Monitoring,
    /// Logs and status files of run-system itself.
    pub places: Places,
    /// What else run-system is to do.
    pub system: SystemSettings,
}

/// The settings of the daemons that the command line does not leave out.
pub(crate) struct Loaded {
    pub(crate) recorder: Option<(PathBuf, RecorderSettings)>,
    pub(crate) blur: Option<(PathBuf, BlurSettings)>,
    pub(crate) system: SystemSettings,
}

impl Loaded {
    /// Finds and reads the settings. All that is wrong with both files is told at once.
    pub(crate) fn read(cli: &Cli, env: &Environment<'_>) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let recorder = (!cli.blur_only)
            .then(|| {
                read_one(
                    cli.recorder_config.as_deref(),
                    RECORDER_FILE,
                    |path| RecorderSettings::load_in(path, env),
                    &mut wrong,
                )
            })
            .flatten();
        let blur = (!cli.recorder_only)
            .then(|| {
                read_one(
                    cli.blur_config.as_deref(),
                    BLUR_FILE,
                    |path| BlurSettings::load_in(path, env),
                    &mut wrong,
                )
            })
            .flatten();
        let system = read_system(cli.system_config.as_deref(), env, &mut wrong);
        let loaded = Self {
            recorder,
            blur,
            system,
        };
        (loaded, wrong)
    }
}

fn read_one<S>(
    named: Option<&Path>,
    file_name: &str,
    load: impl Fn(&Path) -> Result<S, settings::Problems>,
    wrong: &mut Vec<String>,
) -> Option<(PathBuf, S)> {
    let path = settings::locate(named, file_name)
        .map_err(|error| wrong.push(error.to_string()))
        .ok()?;
    let settings = load(&path)
        .map_err(|problems| wrong.push(problems.to_string()))
        .ok()?;
    Some((path, settings))
}

/// The settings of run-system itself.
///
/// # Errors
/// [`NotUsable`] with every problem.
pub(crate) fn system_settings(
    cli: &Cli,
    env: &Environment<'_>,
) -> Result<SystemSettings, NotUsable> {
    let mut wrong = Vec::new();
    let settings = read_system(cli.system_config.as_deref(), env, &mut wrong);
    if wrong.is_empty() {
        Ok(settings)
    } else {
        Err(NotUsable(wrong.join("\n")))
    }
}

/// The settings of run-system itself; the defaults when there is no such file.
fn read_system(
    named: Option<&Path>,
    env: &Environment<'_>,
    wrong: &mut Vec<String>,
) -> SystemSettings {
    let read = || -> Result<Option<SystemSettings>, String> {
        let path =
            settings::locate_if_there(named, SYSTEM_FILE).map_err(|error| error.to_string())?;
        path.map(|path| SystemSettings::load_in(&path, env).map_err(|error| error.to_string()))
            .transpose()
    };
    read()
        .map_err(|problem| wrong.push(problem))
        .ok()
        .flatten()
        .unwrap_or_else(SystemSettings::default_settings)
}

impl Setup {
    /// Reads the settings and finds the daemons' executables beside this one.
    ///
    /// # Errors
    /// [`NotUsable`] with every problem of the settings, or an executable that is missing.
    pub fn load(cli: &Cli, env: &Environment<'_>) -> anyhow::Result<Self> {
        let (loaded, mut wrong) = Loaded::read(cli, env);
        if wrong.is_empty() {
            wrong.extend(loaded.contradictions());
        }
        if !wrong.is_empty() {
            return Err(NotUsable(wrong.join("\n")).into());
        }
        let setup = Self::of(&loaded, &program_dir()?);
        Ok(setup.ok_or_else(|| NotUsable("there is nothing to run".to_owned()))?)
    }

    /// The directory with videos of that kind; none when the daemon that fills it is left out.
    pub(crate) fn video_dir(&self, kind: &str) -> Option<&Path> {
        let found = self.video_dirs.iter().find(|(name, _)| *name == kind);
        found.map(|(_, dir)| dir.as_path())
    }

    /// None when there is no daemon at all.
    fn of(loaded: &Loaded, program_dir: &Path) -> Option<Self> {
        let recorder = loaded.recorder.as_ref();
        let blur = loaded.blur.as_ref();
        let program = |name, executable: &str, file: &Path, places: &Places| Program {
            name,
            executable: program_dir.join(executable),
            settings_file: file.to_owned(),
            status_dir: places.status_dir.clone(),
        };
        let programs = [
            recorder.map(|(file, s)| program(status::RECORDER, "rtsp-recorder", file, &s.places)),
            blur.map(|(file, s)| program(status::PROCESSOR, "blur-processor", file, &s.places)),
        ];
        let (queue_dir, disk, monitoring, places) = match (recorder, blur) {
            (Some((_, s)), _) => (&s.queue_dir, s.disk, s.monitoring, &s.places),
            (None, Some((_, s))) => (&s.queue_dir, s.disk, s.monitoring, &s.places),
            (None, None) => return None,
        };
        Some(Self {
            programs: programs.into_iter().flatten().collect(),
            queue_dir: queue_dir.clone(),
            max_queue_size: blur.map(|(_, s)| s.max_queue_size),
            video_dirs: loaded.video_dirs(),
            disk,
            monitoring,
            places: places.clone(),
            system: loaded.system.clone(),
        })
    }
}

impl Loaded {
    /// The directories with videos, each once.
    pub(crate) fn video_dirs(&self) -> Vec<(&'static str, PathBuf)> {
        let mut dirs = Vec::new();
        match (&self.recorder, &self.blur) {
            (Some((_, s)), _) => dirs.push(("raw", s.output_dir.clone())),
            (None, Some((_, s))) => dirs.push(("raw", s.raw_dir.clone())),
            (None, None) => {}
        }
        if let Some((_, s)) = &self.blur {
            dirs.push(("processed", s.output_dir.clone()));
            dirs.extend(s.backup_dir.clone().map(|dir| ("backup", dir)));
        }
        dirs
    }

    /// Where the two files, or the directories of one, do not fit together.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let Some((blur_file, blur)) = &self.blur else {
            return Vec::new();
        };
        let overlaps = blur.overlaps_by_links(&real_place);
        let in_file = |problem| format!("{}: {problem}", blur_file.display());
        let mut wrong: Vec<String> = overlaps.into_iter().map(in_file).collect();
        let Some((recorder_file, recorder)) = &self.recorder else {
            return wrong;
        };
        let pairs = [
            (
                "queue_dir",
                &recorder.queue_dir,
                "queue_dir",
                &blur.queue_dir,
                "no ticket would reach the blur processor",
            ),
            (
                "output_dir",
                &recorder.output_dir,
                "raw_dir",
                &blur.raw_dir,
                "every ticket would be refused",
            ),
        ];
        let apart = pairs
            .into_iter()
            .filter(|(_, a, _, b, _)| !same_place(a, b));
        wrong.extend(apart.map(|(a_key, a, b_key, b, consequence)| {
                format!(
                    "{a_key} in {} is {}, but {b_key} in {} is {}: {consequence}; give both the same directory",
                    recorder_file.display(),
                    a.display(),
                    blur_file.display(),
                    b.display()
                )
            }));
        wrong.extend(agreement::budgets(
            (recorder_file, &recorder.disk),
            (blur_file, &blur.disk),
        ));
        let of_nobody = agreement::zones_of_nobody(recorder, blur);
        wrong.extend(of_nobody.into_iter().map(in_file));
        wrong
    }

    /// What somebody should know about how the two files fit together.
    pub(crate) fn notes(&self) -> Vec<String> {
        match (&self.recorder, &self.blur) {
            (Some((_, recorder)), Some((file, blur))) => agreement::zones_left_over(recorder, blur)
                .into_iter()
                .map(|note| format!("{}: {note}", file.display()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The disk budget that the blur processor's videos are kept by: it is who deletes them. Without one the recorder's.
    pub(crate) fn budget(&self) -> Option<DiskBudget> {
        let of_blur = self.blur.as_ref().map(|(_, s)| s.disk);
        of_blur.or(self.recorder.as_ref().map(|(_, s)| s.disk))
    }
}

fn same_place(a: &Path, b: &Path) -> bool {
    real_place(a) == real_place(b)
}

/// Where this executable is, and so the daemons.
pub(crate) fn program_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}
