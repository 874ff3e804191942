//! One output file being made: samples go into ffmpeg, and what must come out is written down beside it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::error::MergeError;
use super::ffmpeg::{Ffmpeg, Running};
use super::gate::{Accepted, Expected, ExpectedTrack};
use super::offset::{Mark, MarkWriter, Marks};
use crate::crash_point::{Point, reached};
use crate::fs;
use crate::media::matroska::{Block, MatroskaWriter, nanos_to_ticks};
use crate::media::{Codec, SampleDescription, TrackKind};
use crate::model::Sha256Digest;

/// Bytes gathered before they go into the pipe.
const PIPE_BUFFER: usize = 256 << 10;
/// The most pictures that are decoded at the start of a part.
const MAX_DECODED: u64 = 600;
/// Decodes each picture as late as the next one and its own time allow.
///
/// The pipe has no decode times, and those that ffmpeg works out for reordered pictures put the key frame after a pause
/// at the pause's beginning: players that seek by decode time would show it all through the pause.
const LATE_DECODING: &str = "setts=pts=PTS:dts='if(eq(NEXT_DTS,NOPTS),DTS,min(PTS,max(DTS,NEXT_DTS-1)))'";
/// How often that is done, since it looks one picture ahead: as many pictures as are commonly held back.
const REORDERED: usize = 2;
/// What ffmpeg says when it sets, drops or changes times.
const TIME_CHANGES: [&str; 8] = [
    "monoton",
    "timestamp",
    "dts",
    "pts has no value",
    "invalid dropping",
    "out of order",
    "discontinuity",
    "corrupt",
];

/// What it says of a pause, of a thousand times a sample's length, that it meets while it analyses the first seconds:
/// that spoils its guess of a frame rate, which nobody uses, and changes no time.
const PAUSE_NOTED: &str = "dts discontinuity in stream";

/// How a part is to be made.
#[derive(Debug)]
pub(super) struct PartPlan<'a> {
    pub(super) ffmpeg: &'a Ffmpeg,
    pub(super) path: PathBuf,
    pub(super) descriptions: Vec<SampleDescription>,
    /// How far before the first key frame the earliest sample is shown, in nanoseconds.
    pub(super) lead: i64,
    pub(super) cancel: &'a Arc<AtomicBool>,
}

/// A part that ffmpeg is writing.
#[derive(Debug)]
pub(super) struct PartWriter {
    path: PathBuf,
    ffmpeg: Ffmpeg,
    args: Vec<OsString>,
    cancel: Arc<AtomicBool>,
    running: Running,
    matroska: MatroskaWriter<BufWriter<ChildStdin>>,
    /// Added to every time in the pipe, which has none below zero; the output takes it off again.
    shift: i64,
    tracks: Vec<PartTrack>,
    marks: MarkWriter,
    /// Pictures before the second key frame, and whether that has come.
    first_group: (u64, bool),
}

#[derive(Debug)]
struct PartTrack {
    description: SampleDescription,
    spool: BufWriter<File>,
    spool_file: SpoolFile,
    payload: Sha256,
    samples: u64,
    bytes: u64,
}

/// A temporary file, removed when dropped.
#[derive(Debug)]
pub(super) struct SpoolFile(pub(super) PathBuf);

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // The folder is the caller's to remove in the end; a file left in it does no harm.
        drop(fs::remove_file(&self.0));
    }
}

/// One sample on its way into a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutSample {
    /// Its track's place.
    pub(super) track: usize,
    /// When it is shown, in nanoseconds of the part.
    pub(super) pts: i64,
    /// Whether decoding can begin here.
    pub(super) is_sync: bool,
    /// Bytes of payload.
    pub(super) size: u32,
}

impl PartWriter {
    /// Starts ffmpeg and writes the Segment's head.
    pub(super) fn start(plan: PartPlan<'_>) -> Result<Self, MergeError> {
        let whole_ms = plan.lead.max(0).div_euclid(1_000_000) + i64::from(plan.lead.max(0) % 1_000_000 > 0);
        let args = arguments(&plan, whole_ms);
        // Made here, so that it has our mode and not the mask's.
        drop(fs::create(&plan.path)?);
        let mut tracks = Vec::new();
        for (index, description) in plan.descriptions.iter().enumerate() {
            let mut name = plan.path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".times-{index}"));
            let spool_file = SpoolFile(plan.path.with_file_name(name));
            tracks.push(PartTrack {
                description: description.clone(),
                spool: BufWriter::with_capacity(64 << 10, fs::create(&spool_file.0)?),
                spool_file,
                payload: Sha256::new(),
                samples: 0,
                bytes: 0,
            });
        }
        let mut name = plan.path.file_name().unwrap_or_default().to_owned();
        name.push(".offsets");
        let marks = SpoolFile(plan.path.with_file_name(name));
        let marks = MarkWriter::new(fs::create(&marks.0)?, marks);
        let start = |source| MergeError::Start { path: plan.ffmpeg.path.clone(), source };
        let mut running = plan.ffmpeg.start(&args, true, plan.cancel).map_err(start)?;
        let input = BufWriter::with_capacity(PIPE_BUFFER, running.take_input().map_err(start)?);
        let matroska = MatroskaWriter::new(input, &plan.descriptions).map_err(start)?;
        Ok(Self {
            path: plan.path,
            ffmpeg: plan.ffmpeg.clone(),
            args,
            cancel: Arc::clone(plan.cancel),
            running,
            matroska,
            shift: whole_ms * 1_000_000,
            tracks,
            marks,
            first_group: (0, false),
        })
    }

    /// The sample descriptions that this part was begun with.
    pub(super) fn descriptions(&self) -> impl Iterator<Item = &SampleDescription> + Clone {
        self.tracks.iter().map(|track| &track.description)
    }

    /// The command line, the output named without its folder.
    pub(super) fn told_args(&self) -> Vec<String> {
        let (_, shown) = self.args.split_last().unwrap_or((&self.args[0], &[]));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        shown.iter().map(|arg| arg.to_string_lossy().into_owned()).chain([name]).collect()
    }

    /// Notes that the next samples are those of a fragment whose sound, on that track, begins so far from its key frame.
    pub(super) fn mark_offset(
        &mut self,
        fragment: u64,
        track: usize,
        recorded: i64,
    ) -> Result<(), MergeError> {
        let (picture, sound) = (self.tracks[0].samples, &self.tracks[track]);
        let sound = if sound.description.codec.is_pcm() { sound.bytes } else { sound.samples };
        let mark = Mark { fragment, picture, sound, recorded };
        self.marks.add(mark).map_err(|source| fs::failed_to("write", &self.path)(source).into())
    }

    /// Begins a sample; exactly its size of [`PartWriter::payload`] must follow.
    pub(super) fn begin_sample(&mut self, sample: &OutSample) -> Result<(), PartFault> {
        let track = &mut self.tracks[sample.track];
        let is_video = track.description.kind == TrackKind::Video;
        track.samples += 1;
        track.bytes += u64::from(sample.size);
        track.spool.write_all(&sample.pts.to_le_bytes()).map_err(PartFault::Spool)?;
        if track.description.codec.is_pcm() {
            track.spool.write_all(&u64::from(sample.size).to_le_bytes()).map_err(PartFault::Spool)?;
        }
        if is_video {
            let (pictures, over) = &mut self.first_group;
            *over |= sample.is_sync && *pictures > 0;
            *pictures += u64::from(!*over);
        }
        let block = Block {
            track: sample.track,
            ticks: nanos_to_ticks(sample.pts.saturating_add(self.shift)),
            is_sync: sample.is_sync,
            begins_cluster: is_video && sample.is_sync,
            size: sample.size,
        };
        self.matroska.begin_block(&block).map_err(PartFault::Pipe)
    }

    /// Writes a piece of the current sample.
    pub(super) fn payload(&mut self, track: usize, bytes: &[u8]) -> Result<(), PartFault> {
        self.tracks[track].payload.update(bytes);
        self.matroska.payload(bytes).map_err(PartFault::Pipe)
    }

    /// Turns a fault of writing into what ffmpeg says about it; ends ffmpeg.
    pub(super) fn fail(self, fault: PartFault) -> MergeError {
        if self.cancel.load(Ordering::Relaxed) {
            return MergeError::Cancelled;
        }
        match fault {
            PartFault::Spool(source) => fs::failed_to("write", &self.tracks[0].spool_file.0)(source).into(),
            PartFault::Pipe(error) => {
                let Self { running, matroska, .. } = self;
                drop(matroska);
                match running.wait() {
                    Ok(ended) => MergeError::Ffmpeg {
                        how: format!("{}, it stopped reading: {error}", ended.how()),
                        messages: ended.messages,
                    },
                    Err(error) => MergeError::Ffmpeg { how: error.to_string(), messages: String::new() },
                }
            }
        }
    }

    /// Ends the Segment, waits for ffmpeg, and lets the gate compare the file with what went in.
    pub(super) fn finish(self) -> Result<FinishedPart, MergeError> {
        let Self { path, ffmpeg, cancel, running, matroska, tracks, marks, first_group, .. } = self;
        let flushed = matroska.finish().map(drop);
        let ended = running
            .wait()
            .map_err(|error| MergeError::Ffmpeg { how: error.to_string(), messages: String::new() })?;
        if cancel.load(Ordering::Relaxed) {
            return Err(MergeError::Cancelled);
        }
        if !ended.status.success() || flushed.is_err() {
            return Err(MergeError::Ffmpeg { how: ended.how(), messages: ended.messages });
        }
        let lower = ended.messages.to_lowercase();
        let mut lines = lower.lines().filter(|line| !line.contains(PAUSE_NOTED));
        if lines.any(|line| TIME_CHANGES.iter().any(|change| line.contains(change))) {
            return Err(MergeError::TimesChanged { messages: ended.messages });
        }
        let mut expected = Vec::new();
        for mut track in tracks {
            let spool = &track.spool_file.0;
            track.spool.flush().map_err(fs::failed_to("write", spool))?;
            expected.push(ExpectedTrack {
                description: track.description,
                times: track.spool_file,
                samples: track.samples,
                payload: Sha256Digest(track.payload.finalize().into()),
            });
        }
        let expected = Expected { tracks: expected, first_group: first_group.0.min(MAX_DECODED) };
        reached(Point::VideoWritten);
        let accepted = super::gate::check(&path, &expected, &ffmpeg, &cancel)?;
        reached(Point::VideoProven);
        let marks = marks.finish().map_err(fs::failed_to("write", &path))?;
        Ok(FinishedPart { path, accepted, tracks: expected.tracks, marks })
    }
}

/// A part that the gate accepted.
#[derive(Debug)]
pub(super) struct FinishedPart {
    pub(super) path: PathBuf,
    pub(super) accepted: Accepted,
    pub(super) tracks: Vec<ExpectedTrack>,
    pub(super) marks: Marks,
}

/// What can fail while samples are written.
#[derive(Debug)]
pub(super) enum PartFault {
    /// The pipe to ffmpeg.
    Pipe(io::Error),
    /// The file of expected times.
    Spool(io::Error),
}

/// The command line that copies a Segment from a pipe into an MP4, exactly.
fn arguments(plan: &PartPlan<'_>, shift_ms: i64) -> Vec<OsString> {
    let has = |wanted: fn(Codec) -> bool| plan.descriptions.iter().any(|track| wanted(track.codec));
    let mut words: Vec<String> = [
        "-nostdin",
        "-hide_banner",
        "-v",
        "warning",
        "-xerror",
        "-protocol_whitelist",
        "pipe,file",
        "-copyts",
        "-f",
        "matroska",
        "-i",
        "pipe:0",
        "-map",
        "0",
        "-c",
        "copy",
    ]
    .map(str::to_owned)
    .into();
    if has(|codec| codec == Codec::H265) {
        words.extend(["-tag:v", "hvc1"].map(str::to_owned));
    }
    if shift_ms > 0 {
        words
            .extend(["-output_ts_offset".to_owned(), format!("-{}.{:03}", shift_ms / 1000, shift_ms % 1000)]);
    }
    // Version 4 has neither.
    if !plan.ffmpeg.is_older_than(5) {
        // Edit lists count in it; with the usual 1000 a track's start is up to 1 ms off.
        words.extend(["-movie_timescale", "10000"].map(str::to_owned));
        words.extend(["-bsf:v".to_owned(), [LATE_DECODING; REORDERED].join(",")]);
    }
    words.push("-f".to_owned());
    if has(Codec::is_pcm) {
        // ffmpeg's MP4 refuses G.711; its QuickTime has it, and is read wherever the brand says MP4.
        words.extend(["mov", "-brand", "mp42"].map(str::to_owned));
    } else {
        words.push("mp4".to_owned());
    }
    words.push("-y".to_owned());
    let mut args: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let mut output = OsString::from("file:");
    output.push(&plan.path);
    args.push(output);
    args
}
