//! Writing by a plan: untouched blocks are copied, touched ones encoded, in one track.

use std::collections::VecDeque;

use media::encode::Key;
use media::h26x::{self, ParameterSets};
use media::{Encoder, EncoderSettings, Packet, VideoCodec, VideoTrack};

use super::hide::Hidden;
use super::index::Index;
use super::job::Failure;
use super::sink::{Out, Run, VIDEO};
use super::splice::{Block, Plan};

/// How far writing by the plan has come.
pub(super) struct Splicing {
    settings: EncoderSettings,
    plan: Plan,
    /// Number of the block being collected.
    block: usize,
    collected: Vec<Hidden>,
    run: Option<Run>,
    /// The encoder's parameter sets, which must never change.
    encoder_sets: Vec<u8>,
    /// The group under way has a copied beginning, an encoded rest.
    group: Option<bool>,
}

impl Splicing {
    /// Starts with the first block. The track is the original's with both sides' parameter sets; an
    /// encoder is opened only to learn its own.
    pub(super) fn open(
        mut settings: EncoderSettings,
        index: &Index,
        plan: Plan,
    ) -> Result<(Self, VideoTrack), Failure> {
        let own_id = ("x264-params".to_owned(), format!("sps-id={}", plan.free_id));
        settings.options.push(own_id);
        let encoder = Encoder::open(settings.clone()).map_err(Failure::of_output)?;
        let encoder_sets = encoder.track().extradata.clone();
        let theirs = ParameterSets::from_extradata(VideoCodec::H264, &encoder_sets)
            .map_err(Failure::of_output)?;
        let mut both = plan.sets.clone();
        both.merge(&theirs);
        let mut track = index.track.clone();
        track.extradata = both.to_extradata().map_err(Failure::of_output)?;
        let splicing = Self {
            settings,
            plan,
            block: 0,
            collected: Vec::new(),
            run: None,
            encoder_sets,
            group: None,
        };
        Ok((splicing, track))
    }

    /// Takes the next picture; `packets` are the original's, from the first not yet written on.
    pub(super) fn push(
        &mut self,
        hidden: Hidden,
        packets: &mut VecDeque<Packet>,
        index: &Index,
        out: &mut Out,
    ) -> Result<(), Failure> {
        self.collected.push(hidden);
        let Some(block) = self.plan.blocks.get(self.block).copied() else {
            return Err(Failure::attempt("a picture too many"));
        };
        match self.collected.len() == block.end - block.start {
            true => self.write_block(block, packets, index, out),
            false => Ok(()),
        }
    }

    /// Copies or encodes the block whose pictures are collected.
    fn write_block(
        &mut self,
        block: Block,
        packets: &mut VecDeque<Packet>,
        index: &Index,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let touched = self.collected.iter().any(|picture| picture.touched);
        if block.idr {
            self.end_group(touched, index, out)?;
        }
        let pictures = std::mem::take(&mut self.collected);
        let count = pictures.len();
        if packets.len() < count {
            return Err(Failure::attempt("a picture came before its packet"));
        }
        let originals = packets.drain(..count);
        if self.run.is_none() && !touched {
            for (packet, at) in originals.zip(block.start..) {
                copy(packet, index, at, out)?;
            }
        } else {
            drop(originals);
            self.encode(&pictures, block, index, out)?;
        }
        self.block += 1;
        Ok(())
    }

    fn encode(
        &mut self,
        pictures: &[Hidden],
        block: Block,
        index: &Index,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let mut key = match block.idr {
            true => Key::Forced,
            false => Key::Auto,
        };
        if self.run.is_none() {
            let run = Run::open(&self.settings, block.start)?;
            if run.encoder.track().extradata != self.encoder_sets {
                return Err(Failure::attempt("the encoder changed its parameter sets"));
            }
            self.run = Some(run);
            key = Key::Forced;
        }
        self.group = Some(true);
        if let Some(run) = &mut self.run {
            for picture in pictures {
                run.encode(&picture.frame, key, out)?;
                key = Key::Auto;
            }
            run.write(out, Some(index))?;
        }
        Ok(())
    }

    /// The group under way is done. An encoder at work goes on into a group that is touched from its
    /// first picture on: opening one costs as much as several pictures, and it starts its rate control
    /// from nothing.
    fn end_group(&mut self, goes_on: bool, index: &Index, out: &mut Out) -> Result<(), Failure> {
        if !goes_on && let Some(mut run) = self.run.take() {
            run.finish(out, Some(index))?;
        }
        match self.group.replace(false) {
            Some(true) => out.written.gops_encoded += 1,
            Some(false) => out.written.gops_copied += 1,
            None => {}
        }
        Ok(())
    }

    /// Writes what is held back.
    pub(super) fn finish(&mut self, index: &Index, out: &mut Out) -> Result<(), Failure> {
        self.end_group(false, index, out)?;
        if self.block != self.plan.blocks.len() {
            return Err(Failure::attempt("pictures are missing at the end"));
        }
        Ok(())
    }
}

/// Writes an original packet: slices bit for bit, without parameter sets (the track holds them) and
/// without anything that no picture needs.
fn copy(mut packet: Packet, index: &Index, at: usize, out: &mut Out) -> Result<(), Failure> {
    let entry = index.entries[at];
    let clean = h26x::picture_only(4, packet.data());
    if clean.len() != packet.data().len() {
        let clean = clean.into_owned();
        packet.replace_data(&clean).map_err(Failure::of_output)?;
    }
    packet.set_times(Some(entry.pts), Some(entry.dts), entry.duration);
    packet.set_key(entry.idr);
    out.written.copied.note(at as u64, packet.data(), entry.idr);
    out.write(VIDEO, &packet)
}
