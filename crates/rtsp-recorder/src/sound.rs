//! The sound of an RTSP session: AAC as it comes, G.711 encoded as AAC, since MP4 cannot hold G.711.

use crate::frame::AudioFrame;
use crate::input::Stamps;
use crate::timeline::{TICKS_PER_SECOND, from_90k, rescale_to_90k};
use media::audio::G711ToAac;
use media::{AudioCodec, AudioTrack, MediaError};
use retina::client::Stream;
use retina::codec::ParametersRef;
use std::collections::VecDeque;

/// The audio stream of a session.
pub struct Sound {
    stream: usize,
    converter: Option<Box<G711ToAac>>,
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
                let law = match stream.encoding_name() {
                    "mpeg4-generic" => return Some(Self::new(index, None)),
                    "pcma" => AudioCodec::PcmAlaw,
                    "pcmu" => AudioCodec::PcmMulaw,
                    _ => return None,
                };
                let channels = stream
                    .channels()
                    .map_or(1, |channels| u32::from(channels.get()));
                match G711ToAac::new(&AudioTrack::new(law, stream.clock_rate_hz(), channels)) {
                    Ok(converter) => Some(Self::new(index, Some(Box::new(converter)))),
                    Err(error) => {
                        tracing::warn!(%error, "the sound cannot be converted and is not recorded");
                        None
                    }
                }
            })
    }

    fn new(stream: usize, converter: Option<Box<G711ToAac>>) -> Self {
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
        let mut packets = Vec::new();
        converter.push(frame.data(), time.timestamp(), &mut packets)?;
        for packet in packets {
            let own_90k = rescale_to_90k(packet.pts().unwrap_or(time.timestamp()), rate);
            self.ready.push_back(AudioFrame {
                raw_90k: own_90k,
                // What the encoder held back arrived earlier than what came just now.
                arrival: arrival.saturating_sub(from_90k(raw_90k - own_90k)),
                duration_90k: 1024 * TICKS_PER_SECOND / i64::from(rate.max(1)),
                data: packet.data().to_vec(),
            });
        }
        Ok(())
    }

    /// The next frame to be stored.
    pub fn pop(&mut self) -> Option<AudioFrame> {
        self.ready.pop_front()
    }
}
