//! The plugin itself: which models are used, and what becomes of their boxes.

use plugin_abi::{
    CreateContext, Detector, Failure, FrameView, PixelFormat, Region, RegionKind, Wants,
};

use crate::boxes::{Scored, fuse};
use crate::config::{Config, DetectorName, Target};
use crate::engine::{Engine, ModelFile, Network};
use crate::picture::{Feeder, Letterbox};
use crate::yolo::Yolo;
use crate::{animals, centerface, heads, large, nanodet};

/// Inputs are whole multiples of this: the networks halve five times.
const STEP: u32 = 32;
/// Small pictures are not enlarged: it was measured to find no more.
const ENLARGE: f32 = 1.0;
/// Persons of two looks that overlap by more are the same.
const SAME_PERSON: f32 = 0.55;
/// Score that a model's threshold becomes.
pub(crate) const FOUND: f32 = plugin_abi::raw::SCORE_FOUND;
/// Lowest score reported.
const HINT: f32 = 0.1;
/// Of two thorough looks no more than this apart, nanoseconds (three looks of a host that looks four times a
/// second, with room for the jitter of its times), one is without the network for faces: it costs as
/// much as all that looks for persons. Of 39,189 sightings that all networks make in all pictures of three clips
/// full of people masks missed 321 so, and 320 with faces in every thorough look.
const FACES_WITHIN: i64 = 950_000_000;
/// ... unless somebody is close: a face of this share of the picture's height says better where the head is than
/// the body does, of which little is to be seen. Without it masks of close heads were a third larger. Then glances look
/// for faces as well, and so where a face has no body, behind a counter or a windscreen: looks that cannot see a head
/// must not speak against it. Without glances for close faces, of 1,583 clear faces in fifteen clips 21 of one person who tilts her head were
/// masked to less than nine tenths.
const CLOSE: f32 = 0.07;

/// The detector.
pub struct HeadBlur {
    config: Config,
    models: Models,
    feeder: Feeder,
    precision: &'static str,
    faces: Faces,
}

/// What the last thorough look means for looking for faces.
#[derive(Clone, Copy, Default)]
enum Faces {
    /// The next thorough look is for faces.
    #[default]
    Due,
    /// They were looked for then, nanoseconds of the video, and nobody was close.
    LookedFor(i64),
    /// Somebody is close, or known by the face alone: all looks are for faces, glances too.
    Close,
}

/// Names of ignored classes in what it says of itself, at most: the host takes only so much text.
const MOST_NAMES: usize = 100;

enum Models {
    /// Those that set-up fetches; at least one is there.
    Own {
        nanodet: Option<Network>,
        centerface: Option<Network>,
    },
    User(Yolo),
}

impl HeadBlur {
    fn search(&mut self, frame: &FrameView<'_>) -> Result<Vec<Region>, Failure> {
        let size = (frame.info().width, frame.info().height);
        let (feeder, config) = (&mut self.feeder, &self.config);
        match &mut self.models {
            Models::User(yolo) => {
                let mut found = yolo.find(feeder, frame, least(config.model_threshold))?;
                rescale(&mut found, config.model_threshold);
                let of = |kind| -> Vec<Scored> {
                    let all = found
                        .iter()
                        .filter(|found| yolo.kind_of(found.class) == kind);
                    all.copied().collect()
                };
                let (persons, faces) = (of(RegionKind::Person), of(RegionKind::Face));
                let mut all = regions(&persons, &faces, config.target, size.1 as f32);
                for kind in [RegionKind::Head, RegionKind::Other] {
                    all.extend(of(kind).iter().map(|found| region(found, kind)));
                }
                Ok(all)
            }
            Models::Own {
                nanodet,
                centerface,
            } => {
                let glance = frame.info().glance;
                let mut persons = match nanodet {
                    Some(network) => persons(network, feeder, frame, config)?,
                    None => Vec::new(),
                };
                let mut faces = Vec::new();
                let persons_only = match self.faces {
                    _ if nanodet.is_none() => false,
                    Faces::Due => glance,
                    // Pictures without times are not of one video.
                    Faces::LookedFor(then) => {
                        let since = frame.info().pts_ns.saturating_sub(then);
                        glance || (1..=FACES_WITHIN).contains(&since)
                    }
                    Faces::Close => false,
                };
                if let Some(network) = centerface.as_mut().filter(|_| !persons_only) {
                    let fit = Letterbox::fit(size, config.face_input_size, ENLARGE, STEP);
                    let floor = least(config.face_threshold);
                    faces = centerface::faces(network, feeder, frame, &fit, floor)?;
                }
                rescale(&mut persons, config.person_threshold);
                large::doubt(&mut persons, size);
                rescale(&mut faces, config.face_threshold);
                if !glance {
                    let close = CLOSE * size.1 as f32;
                    let needed = faces.iter().any(|face| {
                        let alone = || !persons.iter().any(|body| shows(body, face));
                        face.score >= FOUND && (face.height() >= close || alone())
                    });
                    self.faces = match needed {
                        true => Faces::Close,
                        false if persons_only => Faces::Due,
                        false => Faces::LookedFor(frame.info().pts_ns),
                    };
                }
                Ok(regions(&persons, &faces, config.target, size.1 as f32))
            }
        }
    }
}

impl Detector for HeadBlur {
    const NAME: &'static str = "head-blur";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HINTS: bool = true;

    fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
        let config = Config::parse(context.settings)?;
        let engine = Engine::open(
            &config.model_dir.join("lib"),
            config.threads,
            config.precision,
        )?;
        let precision = engine.precision();
        let mut models = match &config.model {
            Some(path) => {
                let network = Network::new(engine, ModelFile::open(path)?);
                Models::User(Yolo::new(
                    network,
                    &config.classes,
                    config.model_input_size,
                    config.model_objectness,
                )?)
            }
            None => own_models(&engine, &config)?,
        };
        models.compile(&config)?;
        Ok(Self {
            config,
            models,
            feeder: Feeder::default(),
            precision,
            faces: Faces::default(),
        })
    }

    fn wants(&self) -> Wants {
        let largest = match &self.models {
            Models::Own { .. } => self.config.largest_input(),
            Models::User(yolo) => yolo.input_size(),
        };
        Wants {
            format: Some(PixelFormat::Bgr24),
            max_size: Some(largest),
        }
    }

    fn info_json(&self) -> String {
        let models: Vec<_> = self
            .models
            .files()
            .into_iter()
            .map(|file| serde_json::json!({"file": file.name, "blake3": file.blake3}))
            .collect();
        let mut info = serde_json::json!({"models": models, "precision": self.precision});
        if let Models::User(yolo) = &self.models {
            let (used, mut ignored) = yolo.classes();
            if ignored.len() > MOST_NAMES {
                let more = ignored.split_off(MOST_NAMES).len();
                ignored.push(format!("and {more} more"));
            }
            info["layout"] = yolo.layout().into();
            info["classes_used"] = used.into();
            info["classes_ignored"] = ignored.into();
        }
        info.to_string()
    }

    fn reset(&mut self, _camera: u32) {
        self.faces = Faces::default();
    }

    fn detect(&mut self, frame: &FrameView<'_>, regions: &mut Vec<Region>) -> Result<(), Failure> {
        let format = frame.info().format;
        if format != PixelFormat::Bgr24 {
            return Err(format!("BGR24 pictures wanted, {format:?} given").into());
        }
        regions.extend(self.search(frame)?);
        Ok(())
    }
}

impl Models {
    /// Compiles for a wide picture at once, so that a bad model or engine is
    /// found at start and the first frame is not late.
    fn compile(&mut self, config: &Config) -> Result<(), Failure> {
        match self {
            Self::Own {
                nanodet,
                centerface,
            } => {
                let wide = (1920, 1080);
                let fit = |limit| Letterbox::fit(wide, limit, ENLARGE, STEP).input;
                if let Some(network) = nanodet {
                    for &size in &config.person_input_sizes {
                        let (width, height) = fit(size);
                        network.session(width, height)?;
                    }
                }
                if let Some(network) = centerface {
                    let (width, height) = fit(config.face_input_size);
                    network.session(width, height)?;
                }
                Ok(())
            }
            Self::User(yolo) => yolo.compile(),
        }
    }

    fn files(&self) -> Vec<&ModelFile> {
        match self {
            Self::Own {
                nanodet,
                centerface,
            } => [nanodet, centerface]
                .into_iter()
                .flatten()
                .map(Network::file)
                .collect(),
            Self::User(yolo) => vec![yolo.file()],
        }
    }
}

fn own_models(engine: &Engine, config: &Config) -> Result<Models, Failure> {
    let open = |name: DetectorName, file: &str| -> Result<Option<Network>, Failure> {
        if config.detectors.contains(&name) {
            let file = ModelFile::open_fetched(&config.model_dir.join(file))?;
            Ok(Some(Network::new(engine.clone(), file)))
        } else {
            Ok(None)
        }
    };
    Ok(Models::Own {
        nanodet: open(DetectorName::Nanodet, "nanodet.onnx")?,
        centerface: open(DetectorName::Centerface, "centerface.onnx")?,
    })
}

/// Persons of all looks, joined; at a glance only those of the cheapest.
fn persons(
    network: &mut Network,
    feeder: &mut Feeder,
    frame: &FrameView<'_>,
    config: &Config,
) -> Result<Vec<Scored>, Failure> {
    let size = (frame.info().width, frame.info().height);
    let sizes = match frame.info().glance {
        true => &config.person_input_sizes[config.cheapest_input()..][..1],
        false => &config.person_input_sizes[..],
    };
    // Looks at a share of the floor each may make a fused score that reaches it.
    let floor = least(config.person_threshold) / sizes.len() as f32;
    let mut done: Vec<Letterbox> = Vec::new();
    let mut looks: Vec<Vec<Scored>> = Vec::new();
    for &limit in sizes {
        let fit = Letterbox::fit(size, limit, ENLARGE, STEP);
        // A small camera's picture fits every size: one look stands for several,
        // so that scores mean the same.
        let look = match done.iter().position(|earlier| *earlier == fit) {
            Some(earlier) => looks[earlier].clone(),
            None => nanodet::look(network, feeder, frame, &fit, floor)?,
        };
        done.push(fit);
        looks.push(look);
    }
    let found = fuse(&looks, SAME_PERSON);
    Ok(animals::doubt(found, size, config.person_threshold))
}

fn regions(persons: &[Scored], faces: &[Scored], target: Target, height: f32) -> Vec<Region> {
    let heads = heads::join(persons, faces, height);
    match target {
        Target::Head => heads
            .iter()
            .map(|head| region(head, RegionKind::Head))
            .collect(),
        Target::Person => {
            // A head is masked for itself unless a body that is seen as clearly, or clearly enough, holds it.
            let holds = |person: &Scored, head: &Scored| {
                person.score >= head.score.min(FOUND) && person.overlap(head) >= head.area() * 0.9
            };
            let bodies = persons.iter().map(|body| {
                let held = heads.iter().filter(|head| holds(body, head));
                let score = held.fold(body.score, |best, head| best.max(head.score));
                region(&Scored { score, ..*body }, RegionKind::Person)
            });
            let alone = heads
                .iter()
                .filter(|head| !persons.iter().any(|body| holds(body, head)));
            bodies
                .chain(alone.map(|head| region(head, RegionKind::Head)))
                .collect()
        }
    }
}

/// True if looks for persons find him whose face that is.
fn shows(person: &Scored, face: &Scored) -> bool {
    person.score >= FOUND && person.overlap(face) >= 0.9 * face.area()
}

/// Score of the model that becomes [`HINT`] when its threshold becomes [`FOUND`].
fn least(threshold: f32) -> f32 {
    threshold * HINT / FOUND
}

/// Moves scores so that `threshold` becomes [`FOUND`], and drops those below [`HINT`].
fn rescale(found: &mut Vec<Scored>, threshold: f32) {
    for found in found.iter_mut() {
        *found = on_one_scale(found, threshold);
    }
    found.retain(|found| found.score >= HINT);
}

fn on_one_scale(found: &Scored, threshold: f32) -> Scored {
    let score = if found.score < threshold {
        found.score * FOUND / threshold
    } else {
        FOUND + (found.score - threshold) * (1.0 - FOUND) / (1.0 - threshold)
    };
    Scored {
        score: score.clamp(0.0, 1.0),
        ..*found
    }
}

fn region(found: &Scored, kind: RegionKind) -> Region {
    Region {
        x: found.left,
        y: found.top,
        width: found.width().max(0.0),
        height: found.height().max(0.0),
        score: found.score,
        kind,
        track: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(score: f32) -> Scored {
        Scored {
            left: 0.0,
            top: 0.0,
            right: 40.0,
            bottom: 120.0,
            score,
            class: 0,
        }
    }

    #[test]
    fn thresholds_become_one_score() {
        for threshold in [0.1, 0.25, 0.6] {
            let at = |score| on_one_scale(&scored(score), threshold).score;
            assert!((at(threshold) - FOUND).abs() < 1e-6);
            assert!((at(1.0) - 1.0).abs() < 1e-6);
            assert!((at(least(threshold)) - HINT).abs() < 1e-6);
        }
    }

    #[test]
    fn hints_are_kept_and_noise_is_dropped() {
        let mut found = vec![scored(0.5), scored(0.13), scored(0.11)];
        rescale(&mut found, 0.3);
        assert_eq!(found.len(), 1 + 1, "{found:?}");
    }

    #[test]
    fn whole_persons_take_their_heads_with_them() {
        let person = scored(0.8);
        let lone_face = Scored {
            left: 300.0,
            right: 320.0,
            bottom: 24.0,
            ..scored(0.9)
        };
        let found = regions(&[person], &[lone_face], Target::Person, 1080.0);
        let kinds: Vec<RegionKind> = found.iter().map(|region| region.kind).collect();
        assert_eq!(kinds, [RegionKind::Person, RegionKind::Head]);
    }

    #[test]
    fn a_clear_face_counts_for_its_body() {
        let face = Scored {
            left: 12.0,
            right: 28.0,
            top: 4.0,
            bottom: 24.0,
            ..scored(0.9)
        };
        for body in [0.12, 0.3] {
            let found = regions(&[scored(body)], &[face], Target::Person, 1080.0);
            let covers =
                |region: &&Region| region.y <= face.top && region.y + region.height >= face.bottom;
            let best = found.iter().filter(covers).map(|region| region.score);
            assert_eq!(best.fold(0.0, f32::max), 0.9, "{found:?}");
        }
    }
}
