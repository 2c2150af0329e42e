//! The sound of a session: AAC as it comes, anything else encoded as AAC, since MP4 cannot hold G.711.

use crate::frame::AudioFrame;
use crate::input::Stamps;
use crate::timeline::{from_90k, rescale_to_90k};
use media::audio::ToAac;
use media::{AudioCodec, AudioTrack, MediaError, Packet, Rational};
use retina::client::Stream;
use retina::codec::ParametersRef;
use std::collections::VecDeque;
use std::time::Duration;

/// Says why the rest of a session is recorded without its sound: no trouble with it is a reason to miss the picture.
pub fn sound_ends(why: &dyn std::error::Error) {
    let why = crate::finisher::chain(why);
    tracing::warn!(why, "the sound is not recorded in the rest of this session");
}

/// Makes AAC of sound of another kind.
pub struct Converter {
    encoder: Box<ToAac>,
    /// Time and arrival of the last packet.
    last: (i64, Duration),
}

impl Converter {
    /// `None`, and a word of it, where that cannot be done.
    pub fn new(track: &AudioTrack) -> Option<Self> {
        match ToAac::new(track) {
            Ok(encoder) => Some(Self {
                encoder: Box::new(encoder),
                last: (0, Duration::ZERO),
            }),
            Err(error) => {
                tracing::warn!(%error, "the sound cannot be converted and is not recorded");
                None
            }
        }
    }

    /// What is stored.
    pub fn track(&self) -> &AudioTrack {
        self.encoder.track()
    }

    /// What comes of a packet of this time. The encoder holds some back.
    ///
    /// # Errors
    /// The conversion failed.
    pub fn push(
        &mut self,
        packet: &Packet,
        raw_90k: i64,
        arrival: Duration,
    ) -> Result<Vec<AudioFrame>, MediaError> {
        let mut made = Vec::new();
        let at = Rational::MPEG.rescale(raw_90k, self.track().time_base);
        self.encoder.push(packet, at, &mut made)?;
        self.last = (raw_90k, arrival);
        Ok(self.frames(&made))
    }

    /// What the encoder still holds, at the end of a session.
    ///
    /// # Errors
    /// The conversion failed.
    pub fn finish(&mut self) -> Result<Vec<AudioFrame>, MediaError> {
        let mut made = Vec::new();
        self.encoder.finish(&mut made)?;
        Ok(self.frames(&made))
    }

    fn frames(&self, made: &[Packet]) -> Vec<AudioFrame> {
        let (raw_90k, arrival) = self.last;
        let base = self.track().time_base;
        let frames = made.iter().map(|packet| {
            let own_90k = packet
                .pts()
                .map_or(raw_90k, |pts| base.rescale(pts, Rational::MPEG));
            AudioFrame {
                raw_90k: own_90k,
                // What the encoder held back arrived earlier than what came just now.
                arrival: arrival.saturating_sub(from_90k(raw_90k - own_90k)),
                duration_90k: base.rescale(1024, Rational::MPEG),
                data: packet.data().to_vec(),
            }
        });
        frames.collect()
    }
}

/// What a stream of sound holds, of the kinds that are taken from retina.
fn readable(stream: &Stream) -> Option<AudioCodec> {
    match stream.encoding_name() {
        "mpeg4-generic" => Some(AudioCodec::Aac),
        "pcma" => Some(AudioCodec::PcmAlaw),
        "pcmu" => Some(AudioCodec::PcmMulaw),
        _ => None,
    }
}

/// The audio stream of an RTSP session.
pub struct Sound {
    stream: usize,
    converter: Option<Converter>,
    ready: VecDeque<AudioFrame>,
}

impl Sound {
    /// The first stream that can be recorded.
    pub fn choose(streams: &[Stream]) -> Option<Self> {
        streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.media() == "audio")
            .find_map(|(index, stream)| {
                let codec = readable(stream)?;
                if codec == AudioCodec::Aac {
                    return Some(Self::new(index, None));
                }
                let channels = stream
                    .channels()
                    .map_or(1, |channels| u32::from(channels.get()));
                let track = AudioTrack::new(codec, stream.clock_rate_hz(), channels);
                Converter::new(&track).map(|converter| Self::new(index, Some(converter)))
            })
    }

    /// What a stream of sound holds that retina cannot read, if there is one.
    pub fn unreadable(streams: &[Stream]) -> Option<&str> {
        streams
            .iter()
            .find(|stream| stream.media() == "audio" && readable(stream).is_none())
            .map(Stream::encoding_name)
    }

    fn new(stream: usize, converter: Option<Converter>) -> Self {
        Sound {
            stream,
            converter,
            ready: VecDeque::new(),
        }
    }

    /// Which stream of the session it is.
    pub fn stream(&self) -> usize {
        self.stream
    }

    /// What is stored; `None` while the camera has not said it.
    pub fn track(&self, stream: &Stream) -> Option<AudioTrack> {
        if let Some(converter) = &self.converter {
            return Some(converter.track().clone());
        }
        let ParametersRef::Audio(params) = stream.parameters()? else {
            return None;
        };
        let channels = u32::from(params.channels().get());
        let track = AudioTrack::new(AudioCodec::Aac, params.clock_rate(), channels);
        Some(track.with_extradata(params.extra_data()))
    }

    /// Takes a frame of the stream; what comes of it is fetched with [`Self::pop`].
    ///
    /// # Errors
    /// The conversion failed.
    pub fn push(
        &mut self,
        frame: &retina::codec::AudioFrame,
        stamps: &Stamps,
    ) -> Result<(), MediaError> {
        let time = frame.timestamp();
        let rate = time.clock_rate().get();
        let raw_90k = rescale_to_90k(time.timestamp(), rate);
        let arrival = stamps.of(frame.ctx().received()).0;
        let Some(converter) = &mut self.converter else {
            self.ready.push_back(AudioFrame {
                raw_90k,
                arrival,
                duration_90k: rescale_to_90k(i64::from(frame.frame_length().get()), rate),
                data: frame.data().to_vec(),
            });
            return Ok(());
        };
        let packet = Packet::new(frame.data(), converter.track().time_base)?;
        let made = converter.push(&packet, raw_90k, arrival)?;
        self.ready.extend(made);
        Ok(())
    }

    /// The next frame to be stored.
    pub fn pop(&mut self) -> Option<AudioFrame> {
        self.ready.pop_front()
    }
}
