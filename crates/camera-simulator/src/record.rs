//! The ground truth: what each camera sent, kept in memory and, if asked, as JSON lines.

use serde::Serialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

/// Units kept in memory per camera; the file has no such limit.
pub(crate) const KEPT: usize = 100_000;

/// One access unit that a camera sent (or would have sent, had anybody listened).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SentUnit {
    /// Name of the camera.
    pub cam: String,
    /// Video frames since the camera's start, this one included from 0; sound has the frame before it.
    pub n: u64,
    /// 0 video, 1 sound.
    pub track: u8,
    /// How often the clip has been started again.
    pub r#loop: u64,
    /// Position in the clip among the units of its track.
    pub frame: u32,
    /// Wall-clock time of sending, seconds since 1970.
    pub t: f64,
    /// Presentation time, seconds since the camera's start, [`crate::Fault::Jump`] included.
    pub pts: f64,
    /// The same in ticks of the RTP clock (90 kHz for video, the sample rate for sound), without the
    /// session's random offset.
    pub ticks: i64,
    /// Decoding can start here.
    pub key: bool,
    /// Encoded size, bytes.
    pub len: usize,
    /// MD5 over the slices of a video frame, see [`crate::slices_md5`]; over the whole frame for sound.
    pub vcl_md5: String,
    /// Playing clients that it was handed to.
    pub clients: usize,
}

/// The last units of one camera.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<SentUnit>);

impl Recent {
    pub(crate) fn push(&mut self, unit: SentUnit) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(unit);
    }

    pub(crate) fn to_vec(&self) -> Vec<SentUnit> {
        self.0.iter().cloned().collect()
    }
}

/// The JSON lines file, shared by all cameras. A write error ends it with one log line.
#[derive(Debug)]
pub(crate) struct LogFile(Mutex<Option<BufWriter<File>>>);

impl LogFile {
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self(Mutex::new(Some(BufWriter::new(file)))))
    }

    pub(crate) fn write(&self, unit: &SentUnit) {
        self.with(|out| {
            serde_json::to_writer(&mut *out, unit)?;
            out.write_all(b"\n")?;
            // Whole lines for a reader that follows the file; one small write per frame is cheap.
            out.flush()
        });
    }

    fn with(&self, f: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        let mut file = crate::lock(&self.0);
        if let Some(out) = file.as_mut()
            && let Err(error) = f(out)
        {
            tracing::error!(%error, "log of sent frames not written; it ends here");
            *file = None;
        }
    }
}
