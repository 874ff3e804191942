//! Walks a track's samples in decode order.

use std::io::{Read, Seek};

use super::error::Mp4Error;
use super::fragmented::FragmentWalk;
use super::table::{Rows, Table};
use super::{MAX_SAMPLE_BYTES, Track, TrackClock};
use crate::media::track::TrackKind;

/// One sample of a track: an access unit of video, a frame of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Where its payload begins in the file.
    pub offset: u64,
    /// Bytes of payload.
    pub size: u32,
    /// When it is decoded, in nanoseconds of the file's presentation; may be negative.
    pub dts: i64,
    /// When it is shown, in nanoseconds of the file's presentation; may be negative.
    pub pts: i64,
    /// How long it lasts, in nanoseconds, as the file says: until the next is decoded.
    pub duration: i64,
    /// Whether decoding can begin here.
    pub is_sync: bool,
}

/// A track's sample tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    pub(super) durations: Table,
    pub(super) offsets: Option<Table>,
    pub(super) layout: Table,
    pub(super) sizes: Sizes,
    pub(super) chunks: Table,
    pub(super) wide_chunks: bool,
    pub(super) syncs: Option<Table>,
}

/// The sizes of a track's samples.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sizes {
    /// Every sample has the same.
    All { size: u32, count: u32 },
    /// A row for each.
    Each(Table),
}

impl Sizes {
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::All { count, .. } => *count,
            Self::Each(table) => table.rows,
        }
    }
}

/// Where a walk through a track's samples stands; [`super::Mp4::next`] moves it.
#[derive(Debug, Clone)]
pub struct SampleCursor {
    track: u32,
    clock: TrackClock,
    length: u64,
    /// Payload bytes given out; a real file has no more of them than bytes.
    given: u64,
    walk: Walk,
}

#[derive(Debug, Clone)]
enum Walk {
    Tables(Box<TableWalk>),
    Fragments(Box<FragmentWalk>),
}

/// A sample in its track's ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawSample {
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) dts: i64,
    pub(super) composition: i64,
    pub(super) duration: u32,
    pub(super) is_sync: bool,
    pub(super) index: u64,
}

impl SampleCursor {
    pub(super) fn new(track: &Track, length: u64, first_fragment: Option<u64>) -> Self {
        let walk = match (track.tables, first_fragment) {
            (Some(tables), _) => Walk::Tables(Box::new(TableWalk::new(track, tables))),
            (None, at) => {
                let defaults = track.defaults.clone();
                let is_audio = track.description.kind == TrackKind::Audio;
                Walk::Fragments(Box::new(FragmentWalk::new(defaults, is_audio, at.unwrap_or(length), length)))
            }
        };
        Self { track: track.id, clock: track.clock, length, given: 0, walk }
    }

    pub(super) fn next<R: Read + Seek>(&mut self, reader: &mut R) -> Result<Option<Sample>, Mp4Error> {
        let raw = match &mut self.walk {
            Walk::Tables(walk) => walk.next(reader)?,
            Walk::Fragments(walk) => walk.next(reader)?,
        };
        let Some(raw) = raw else { return Ok(None) };
        let outside = Mp4Error::SampleOutside { track: self.track, sample: raw.index };
        match raw.offset.checked_add(u64::from(raw.size)) {
            Some(end) if end <= self.length => {}
            _ => return Err(outside),
        }
        if raw.size > MAX_SAMPLE_BYTES {
            return Err(Mp4Error::Absurd("sample size"));
        }
        self.given += u64::from(raw.size.max(1));
        if self.given > self.length {
            return Err(Mp4Error::Absurd("number of samples"));
        }
        let dts = i128::from(raw.dts);
        let starts = self.clock.nanos(dts)?;
        Ok(Some(Sample {
            offset: raw.offset,
            size: raw.size,
            dts: starts,
            pts: self.clock.nanos(dts + i128::from(raw.composition))?,
            duration: self.clock.nanos(dts + i128::from(raw.duration))? - starts,
            is_sync: raw.is_sync,
        }))
    }
}

/// A walk through the tables of one `stbl`.
#[derive(Debug, Clone)]
struct TableWalk {
    track: u32,
    count: u32,
    index: u32,
    dts: i64,
    /// The current row of `stts`: samples left, and their duration.
    duration: (u32, u32),
    durations: Rows,
    /// The current row of `ctts`: samples left, and their offset.
    composition: (u32, i32),
    compositions: Option<Rows>,
    size: Option<u32>,
    sizes: Option<Rows>,
    chunks: Rows,
    wide_chunks: bool,
    /// The number of the current chunk, from 1, and the samples left in it.
    chunk: (u32, u32),
    offset: u64,
    samples_a_chunk: u32,
    /// The next row of `stsc`: its first chunk and its samples a chunk.
    next_run: Option<(u32, u32)>,
    layout: Rows,
    /// The next key frame, from 1; `None` after the last or when there is no table.
    next_sync: Option<u32>,
    syncs: Option<Rows>,
    /// PCM has a sample a byte; so many of a chunk are taken at a time.
    pcm_group: u32,
}

impl TableWalk {
    fn new(track: &Track, tables: Tables) -> Self {
        let (size, sizes) = match tables.sizes {
            Sizes::All { size, .. } => (Some(size), None),
            Sizes::Each(table) => (None, Some(table.walk())),
        };
        let is_audio = track.description.kind == TrackKind::Audio;
        let is_pcm = track.description.codec.is_pcm() && size.is_some();
        Self {
            track: track.id,
            count: tables.sizes.count(),
            index: 0,
            dts: 0,
            duration: (0, 0),
            durations: tables.durations.walk(),
            composition: (0, 0),
            compositions: tables.offsets.map(Table::walk),
            size,
            sizes,
            chunks: tables.chunks.walk(),
            wide_chunks: tables.wide_chunks,
            chunk: (0, 0),
            offset: 0,
            samples_a_chunk: 0,
            next_run: None,
            layout: tables.layout.walk(),
            next_sync: None,
            syncs: tables.syncs.filter(|_| !is_audio).map(Table::walk),
            pcm_group: if is_pcm { (track.time_scale / 50).max(1) } else { 1 },
        }
    }

    fn disagree(&self, what: &'static str) -> Mp4Error {
        Mp4Error::TablesDisagree { track: self.track, what }
    }

    fn next<R: Read + Seek>(&mut self, reader: &mut R) -> Result<Option<RawSample>, Mp4Error> {
        if self.index == self.count {
            self.check_end(reader)?;
            return Ok(None);
        }
        let index = self.index;
        self.enter_chunk(reader)?;
        let duration = self.take_duration(reader)?;
        let composition = self.take_composition(reader)?;
        let is_sync = self.take_sync(reader)?;
        let size = match (&mut self.sizes, self.size) {
            (Some(rows), _) => rows.words::<R, 1>(reader)?.map(|[size]| size),
            (None, size) => size,
        };
        let size = size.ok_or_else(|| self.disagree("fewer sizes than samples"))?;
        let mut sample = RawSample {
            offset: self.offset,
            size,
            dts: self.dts,
            composition,
            duration,
            is_sync,
            index: u64::from(index),
        };
        self.step(1, size, duration)?;
        if self.pcm_group > 1 {
            let more = (self.pcm_group - 1).min(self.chunk.1).min(self.duration.0);
            self.duration.0 -= more;
            let grown = u64::from(size) * (u64::from(more) + 1);
            sample.size = u32::try_from(grown).map_err(|_| Mp4Error::Absurd("sample size"))?;
            sample.duration = u32::try_from(u64::from(duration) * (u64::from(more) + 1))
                .map_err(|_| Mp4Error::Absurd("sample duration"))?;
            self.step(more, size, duration)?;
        }
        Ok(Some(sample))
    }

    /// Moves past `samples` of equal size and duration in the current chunk.
    fn step(&mut self, samples: u32, size: u32, duration: u32) -> Result<(), Mp4Error> {
        self.index =
            self.index.checked_add(samples).ok_or_else(|| self.disagree("more samples than there are"))?;
        self.chunk.1 -= samples;
        let bytes = u64::from(samples) * u64::from(size);
        self.offset = self.offset.checked_add(bytes).ok_or(Mp4Error::Absurd("chunk offset"))?;
        let ticks = i64::try_from(u64::from(samples) * u64::from(duration))
            .map_err(|_| Mp4Error::Absurd("sample time"))?;
        self.dts = self.dts.checked_add(ticks).ok_or(Mp4Error::Absurd("sample time"))?;
        Ok(())
    }

    /// Goes to the next chunk when the current one has no samples left.
    fn enter_chunk<R: Read + Seek>(&mut self, reader: &mut R) -> Result<(), Mp4Error> {
        if self.chunk.1 > 0 {
            return Ok(());
        }
        if self.chunk.0 == 0 {
            self.next_run = self.take_run(reader)?;
            if self.next_run.is_none_or(|(first, _)| first != 1) {
                return Err(self.disagree("the layout does not begin with chunk 1"));
            }
        }
        let number = self.chunk.0.checked_add(1).ok_or(Mp4Error::Absurd("number of chunks"))?;
        if let Some((first, samples)) = self.next_run
            && first == number
        {
            self.samples_a_chunk = samples;
            self.next_run = self.take_run(reader)?;
            if self.next_run.is_some_and(|(next, _)| next <= first) {
                return Err(self.disagree("the layout goes back"));
            }
        }
        if self.samples_a_chunk == 0 {
            return Err(self.disagree("a chunk without samples"));
        }
        let offset = if self.wide_chunks {
            self.chunks.words::<R, 2>(reader)?.map(|[high, low]| u64::from(high) << 32 | u64::from(low))
        } else {
            self.chunks.words::<R, 1>(reader)?.map(|[offset]| u64::from(offset))
        };
        self.offset = offset.ok_or_else(|| self.disagree("fewer chunks than the samples need"))?;
        self.chunk = (number, self.samples_a_chunk);
        Ok(())
    }

    fn take_run<R: Read + Seek>(&mut self, reader: &mut R) -> Result<Option<(u32, u32)>, Mp4Error> {
        match self.layout.words::<R, 3>(reader)? {
            Some([_, _, description]) if description != 1 => {
                Err(self.disagree("a sample description that is not there"))
            }
            Some([first, samples, _]) => Ok(Some((first, samples))),
            None => Ok(None),
        }
    }

    fn take_duration<R: Read + Seek>(&mut self, reader: &mut R) -> Result<u32, Mp4Error> {
        while self.duration.0 == 0 {
            let row = self.durations.words::<R, 2>(reader)?;
            let [count, duration] = row.ok_or_else(|| self.disagree("fewer durations than samples"))?;
            self.duration = (count, duration);
        }
        self.duration.0 -= 1;
        Ok(self.duration.1)
    }

    fn take_composition<R: Read + Seek>(&mut self, reader: &mut R) -> Result<i64, Mp4Error> {
        if self.compositions.is_none() {
            return Ok(0);
        }
        while self.composition.0 == 0 {
            let row = match &mut self.compositions {
                Some(rows) => rows.words::<R, 2>(reader)?,
                None => None,
            };
            let [count, offset] =
                row.ok_or_else(|| self.disagree("fewer composition offsets than samples"))?;
            // Signed in both versions of the box: writers of version 0 store negative offsets too.
            self.composition = (count, offset.cast_signed());
        }
        self.composition.0 -= 1;
        Ok(self.composition.1.into())
    }

    fn take_sync<R: Read + Seek>(&mut self, reader: &mut R) -> Result<bool, Mp4Error> {
        let Some(rows) = &mut self.syncs else { return Ok(true) };
        if self.index == 0 {
            self.next_sync = rows.words::<R, 1>(reader)?.map(|[number]| number);
        }
        let number = self.index + 1;
        match self.next_sync {
            Some(next) if next == number => {
                self.next_sync = rows.words::<R, 1>(reader)?.map(|[number]| number);
                Ok(true)
            }
            Some(next) if next < number => Err(self.disagree("the key frame table goes back")),
            _ => Ok(false),
        }
    }

    /// Every table must end with the last sample.
    fn check_end<R: Read + Seek>(&mut self, reader: &mut R) -> Result<(), Mp4Error> {
        if self.chunk.1 > 0 || !self.chunks.is_done() {
            return Err(self.disagree("more places than samples"));
        }
        if self.next_run.is_some() || (self.count > 0 && !self.layout.is_done()) {
            return Err(self.disagree("the layout goes beyond the last chunk"));
        }
        if self.duration.0 > 0 || !no_more_samples(&mut self.durations, reader)? {
            return Err(self.disagree("more durations than samples"));
        }
        if self.composition.0 > 0 {
            return Err(self.disagree("more composition offsets than samples"));
        }
        if let Some(rows) = &mut self.compositions
            && !no_more_samples(rows, reader)?
        {
            return Err(self.disagree("more composition offsets than samples"));
        }
        if self.count > 0 && self.next_sync.is_some() {
            return Err(self.disagree("key frames beyond the last sample"));
        }
        Ok(())
    }
}

/// Whether the rest of a run-length table stands for no samples.
fn no_more_samples<R: Read + Seek>(rows: &mut Rows, reader: &mut R) -> Result<bool, Mp4Error> {
    while let Some([count, _]) = rows.words::<R, 2>(reader)? {
        if count > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
