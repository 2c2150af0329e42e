//! Second pass: the pictures of a video, one for each time in its index, none missing.
//!
//! A decoder guesses where data is damaged and may leave frames out. Neither may reach the output
//! as if it were the camera's picture: guessed pictures, all pictures after them up to the next
//! key frame, and all that are shown before them but built upon them ([`Trust`]), come out marked as damaged, and where a
//! picture is missing its neighbour stands in, marked as damaged too. Whoever hides heads hides damaged pictures as a
//! whole.

use std::collections::VecDeque;
use std::fs::File;

use media::{
    Decoder, DecoderOptions, Frame, MediaError, Packet, PixelFormat, Quality, Reader, Scaler,
};

use super::index::{self, Index};
use super::job::Failure;
use super::planes;
use super::trust::{Trust, Word};

/// A video of which less than this share can be decoded is given up.
const LEAST_DECODABLE: f64 = 0.5;

/// Pictures that wait at most until more is known of what they are built upon; then they count as damaged. Encoders decode
/// a picture at most 32 earlier than it is shown; those of H.264 and H.265 16.
const MOST_HELD: usize = 40;

/// So many pictures at most come out between one and another that was decoded before it (H.264 and H.265).
const MOST_REORDERED: usize = 16;

/// What the times of packets are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Times {
    /// When their pictures are shown.
    Shown,
    /// They rise: maybe those of decoding, and then not even in the order of showing.
    Rising,
    /// Those of decoding, as FFmpeg writes them that remuxes a raw stream with B-frames: pictures get them in the order
    /// they come out.
    Decoded,
}

/// One picture of the video.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Its number in presentation order.
    pub(crate) number: usize,
    /// The pixels; times as in the index.
    pub(crate) frame: Frame,
    /// Not, or not surely, what the camera saw.
    pub(crate) damaged: bool,
}

/// Reads packets, decodes pictures, and keeps what copying needs.
pub(crate) struct Source<'a> {
    index: &'a Index,
    reader: Reader,
    decoder: Decoder,
    shaper: Shaper,
    keep_packets: bool,
    keep_audio: Option<usize>,
    /// Pictures that came out, the next first.
    held: VecDeque<Picture>,
    trust: Trust,
    /// Video packets not yet taken, in decoding order.
    pub(crate) packets: VecDeque<Packet>,
    /// Sound packets not yet taken.
    pub(crate) sound: VecDeque<Packet>,
    next: usize,
    times: Times,
    /// Pictures behind a missing one, of which it is not known yet whether it is lost or shown later, with their places
    /// among the times.
    waiting: Vec<(usize, Frame)>,
    /// Packets of pictures that are shown which the decoder got.
    sent: usize,
    decoded: usize,
    /// Stands in for missing pictures.
    last: Option<Frame>,
    /// Doubt in the order pictures are shown, beside [`Trust`]: those that follow an open group's key frame in decoding and are
    /// shown before it are built upon what came before.
    doubtful: bool,
    ended: bool,
}

/// How a source is read, and what it keeps besides pictures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Size of the pictures that come out; none: as they are.
    pub(crate) resize: Option<(u32, u32)>,
    /// Threads of the decoder.
    pub(crate) threads: u32,
    /// Packets were lost on the way from the camera.
    pub(crate) lossy: bool,
    /// Video packets, for copying.
    pub(crate) packets: bool,
    /// Packets of this sound track.
    pub(crate) audio: Option<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn open(file: &File, index: &'a Index, how: Reading) -> Result<Self, Failure> {
        let options = DecoderOptions {
            threads: how.threads,
            ..DecoderOptions::default()
        };
        Ok(Self {
            reader: index::open(file)?,
            decoder: Decoder::new(&index.track, &options).map_err(Failure::of_input)?,
            shaper: Shaper {
                size: None,
                resize: how.resize,
                scaler: None,
            },
            keep_packets: how.packets,
            keep_audio: how.audio,
            held: VecDeque::new(),
            trust: Trust::new(index, how.lossy),
            packets: VecDeque::new(),
            sound: VecDeque::new(),
            next: 0,
            times: match index.rises() {
                true => Times::Rising,
                false => Times::Shown,
            },
            waiting: Vec::new(),
            sent: 0,
            decoded: 0,
            last: None,
            doubtful: false,
            ended: false,
            index,
        })
    }

    /// The next picture; `None` after the last.
    ///
    /// # Errors
    /// [`Failure::Unusable`] when pictures do not fit the index or too few can be decoded.
    pub(crate) fn next(&mut self) -> Result<Option<Picture>, Failure> {
        loop {
            if let Some(picture) = self.take_held() {
                return Ok(Some(picture));
            }
            if self.ended {
                return Ok(None);
            }
            self.advance()?;
        }
    }

    fn take_held(&mut self) -> Option<Picture> {
        let next = self.held.front()?.number;
        let sound = match self.trust.of(next) {
            None if self.held.len() <= MOST_HELD => return None,
            known => known.unwrap_or(false),
        };
        let mut picture = self.held.pop_front()?;
        picture.damaged |= !sound;
        Some(picture)
    }

    /// Nothing will be copied: packets are not kept from now on.
    pub(crate) fn forget_packets(&mut self) {
        self.keep_packets = false;
        self.packets.clear();
    }

    fn advance(&mut self) -> Result<(), Failure> {
        let packet = self.reader.next_packet().map_err(Failure::of_input)?;
        let Some(mut packet) = packet else {
            self.ended = true;
            if self.tolerated(|source| source.decoder.finish())? {
                self.take_frames()?;
            }
            self.place_waiting()?;
            self.fill_up_to(self.index.times.len())?;
            self.trust.end();
            return Ok(());
        };
        self.index.set_clock(&mut packet);
        if Some(packet.track()) == self.keep_audio {
            self.sound.push_back(packet);
            return Ok(());
        }
        if packet.track() != self.index.track_number {
            return Ok(());
        }
        self.tolerated(|source| source.decoder.send(&packet))?;
        self.take_frames()?;
        self.sent += usize::from(!packet.is_discarded());
        if self.keep_packets && !packet.is_discarded() {
            self.packets.push_back(packet);
        }
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), Failure> {
        loop {
            match self.decoder.receive() {
                Ok(Some(frame)) => self.place(frame)?,
                Ok(None) => return Ok(()),
                Err(error) => self.doubt(error)?,
            }
        }
    }

    /// Whether a step of the decoder went well; damage is noted and forgiven.
    fn tolerated(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), MediaError>,
    ) -> Result<bool, Failure> {
        match step(self) {
            Ok(()) => Ok(true),
            Err(error) => self.doubt(error).map(|()| false),
        }
    }

    fn doubt(&mut self, error: MediaError) -> Result<(), Failure> {
        if matches!(error, MediaError::Unsupported { .. }) {
            return Err(Failure::of_input(error));
        }
        tracing::debug!(%error, frame = self.next, "damaged data");
        self.trust.blame(self.sent);
        self.doubtful = true;
        Ok(())
    }

    /// Gives a decoded frame its number, or has it wait until that is known.
    fn place(&mut self, frame: Frame) -> Result<(), Failure> {
        let pts = frame
            .pts()
            .ok_or_else(|| Failure::unusable(index::WITHOUT_TIMES))?;
        let Ok(place) = self.index.times.binary_search(&pts) else {
            return Err(Failure::unusable(
                "pictures do not come at the times the file says",
            ));
        };
        match self.times {
            Times::Shown => self.place_at(place, frame),
            Times::Decoded => self.place_next(place, frame),
            Times::Rising => match self.waiting.last() {
                None if place <= self.next => self.place_at(place, frame),
                Some((last, _)) if place < *last => {
                    if self.keep_packets {
                        // Packets and pictures would be paired wrongly, and one be copied because another is untouched.
                        return Err(Failure::attempt("its times are those of decoding"));
                    }
                    tracing::debug!(frame = self.next, "times are those of decoding");
                    self.times = Times::Decoded;
                    for (place, frame) in std::mem::take(&mut self.waiting) {
                        self.place_next(place, frame)?;
                    }
                    self.place_next(place, frame)
                }
                _ => {
                    self.waiting.push((place, frame));
                    match self.waiting.len() > MOST_REORDERED {
                        true => self.place_waiting(),
                        false => Ok(()),
                    }
                }
            },
        }
    }

    /// What is missing before those that wait is lost.
    fn place_waiting(&mut self) -> Result<(), Failure> {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting.try_for_each(|(place, frame)| self.place_at(place, frame))
    }

    /// A frame that is shown at this place, with stand-ins for those missing before it.
    fn place_at(&mut self, number: usize, frame: Frame) -> Result<(), Failure> {
        if number < self.next {
            // A second picture of a frame that is done: two fields of one packet.
            return Ok(());
        }
        let frame = self.shaper.shape(frame)?;
        if self.last.is_none() {
            self.last = Some(frame.clone());
        }
        if number > self.next {
            self.doubtful = true;
            self.fill_up_to(number)?;
        }
        self.put_decoded(frame);
        Ok(())
    }

    /// The frame that is shown next, of the packet at this position in decoding order.
    fn place_next(&mut self, position: usize, frame: Frame) -> Result<(), Failure> {
        if self.next < self.index.times.len() && !self.trust.knows(position) {
            let frame = self.shaper.shape(frame)?;
            self.trust.set_position(self.next, position);
            self.put_decoded(frame);
        }
        Ok(())
    }

    fn put_decoded(&mut self, frame: Frame) {
        let word = match (frame.is_damaged(), frame.is_key()) {
            (true, _) => Word::Damaged,
            (false, true) => Word::Key,
            (false, false) => Word::Clean,
        };
        match word {
            Word::Damaged => self.doubtful = true,
            Word::Key => self.doubtful = false,
            Word::Clean => {}
        }
        self.decoded += 1;
        self.last = Some(frame.clone());
        self.put(frame, word, self.doubtful);
    }

    fn fill_up_to(&mut self, end: usize) -> Result<(), Failure> {
        while self.next < end {
            let Some(frame) = self.last.clone() else {
                return Err(Failure::unusable(
                    "not one frame of the video can be decoded",
                ));
            };
            self.put(frame, Word::Damaged, true);
        }
        if self.ended && (self.decoded as f64) < LEAST_DECODABLE * self.index.times.len() as f64 {
            return Err(Failure::unusable(format!(
                "only {} of {} frames of the video can be decoded",
                self.decoded,
                self.index.times.len()
            )));
        }
        Ok(())
    }

    fn put(&mut self, mut frame: Frame, word: Word, damaged: bool) {
        let number = self.next;
        self.trust.note(number, word);
        frame.set_pts(Some(self.index.times[number]));
        frame.set_time_base(self.index.track.time_base);
        frame.set_duration(self.index.duration_of(number));
        self.held.push_back(Picture {
            number,
            frame,
            damaged,
        });
        self.next += 1;
    }
}

/// Brings pictures into work format and size.
struct Shaper {
    /// Size of the first picture.
    size: Option<(u32, u32)>,
    resize: Option<(u32, u32)>,
    scaler: Option<Scaler>,
}

impl Shaper {
    fn shape(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let size = (frame.width(), frame.height());
        if *self.size.get_or_insert(size) != size {
            return Err(Failure::unusable(
                "the picture's size changes within the video; bring it to one: ffmpeg -i FILE NEW.mkv",
            ));
        }
        let format = planes::work_format(frame.format());
        let wanted = self.resize.unwrap_or(size);
        if wanted == size && format == frame.format() {
            return Ok(frame);
        }
        let quality = match wanted.0 < size.0 {
            true => Quality::Area,
            false => Quality::Bicubic,
        };
        let target: (u32, u32, PixelFormat) = (wanted.0, wanted.1, format);
        let scaler = match &mut self.scaler {
            Some(scaler) if scaler.target() == target => scaler,
            slot => slot.insert(Scaler::new(wanted.0, wanted.1, format, quality)),
        };
        scaler.scale(&frame).map_err(Failure::of_input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::synth::TestVideo;
    use media::{FileWriter, Track, WriterOptions};

    #[test]
    fn packets_are_not_paired_with_pictures_by_times_of_decoding() {
        let video = TestVideo {
            b_frames: 2,
            ..TestVideo::default()
        };
        let mut encoded = video.encode().unwrap();
        let mut rising: Vec<_> = encoded.packets.iter().filter_map(Packet::pts).collect();
        rising.sort_unstable();
        let file = tempfile::tempfile().unwrap();
        let tracks = [Track::Video(encoded.track.clone())];
        let options = WriterOptions::default();
        let mut writer = FileWriter::create(file.try_clone().unwrap(), &tracks, &options).unwrap();
        for (packet, &time) in encoded.packets.iter_mut().zip(&rising) {
            packet.set_times(Some(time), Some(time), packet.duration());
            writer.write(0, packet).unwrap();
        }
        writer.finish().unwrap();
        let mut index = Index::read(&file).unwrap();
        // As of a stream that shows pictures in another order without a slice that tells so.
        index.unfit_for_splicing = None;
        let read = |packets| {
            let how = Reading {
                resize: None,
                threads: 1,
                lossy: false,
                packets,
                audio: None,
            };
            let mut source = Source::open(&file, &index, how)?;
            let mut count = 0;
            while source.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(read(false).unwrap(), rising.len());
        let refused: Result<usize, Failure> = read(true);
        assert!(
            matches!(refused, Err(Failure::Attempt { .. })),
            "{refused:?}"
        );
    }
}
