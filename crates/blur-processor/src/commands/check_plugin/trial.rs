//! A plugin at work: timed, its answers held against what it did, its memory watched.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use media::Frame;
use plugin_host::Instance;
use plugin_host::abi::{Change, FrameInfo, Region};

use super::findings::Findings;
use super::pictures;
use crate::dispatcher::memory;
use crate::pipeline::planes;
use crate::plugin::Hider;

/// Cameras the plugin is told of; pictures of both are shown.
pub(super) const CAMERAS: u32 = 2;

/// Lets a plugin work on `frames` pictures, on more than one thread, one after the other, as the
/// interface allows.
///
/// # Errors
/// It cannot be tried: the video is no good, or no thread can be had.
pub(super) fn run(hider: Hider, video: Option<&Path>, frames: u32) -> anyhow::Result<Findings> {
    let (Hider::Detector(mut instance) | Hider::Filter(mut instance)) = hider else {
        bail!("nothing to try");
    };
    let pictures = pictures::pictures(instance.wants(), video)?;
    let mut findings = Findings::new(&instance);
    let half = frames / 2;
    trial(&mut instance, &pictures, 0..half, &mut findings)?;
    let elsewhere = std::thread::scope(|scope| {
        scope
            .spawn(|| trial(&mut instance, &pictures, half..frames, &mut findings))
            .join()
    });
    elsewhere
        .ok()
        .context("the plugin panicked on another thread")??;
    Ok(findings)
}

fn trial(
    instance: &mut Instance,
    pictures: &[Frame],
    numbers: std::ops::Range<u32>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let is_filter = instance.kind() == plugin_host::abi::PluginKind::Filter;
    for number in numbers {
        if findings.failure.is_some() {
            break;
        }
        let picture = &pictures[number as usize % pictures.len()];
        let format = planes::named_for_plugin(picture.format()).context("a strange format")?;
        let info = FrameInfo {
            camera: number % CAMERAS,
            index: u64::from(number / CAMERAS),
            pts_ns: i64::from(number / CAMERAS) * 40_000_000,
            ..FrameInfo::new(format, picture.width(), picture.height())
        };
        match is_filter {
            true => filter(instance, picture, info, findings)?,
            false => detect(instance, picture, info, findings)?,
        }
        findings
            .memory
            .push(memory::of_process_and_children(std::process::id()));
    }
    Ok(())
}

fn filter(
    instance: &mut Instance,
    picture: &Frame,
    info: FrameInfo,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut copy = picture.clone();
    let began = Instant::now();
    let answer = planes::lend_mut(&mut copy, info, |view| instance.process(view))?;
    findings.times.push(began.elapsed());
    match answer {
        Ok(change) => {
            let changed = !picture.shows_the_same(&copy);
            findings.changed += u32::from(changed);
            findings.lies += u32::from(changed && change == Change::Unchanged);
        }
        Err(error) => findings.failure = Some(error.to_string()),
    }
    Ok(())
}

fn detect(
    instance: &mut Instance,
    picture: &Frame,
    info: FrameInfo,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut regions: Vec<Region> = Vec::new();
    let before = picture.to_packed();
    let began = Instant::now();
    let answer = planes::lend(picture, info, |view| instance.detect(view, &mut regions))?;
    findings.times.push(began.elapsed());
    match answer {
        Ok(()) => {
            findings.regions += regions.len() as u64;
            let scores = regions.iter().map(|region| region.score);
            findings.best_score = scores.fold(findings.best_score, f32::max);
            findings.changed += u32::from(picture.to_packed() != before);
        }
        Err(error) => findings.failure = Some(error.to_string()),
    }
    Ok(())
}
