//! Measures how far the sound of each fragment stands from its key frame: as recorded, and as written.
//!
//! What was recorded is spooled while a part is written; what was written is read back from the finished file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::Serialize;

use super::gate::GateError;
use super::part::SpoolFile;
use super::report::JoinFacts;
use crate::media::mp4::{Mp4, Mp4Error, Sample, SampleCursor};
use crate::media::{SampleDescription, TrackKind};

/// How far the merge may change an offset, in nanoseconds.
const TOLERANCE_NANOS: i64 = 1_000_000;

/// The distance of a fragment's first sound sample from its key frame, in microseconds; negative where sound leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AvOffset {
    /// In the clip.
    pub recorded: i64,
    /// In the output.
    pub output: i64,
}

/// The offsets of all fragments with sound, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AvOffsets {
    /// How many fragments have sound.
    pub fragments: u64,
    /// The least in the output.
    pub min: i64,
    /// The median in the output, to 100 µs; to 10 ms where it is beyond a second.
    pub median: i64,
    /// The greatest in the output.
    pub max: i64,
    /// By how much the merge changed one at most.
    pub largest_change: i64,
}

/// Where a fragment's picture and sound stand in a part, and how far they were apart in the clip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The fragment's place in the part, from 1.
    pub(super) fragment: u64,
    /// Its key frame's place among the pictures, in decode order.
    pub(super) picture: u64,
    /// Its first sound's place: among the samples, of PCM in bytes.
    pub(super) sound: u64,
    /// Sound minus picture in the clip, in nanoseconds.
    pub(super) recorded: i64,
}

impl Mark {
    const BYTES: usize = 32;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.fragment, self.picture, self.sound].map(u64::to_le_bytes);
        let words = words.into_iter().chain([self.recorded.to_le_bytes()]);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word);
        }
        bytes
    }

    fn of_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
            word
        };
        let unsigned = |at| u64::from_le_bytes(word(at));
        let (fragment, picture, sound) = (unsigned(0), unsigned(1), unsigned(2));
        Self { fragment, picture, sound, recorded: i64::from_le_bytes(word(3)) }
    }
}

/// The marks of a part that is being written.
#[derive(Debug)]
pub(super) struct MarkWriter {
    spool: BufWriter<File>,
    file: SpoolFile,
}

impl MarkWriter {
    pub(super) fn new(spool: File, file: SpoolFile) -> Self {
        Self { spool: BufWriter::with_capacity(16 << 10, spool), file }
    }

    pub(super) fn add(&mut self, mark: Mark) -> io::Result<()> {
        self.spool.write_all(&mark.to_bytes())
    }

    /// Ends the writing.
    pub(super) fn finish(mut self) -> io::Result<Marks> {
        self.spool.flush()?;
        Ok(Marks(self.file))
    }
}

/// The marks of a part that is written.
#[derive(Debug)]
pub(super) struct Marks(SpoolFile);

/// Gathers the offsets of all parts; its memory does not grow with their number.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    histogram: BTreeMap<i64, u64>,
    range: Option<(i64, i64)>,
    largest_change: i64,
}

/// Why offsets could not be measured, or are not as recorded.
#[derive(Debug)]
pub(super) enum OffsetFault {
    /// The spool cannot be read.
    Spool(io::Error),
    /// The part is not as it must be.
    Part(GateError),
}

impl From<Mp4Error> for OffsetFault {
    fn from(error: Mp4Error) -> Self {
        Self::Part(error.into())
    }
}

impl Offsets {
    /// Measures a finished part, and fills in what is told of its `joins`, which are in its order.
    pub(super) fn measure(
        &mut self,
        part: &Path,
        marks: &Marks,
        joins: &mut [JoinFacts],
    ) -> Result<(), OffsetFault> {
        let mut spool =
            BufReader::with_capacity(16 << 10, File::open(&marks.0.0).map_err(OffsetFault::Spool)?);
        let file = File::open(part).map_err(|error| OffsetFault::Part(Mp4Error::Read(error).into()))?;
        let mut mp4 = Mp4::open(file)?;
        let walk = |kind| {
            let track = mp4.tracks().iter().position(|track| track.description.kind == kind)?;
            Some(Walk::new(mp4.samples(track), &mp4.tracks()[track].description))
        };
        let (Some(mut pictures), Some(mut sound)) = (walk(TrackKind::Video), walk(TrackKind::Audio)) else {
            return Ok(());
        };
        let mut joins = joins.iter_mut().peekable();
        let mut bytes = [0; Mark::BYTES];
        loop {
            match spool.read_exact(&mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(OffsetFault::Spool(error)),
            }
            let mark = Mark::of_bytes(bytes);
            let picture = pictures.time_of(&mut mp4, mark.picture)?;
            let heard = sound.time_of(&mut mp4, mark.sound)?;
            let (Some(picture), Some(heard)) = (picture, heard) else { return Ok(()) };
            let found = heard - picture;
            if (found - mark.recorded).abs() > TOLERANCE_NANOS {
                let (fragment, expected) = (mark.fragment, mark.recorded);
                return Err(OffsetFault::Part(GateError::AvOffset { fragment, found, expected }));
            }
            self.add(found, mark.recorded);
            while joins.next_if(|join| join.place < mark.fragment).is_some() {}
            if let Some(join) = joins.next_if(|join| join.place == mark.fragment) {
                join.av_offset_us = Some(AvOffset { recorded: mark.recorded / 1000, output: found / 1000 });
            }
        }
    }

    fn add(&mut self, found: i64, recorded: i64) {
        let micros = found / 1000;
        // A coarser grid far from zero bounds the memory.
        let grid = if micros.abs() < 1_000_000 { 100 } else { 10_000 };
        *self.histogram.entry((micros + grid / 2).div_euclid(grid) * grid).or_default() += 1;
        let (least, most) = self.range.unwrap_or((micros, micros));
        self.range = Some((least.min(micros), most.max(micros)));
        self.largest_change = self.largest_change.max((found - recorded).abs() / 1000);
    }

    /// All offsets so far; `None` without sound.
    pub(super) fn summary(&self) -> Option<AvOffsets> {
        let (min, max) = self.range?;
        let fragments: u64 = self.histogram.values().sum();
        let mut below = 0;
        let median = self.histogram.iter().find(|(_, count)| {
            below += **count;
            2 * below >= fragments
        });
        let median = median.map_or(min, |(micros, _)| (*micros).clamp(min, max));
        Some(AvOffsets { fragments, min, median, max, largest_change: self.largest_change })
    }
}

/// A walk through a track of the finished part, from mark to mark.
struct Walk {
    cursor: SampleCursor,
    /// Bytes of PCM a second; `None` where samples are counted.
    pcm: Option<i64>,
    /// The current sample, and its place.
    current: Option<(u64, Sample)>,
    next: u64,
}

impl Walk {
    fn new(cursor: SampleCursor, description: &SampleDescription) -> Self {
        let rate = i64::from(description.sample_rate.max(1)) * i64::from(description.channels.max(1));
        Self { cursor, pcm: description.codec.is_pcm().then_some(rate), current: None, next: 0 }
    }

    /// When what stands at a place is shown; places never go back.
    fn time_of(&mut self, mp4: &mut Mp4<File>, place: u64) -> Result<Option<i64>, Mp4Error> {
        while self.current.is_none() || self.next <= place {
            let Some(sample) = mp4.next(&mut self.cursor)? else { return Ok(None) };
            self.current = Some((self.next, sample));
            self.next += if self.pcm.is_some() { u64::from(sample.size) } else { 1 };
        }
        Ok(self.current.map(|(at, sample)| match self.pcm {
            None => sample.pts,
            Some(rate) => sample.pts + i64::try_from(place - at).unwrap_or(0) * 1_000_000_000 / rate,
        }))
    }
}
