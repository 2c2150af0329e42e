//! What a plugin's author implements: [`Detector`] or [`FrameFilter`], or
//! [`Plugin`] itself when only the settings decide which of the two it is.

use std::error::Error;

use crate::frame::{FrameView, FrameViewMut, PixelFormat};
use crate::region::Region;

/// Any error, told in words for a person. Texts and errors convert with `?`.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What an instance is made from.
#[derive(Clone, Copy, Debug)]
pub struct CreateContext<'a> {
    /// The plugin's settings: a JSON object as text.
    pub settings: &'a str,
    /// Frames come from cameras `0..cameras`.
    pub cameras: u32,
}

/// What the two kinds of plugin do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PluginKind {
    /// Finds regions; the host tracks, masks, encodes.
    Detector,
    /// Changes the frame itself.
    Filter,
}

/// The picture a plugin wants to be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Pixel format; `None` = any.
    pub format: Option<PixelFormat>,
    /// Largest width and height, pixels: the host scales to fit and keeps the
    /// picture's shape. `None` = full size. Detectors only.
    pub max_size: Option<(u32, u32)>,
}

/// Whether a filter touched a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At least one byte may differ.
    Changed,
    /// Not one byte differs.
    Unchanged,
}

/// Everything an instance says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    /// What it does.
    pub kind: PluginKind,
    /// The picture it wants.
    pub wants: Wants,
    /// JSON object for receipts: models, hashes.
    pub info_json: String,
}

/// A plugin that says where the heads are. Called on one thread at a time.
pub trait Detector: Sized + Send + 'static {
    /// Name, shown in logs and receipts.
    const NAME: &'static str;
    /// Version; usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// Scores are on the host's scale ([`raw::FLAG_HINTS`](crate::raw::FLAG_HINTS)); else every region is masked.
    const HINTS: bool = false;

    /// Makes an instance; loads models.
    ///
    /// # Errors
    /// Settings or models cannot be used; the text should say what to do.
    fn create(context: &CreateContext<'_>) -> Result<Self, Failure>;

    /// The picture this instance wants.
    fn wants(&self) -> Wants;

    /// JSON object for receipts.
    fn info_json(&self) -> String {
        "{}".to_owned()
    }

    /// Appends what it finds in `frame` to `regions` (empty on entry), in
    /// pixels of `frame`.
    ///
    /// # Errors
    /// The frame could not be searched. Never report an empty list instead.
    fn detect(&mut self, frame: &FrameView<'_>, regions: &mut Vec<Region>) -> Result<(), Failure>;

    /// The next frame of `camera` does not follow the last one.
    fn reset(&mut self, _camera: u32) {}
}

/// A plugin that changes frames itself. Called on one thread at a time.
pub trait FrameFilter: Sized + Send + 'static {
    /// Name, shown in logs and receipts.
    const NAME: &'static str;
    /// Version; usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;

    /// Makes an instance; loads models.
    ///
    /// # Errors
    /// Settings or models cannot be used; the text should say what to do.
    fn create(context: &CreateContext<'_>) -> Result<Self, Failure>;

    /// The pixel format this instance wants; `None` = any.
    fn format(&self) -> Option<PixelFormat>;

    /// JSON object for receipts.
    fn info_json(&self) -> String {
        "{}".to_owned()
    }

    /// Changes `frame` in place.
    ///
    /// # Errors
    /// The frame could not be processed and must not be published.
    fn process(&mut self, frame: &mut FrameViewMut<'_>) -> Result<Change, Failure>;

    /// The next frame of `camera` does not follow the last one.
    fn reset(&mut self, _camera: u32) {}
}

/// What `export_plugin!` exports. Implement [`Detector`] or [`FrameFilter`]
/// unless the kind depends on the settings.
pub trait Plugin: Sized + Send + 'static {
    /// Name, shown in logs and receipts.
    const NAME: &'static str;
    /// Version.
    const VERSION: &'static str;
    /// What it does; `None` if only the settings decide.
    const KIND: Option<PluginKind>;
    /// At most one instance may exist in a process.
    const SINGLE_INSTANCE: bool = false;
    /// As [`Detector::HINTS`].
    const HINTS: bool = false;

    /// Makes an instance.
    ///
    /// # Errors
    /// Settings or models cannot be used; the text should say what to do.
    fn create(context: &CreateContext<'_>) -> Result<Self, Failure>;

    /// What this instance does and wants; asked once, right after `create`.
    fn info(&self) -> InstanceInfo;

    /// As [`Detector::detect`]; called on detectors only.
    ///
    /// # Errors
    /// The frame could not be searched, or this is no detector.
    fn detect(
        &mut self,
        _frame: &FrameView<'_>,
        _regions: &mut Vec<Region>,
    ) -> Result<(), Failure> {
        Err("not a detector".into())
    }

    /// As [`FrameFilter::process`]; called on filters only.
    ///
    /// # Errors
    /// The frame could not be processed, or this is no filter.
    fn process(&mut self, _frame: &mut FrameViewMut<'_>) -> Result<Change, Failure> {
        Err("not a frame filter".into())
    }

    /// The next frame of `camera` does not follow the last one.
    ///
    /// # Errors
    /// What was before could not be forgotten.
    fn reset(&mut self, _camera: u32) -> Result<(), Failure> {
        Ok(())
    }
}

/// Makes a [`Plugin`] of a [`Detector`].
#[derive(Debug)]
pub struct AsDetector<T>(T);

impl<T: Detector> Plugin for AsDetector<T> {
    const NAME: &'static str = T::NAME;
    const VERSION: &'static str = T::VERSION;
    const KIND: Option<PluginKind> = Some(PluginKind::Detector);
    const HINTS: bool = T::HINTS;

    fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
        T::create(context).map(Self)
    }

    fn info(&self) -> InstanceInfo {
        InstanceInfo {
            kind: PluginKind::Detector,
            wants: self.0.wants(),
            info_json: self.0.info_json(),
        }
    }

    fn detect(&mut self, frame: &FrameView<'_>, regions: &mut Vec<Region>) -> Result<(), Failure> {
        self.0.detect(frame, regions)
    }

    fn reset(&mut self, camera: u32) -> Result<(), Failure> {
        self.0.reset(camera);
        Ok(())
    }
}

/// Makes a [`Plugin`] of a [`FrameFilter`].
#[derive(Debug)]
pub struct AsFilter<T>(T);

impl<T: FrameFilter> Plugin for AsFilter<T> {
    const NAME: &'static str = T::NAME;
    const VERSION: &'static str = T::VERSION;
    const KIND: Option<PluginKind> = Some(PluginKind::Filter);

    fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
        T::create(context).map(Self)
    }

    fn info(&self) -> InstanceInfo {
        InstanceInfo {
            kind: PluginKind::Filter,
            wants: Wants {
                format: self.0.format(),
                max_size: None,
            },
            info_json: self.0.info_json(),
        }
    }

    fn process(&mut self, frame: &mut FrameViewMut<'_>) -> Result<Change, Failure> {
        self.0.process(frame)
    }

    fn reset(&mut self, camera: u32) -> Result<(), Failure> {
        self.0.reset(camera);
        Ok(())
    }
}
