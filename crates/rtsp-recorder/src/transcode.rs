//! Encoding again, for sources whose `video_codec` is the name of an encoder: at `input_fps` and `bitrate`.
//!
//! A camera's frames keep their times; those above `input_fps` are left out. A file is played frame by frame at
//! `input_fps`, as the old system did. Pictures that a decoder guessed leave a hole (see [`crate::trust`]), and a key frame
//! follows it: then nobody who looks for holes has a reason to doubt what comes after.

use crate::timeline::TICKS_PER_SECOND;
use crate::trust::{Trust, Verdict};
use media::encode::Key;
use media::{
    Decoder, DecoderOptions, Encoder, EncoderSettings, Frame, MediaError, Packet, Rate, Rational,
    VideoCodec, VideoTrack,
};
use settings::{Source, SourceKind};
use std::collections::BTreeMap;

/// Seconds between key frames, where segments can be cut.
const GOP_SECONDS: f64 = 2.0;

/// Decodes and encodes one stream.
pub struct Transcoder {
    encoder_name: String,
    input: VideoTrack,
    decoder: Decoder,
    encoder: Option<Encoder>,
    /// What the encoder makes, until somebody was told.
    track: Option<VideoTrack>,
    fps: f64,
    bitrate: u64,
    live: bool,
    clock: FrameClock,
    trust: Trust,
    /// The next frame is the first after a hole.
    after_hole: bool,
    /// What was lost before frames that the encoder has, by their times.
    losses: BTreeMap<i64, u32>,
}

/// An encoded frame.
#[derive(Debug)]
pub struct Encoded {
    /// Its time in ticks of 1/90000 s.
    pub raw_90k: i64,
    /// Decoding can start here.
    pub key: bool,
    /// Packets of the source that were lost or damaged before it.
    pub packets_lost: u32,
    /// What it is, with the first one and where that changes.
    pub track: Option<VideoTrack>,
    /// The payload.
    pub data: Vec<u8>,
}

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
            track: None,
            fps: source.input_fps,
            bitrate: source.bitrate,
            live: source.kind() != SourceKind::File,
            clock,
            // FFmpeg's decoder of H.264 takes intra refresh for a beginning, too, and marks what comes before.
            trust: Trust::new(input.codec == VideoCodec::H264),
            after_hole: false,
            losses: BTreeMap::new(),
        })
    }

    /// Takes the next packet, before or in which `packets_lost` were lost, and gives what is encoded by now.
    ///
    /// # Errors
    /// The encoder refuses; what is damaged is only left out.
    pub fn push(&mut self, packet: &Packet, packets_lost: u32) -> Result<Vec<Encoded>, MediaError> {
        self.trust.lose(packets_lost);
        if packet.is_key() {
            self.trust.send_key(packet.pts().unwrap_or(0));
        }
        let sent = self.decoder.send(packet);
        self.forgive(sent)?;
        let packets = self.encode()?;
        Ok(self.of_packets(&packets))
    }

    /// True while pictures are left out because they are, or may be, guessed.
    pub fn waits_for_key(&self) -> bool {
        !self.trust.is_whole()
    }

    /// Gives what is still held back.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self) -> Result<Vec<Encoded>, MediaError> {
        let finished = self.decoder.finish();
        self.forgive(finished)?;
        let mut packets = self.encode()?;
        if let Some(encoder) = &mut self.encoder {
            encoder.finish(&mut packets)?;
        }
        Ok(self.of_packets(&packets))
    }

    /// Damage is noted, other errors are passed on.
    fn forgive(&mut self, result: Result<(), MediaError>) -> Result<(), MediaError> {
        match result {
            Err(error) if error.is_damaged() => {
                tracing::debug!(%error, "left out what is damaged");
                self.trust.refuse();
                Ok(())
            }
            result => result,
        }
    }

    /// Encodes all whole pictures that the decoder has.
    fn encode(&mut self) -> Result<Vec<Packet>, MediaError> {
        let mut packets = Vec::new();
        loop {
            match self.decoder.receive() {
                Ok(Some(frame)) => self.encode_frame(frame, &mut packets)?,
                Ok(None) => return Ok(packets),
                Err(error) => self.forgive(Err(error))?,
            }
        }
    }

    fn encode_frame(
        &mut self,
        mut frame: Frame,
        packets: &mut Vec<Packet>,
    ) -> Result<(), MediaError> {
        let own_time = frame.pts().unwrap_or(0);
        // What is left out takes its time all the same.
        let admitted = self.clock.admit(own_time);
        let lost = match self
            .trust
            .judge(own_time, frame.is_key(), frame.is_damaged())
        {
            Verdict::Guess => return Ok(()),
            Verdict::Whole => 0,
            Verdict::First(lost) => {
                self.after_hole = true;
                lost
            }
        };
        if lost > 0 {
            // A frame that is not admitted passes it on to the next, which is later.
            self.losses.insert(admitted.unwrap_or(own_time), lost);
        }
        let Some(time) = admitted else {
            return Ok(());
        };
        frame.set_pts(Some(time));
        if self.encoder.is_none() {
            self.open(&frame)?;
        }
        let key = match std::mem::take(&mut self.after_hole) {
            true => Key::Forced,
            false => Key::Auto,
        };
        if let Some(encoder) = &mut self.encoder {
            encoder.encode(&frame, key, packets)?;
        }
        Ok(())
    }

    fn of_packets(&mut self, packets: &[Packet]) -> Vec<Encoded> {
        packets
            .iter()
            .map(|packet| {
                let raw_90k = packet
                    .time_base()
                    .rescale(packet.pts().unwrap_or(0), Rational::MPEG);
                let later = self.losses.split_off(&(raw_90k + 1));
                let lost = std::mem::replace(&mut self.losses, later);
                Encoded {
                    raw_90k,
                    key: packet.is_key(),
                    packets_lost: lost.into_values().fold(0, u32::saturating_add),
                    track: self.track.take(),
                    data: packet.data().to_vec(),
                }
            })
            .collect()
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
        self.track = Some(track);
        self.encoder = Some(encoder);
        Ok(())
    }
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

    /// What becomes of 60 frames, a key frame every 15, when `hurt` has done its worst to the packets: it says what is told
    /// to be lost before each, or that the packet itself is missing.
    fn encoded_again(
        encoder: &str,
        b_frames: u32,
        hurt: impl Fn(usize, &mut Packet) -> Option<u32>,
    ) -> Vec<Encoded> {
        let video = media::synth::TestVideo {
            encoder: encoder.to_owned(),
            frames: 60,
            b_frames,
            ..Default::default()
        };
        let made = video.encode().expect("a test video");
        let text =
            r#"{"sources": [{"url": "rtsp://h/a", "video_codec": "libx264", "input_fps": 15}]}"#;
        let settings = settings::RecorderSettings::from_text(text, &settings::Environment::empty());
        let source = &settings.expect("settings").sources[0];
        let mut transcoder = Transcoder::new("libx264", source, &made.track).expect("a transcoder");
        let mut encoded = Vec::new();
        for (number, mut packet) in made.packets.into_iter().enumerate() {
            if let Some(lost) = hurt(number, &mut packet) {
                encoded.extend(transcoder.push(&packet, lost).expect("frames"));
            }
        }
        encoded.extend(transcoder.finish().expect("frames"));
        encoded
    }

    /// Numbers of the frames.
    fn numbers(encoded: &[Encoded]) -> Vec<i64> {
        encoded.iter().map(|frame| frame.raw_90k / 6000).collect()
    }

    /// Checks that nothing comes up to frame 30, which tells of the loss and is a beginning, and that all is well before and
    /// after.
    fn check_hole(what: &str, encoded: &[Encoded], last_before: std::ops::RangeInclusive<i64>) {
        let numbers = numbers(encoded);
        let at = numbers.iter().position(|number| *number == 30);
        let at = at.unwrap_or_else(|| panic!("{what}: {numbers:?}"));
        let last = numbers[at - 1];
        assert!(last_before.contains(&last), "{what}: {numbers:?}");
        let expected: Vec<i64> = (0..=last).chain(30..60).collect();
        assert_eq!(numbers, expected, "{what}");
        for (place, frame) in encoded.iter().enumerate() {
            assert_eq!(frame.packets_lost > 0, place == at, "{what}, frame {place}");
        }
        assert!(encoded[at].key, "{what}");
    }

    #[test]
    fn all_frames_of_whole_video_are_encoded() {
        for (encoder, b_frames) in [
            ("libx264", 0),
            ("libx264", 2),
            ("libx265", 0),
            ("libx265", 2),
        ] {
            let encoded = encoded_again(encoder, b_frames, |_, _| Some(0));
            let expected: Vec<i64> = (0..60).collect();
            assert_eq!(numbers(&encoded), expected, "{encoder}, {b_frames}");
            assert!(encoded.iter().all(|frame| frame.packets_lost == 0));
        }
    }

    #[test]
    fn pictures_built_upon_lost_ones_are_left_out_and_counted() {
        for (encoder, b_frames) in [("libx264", 0), ("libx264", 2), ("libx265", 0)] {
            let encoded = encoded_again(encoder, b_frames, |number, _| match number {
                20 => None,
                21 => Some(1),
                _ => Some(0),
            });
            check_hole(encoder, &encoded, 15..=19);
        }
    }

    #[test]
    fn pictures_that_the_decoder_guesses_are_left_out_and_counted() {
        for encoder in ["libx264", "libx265"] {
            let encoded = encoded_again(encoder, 0, |number, packet| {
                if number == 20 {
                    let mut data = packet.data().to_vec();
                    let length = data.len();
                    data[20..length - 4]
                        .iter_mut()
                        .for_each(|byte| *byte ^= 0x5a);
                    packet.replace_data(&data).expect("memory");
                }
                Some(0)
            });
            check_hole(encoder, &encoded, 15..=19);
        }
    }

    #[test]
    fn recording_begins_with_a_whole_picture() {
        for encoder in ["libx264", "libx265"] {
            let encoded = encoded_again(encoder, 0, |number, _| (number >= 7).then_some(0));
            let expected: Vec<i64> = (15..60).collect();
            assert_eq!(numbers(&encoded), expected, "{encoder}");
            assert!(encoded.iter().all(|frame| frame.packets_lost == 0));
        }
    }
}
