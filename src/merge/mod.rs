//! The merge engine: checked chunks go in, proven MP4s come out. The only place that starts processes.
//!
//! Every sample's time is computed here; ffmpeg only copies. What it wrote is read back and compared with what went
//! in, sample by sample, before it is accepted. Memory does not grow with the number of chunks or samples.

mod change;
mod error;
mod ffmpeg;
mod gate;
mod offset;
mod part;
mod report;
mod timeline;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

pub use self::change::{TrackChange, TrackForm};
pub use self::error::{ChunkLoss, MergeError};
pub use self::ffmpeg::{Ffmpeg, FfmpegError};
pub use self::gate::GateError;
pub use self::offset::{AvOffset, AvOffsets};
use self::offset::{OffsetFault, Offsets};
use self::part::{FinishedPart, OutSample, PartFault, PartPlan, PartWriter};
pub use self::report::{JoinFacts, MAX_JOINS_TOLD, MergeReport, MergedPart, TrackFacts};
pub use self::timeline::{FragmentMedia, Join, PartReason, Placement, TimelinePlacer, TimelineRules};
use crate::crash_point::{Point, reached};
use crate::fs;
use crate::media::clip::{
    ClipFacts, ClipTrack, ClipVerdict, FragmentSplitter, TrackExtent, UnusableClip, check_opened,
    check_whole_opened,
};
use crate::media::mp4::{Mp4, Mp4Error, Sample, SampleCursor};
use crate::media::{SampleDescription, TrackKind};
use crate::model::{
    Fragment, FragmentNumber, OnCodecChange, Sha256Digest, TimeRange, Timeline, TimestampKind, UtcMillis,
};

const READ_BUFFER: usize = 256 << 10;

/// How far G.711 sound may be from its place, in nanoseconds; the gate allows a little more.
const MAX_PCM_JUMP: i64 = 800_000;

/// A fetched chunk.
#[derive(Debug, Clone)]
pub struct MergeChunk {
    /// Its file.
    pub path: PathBuf,
    /// The file's SHA-256 as it was fetched.
    pub sha256: Sha256Digest,
    /// Its fragments, in the order of the clip; none where they are not known.
    pub fragments: Vec<Fragment>,
    /// Those that are to be written now, in the order of the output; a clip that holds several sessions comes once for
    /// each of them.
    pub selection: Vec<Selected>,
    /// The window that it was asked for, where its fragments are not known: then it is merged as a whole.
    pub window: Option<TimeRange>,
}

/// A fragment of a chunk that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selected {
    /// Its place in the clip.
    pub index: usize,
    /// When it begins on the media clock.
    pub start: UtcMillis,
}

/// A fragment, or a whole chunk whose fragments are not known.
struct Piece {
    number: Option<FragmentNumber>,
    /// When it begins on the media clock; of a window, where the window does.
    from: UtcMillis,
    /// Where a window ends; a fragment ends with its media.
    to: Option<UtcMillis>,
    media: FragmentMedia,
}

/// What is to be made of the chunks.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    /// Whether gaps are closed.
    pub timeline: Timeline,
    /// The clock that places fragments: the producer's, unless it is implausible.
    pub media_clock: TimestampKind,
    /// How much time between two fragments is still no gap.
    pub gap_tolerance_ms: i64,
    /// What a change of the sample description does.
    pub on_codec_change: OnCodecChange,
    /// A fresh folder that exists; everything is written into it.
    pub folder: PathBuf,
    /// `NAME.mp4`; of several parts `NAME-part1.mp4` and so on.
    pub file_name: String,
    /// The ffmpeg that copies.
    pub ffmpeg: Ffmpeg,
    /// Set to stop.
    pub cancel: Arc<AtomicBool>,
}

/// Chunks in the order of the output, told one at a time.
pub type Chunks<'a> = dyn Iterator<Item = Result<MergeChunk, Box<dyn std::error::Error + Send + Sync>>> + 'a;

/// Merges chunks into one MP4, or several parts; blocks until all are written, proven and synced.
///
/// On an error nothing in the folder is to be used. The caller syncs the folder.
pub fn merge(request: &MergeRequest, chunks: &mut Chunks<'_>) -> Result<MergeReport, MergeError> {
    let mut merger = Merger::new(request);
    for chunk in chunks {
        merger.add(&chunk.map_err(MergeError::Chunks)?)?;
    }
    merger.finish()
}

/// A merge under way.
struct Merger<'a> {
    request: &'a MergeRequest,
    placer: TimelinePlacer,
    part: Option<OpenPart>,
    finished: Vec<MergedPart>,
    report: MergeReport,
    /// What changes with the part that is about to begin.
    changes: Vec<TrackChange>,
    offsets: Offsets,
    buffer: Vec<u8>,
}

/// The part being written, and what its entry in the report will say.
struct OpenPart {
    writer: PartWriter,
    reason: PartReason,
    changes: Vec<TrackChange>,
    /// Fragments, and chunks whose fragments are not known.
    pieces: u64,
    /// How many fragments it has, the first and the last of them, where they are known.
    fragments: Option<u64>,
    first: Option<FragmentNumber>,
    last: Option<FragmentNumber>,
    start: UtcMillis,
    end: UtcMillis,
    /// When the last sample so far ends, in nanoseconds of the part.
    media_end: i64,
    /// When the sound so far ends by its rate, if it is G.711.
    pcm_end: Option<i64>,
}

/// A chunk whose hash and content are right.
struct OpenChunk<'a> {
    path: &'a Path,
    told: &'a MergeChunk,
    mp4: Mp4<File>,
    facts: ClipFacts,
    lanes: Vec<Lane>,
    /// The fragment that the lanes stand at.
    at: usize,
}

/// A walk through one track of a chunk.
struct Lane {
    cursor: SampleCursor,
    splitter: FragmentSplitter,
    /// The next sample and the fragment it belongs to.
    next: Option<(Sample, usize)>,
}

impl<'a> Merger<'a> {
    fn new(request: &'a MergeRequest) -> Self {
        let rules = TimelineRules {
            timeline: request.timeline,
            media_clock: request.media_clock,
            gap_tolerance_ms: request.gap_tolerance_ms,
        };
        Self {
            request,
            placer: TimelinePlacer::new(rules),
            part: None,
            finished: Vec::new(),
            report: MergeReport {
                parts: Vec::new(),
                ffmpeg_version: request.ffmpeg.version.clone(),
                ffmpeg_args: Vec::new(),
                joins: Vec::new(),
                join_count: 0,
                moved_count: 0,
                moved_max_us: 0,
                av_offset_us: None,
            },
            changes: Vec::new(),
            offsets: Offsets::default(),
            buffer: vec![0; READ_BUFFER],
        }
    }

    fn add(&mut self, chunk: &MergeChunk) -> Result<(), MergeError> {
        if chunk.selection.is_empty() && chunk.window.is_none() {
            return Ok(());
        }
        let mut open = self.open(chunk)?;
        let descriptions = || open.facts.tracks.iter().map(|track| &track.description);
        let changes = self.part.as_ref().is_some_and(|part| !part.writer.descriptions().eq(descriptions()));
        if let Some(part) = self.part.as_ref().filter(|_| changes) {
            let before: Vec<_> = part.writer.descriptions().collect();
            self.changes = change::changes(&before, &descriptions().collect::<Vec<_>>());
        }
        if changes && self.request.on_codec_change == OnCodecChange::Fail {
            let first = chunk.selection.first().map(|first| chunk.fragments[first.index].clone());
            let changes = std::mem::take(&mut self.changes);
            return Err(match first {
                Some(first) => MergeError::CodecChange { fragment: Box::new(first), changes },
                None => MergeError::CodecChangeInWindow { window: chunk.window, changes },
            });
        }
        if changes || self.part.is_none() {
            let reason = if changes { PartReason::CodecChange } else { PartReason::Start };
            self.placer.begin_part(reason, open.facts.tracks.iter().map(|track| track.time_scale));
        }
        for piece_index in 0..open.pieces() {
            let (index, piece) = open.piece(piece_index);
            let mut placement = self.placer.place(&piece.media);
            if placement.new_part.is_none() && self.jumps_in_pcm(&open.facts, &piece.media, placement) {
                let scales = open.facts.tracks.iter().map(|track| track.time_scale);
                self.placer.begin_part(PartReason::PcmPause, scales);
                placement = self.placer.place(&piece.media);
            }
            if let Some(reason) = placement.new_part {
                self.begin_part(reason, &open, &piece)?;
            }
            self.note(&piece, placement, &open.facts);
            self.mark_offset(&open.facts, &piece.media)?;
            self.write_fragment(&mut open, index, placement.begins)?;
        }
        Ok(())
    }

    /// Whether G.711 sound would have to pause or go back before a fragment.
    fn jumps_in_pcm(&self, facts: &ClipFacts, media: &FragmentMedia, placement: Placement) -> bool {
        let end = self.part.as_ref().and_then(|part| part.pcm_end);
        match (end, pcm_extent(facts, media)) {
            (Some(end), Some(extent)) => (placement.begins + extent.first - end).abs() > MAX_PCM_JUMP,
            _ => false,
        }
    }

    /// Hashes a chunk's file, opens it, and finds its fragments in it.
    fn open<'c>(&mut self, chunk: &'c MergeChunk) -> Result<OpenChunk<'c>, MergeError> {
        let lost = |reason| MergeError::ChunkLost { path: chunk.path.clone(), reason };
        let read = |error| MergeError::of_read(&chunk.path, error);
        let unusable =
            |error| MergeError::of_mp4(&chunk.path, error, |error| ChunkLoss::Unusable(error.into()));
        let mut file = File::open(&chunk.path).map_err(read)?;
        let mut hash = Sha256::new();
        loop {
            if self.request.cancel.load(Ordering::Relaxed) {
                return Err(MergeError::Cancelled);
            }
            match file.read(&mut self.buffer).map_err(read)? {
                0 => break,
                count => hash.update(&self.buffer[..count]),
            }
        }
        let found = Sha256Digest(hash.finalize().into());
        if found != chunk.sha256 {
            return Err(lost(ChunkLoss::Altered { expected: chunk.sha256, found }));
        }
        reached(Point::ChunkCompared);
        file.rewind().map_err(read)?;
        let mut mp4 = Mp4::open(file).map_err(unusable)?;
        let checked = match chunk.window {
            Some(_) => match check_whole_opened(&mut mp4) {
                Ok(whole) => ClipVerdict::Complete(whole.facts),
                Err(reason) => ClipVerdict::Unusable(reason),
            },
            None => check_opened(&mut mp4, &chunk.fragments),
        };
        let facts = match checked {
            ClipVerdict::Complete(facts) => facts,
            ClipVerdict::Short { present, planned } => {
                return Err(lost(ChunkLoss::Short { present, planned }));
            }
            ClipVerdict::Unusable(UnusableClip::Unreadable(error)) => return Err(unusable(error)),
            ClipVerdict::Unusable(reason) => return Err(lost(ChunkLoss::Unusable(reason))),
        };
        let mut open = OpenChunk { path: &chunk.path, told: chunk, mp4, facts, lanes: Vec::new(), at: 0 };
        open.rewind()?;
        Ok(open)
    }

    /// Ends the part before, if any, and starts the next with a piece of a chunk.
    fn begin_part(
        &mut self,
        reason: PartReason,
        chunk: &OpenChunk<'_>,
        piece: &Piece,
    ) -> Result<(), MergeError> {
        self.finish_part()?;
        if let [only] = &mut self.finished[..] {
            let numbered = self.request.folder.join(part_name(&self.request.file_name, 1));
            fs::rename(&only.path, &numbered)?;
            only.path = numbered;
        }
        let name = match self.finished.len() {
            0 => self.request.file_name.clone(),
            before => part_name(&self.request.file_name, before + 1),
        };
        let descriptions: Vec<SampleDescription> =
            chunk.facts.tracks.iter().map(|track| track.description.clone()).collect();
        let first_shown = piece.media.tracks.iter().flatten().map(|track| track.first).min().unwrap_or(0);
        let writer = PartWriter::start(PartPlan {
            ffmpeg: &self.request.ffmpeg,
            path: self.request.folder.join(name),
            descriptions,
            lead: -first_shown,
            cancel: &self.request.cancel,
        })?;
        if self.finished.is_empty() {
            self.report.ffmpeg_args = writer.told_args();
        }
        self.part = Some(OpenPart {
            writer,
            reason,
            changes: std::mem::take(&mut self.changes),
            pieces: 0,
            fragments: piece.number.is_some().then_some(0),
            first: piece.number.clone(),
            last: None,
            start: piece.from,
            end: piece.from,
            media_end: 0,
            pcm_end: None,
        });
        Ok(())
    }

    /// Notes a placed fragment for the report.
    fn note(&mut self, piece: &Piece, placement: Placement, facts: &ClipFacts) {
        let Some(part) = &mut self.part else { return };
        let media = &piece.media;
        part.pieces += 1;
        part.fragments = part.fragments.map(|fragments| fragments + 1);
        part.last.clone_from(&piece.number);
        part.end = part.end.max(piece.to.unwrap_or_else(|| piece.from + ceil_ms(media.length())));
        let media_end = media.tracks.iter().flatten().map(|track| track.end).max().unwrap_or(0);
        part.media_end = part.media_end.max(placement.begins + media_end);
        if let Some(extent) = pcm_extent(facts, media) {
            let begins = part.pcm_end.unwrap_or(placement.begins + extent.first);
            part.pcm_end = Some(begins + (extent.end - extent.first));
        }
        if placement.moved > 0 {
            self.report.moved_count += 1;
            self.report.moved_max_us = self.report.moved_max_us.max(placement.moved / 1000);
        }
        let is_plain = matches!(placement.join, Join::Begins | Join::Continues) && placement.moved == 0;
        if !is_plain {
            self.report.join_count += 1;
            if self.report.joins.len() < MAX_JOINS_TOLD {
                self.report.joins.push(JoinFacts {
                    part: self.finished.len() + 1,
                    fragment: piece.number.clone(),
                    join: placement.join,
                    at_ms: placement.begins.div_euclid(1_000_000),
                    moved_us: placement.moved / 1000,
                    av_offset_us: None,
                    place: part.pieces,
                });
            }
        }
    }

    /// Notes how far the sound of the fragment that is to be written next was recorded from its key frame.
    fn mark_offset(&mut self, facts: &ClipFacts, media: &FragmentMedia) -> Result<(), MergeError> {
        let sound = facts.tracks.iter().position(|track| track.description.kind == TrackKind::Audio);
        let Some((track, extent)) = sound.and_then(|at| Some((at, media.tracks[at]?))) else {
            return Ok(());
        };
        match &mut self.part {
            Some(part) => part.writer.mark_offset(part.pieces, track, extent.first),
            None => Ok(()),
        }
    }

    /// Writes a fragment's samples, its tracks interleaved in decode order.
    fn write_fragment(
        &mut self,
        chunk: &mut OpenChunk<'_>,
        index: usize,
        begins: i64,
    ) -> Result<(), MergeError> {
        let key_pts = chunk.facts.fragments[index].key_pts;
        chunk.go_to(index)?;
        while let Some((track, sample)) = chunk.next_of(index) {
            if self.request.cancel.load(Ordering::Relaxed) {
                return Err(MergeError::Cancelled);
            }
            let out = OutSample {
                track,
                pts: begins + (sample.pts - key_pts),
                is_sync: sample.is_sync,
                size: sample.size,
            };
            let Some(part) = &mut self.part else { return Ok(()) };
            let writer = &mut part.writer;
            let mut result = writer.begin_sample(&out).map_err(CopyFault::Part);
            if result.is_ok() {
                result = chunk.mp4.payload(&sample, &mut self.buffer, |bytes| {
                    writer.payload(track, bytes).map_err(CopyFault::Part)
                });
            }
            match result {
                Ok(()) => chunk.advance(track)?,
                Err(CopyFault::Chunk(error)) => return Err(chunk.lost(error)),
                Err(CopyFault::Part(fault)) => {
                    return Err(match self.part.take() {
                        Some(part) => part.writer.fail(fault),
                        None => MergeError::Nothing,
                    });
                }
            }
        }
        Ok(())
    }

    /// Ends the part that is being written, if any, and takes it into the report once the gate accepts it.
    fn finish_part(&mut self) -> Result<(), MergeError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let FinishedPart { path, accepted, tracks, marks } = part.writer.finish()?;
        let number = self.finished.len() + 1;
        let told = self.report.joins.partition_point(|join| join.part < number);
        self.offsets.measure(&path, &marks, &mut self.report.joins[told..]).map_err(|fault| match fault {
            OffsetFault::Spool(source) => fs::failed_to("read", &path)(source).into(),
            OffsetFault::Part(reason) => MergeError::Gate { path: path.clone(), reason },
        })?;
        let tracks = tracks.into_iter().map(|track| {
            let SampleDescription { kind, codec, codec_private, width, height, channels, sample_rate } =
                track.description.clone();
            TrackFacts {
                kind,
                codec,
                width,
                height,
                channels,
                sample_rate,
                samples: track.samples,
                payload_sha256: track.payload,
                codec_private_sha256: Sha256Digest(Sha256::digest(&codec_private).into()),
            }
        });
        self.finished.push(MergedPart {
            path,
            size_bytes: accepted.size_bytes,
            sha256: accepted.sha256,
            duration_ms: ceil_ms(part.media_end).unsigned_abs(),
            reason: part.reason,
            changes: part.changes,
            fragments: part.fragments,
            first_fragment: part.first,
            last_fragment: part.last,
            start: part.start,
            end: part.end,
            tracks: tracks.collect(),
        });
        Ok(())
    }

    fn finish(mut self) -> Result<MergeReport, MergeError> {
        self.finish_part()?;
        if self.finished.is_empty() {
            return Err(MergeError::Nothing);
        }
        let av_offset_us = self.offsets.summary();
        Ok(MergeReport { parts: self.finished, av_offset_us, ..self.report })
    }
}

impl OpenChunk<'_> {
    /// How many pieces of it are to be written.
    fn pieces(&self) -> usize {
        if self.told.window.is_some() { self.facts.fragments.len() } else { self.told.selection.len() }
    }

    /// A piece that is to be written, with its place in the clip: a fragment, or all of a chunk whose fragments are not
    /// known.
    fn piece(&self, place: usize) -> (usize, Piece) {
        if let Some(window) = self.told.window {
            let tracks = self.facts.fragments[place].tracks.clone();
            // G.711 has no times to put right; else it is the pictures that must follow each other: sound that lasts a
            // little longer would push them apart, join by join.
            let is_pcm = |track: &ClipTrack| track.description.codec.is_pcm();
            let leads = self.facts.tracks.iter().position(is_pcm).unwrap_or(0);
            let media = FragmentMedia { start: None, leads, listed_ms: 0, tracks };
            return (place, Piece { number: None, from: window.start(), to: Some(window.end()), media });
        }
        let Selected { index, start } = self.told.selection[place];
        let fragment = &self.told.fragments[index];
        let tracks = self.facts.fragments[index].tracks.clone();
        let media = FragmentMedia { start: Some(start), leads: 0, listed_ms: fragment.length_ms, tracks };
        (index, Piece { number: Some(fragment.number.clone()), from: start, to: None, media })
    }

    fn lost(&self, error: Mp4Error) -> MergeError {
        MergeError::of_mp4(self.path, error, ChunkLoss::Sample)
    }

    /// Goes to the first sample of every track.
    fn rewind(&mut self) -> Result<(), MergeError> {
        let lanes = self.facts.tracks.iter().map(|track| Lane {
            cursor: self.mp4.samples(track.index),
            splitter: FragmentSplitter::new(track.description.kind),
            next: None,
        });
        self.lanes = lanes.collect();
        self.at = 0;
        (0..self.lanes.len()).try_for_each(|track| self.advance(track))
    }

    /// Goes to the first sample of fragment `index` on every track, without reading what lies between.
    fn go_to(&mut self, index: usize) -> Result<(), MergeError> {
        if index < self.at {
            self.rewind()?;
        }
        self.at = index + 1;
        for track in 0..self.lanes.len() {
            while self.lanes[track].next.is_some_and(|(_, fragment)| fragment < index) {
                self.advance(track)?;
            }
        }
        Ok(())
    }

    /// Goes to the next sample of a track.
    fn advance(&mut self, track: usize) -> Result<(), MergeError> {
        let lane = &mut self.lanes[track];
        match self.mp4.next(&mut lane.cursor) {
            Ok(sample) => {
                lane.next =
                    sample.map(|sample| (sample, lane.splitter.fragment_of(&sample, &self.facts.fragments)));
                Ok(())
            }
            Err(error) => Err(self.lost(error)),
        }
    }

    /// The sample to write next of those that belong to fragment `index`, with its track.
    fn next_of(&self, index: usize) -> Option<(usize, Sample)> {
        let waiting = self.lanes.iter().enumerate().filter_map(|(track, lane)| match lane.next {
            Some((sample, fragment)) if fragment == index => Some((track, sample)),
            _ => None,
        });
        waiting.min_by_key(|(track, sample)| (sample.dts, *track))
    }
}

/// What can fail while a payload is copied.
enum CopyFault {
    Chunk(Mp4Error),
    Part(PartFault),
}

impl From<Mp4Error> for CopyFault {
    fn from(error: Mp4Error) -> Self {
        Self::Chunk(error)
    }
}

/// What a fragment has of G.711 sound.
fn pcm_extent(facts: &ClipFacts, media: &FragmentMedia) -> Option<TrackExtent> {
    let mut tracks = facts.tracks.iter().zip(&media.tracks);
    tracks.find(|(track, _)| track.description.codec.is_pcm()).and_then(|(_, extent)| *extent)
}

fn ceil_ms(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000) + i64::from(nanos.rem_euclid(1_000_000) > 0)
}

/// `NAME.mp4` → `NAME-part2.mp4`.
fn part_name(file_name: &str, number: usize) -> String {
    let path = Path::new(file_name);
    match (path.file_stem(), path.extension()) {
        (Some(stem), Some(extension)) => {
            format!("{}-part{number}.{}", stem.to_string_lossy(), extension.to_string_lossy())
        }
        _ => format!("{file_name}-part{number}"),
    }
}
