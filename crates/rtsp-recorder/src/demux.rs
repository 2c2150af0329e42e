//! Sources that FFmpeg's demuxer reads, in a thread of their own: files, http(s), rtsps, and what retina cannot read.
//!
//! A file is played at its own pace, or at `input_fps` when it is encoded again, and begins anew at its end.

use crate::backoff::Failure;
use crate::changes::Changes;
use crate::frame::{AudioFrame, LeftOut, VideoFrame};
use crate::input::{Media, SessionError, Stamps};
use crate::opener::no_thread;
use crate::sound::{Converter, sound_ends};
use crate::stream::StreamParams;
use crate::timeline::{from_90k, to_90k};
use crate::transcode::{Encoded, Transcoder};
use media::{
    AudioCodec, AudioTrack, MediaError, Packet, Rational, Reader, ReaderOptions, StopHandle,
    VideoTrack,
};
use settings::{Source, SourceKind, Transport, VideoCodec};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Frames that may wait between the thread and the session.
const QUEUED_FRAMES: usize = 32;

/// An empty or unreadable file would be read in a circle as fast as the disk allows.
const SHORTEST_ROUND: Duration = Duration::from_millis(100);

/// FFmpeg looks at this much of a stream, in microseconds, before it says what the stream is.
const ANALYSE_US: &str = "1000000";

/// FFmpeg notices that packets are missing only where it waits for late ones, which over TCP it does not. With a queue of so
/// many packets, the fewest it takes for one, it tells of a loss with the second packet that comes after it.
const TCP_QUEUE: &str = "2";

/// How long opening may take. For streams it includes the wait for the first frames, without which FFmpeg does not
/// know the size of the picture; that the host answers at all is bounded by `connection_timeout`.
pub fn open_limit(source: &Source) -> Duration {
    source.connection_timeout + crate::source::FIRST_FRAME
}

/// A demuxer that runs in its thread until this is dropped.
pub struct DemuxSession {
    items: mpsc::Receiver<Result<Media, SessionError>>,
    stop: StopHandle,
    round: Option<u32>,
}

impl DemuxSession {
    /// Opens the source.
    ///
    /// # Errors
    /// It is away, refuses, or is no video.
    pub async fn open(source: Arc<Source>, stamps: Stamps) -> Result<Self, SessionError> {
        let (sender, items) = mpsc::channel(QUEUED_FRAMES);
        let (opened, is_open) = tokio::sync::oneshot::channel();
        let stop = StopHandle::default();
        let round = (source.kind() == SourceKind::File).then_some(0);
        let player = Player {
            source,
            stamps,
            sender,
            stop: stop.clone(),
        };
        let name = format!("read-{}", player.source.name);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || player.run(opened))
            .map_err(no_thread)?;
        let session = DemuxSession { items, stop, round };
        is_open.await.unwrap_or_else(|_| {
            Err(SessionError::new(
                Failure::Away,
                "the reader died".to_owned(),
            ))
        })?;
        Ok(session)
    }

    /// One that brings these items.
    #[cfg(test)]
    pub(crate) fn of(items: mpsc::Receiver<Result<Media, SessionError>>) -> Self {
        DemuxSession {
            items,
            stop: StopHandle::default(),
            round: None,
        }
    }

    /// The first round of a file.
    pub fn round(&self) -> Option<u32> {
        self.round
    }

    /// The next item. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The source failed.
    pub async fn next(&mut self) -> Result<Media, SessionError> {
        let ended = || {
            Err(SessionError::new(
                Failure::Away,
                "the stream ended".to_owned(),
            ))
        };
        self.items.recv().await.unwrap_or_else(ended)
    }
}

impl Drop for DemuxSession {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

struct Player {
    source: Arc<Source>,
    stamps: Stamps,
    sender: mpsc::Sender<Result<Media, SessionError>>,
    stop: StopHandle,
}

/// The session is gone.
struct Gone;

type Opened = tokio::sync::oneshot::Sender<Result<(), SessionError>>;

impl Player {
    fn run(self, opened: Opened) {
        let first = match self.open() {
            Ok(reader) => reader,
            Err(error) => {
                // Nobody waits any more when the connection timed out.
                opened.send(Err(error)).ok();
                return;
            }
        };
        if opened.send(Ok(())).is_err() {
            return;
        }
        if let Err(error) = self.play_rounds(first) {
            self.sender.blocking_send(Err(error)).ok();
        }
    }

    fn play_rounds(&self, first: Reader) -> Result<(), SessionError> {
        let mut reader = first;
        for round in 1.. {
            let began = Instant::now();
            match self.play(reader)? {
                Ok(()) => {}
                Err(Gone) => return Ok(()),
            }
            if self.source.kind() != SourceKind::File {
                return Err(SessionError::new(
                    Failure::Away,
                    "the source ended the stream".to_owned(),
                ));
            }
            std::thread::sleep(SHORTEST_ROUND.saturating_sub(began.elapsed()));
            if self
                .sender
                .blocking_send(Ok(Media::NextRound(round)))
                .is_err()
            {
                return Ok(());
            }
            reader = self.open()?;
        }
        Ok(())
    }

    fn open(&self) -> Result<Reader, SessionError> {
        let source = &self.source;
        let mut options = ReaderOptions {
            open_timeout: Some(open_limit(source)),
            read_timeout: None,
            stop: self.stop.clone(),
            ..ReaderOptions::default()
        };
        let reader = match source.url.file_path() {
            Some(path) => Reader::open_path(path, &options),
            None => {
                if matches!(source.kind(), SourceKind::Rtsp | SourceKind::Rtsps) {
                    let transport = if source.transport == Transport::Udp {
                        "udp"
                    } else {
                        "tcp"
                    };
                    let socket_us = source.connection_timeout.as_micros().to_string();
                    let queue = (source.transport == Transport::Tcp)
                        .then_some(("reorder_queue_size", TCP_QUEUE));
                    let own = [
                        ("rtsp_transport", transport),
                        ("timeout", &socket_us),
                        ("analyzeduration", ANALYSE_US),
                    ];
                    options.options.extend(
                        own.into_iter()
                            .chain(queue)
                            .map(|(key, value)| (key.to_owned(), value.to_owned())),
                    );
                }
                Reader::open_url(&source.url.expose(), &options)
            }
        };
        reader.map_err(of_media)
    }

    fn play(&self, mut reader: Reader) -> Result<Result<(), Gone>, SessionError> {
        let (video_index, video) = reader.require_video().map_err(of_media)?;
        let mut video = video.clone();
        let video_base = std::mem::replace(&mut video.time_base, Rational::MPEG);
        let mut audio = self.audio_of(&reader);
        let mut encoder = match &self.source.video_codec {
            VideoCodec::Copy => None,
            VideoCodec::Encoder(name) => {
                Some(Transcoder::new(name, &self.source, &video).map_err(of_media)?)
            }
        };
        let mut track = encoder.is_none().then(|| video.clone());
        let mut changes = Changes::new(&video);
        // What comes over HTTP may be a file as well.
        let paced = matches!(self.source.kind(), SourceKind::File | SourceKind::Http);
        let mut pacer = paced.then(Pacer::default);
        let has_times = self.source.kind() == SourceKind::File || has_times(&reader.format_name());
        while let Some(mut packet) = self.next(&mut reader)? {
            if packet.track() == video_index {
                let raw_90k = match has_times {
                    true => time_of(&packet, video_base),
                    false => to_90k(self.stamps.now().0),
                };
                let packets_lost = reader.take_lost(video_index);
                let heard = audio.as_ref();
                let sent = match &mut encoder {
                    None => {
                        track = changes.look(&packet).or(track);
                        let frame = Encoded {
                            raw_90k,
                            key: packet.is_key(),
                            packets_lost,
                            track: track.take(),
                            data: changes.stored(&packet).into_owned(),
                        };
                        self.send(vec![frame], heard, &mut pacer)
                    }
                    Some(encoder) => {
                        packet.set_times(Some(raw_90k), None, 0);
                        packet.set_time_base(Rational::MPEG);
                        let frames = encoder.push(&packet, packets_lost).map_err(of_media)?;
                        match frames.is_empty() && encoder.waits_for_key() {
                            true => self.send_left_out(&packet),
                            false => self.send(frames, heard, &mut pacer),
                        }
                    }
                };
                if let Err(gone) = sent {
                    return Ok(Err(gone));
                }
            } else if let Some(heard) = audio.as_mut().filter(|heard| heard.index == packet.track())
            {
                let frames = match self.audio_frames(&packet, heard) {
                    Ok(frames) => frames,
                    Err(error) => {
                        sound_ends(&error);
                        audio = None;
                        continue;
                    }
                };
                if let Err(gone) = self.send_sound(frames) {
                    return Ok(Err(gone));
                }
            }
        }
        if let Some(Sound::Converted(converter)) = audio.as_mut().map(|heard| &mut heard.sound) {
            let rest = converter.finish();
            let rest = rest
                .inspect_err(|error| sound_ends(error))
                .unwrap_or_default();
            if let Err(gone) = self.send_sound(rest) {
                return Ok(Err(gone));
            }
        }
        let rest = encoder
            .map_or(Ok(Vec::new()), |mut encoder| encoder.finish())
            .map_err(of_media)?;
        Ok(self.send(rest, audio.as_ref(), &mut pacer))
    }

    fn send(
        &self,
        frames: Vec<Encoded>,
        heard: Option<&Heard>,
        pacer: &mut Option<Pacer>,
    ) -> Result<(), Gone> {
        for frame in frames {
            if let Some(pacer) = pacer {
                pacer.wait(frame.raw_90k);
            }
            let (arrival, wall) = self.stamps.now();
            let frame = VideoFrame {
                raw_90k: frame.raw_90k,
                arrival,
                wall,
                key: frame.key,
                packets_lost: frame.packets_lost,
                params: frame.track.map(|video| params_of(video, heard)),
                data: frame.data,
            };
            self.sender
                .blocking_send(Ok(Media::Video(frame)))
                .map_err(|_| Gone)?;
        }
        Ok(())
    }

    fn send_sound(&self, frames: Vec<AudioFrame>) -> Result<(), Gone> {
        frames.into_iter().try_for_each(|frame| {
            let sent = self.sender.blocking_send(Ok(Media::Audio(frame)));
            sent.map_err(|_| Gone)
        })
    }

    /// The source is well, though of this packet nothing is recorded.
    fn send_left_out(&self, packet: &Packet) -> Result<(), Gone> {
        let (arrival, wall) = self.stamps.now();
        let left_out = LeftOut {
            bytes: packet.data().len(),
            arrival,
            wall,
        };
        let sent = self.sender.blocking_send(Ok(Media::LeftOut(left_out)));
        sent.map_err(|_| Gone)
    }

    /// The next packet. What cannot be read is left out; [`Reader::take_lost`] counts it for the frame that comes next.
    fn next(&self, reader: &mut Reader) -> Result<Option<Packet>, SessionError> {
        loop {
            match reader.next_packet() {
                Err(error) if error.is_damaged() => {
                    tracing::debug!(%error, "left out a damaged packet")
                }
                result => return result.map_err(of_media),
            }
        }
    }

    /// The track of sound, where it is wanted.
    fn audio_of(&self, reader: &Reader) -> Option<Heard> {
        let (index, track) = reader.audio().filter(|_| self.source.record_audio)?;
        let sound = match track.codec {
            // Without its configuration it comes with a header in every packet (ADTS), as in transport streams, which MP4
            // does not have.
            AudioCodec::Aac if !track.extradata.is_empty() => {
                let own = AudioTrack::new(AudioCodec::Aac, track.sample_rate, track.channels);
                Sound::Copied(own.with_extradata(track.extradata.clone()))
            }
            _ => Sound::Converted(Converter::new(track)?),
        };
        Some(Heard { index, sound })
    }

    fn audio_frames(
        &self,
        packet: &Packet,
        heard: &mut Heard,
    ) -> Result<Vec<AudioFrame>, MediaError> {
        let raw_90k = time_of(packet, packet.time_base());
        let arrival = self.stamps.now().0;
        match &mut heard.sound {
            Sound::Converted(converter) => converter.push(packet, raw_90k, arrival),
            Sound::Copied(track) => {
                let samples = i64::from(track.frame_size.unwrap_or(1024));
                Ok(vec![AudioFrame {
                    raw_90k,
                    arrival,
                    duration_90k: track.time_base.rescale(samples, Rational::MPEG),
                    data: packet.data().to_vec(),
                }])
            }
        }
    }
}

/// A track of sound that is recorded.
struct Heard {
    index: usize,
    sound: Sound,
}

enum Sound {
    /// As it is.
    Copied(AudioTrack),
    Converted(Converter),
}

impl Heard {
    /// What is stored.
    fn track(&self) -> &AudioTrack {
        match &self.sound {
            Sound::Copied(track) => track,
            Sound::Converted(converter) => converter.track(),
        }
    }
}

fn params_of(video: VideoTrack, heard: Option<&Heard>) -> Arc<StreamParams> {
    let audio = heard.map(|heard| heard.track().clone());
    Arc::new(StreamParams::new(video, audio))
}

/// False for formats without timestamps, for which FFmpeg makes up 25 frames a second (MJPEG over HTTP): the time of
/// arrival is nearer to the truth.
fn has_times(format: &str) -> bool {
    !["mpjpeg", "mjpeg", "h264", "hevc"].contains(&format)
}

/// When the packet is shown, in ticks of 1/90000 s.
fn time_of(packet: &Packet, base: Rational) -> i64 {
    base.rescale(packet.pts().or(packet.dts()).unwrap_or(0), Rational::MPEG)
}

/// Lets frames of a file out at the pace of their times.
#[derive(Default)]
struct Pacer {
    began: Option<(Instant, i64)>,
}

/// A longer wait for one frame is not pace but a jump of its time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Pacer {
    fn wait(&mut self, time_90k: i64) {
        let now = Instant::now();
        let (began, first) = *self.began.get_or_insert((now, time_90k));
        let wait =
            (began + from_90k(time_90k.saturating_sub(first))).saturating_duration_since(now);
        if wait > LONGEST_WAIT {
            self.began = Some((now, time_90k));
        } else {
            std::thread::sleep(wait);
        }
    }
}

/// What an error of FFmpeg asks of us.
fn of_media(error: MediaError) -> SessionError {
    let message = crate::finisher::chain(&error);
    match error {
        // Another status is the server's trouble, such as 503 while it starts, and passes.
        MediaError::Refused {
            status: 401 | 403, ..
        } => SessionError::new(Failure::Refused, message),
        _ => SessionError::new(Failure::Away, message),
    }
}
