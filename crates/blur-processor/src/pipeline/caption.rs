//! The caption burned in: the user's text, the frame's own recording time, frame i of n.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use media::Frame;
use redaction::{Overlay, OverlayLine};

use super::index::Index;
use super::job::{Failure, VideoJob};
use super::planes;

/// Draws the caption of one video.
pub(crate) struct Caption<'a> {
    index: &'a Index,
    text: &'a str,
    start: Option<Timestamp>,
    zone: TimeZone,
    overlay: Overlay,
}

impl<'a> Caption<'a> {
    /// For pictures of `size`.
    pub(crate) fn new(text: &'a str, job: &VideoJob, index: &'a Index, size: (u32, u32)) -> Self {
        let offset = Offset::from_seconds(job.utc_offset_seconds).unwrap_or(Offset::UTC);
        let mut caption = Self {
            index,
            text,
            start: job.start,
            zone: TimeZone::fixed(offset),
            overlay: Overlay::new((1, 1), &OverlayLine::default()),
        };
        let widest = caption.line(index.times.len() - 1);
        caption.overlay = Overlay::new((size.0 as usize, size.1 as usize), &widest);
        caption
    }

    /// Burns the caption into picture `number`.
    pub(crate) fn draw(&mut self, frame: &mut Frame, number: usize) -> Result<(), Failure> {
        let line = self.line(number);
        planes::with_planes(frame, |planes| self.overlay.draw(planes, &line))
    }

    fn line(&self, number: usize) -> OverlayLine {
        OverlayLine {
            text: self.text.to_owned(),
            time: self.time_of(number),
            frame: number as u64 + 1,
            frames: self.index.times.len() as u64,
        }
    }

    /// Local time of the place of recording, to the millisecond; empty when not known.
    fn time_of(&self, number: usize) -> String {
        let into = SignedDuration::try_from_secs_f64(self.index.seconds_at(number)).ok();
        let time = self
            .start
            .zip(into)
            .and_then(|(start, into)| start.checked_add(into).ok());
        time.map_or_else(String::new, |time| {
            time.to_zoned(self.zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S%.3f")
                .to_string()
        })
    }
}
