//! First look at a video: every packet's times and kind, no picture decoded.
//!
//! What the original holds is decided here, before anything is trusted to decode: how many frames,
//! at which times, whether the file is whole. The output is later held against it.

use std::fs::File;

use media::chain::Chain;
use media::h26x::{self, AccessPoint, NalKind, ParameterSets};
use media::{
    AudioTrack, Packet, Rational, Reader, ReaderOptions, Track, VideoCodec, VideoTrack, chain,
};

use super::job::Failure;

/// Of AVI with B-frames, for one.
pub(super) const WITHOUT_TIMES: &str = "the file does not say when its pictures are shown; remux it to MP4 (ffmpeg -fflags +genpts -i FILE -c copy NEW.mp4)";

/// A file of all that FFmpeg finds in a damaged one, with times also for what has none.
pub(super) const COPY: &str = "ffmpeg -fflags +genpts -i FILE -c copy NEW.mkv";

/// Seconds of nothing before the first picture that are left as they are, so that an output's times are its original's: the
/// transport streams of FFmpeg begin at 1.4 s.
const LONGEST_LEAD: i64 = 10;

/// One video packet, in decoding order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Presentation time, ticks.
    pub(crate) pts: i64,
    /// Decoding time, ticks.
    pub(crate) dts: i64,
    /// Ticks; 0 when not known.
    pub(crate) duration: i64,
    /// Its data's length.
    pub(crate) bytes: u64,
    /// Decoding can start here, says the container.
    pub(crate) key: bool,
    /// An IDR picture, says the bitstream (H.264 only).
    pub(crate) idr: bool,
}

/// All that is known of a video without decoding it.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) track: VideoTrack,
    pub(crate) track_number: usize,
    pub(crate) audio: Option<(usize, AudioTrack)>,
    /// Tracks of sound in all.
    pub(crate) sounds: usize,
    /// Packets whose frames are shown, in decoding order.
    pub(crate) entries: Vec<Entry>,
    /// Presentation times of all frames, rising.
    pub(crate) times: Vec<i64>,
    /// What was taken from all times, video ticks: the file's clock began there.
    began: i64,
    /// What kind of file it is, where nobody can tell whether all of it is there.
    pub(crate) unproven: Option<String>,
    /// Why H.264 packets cannot be mixed with an encoder's; none where they can.
    pub(crate) unfit_for_splicing: Option<&'static str>,
}

impl Index {
    /// Reads through the whole file.
    ///
    /// # Errors
    /// [`Failure::Unusable`] for anything but a whole file with one video track and frames at
    /// distinct times.
    pub(crate) fn read(file: &File) -> Result<Index, Failure> {
        if file.metadata().is_ok_and(|meta| meta.len() == 0) {
            return Err(Failure::unusable("the file is empty"));
        }
        let reader = &mut open(file)?;
        let Some((track_number, track)) = reader.video() else {
            return Err(Failure::unusable(
                "the file has no video track, sound or data only",
            ));
        };
        let track = track.clone();
        let is_video = |track: &&Track| matches!(track, Track::Video(_));
        let videos = reader.tracks().iter().filter(is_video).count();
        if videos > 1 {
            // Only one would be published, and the others would go with the original.
            return Err(Failure::unusable(format!(
                "the file has {videos} video tracks, and only one can be processed; split it into a file for each"
            )));
        }
        let is_sound = |track: &&Track| matches!(track, Track::Audio(_));
        let sounds = reader.tracks().iter().filter(is_sound).count();
        let audio = reader
            .audio()
            .map(|(number, audio)| (number, audio.clone()));
        let unproven = require_chain(file, reader, &track)?;
        let mut scan = Scan::new(&track);
        let mut first_sound = None::<i64>;
        while let Some(packet) = reader.next_packet().map_err(Failure::of_input)? {
            if packet.track() == track_number {
                scan.take(&packet)?;
            } else if (audio.as_ref()).is_some_and(|(number, _)| *number == packet.track())
                && let Some(at) = packet.pts()
            {
                first_sound = Some(first_sound.map_or(at, |first| first.min(at)));
            }
        }
        if scan.met < track.frame_count.unwrap_or(0) && is_whole_with_what_is_hidden(file, &track)?
        {
            scan.unfit
                .get_or_insert("it has an edit list that hides frames");
            scan.all_there = true;
        }
        // AVI repeats a frame by a packet without data, which FFmpeg leaves out, and counts it as one.
        scan.all_there |= reader.format_name() == "avi"
            && Some(scan.shown_for) >= track.frame_count.map(|count| count.cast_signed());
        scan.check_whole(&track)?;
        if scan.bidirectional && rises(&scan.entries) {
            scan.unfit
                .get_or_insert("its times may not be those of showing");
        }
        let mut times: Vec<i64> = scan.entries.iter().map(|entry| entry.pts).collect();
        times.sort_unstable();
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Failure::unusable(format!(
                "two frames of the video have the same time; a copy may have better ones ({COPY}), else encode it anew: ffmpeg -i FILE NEW.mkv"
            )));
        }
        let first_sound = first_sound.zip(audio.as_ref()).map(|(at, (_, sound))| {
            let ticks = sound.time_base.rescale(at, track.time_base);
            // Not later than it is.
            ticks - i64::from(track.time_base.rescale(ticks, sound.time_base) > at)
        });
        let lead = Rational::new(1, 1).rescale(LONGEST_LEAD, track.time_base);
        let began = beginning(times[0], first_sound, lead);
        times.iter_mut().for_each(|time| *time -= began);
        for entry in &mut scan.entries {
            entry.pts -= began;
            entry.dts -= began;
        }
        Ok(Index {
            began,
            track,
            track_number,
            audio,
            sounds,
            entries: scan.entries,
            times,
            unproven,
            unfit_for_splicing: scan.unfit,
        })
    }

    /// Has a packet's times begin where those of the index do.
    pub(crate) fn set_clock(&self, packet: &mut Packet) {
        if self.began != 0 {
            let began = self.track.time_base.rescale(self.began, packet.time_base());
            let of = |time: Option<i64>| time.map(|time| time.saturating_sub(began));
            let (pts, dts) = (of(packet.pts()), of(packet.dts()));
            packet.set_times(pts, dts, packet.duration());
        }
    }

    /// Whether times rise in decoding order: no picture is shown before one that is decoded earlier, or the times are wrong.
    pub(crate) fn rises(&self) -> bool {
        rises(&self.entries)
    }

    /// Ticks of a frame's own length: to the next frame, or as the container says for the last.
    pub(crate) fn duration_of(&self, frame: usize) -> i64 {
        let at = self.times[frame];
        if let Some(next) = self.times.get(frame + 1) {
            return next - at;
        }
        let own = self
            .entries
            .iter()
            .find(|entry| entry.pts == at)
            .map_or(0, |entry| entry.duration);
        let before = frame
            .checked_sub(1)
            .map_or(0, |before| at - self.times[before]);
        if own > 0 { own } else { before }
    }

    /// The usual time between two frames, ticks; 0 for a single frame.
    pub(crate) fn usual_interval(&self) -> i64 {
        let mut intervals: Vec<i64> = self
            .times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect();
        let middle = intervals.len() / 2;
        match intervals.is_empty() {
            true => 0,
            false => *intervals.select_nth_unstable(middle).1,
        }
    }

    /// Seconds from the first frame's start to the last one's end.
    pub(crate) fn seconds(&self) -> f64 {
        let (Some(first), Some(last)) = (self.times.first(), self.times.last()) else {
            return 0.0;
        };
        self.track
            .time_base
            .seconds(last - first + self.duration_of(self.times.len() - 1))
    }

    /// As [`Index::seconds`], but of a longer pause than usual only as much as is usual: what an encoder may spend in a second is
    /// meant for one with pictures.
    pub(crate) fn seconds_without_holes(&self) -> f64 {
        let usual = self.usual_interval() * self.times.len() as i64;
        self.seconds().min(self.track.time_base.seconds(usual))
    }

    /// Bits of all frames.
    pub(crate) fn bits(&self) -> f64 {
        self.entries.iter().map(|entry| entry.bytes).sum::<u64>() as f64 * 8.0
    }

    /// By how many bits at most the video is ahead of so many per second: a camera may send next to nothing until something
    /// happens.
    pub(crate) fn most_ahead(&self, per_second: f64) -> f64 {
        let mut sizes: Vec<(f64, u64)> = (self.entries.iter())
            .map(|entry| (self.track.time_base.seconds(entry.pts), entry.bytes))
            .collect();
        sizes.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (mut ahead, mut most, mut before) = (0.0, 0.0, f64::MAX);
        for (at, bytes) in sizes {
            ahead = f64::max(0.0, ahead - per_second * (at - before).max(0.0));
            ahead += bytes as f64 * 8.0;
            most = f64::max(most, ahead);
            before = at;
        }
        most
    }

    /// Seconds from the first frame to this one.
    pub(crate) fn seconds_at(&self, frame: usize) -> f64 {
        self.track
            .time_base
            .seconds(self.times[frame] - self.times[0])
    }
}

fn rises(entries: &[Entry]) -> bool {
    entries.windows(2).all(|pair| pair[0].pts < pair[1].pts)
}

/// Where a file's clock begins, by its first frame and first sound, ticks. Transport streams begin anywhere, and their clock may
/// run over within the file, after which it is less than 0: a player would show nothing for hours. Where something is shown within
/// `lead` the times stay as they are, also with a little sound before (priming).
fn beginning(frame: i64, sound: Option<i64>, lead: i64) -> i64 {
    let sound = sound.unwrap_or(frame);
    match frame < 0 {
        true => frame.min(sound),
        false => Some(frame.min(sound.max(0)))
            .filter(|first| *first > lead)
            .unwrap_or(0),
    }
}

/// Opens a file for one pass over its packets.
pub(crate) fn open(file: &File) -> Result<Reader, Failure> {
    open_with(file, &ReaderOptions::default())
}

fn open_with(file: &File, options: &ReaderOptions) -> Result<Reader, Failure> {
    let file = file
        .try_clone()
        .map_err(|error| Failure::attempt(format!("file descriptor: {error}")))?;
    Reader::open_file(file, options).map_err(|error| match error.is_retryable() {
        true => Failure::unreadable(error),
        false => Failure::unusable(format!(
            "not a video that can be read, or cut short: {error}"
        )),
    })
}

/// Behind damage that FFmpeg passes over in silence lie pictures that would go with the original. Says what the file is where nobody
/// can tell.
fn require_chain(
    file: &File,
    reader: &Reader,
    track: &VideoTrack,
) -> Result<Option<String>, Failure> {
    let format = reader.format_name();
    match chain::follow(file, &format, track.frame_count.is_some()) {
        Ok(Chain::Whole) => Ok(None),
        Ok(Chain::Unknown) => Ok(Some(format)),
        Ok(Chain::BrokenAt(at)) => Err(Failure::unusable(format!(
            "the file is damaged at byte {at}, and not all that lies behind can be found; repair it, or do without that: {COPY}"
        ))),
        Err(error) => Err(Failure::unreadable(error)),
    }
}

/// Whether all frames that the file declares are there, though not all come out: an edit list may hide whole groups, as trimming
/// without encoding does, and FFmpeg leaves those out.
fn is_whole_with_what_is_hidden(file: &File, track: &VideoTrack) -> Result<bool, Failure> {
    let options = ReaderOptions {
        options: vec![("ignore_editlist".to_owned(), "1".to_owned())],
        ..ReaderOptions::default()
    };
    // Only MP4 and its like have edit lists, and know the option.
    let mut reader = match open_with(file, &options) {
        Ok(reader) => reader,
        Err(error @ Failure::Unreadable { .. }) => return Err(error),
        Err(_) => return Ok(false),
    };
    let Some((number, _)) = reader.video() else {
        return Ok(false);
    };
    let mut there = 0;
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) if packet.is_corrupt() => return Ok(false),
            Ok(Some(packet)) => there += u64::from(packet.track() == number),
            Ok(None) => return Ok(Some(there) >= track.frame_count),
            Err(error) if error.is_retryable() => return Err(Failure::unreadable(error)),
            Err(_) => return Ok(false),
        }
    }
}

struct Scan {
    entries: Vec<Entry>,
    /// Packets met, those outside the edit list included.
    met: u64,
    cut_short: bool,
    /// Behind the last packet's decoding time, ticks.
    shown_for: i64,
    /// Fewer than are declared came out, but all are there.
    all_there: bool,
    /// A picture was met that refers to later ones, too.
    bidirectional: bool,
    sets: Option<ParameterSets>,
    length_size: Option<usize>,
    unfit: Option<&'static str>,
}

impl Scan {
    fn new(track: &VideoTrack) -> Self {
        let length_size = h26x::length_size(track.codec, &track.extradata);
        let h264 = track.codec == VideoCodec::H264;
        let sets = h264
            .then(|| ParameterSets::from_extradata(track.codec, &track.extradata).ok())
            .flatten();
        let unfit = match (h264, length_size, &sets) {
            (false, ..) => Some("it is not H.264"),
            (true, Some(4), Some(_)) => None,
            _ => Some("its parameter sets are not stored in the usual way"),
        };
        Self {
            entries: Vec::new(),
            met: 0,
            cut_short: false,
            shown_for: 0,
            all_there: false,
            bidirectional: false,
            sets,
            length_size,
            unfit,
        }
    }

    fn take(&mut self, packet: &Packet) -> Result<(), Failure> {
        self.met += 1;
        self.cut_short |= packet.is_corrupt();
        let end = (packet.dts()).map_or(0, |dts| dts.saturating_add(packet.duration()));
        self.shown_for = self.shown_for.max(end);
        if packet.is_discarded() {
            self.unfit
                .get_or_insert("it has an edit list that hides frames");
            return Ok(());
        }
        let Some(pts) = packet.pts().or(packet.dts()) else {
            return Err(Failure::unusable(WITHOUT_TIMES));
        };
        let idr = self.unfit.is_none() && self.look_inside(packet);
        self.entries.push(Entry {
            pts,
            dts: packet.dts().unwrap_or(pts),
            duration: packet.duration(),
            bytes: packet.data().len() as u64,
            key: packet.is_key(),
            idr,
        });
        Ok(())
    }

    /// Whether an H.264 packet is an IDR picture; notes what forbids splicing.
    fn look_inside(&mut self, packet: &Packet) -> bool {
        let length_size = self.length_size.unwrap_or(4);
        let units = || h26x::length_prefixed_units(length_size, packet.data());
        if !h26x::is_well_formed(length_size, packet.data()) || packet.new_extradata().is_some() {
            self.unfit = Some("a packet of it is malformed");
            return false;
        }
        if !h26x::is_one_plain_picture(units()) {
            self.unfit = Some("a packet of it holds more than one picture");
            return false;
        }
        if h26x::is_turned(units()) {
            self.unfit = Some("its packets say how to turn the picture");
            return false;
        }
        self.bidirectional |= h26x::is_bidirectional(units());
        let foreign = units()
            .filter(|unit| h26x::nal_kind(VideoCodec::H264, unit) == NalKind::ParameterSet)
            .any(|unit| {
                !self
                    .sets
                    .as_ref()
                    .is_some_and(|sets| sets.units().any(|known| known == unit))
            });
        if foreign {
            self.unfit = Some("its parameter sets change within the video");
        }
        h26x::access_point(VideoCodec::H264, units()) == AccessPoint::Idr
    }

    fn check_whole(&self, track: &VideoTrack) -> Result<(), Failure> {
        let declared = track.frame_count.unwrap_or(0);
        if self.cut_short || (self.met < declared && !self.all_there) {
            return Err(Failure::unusable(format!(
                "the video is cut short or damaged: {} of {} frames are there as a whole; repair it, or do without the others: {COPY}",
                self.met.saturating_sub(u64::from(self.cut_short)),
                declared.max(self.met)
            )));
        }
        if self.entries.is_empty() {
            return Err(Failure::unusable("the video has no frames"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_begins_about_nought_is_left_alone() {
        assert_eq!(beginning(0, None, 900), 0);
        assert_eq!(beginning(0, Some(-900), 900), 0);
        assert_eq!(beginning(0, Some(30), 900), 0);
        assert_eq!(beginning(300, Some(-900), 900), 0);
        assert_eq!(beginning(900, Some(1200), 900), 0);
        assert_eq!(beginning(8_100_000, Some(0), 900), 0);
    }

    #[test]
    fn any_other_beginning_is_taken_off() {
        assert_eq!(beginning(901, None, 900), 901);
        assert_eq!(beginning(8_100_000, Some(8_099_000), 900), 8_099_000);
        assert_eq!(beginning(8_100_000, Some(8_101_000), 900), 8_100_000);
        assert_eq!(beginning(-200, Some(-300), 900), -300);
        assert_eq!(beginning(-200, Some(100), 900), -200);
    }
}
