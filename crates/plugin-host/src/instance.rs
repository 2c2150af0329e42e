//! Calls on one instance, and the checks of everything that comes back.

use std::fmt;
use std::ptr;

use plugin_abi::{Change, FrameView, FrameViewMut, PluginKind, Region, RegionKind, Wants, raw};

use crate::PluginError;
use crate::plugin::{Plugin, TEXT_LIMIT, describe};

/// More regions than this in one frame is an error: no picture holds so many
/// heads that a detector can tell apart.
pub const MAX_REGIONS: usize = 4096;

/// Score, at least, of the regions of detectors that do not give hints: enough for the tracker to take them for what they say.
const SURE: f32 = 0.4;

/// A running plugin. May move between threads, is used by one at a time.
pub struct Instance {
    plugin: Plugin,
    handle: *mut raw::Instance,
    kind: PluginKind,
    wants: Wants,
    hints: bool,
    info_json: String,
    settings: String,
    cameras: u32,
    broken: bool,
}

// SAFETY: the interface says that calls may come from different threads, one
// after the other; `&mut self` keeps them from overlapping.
unsafe impl Send for Instance {}

impl Instance {
    pub(crate) fn create(
        plugin: Plugin,
        settings: &str,
        cameras: u32,
    ) -> Result<Self, PluginError> {
        let name = plugin.info().name.clone();
        if !plugin.take_single() {
            return Err(PluginError::Create {
                plugin: name,
                reason: "it allows one instance in a process, and there is one".to_owned(),
            });
        }
        let mut instance = Self {
            handle: ptr::null_mut(),
            kind: PluginKind::Filter,
            wants: Wants::default(),
            hints: false,
            info_json: String::new(),
            settings: settings.to_owned(),
            cameras,
            broken: false,
            plugin,
        };
        instance.start(settings, cameras)?;
        instance.ask(&name)?;
        Ok(instance)
    }

    fn start(&mut self, settings: &str, cameras: u32) -> Result<(), PluginError> {
        let create = raw::Create {
            struct_size: size_of::<raw::Create>() as u32,
            cameras,
            settings: raw::Text::new(settings),
        };
        // SAFETY: both arguments live through the call.
        let status =
            unsafe { (self.plugin.functions().create)(&raw const create, &raw mut self.handle) };
        if status != raw::OK {
            let reason = self.last_error(ptr::null_mut(), status);
            self.handle = ptr::null_mut();
            return Err(PluginError::Create {
                plugin: self.name(),
                reason,
            });
        }
        if self.handle.is_null() {
            return Err(self.contract("create answers OK without an instance".to_owned()));
        }
        Ok(())
    }

    fn ask(&mut self, name: &str) -> Result<(), PluginError> {
        let description = describe(self.plugin.functions(), self.handle, name)?;
        let functions = self.plugin.functions();
        let (kind, callable) = match description.kind {
            Some(PluginKind::Detector) => (PluginKind::Detector, functions.detect.is_some()),
            Some(PluginKind::Filter) => (PluginKind::Filter, functions.process.is_some()),
            None => return Err(self.contract("an instance has no kind".to_owned())),
        };
        if !callable {
            return Err(self.contract(format!("says {kind:?} but lacks that function")));
        }
        self.kind = kind;
        self.wants = description.wants;
        self.hints = description.hints;
        self.info_json = description.info_json;
        Ok(())
    }

    /// What it does.
    pub fn kind(&self) -> PluginKind {
        self.kind
    }

    /// The picture it wants.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// JSON object for receipts; empty if the plugin says nothing.
    pub fn info_json(&self) -> &str {
        &self.info_json
    }

    /// How many cameras it was told to expect.
    pub fn cameras(&self) -> u32 {
        self.cameras
    }

    /// Another instance with the same settings, told to expect so many cameras. This one ends first,
    /// since a plugin may allow one only; what it remembered is lost.
    ///
    /// # Errors
    /// The new one does not start.
    pub fn for_cameras(self, cameras: u32) -> Result<Self, PluginError> {
        let (plugin, settings) = (self.plugin.clone(), self.settings.clone());
        drop(self);
        plugin.create(&settings, cameras)
    }

    /// The plugin it belongs to.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Replaces the content of `regions` with what the plugin finds in `frame`,
    /// in pixels of `frame`, cut to its borders. Empty boxes are left out. All that is left is to be masked, but for the
    /// hints of plugins that give some (`FLAG_HINTS`).
    ///
    /// # Errors
    /// The plugin fails, is broken, is no detector, or answers with numbers
    /// that cannot be true.
    pub fn detect(
        &mut self,
        frame: &FrameView<'_>,
        regions: &mut Vec<Region>,
    ) -> Result<(), PluginError> {
        regions.clear();
        let Some(detect) = self.plugin.functions().detect else {
            return Err(self.contract("asked to detect, but it is no detector".to_owned()));
        };
        self.check_usable()?;
        let raw_frame = frame.to_raw();
        let (mut found, mut count) = (ptr::null(), 0);
        // SAFETY: live instance, frame with live planes, our own variables. The
        // interface forbids the plugin to write through the planes.
        let status = unsafe {
            detect(
                self.handle,
                &raw const raw_frame,
                &raw mut found,
                &raw mut count,
            )
        };
        self.check_status(status)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX_REGIONS {
            return Err(self.fatal(format!("{count} regions in one frame")));
        }
        if count == 0 {
            return Ok(());
        }
        if found.is_null() || !found.is_aligned() {
            return Err(self.fatal(format!("{count} regions at a bad address")));
        }
        // SAFETY: the plugin promises `count` regions until its next call.
        let found = unsafe { std::slice::from_raw_parts(found, count) };
        let least_score = if self.hints { 0.0 } else { SURE };
        for region in found {
            match checked(region, frame) {
                Ok(Some(region)) => regions.push(Region {
                    score: region.score.max(least_score),
                    ..region
                }),
                Ok(None) => {}
                Err(reason) => {
                    regions.clear();
                    return Err(self.contract(reason));
                }
            }
        }
        Ok(())
    }

    /// Lets the plugin change `frame` in place.
    ///
    /// # Errors
    /// The plugin fails, is broken, or is no filter. The frame may then be half
    /// changed and must not be published.
    pub fn process(&mut self, frame: &mut FrameViewMut<'_>) -> Result<Change, PluginError> {
        let Some(process) = self.plugin.functions().process else {
            return Err(self.contract("asked to process, but it is no frame filter".to_owned()));
        };
        self.check_usable()?;
        let mut raw_frame = frame.to_raw();
        let mut changed = u32::MAX;
        // SAFETY: live instance, frame whose planes are ours to lend, our own
        // variable.
        let status = unsafe { process(self.handle, &raw mut raw_frame, &raw mut changed) };
        self.check_status(status)?;
        match changed {
            0 => Ok(Change::Unchanged),
            1 => Ok(Change::Changed),
            other => Err(self.contract(format!("process answers changed = {other}, not 0 or 1"))),
        }
    }

    /// Tells the plugin that the next frame of `camera` follows none before.
    ///
    /// # Errors
    /// The plugin fails or is broken.
    pub fn reset(&mut self, camera: u32) -> Result<(), PluginError> {
        self.check_usable()?;
        // SAFETY: live instance.
        let status = unsafe { (self.plugin.functions().reset)(self.handle, camera) };
        self.check_status(status)
    }

    fn check_usable(&self) -> Result<(), PluginError> {
        if self.broken {
            return Err(PluginError::Broken {
                plugin: self.name(),
                reason: "it failed before and was not made anew".to_owned(),
            });
        }
        Ok(())
    }

    fn check_status(&mut self, status: i32) -> Result<(), PluginError> {
        if status == raw::OK {
            return Ok(());
        }
        let plugin = self.name();
        let reason = self.last_error(self.handle, status);
        match status {
            raw::FAILED | raw::BAD_ARGUMENT | raw::UNSUPPORTED => {
                Err(PluginError::Call { plugin, reason })
            }
            _ => {
                self.broken = true;
                Err(PluginError::Broken { plugin, reason })
            }
        }
    }

    fn last_error(&self, handle: *mut raw::Instance, status: i32) -> String {
        let mut text = raw::Text::EMPTY;
        // SAFETY: null or a live instance; our own variable.
        unsafe { (self.plugin.functions().last_error)(handle, &raw mut text) };
        // SAFETY: the plugin promises the text until the next call.
        let text = unsafe { text.to_string_lossy(TEXT_LIMIT) };
        if text.trim().is_empty() {
            format!("status {status} without a reason")
        } else {
            text
        }
    }

    fn fatal(&mut self, reason: String) -> PluginError {
        self.broken = true;
        self.contract(reason)
    }

    fn contract(&self, reason: String) -> PluginError {
        PluginError::Contract {
            plugin: self.name(),
            reason,
        }
    }

    fn name(&self) -> String {
        self.plugin.info().name.clone()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: made by `create`, given back once.
            unsafe { (self.plugin.functions().destroy)(self.handle) };
        }
        self.plugin.release_single();
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", &self.plugin.info().name)
            .field("kind", &self.kind)
            .field("wants", &self.wants)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

/// A region in safe types, cut to the picture; `None` if nothing is left of it.
fn checked(region: &raw::Region, frame: &FrameView<'_>) -> Result<Option<Region>, String> {
    let &raw::Region {
        x,
        y,
        width,
        height,
        score,
        kind,
        track,
    } = region;
    if ![x, y, width, height, score].iter().all(|n| n.is_finite()) {
        return Err(format!("a region that is no number: {region:?}"));
    }
    if width < 0.0 || height < 0.0 {
        return Err(format!("a region of negative size: {region:?}"));
    }
    if !(0.0..=1.0).contains(&score) {
        return Err(format!("a score outside 0..1: {score}"));
    }
    let kind = RegionKind::from_raw(kind).ok_or_else(|| format!("unknown region kind {kind}"))?;
    let (right, bottom) = (frame.info().width as f32, frame.info().height as f32);
    // The usual slips, which would leave everybody visible without a word. A detector that pads the picture to a square
    // may see something in what it added.
    let margin = right.max(bottom);
    if x > right + margin || y > bottom + margin || x + width < -margin || y + height < -margin {
        return Err(format!(
            "a region far outside its picture of {right}x{bottom} pixels, as if it were of another one: {region:?}"
        ));
    }
    let is_share = |n: f32| (0.0..=1.0).contains(&n);
    if [x, y, width, height].into_iter().all(is_share) && width * height > 0.0 {
        return Err(format!(
            "a region of less than a pixel, as if in shares of the picture: {region:?}"
        ));
    }
    let (x0, y0) = (x.clamp(0.0, right), y.clamp(0.0, bottom));
    let (x1, y1) = ((x + width).clamp(x0, right), (y + height).clamp(y0, bottom));
    if x1 <= x0 || y1 <= y0 {
        return Ok(None);
    }
    Ok(Some(Region {
        x: x0,
        y: y0,
        width: x1 - x0,
        height: y1 - y0,
        score,
        kind,
        track,
    }))
}

#[cfg(test)]
mod tests {
    use plugin_abi::{FrameInfo, PixelFormat};

    use super::*;

    const GOOD: raw::Region = raw::Region {
        x: 10.0,
        y: 10.0,
        width: 20.0,
        height: 20.0,
        score: 0.5,
        kind: raw::REGION_HEAD,
        track: 9,
    };

    fn check(change: impl Fn(&mut raw::Region)) -> Result<Option<Region>, String> {
        let data = vec![0; 100 * 50 * 3];
        let info = FrameInfo::new(PixelFormat::Bgr24, 100, 50);
        let frame = FrameView::new(info, &[(&data, 300)]).expect("fits");
        let mut region = GOOD;
        change(&mut region);
        checked(&region, &frame)
    }

    #[test]
    fn boxes_are_cut_to_the_picture() {
        let region = check(|r| (r.x, r.y, r.width, r.height) = (-5.0, 40.0, 10.0, 1e9));
        let region = region.expect("allowed").expect("partly inside");
        assert_eq!(
            (region.x, region.y, region.width, region.height),
            (0.0, 40.0, 5.0, 10.0)
        );
        assert_eq!((region.kind, region.track), (RegionKind::Head, 9));
    }

    #[test]
    fn boxes_outside_or_empty_are_left_out() {
        assert_eq!(check(|r| r.x = 200.0), Ok(None));
        assert_eq!(check(|r| r.width = 0.0), Ok(None));
        assert_eq!(check(|r| r.y = -30.0), Ok(None));
    }

    #[test]
    fn boxes_of_another_picture_are_errors() {
        let slips: [fn(&mut raw::Region); 4] = [
            |r| r.x = 201.0,
            |r| r.y = 600.0,
            |r| r.y = -121.0,
            |r| (r.x, r.y, r.width, r.height) = (0.1, 0.1, 0.3, 0.3),
        ];
        for slip in slips {
            assert!(check(slip).is_err());
        }
        assert!(check(|r| (r.x, r.y, r.width, r.height) = (0.0, 0.0, 1.0, 4.0)).is_ok());
    }

    #[test]
    fn impossible_numbers_are_errors() {
        let broken: [fn(&mut raw::Region); 6] = [
            |r| r.x = f32::NAN,
            |r| r.height = f32::INFINITY,
            |r| r.width = -1.0,
            |r| r.score = 1.5,
            |r| r.score = f32::NAN,
            |r| r.kind = 77,
        ];
        for change in broken {
            assert!(check(change).is_err());
        }
    }
}
