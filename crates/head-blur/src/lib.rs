//! The default plugin: finds heads, seen from any side.
//!
//! Two small networks share the work: NanoDet-g finds persons, whose head
//! region is taken, also from behind; CenterFace finds faces, also where too
//! little of the body is seen. Or a user's own YOLO model finds what it was
//! trained for. Everything runs in-process on the CPU.
//!
//! May touch: its model folder, read-only. No network, no other files.

mod boxes;
mod centerface;
pub mod config;
mod engine;
mod heads;
mod nanodet;
mod picture;

use plugin_abi::{
    CreateContext, Detector, Failure, FrameView, PixelFormat, Region, RegionKind, Wants,
};

use crate::boxes::Scored;
use crate::config::{Config, DetectorName, Target};
use crate::engine::{Engine, ModelFile, Network};
use crate::picture::{Feeder, Letterbox};

/// Inputs are whole multiples of this: the networks halve five times.
const STEP: u32 = 32;
/// Small pictures are enlarged by this at most.
const ENLARGE: f32 = 1.0;

/// The detector.
pub struct HeadBlur {
    config: Config,
    engine: Engine,
    nanodet: Option<Network>,
    centerface: Option<Network>,
    feeder: Feeder,
}

impl Detector for HeadBlur {
    const NAME: &'static str = "head-blur";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
        let config = Config::parse(context.settings)?;
        let engine = Engine::open(
            &config.model_dir.join("lib"),
            config.threads,
            config.precision,
        )?;
        let open = |name: DetectorName, file: &str| -> Result<Option<Network>, Failure> {
            if config.detectors.contains(&name) {
                let file = ModelFile::read(&config.model_dir.join(file))?;
                Ok(Some(Network::new(engine.clone(), file)))
            } else {
                Ok(None)
            }
        };
        let nanodet = open(DetectorName::Nanodet, "nanodet.onnx")?;
        let centerface = open(DetectorName::Centerface, "centerface.onnx")?;
        Ok(Self {
            nanodet,
            centerface,
            engine,
            config,
            feeder: Feeder::default(),
        })
    }

    fn wants(&self) -> Wants {
        Wants {
            format: Some(PixelFormat::Bgr24),
            max_size: Some(self.config.input_size),
        }
    }

    fn info_json(&self) -> String {
        let models: Vec<_> = [&self.nanodet, &self.centerface]
            .into_iter()
            .flatten()
            .map(|network| {
                serde_json::json!({"file": network.file().name, "blake3": network.file().blake3})
            })
            .collect();
        serde_json::json!({"models": models, "precision": self.engine.precision()}).to_string()
    }

    fn detect(&mut self, frame: &FrameView<'_>, regions: &mut Vec<Region>) -> Result<(), Failure> {
        let info = frame.info();
        if info.format != PixelFormat::Bgr24 {
            return Err(format!("BGR24 pictures wanted, {:?} given", info.format).into());
        }
        let size = (info.width, info.height);
        let mut persons = Vec::new();
        if let Some(network) = &mut self.nanodet {
            let fit = Letterbox::fit(size, self.config.input_size, ENLARGE, STEP);
            let threshold = self.config.person_threshold;
            persons = nanodet::persons(network, &mut self.feeder, frame, &fit, threshold)?;
        }
        let mut faces = Vec::new();
        if let Some(network) = &mut self.centerface {
            let fit = Letterbox::fit(size, self.config.face_input_size, ENLARGE, STEP);
            let threshold = self.config.face_threshold;
            faces = centerface::faces(network, &mut self.feeder, frame, &fit, threshold)?;
        }
        regions.extend(persons.iter().map(|person| match self.config.target {
            Target::Head => region(&heads::head_of_person(person), RegionKind::Head),
            Target::Person => region(person, RegionKind::Person),
        }));
        regions.extend(
            faces
                .iter()
                .map(|face| region(&heads::head_of_face(face), RegionKind::Head)),
        );
        Ok(())
    }
}

fn region(found: &Scored, kind: RegionKind) -> Region {
    Region {
        x: found.left,
        y: found.top,
        width: found.width(),
        height: found.height(),
        score: found.score,
        kind,
        track: 0,
    }
}

plugin_abi::export_plugin!(detector HeadBlur);
