//! Encoding again, for sources whose `video_codec` is the name of an encoder: at `input_fps` and `bitrate`.
//!
//! A camera's frames keep their times; those above `input_fps` are left out. A file is played frame by frame at
//! `input_fps`, as the old system did.

use crate::stream::StreamParams;
use crate::timeline::TICKS_PER_SECOND;
use media::encode::Key;
use media::{
    Decoder, DecoderOptions, Encoder, EncoderSettings, Frame, MediaError, Packet, Rate, Rational,
    VideoTrack,
};
use settings::{Source, SourceKind};
use std::sync::Arc;

/// Seconds between key frames, where segments can be cut.
const GOP_SECONDS: f64 = 2.0;

/// Decodes and encodes one stream.
pub struct Transcoder {
    encoder_name: String,
    input: VideoTrack,
    decoder: Decoder,
    encoder: Option<Encoder>,
    params: Option<Arc<StreamParams>>,
    fps: f64,
    bitrate: u64,
    live: bool,
    clock: FrameClock,
}

/// An encoded frame: time in ticks of 1/90000 s, key, payload, and the parameters with the first one.
pub type Encoded = (i64, bool, Vec<u8>, Option<Arc<StreamParams>>);

/// Which frames go out, and when.
enum FrameClock {
    /// Frame by frame at a fixed distance.
    Counted { interval: f64, frames: u64 },
    /// At their own times, at most one per interval.
    Thinned { interval: f64, next: Option<f64> },
}

impl FrameClock {
    /// The time of a frame whose own time is `time_90k`; `None` leaves it out.
    fn admit(&mut self, time_90k: i64) -> Option<i64> {
        match self {
            FrameClock::Counted { interval, frames } => {
                *frames += 1;
                Some(((*frames - 1) as f64 * *interval) as i64)
            }
            FrameClock::Thinned { interval, next } => {
                let time = time_90k as f64;
                // Cameras jitter: a frame a little early is still the one of its interval.
                let due = next
                    .filter(|due| (time - due).abs() < TICKS_PER_SECOND as f64)
                    .unwrap_or(time);
                if time < due - *interval * 0.25 {
                    return None;
                }
                *next = Some(due.max(time - *interval) + *interval);
                Some(time_90k)
            }
        }
    }
}

impl Transcoder {
    /// For the packets of `input`, whose times are ticks of 1/90000 s.
    ///
    /// # Errors
    /// There is no decoder for it.
    pub fn new(encoder: &str, source: &Source, input: &VideoTrack) -> Result<Self, MediaError> {
        let interval = TICKS_PER_SECOND as f64 / source.input_fps;
        let clock = match source.kind() {
            SourceKind::File => FrameClock::Counted {
                interval,
                frames: 0,
            },
            _ => FrameClock::Thinned {
                interval,
                next: None,
            },
        };
        Ok(Transcoder {
            encoder_name: encoder.to_owned(),
            input: input.clone(),
            decoder: Decoder::new(input, &DecoderOptions::default())?,
            encoder: None,
            params: None,
            fps: source.input_fps,
            bitrate: source.bitrate,
            live: source.kind() != SourceKind::File,
            clock,
        })
    }

    /// Takes the next packet and gives what is encoded by now.
    ///
    /// # Errors
    /// The encoder refuses; a damaged packet is only left out.
    pub fn push(&mut self, packet: &Packet) -> Result<Vec<Encoded>, MediaError> {
        let mut frames = Vec::new();
        match self.decoder.decode(Some(packet), &mut frames) {
            Err(error) if error.is_damaged() => {
                tracing::debug!(%error, "left out a damaged packet")
            }
            result => result?,
        }
        self.encode(frames)
    }

    /// Gives what is still held back.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self) -> Result<Vec<Encoded>, MediaError> {
        let mut frames = Vec::new();
        match self.decoder.decode(None, &mut frames) {
            Err(error) if error.is_damaged() => tracing::debug!(%error, "left out a damaged frame"),
            result => result?,
        }
        let mut encoded = self.encode(frames)?;
        if let Some(encoder) = &mut self.encoder {
            let mut packets = Vec::new();
            encoder.finish(&mut packets)?;
            encoded.extend(
                packets
                    .iter()
                    .map(|packet| of_packet(packet, &mut self.params)),
            );
        }
        Ok(encoded)
    }

    fn encode(&mut self, frames: Vec<Frame>) -> Result<Vec<Encoded>, MediaError> {
        let mut packets = Vec::new();
        for mut frame in frames {
            let Some(time) = self.clock.admit(frame.pts().unwrap_or(0)) else {
                continue;
            };
            frame.set_pts(Some(time));
            if self.encoder.is_none() {
                self.open(&frame)?;
            }
            if let Some(encoder) = &mut self.encoder {
                encoder.encode(&frame, Key::Auto, &mut packets)?;
            }
        }
        Ok(packets
            .iter()
            .map(|packet| of_packet(packet, &mut self.params))
            .collect())
    }

    /// Opens the encoder for frames like this one.
    fn open(&mut self, frame: &Frame) -> Result<(), MediaError> {
        let fast = ["libx264", "libx265"].contains(&self.encoder_name.as_str());
        // Frames an encoder holds back would be missing after a kill, and come late at a cut.
        let tune = (fast && self.live).then(|| ("tune".to_owned(), "zerolatency".to_owned()));
        let settings = EncoderSettings {
            width: frame.width(),
            height: frame.height(),
            pixel_format: frame.format().eight_bit(),
            time_base: Rational::MPEG,
            fps: Some(Rational::new((self.fps * 1000.0) as i32, 1000)),
            rate: Rate::Bitrate(self.bitrate),
            max_bitrate: fast.then_some(self.bitrate * 3 / 2),
            gop: Some((self.fps * GOP_SECONDS).ceil() as u32),
            preset: fast.then(|| "veryfast".to_owned()),
            options: tune.into_iter().collect(),
            ..EncoderSettings::like(self.encoder_name.clone(), &self.input)
        };
        let encoder = Encoder::open(settings)?;
        let mut track = encoder.track().clone();
        track.time_base = Rational::MPEG;
        self.params = Some(Arc::new(StreamParams::new(track, None)));
        self.encoder = Some(encoder);
        Ok(())
    }
}

fn of_packet(packet: &Packet, params: &mut Option<Arc<StreamParams>>) -> Encoded {
    let time = packet
        .time_base()
        .rescale(packet.pts().unwrap_or(0), Rational::MPEG);
    (time, packet.is_key(), packet.data().to_vec(), params.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_frames_a_second_are_thinned_to_ten() {
        let mut clock = FrameClock::Thinned {
            interval: 9000.0,
            next: None,
        };
        let jitter = [0, 40, -30, 10, -45];
        let kept = (0..300i64)
            .filter(|i| clock.admit(i * 3000 + jitter[*i as usize % 5]).is_some())
            .count();
        assert_eq!(kept, 100);
    }

    #[test]
    fn slower_cameras_keep_all_frames() {
        let mut clock = FrameClock::Thinned {
            interval: 6000.0,
            next: None,
        };
        assert!((0..100i64).all(|i| clock.admit(i * 9000) == Some(i * 9000)));
        let mut same = FrameClock::Thinned {
            interval: 6000.0,
            next: None,
        };
        assert!((0..100i64).all(|i| same.admit(i * 6000 + i % 3 * 100).is_some()));
    }
}
