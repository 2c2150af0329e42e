//! Compressed frames out of files and streams.
//!
//! A file is read through the descriptor given, and nothing else is ever opened on its behalf (playlists
//! and external references are refused). A URL is read with time limits and can be stopped from outside.
//!
//! H.264 and H.265 always come out as MP4 stores them: MPEG-TS, AVI and FFmpeg's RTSP carry them with start
//! codes and repeat the parameter sets in the data, which nothing behind this module needs to know.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::MediaError;
use crate::ff::input::{From as Source, Input, Setup};
use crate::fragments::usable::Veil;
use crate::h26x::ParameterSets;
use crate::log::{Losses, hide_credentials, take_losses};
use crate::packet::Packet;
use crate::track::{AudioTrack, Track, VideoCodec, VideoTrack};

/// After this many broken packets in a row a file is given up.
const DAMAGED_LIMIT: u32 = 100;

/// Makes a blocking [`Reader`] return [`MediaError::Stopped`] soon (about 0.1 s). Clones share one switch.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Stops all readers that hold a clone, now and later.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How to open and read.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// Read ahead and decode a little to learn what the headers do not say (pixel format, fps). Costs up
    /// to some seconds of a live stream. Without it MP4 still tells codec, size, extradata and times.
    pub analyse: bool,
    /// Hand out packets and times exactly as stored: without FFmpeg's guesses, start codes left as they are.
    /// For copying our own files: anything but MP4 is refused.
    pub as_stored: bool,
    /// Longest time opening may take.
    pub open_timeout: Option<Duration>,
    /// Longest time one packet may take.
    pub read_timeout: Option<Duration>,
    /// Stops it from outside.
    pub stop: StopHandle,
    /// Further options of FFmpeg's demuxer or protocol, such as `("rtsp_transport", "tcp")`; a name it does
    /// not know is an error.
    pub options: Vec<(String, String)>,
}

impl Default for ReaderOptions {
    /// Analyse, no time limits.
    fn default() -> Self {
        Self {
            analyse: true,
            as_stored: false,
            open_timeout: None,
            read_timeout: None,
            stop: StopHandle::default(),
            options: Vec::new(),
        }
    }
}

impl ReaderOptions {
    /// No analysis, times as stored.
    pub fn as_stored() -> Self {
        Self {
            analyse: false,
            as_stored: true,
            ..Self::default()
        }
    }
}

/// An opened file or stream. `Send`; one thread at a time.
pub struct Reader {
    input: Input,
    tracks: Vec<Track>,
    /// For tracks with start codes.
    start_coded: Vec<Option<StartCoded>>,
    damaged_in_a_row: u32,
    losses: Losses,
}

impl Reader {
    /// Opens a file by path.
    ///
    /// # Errors
    /// [`MediaError::Io`], [`MediaError::Damaged`] or [`MediaError::Unsupported`] for something that is not
    /// a video file.
    pub fn open_path(path: impl AsRef<Path>, options: &ReaderOptions) -> Result<Self, MediaError> {
        let path = path.as_ref();
        let file = File::open(path)
            .map_err(|error| MediaError::io(format!("open {}", path.display()), error))?;
        Self::open_part(Arc::new(file), None, path.display().to_string(), options)
    }

    /// Opens a file that is already open. Its own position is neither used nor moved.
    ///
    /// # Errors
    /// As [`Self::open_path`].
    pub fn open_file(file: File, options: &ReaderOptions) -> Result<Self, MediaError> {
        Self::open_part(Arc::new(file), None, "video file".into(), options)
    }

    /// Opens the first `limit` bytes of a file.
    pub(crate) fn open_part(
        file: Arc<File>,
        limit: Option<u64>,
        name: String,
        options: &ReaderOptions,
    ) -> Result<Self, MediaError> {
        Self::open_veiled(file, limit, Vec::new(), name, options)
    }

    /// [`Self::open_part`] with veils over what is damaged in it.
    pub(crate) fn open_veiled(
        file: Arc<File>,
        limit: Option<u64>,
        veils: Vec<Veil>,
        name: String,
        options: &ReaderOptions,
    ) -> Result<Self, MediaError> {
        // With no protocol allowed, no demuxer can open a second file.
        let mut all = vec![("protocol_whitelist".to_owned(), "none".to_owned())];
        all.extend(options.options.iter().cloned());
        let from = Source::File { file, limit, veils };
        Self::open(from, name, all, options)
    }

    /// Opens a network stream: `http(s)://`, `rtsp(s)://`, `rtp://`, `udp://`. Local files are refused.
    /// Credentials in the URL are used but never shown.
    ///
    /// # Errors
    /// [`MediaError::Refused`] for an answer such as 401, [`MediaError::TimedOut`], [`MediaError::Stopped`],
    /// [`MediaError::Io`], [`MediaError::Unsupported`] for another scheme.
    pub fn open_url(url: &str, options: &ReaderOptions) -> Result<Self, MediaError> {
        let name = hide_credentials(url);
        let scheme = url
            .split_once("://")
            .map_or("", |(scheme, _)| scheme)
            .to_ascii_lowercase();
        if !["http", "https", "rtsp", "rtsps", "rtp", "udp"].contains(&scheme.as_str()) {
            return Err(MediaError::unsupported(
                format!("open {name}"),
                "not a network address",
            ));
        }
        let allowed = "http,https,tcp,tls,udp,rtp,srtp,rtsp,rtsps,httpproxy,crypto,data";
        let mut all = vec![("protocol_whitelist".to_owned(), allowed.to_owned())];
        all.extend(options.options.iter().cloned());
        Self::open(Source::Url(url.to_owned()), name, all, options)
    }

    fn open(
        from: Source,
        name: String,
        options: Vec<(String, String)>,
        settings: &ReaderOptions,
    ) -> Result<Self, MediaError> {
        // What an earlier reader left behind on this thread.
        take_losses();
        let input = Input::open(Setup {
            from,
            name,
            options,
            analyse: settings.analyse,
            as_stored: settings.as_stored,
            stop: Arc::clone(&settings.stop.0),
            open_limit: settings.open_timeout,
            read_limit: settings.read_timeout,
        })?;
        let mut tracks = input.tracks();
        let start_coded = match settings.as_stored {
            true => Vec::new(),
            false => tracks.iter_mut().map(take_start_codes).collect(),
        };
        Ok(Self {
            input,
            tracks,
            start_coded,
            damaged_in_a_row: 0,
            losses: take_losses(),
        })
    }

    /// All tracks; a packet's [`Packet::track`] is an index into this.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The first video track with its index.
    pub fn video(&self) -> Option<(usize, &VideoTrack)> {
        self.tracks
            .iter()
            .enumerate()
            .find_map(|(index, track)| match track {
                Track::Video(video) => Some((index, video)),
                _ => None,
            })
    }

    /// The first audio track with its index.
    pub fn audio(&self) -> Option<(usize, &AudioTrack)> {
        self.tracks
            .iter()
            .enumerate()
            .find_map(|(index, track)| match track {
                Track::Audio(audio) => Some((index, audio)),
                _ => None,
            })
    }

    /// The first video track with its index, or an error that says there is none.
    ///
    /// # Errors
    /// [`MediaError::Unsupported`].
    pub fn require_video(&self) -> Result<(usize, &VideoTrack), MediaError> {
        self.video()
            .ok_or_else(|| MediaError::unsupported("video file", "it has no video track"))
    }

    /// FFmpeg's name of the container, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    pub fn format_name(&self) -> String {
        self.input.format_name()
    }

    /// Declared or estimated duration of the whole file.
    pub fn duration(&self) -> Option<Duration> {
        self.input.duration()
    }

    /// The next packet of any track, in the file's order; `None` at the end.
    ///
    /// # Errors
    /// [`MediaError::Damaged`]: this packet is broken, the next call goes on behind it (after 100 in a row
    /// it gives up with [`MediaError::Codec`]). Everything else is final. A packet cut off by the end
    /// of the file comes with [`Packet::is_corrupt`].
    pub fn next_packet(&mut self) -> Result<Option<Packet>, MediaError> {
        take_losses();
        let mut result = self.input.read();
        self.note_losses(&result);
        if let Ok(Some(packet)) = &mut result
            && let Some(Some(known)) = self.start_coded.get_mut(packet.track())
        {
            packet.replace_data(&known.sets.to_stored(packet.data(), &mut known.changed))?;
        }
        match &result {
            Err(MediaError::Damaged { what, detail }) => {
                self.damaged_in_a_row += 1;
                if self.damaged_in_a_row > DAMAGED_LIMIT {
                    return Err(MediaError::Codec {
                        what: what.clone(),
                        reason: "nothing but damaged data".into(),
                        detail: detail.clone(),
                    });
                }
            }
            _ => self.damaged_in_a_row = 0,
        }
        result
    }

    fn note_losses(&mut self, result: &Result<Option<Packet>, MediaError>) {
        let mut told = take_losses();
        let unsaid = match result {
            Ok(Some(packet)) if packet.is_corrupt() => Some(Some(packet.track())),
            Err(MediaError::Damaged { .. }) => Some(None),
            _ => None,
        };
        if let Some(stream) = unsaid {
            told.entry(stream).or_insert(1);
        }
        for (stream, packets) in told {
            let all = self.losses.entry(stream).or_default();
            *all = all.saturating_add(packets);
        }
    }

    /// How many packets of track `track` are known to be lost or damaged since the last call, those of which it is not known
    /// what track they were of included. Where a loss was noticed the packet that was read then may be the last before it
    /// or be hurt itself: FFmpeg puts frames together from packets, and has read on into the next when it hands one out.
    pub fn take_lost(&mut self, track: usize) -> u32 {
        let of = |losses: &mut Losses, stream| losses.remove(&stream).unwrap_or(0);
        of(&mut self.losses, None).saturating_add(of(&mut self.losses, Some(track)))
    }

    /// Goes to the last key frame at or before `ticks` (in the ticks of track `track`).
    ///
    /// # Errors
    /// When the container or stream cannot seek.
    pub fn seek(&mut self, track: usize, ticks: i64) -> Result<(), MediaError> {
        self.input.seek(track, ticks)
    }
}

/// What is known of a track with start codes.
struct StartCoded {
    /// The parameter sets that went into the extradata.
    sets: ParameterSets,
    /// Others came.
    changed: bool,
}

/// Turns extradata with start codes into avcC or hvcC. `None` if the track is stored with lengths already,
/// or its parameter sets are not known yet: then its packets must be left alone too.
fn take_start_codes(track: &mut Track) -> Option<StartCoded> {
    let Track::Video(video) = track else {
        return None;
    };
    if !matches!(video.codec, VideoCodec::H264 | VideoCodec::H265)
        || video.extradata.first() == Some(&1)
    {
        return None;
    }
    let sets = ParameterSets::from_annex_b(video.codec, &video.extradata);
    video.extradata = sets.to_extradata().ok()?;
    Some(StartCoded {
        sets,
        changed: false,
    })
}
