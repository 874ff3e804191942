//! Compares a merged file with what went into it. A zero exit code and a frame count prove nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::error::MergeError;
use super::ffmpeg::Ffmpeg;
use super::part::SpoolFile;
use crate::fs;
use crate::media::mp4::{Mp4, Mp4Error, Sample, SampleCursor};
use crate::media::{Codec, SampleDescription};
use crate::model::Sha256Digest;

/// How far a sample's time may be from the computed one.
const TOLERANCE_NANOS: i64 = 1_000_000;
const READ_BUFFER: usize = 512 << 10;

/// In what a merged file differs from what went in.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It cannot be read as MP4.
    #[error("it cannot be read")]
    Unreadable(#[from] Mp4Error),
    /// It has other tracks.
    #[error("it has other tracks than went in: {found}")]
    Tracks {
        /// What it has.
        found: String,
    },
    /// A track has more or fewer samples.
    #[error("track {track} has {found} samples, {expected} went in")]
    Count {
        /// The track, from 1.
        track: usize,
        /// In the file.
        found: u64,
        /// Written.
        expected: u64,
    },
    /// A track has other payloads.
    #[error("the payloads of track {track} hash to {found}, those that went in to {expected}")]
    Payload {
        /// The track, from 1.
        track: usize,
        /// In the file.
        found: Sha256Digest,
        /// Written.
        expected: Sha256Digest,
    },
    /// A sample is shown at another time.
    #[error("sample {sample} of track {track} is shown at {found} ns instead of {expected} ns")]
    Time {
        /// The track, from 1.
        track: usize,
        /// The sample, from 0 in decode order.
        sample: u64,
        /// In the file.
        found: i64,
        /// Computed.
        expected: i64,
    },
    /// Sound stands elsewhere beside its picture than it was recorded.
    #[error(
        "the sound of its fragment {fragment} begins {found} ns after the key frame, not {expected} ns as recorded"
    )]
    AvOffset {
        /// The fragment, from 1.
        fragment: u64,
        /// In the file.
        found: i64,
        /// In the clip.
        expected: i64,
    },
    /// Its samples do not stand in the order of the file.
    #[error("the samples of track {0} do not stand in order")]
    Order(usize),
    /// Its beginning does not decode.
    #[error("its first pictures do not decode ({how}): {messages}")]
    Decode {
        /// How the decoder ended.
        how: String,
        /// What it said.
        messages: String,
    },
}

/// What must be in a file.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) tracks: Vec<ExpectedTrack>,
    /// How many pictures to decode.
    pub(super) first_group: u64,
}

/// What must be in a track.
#[derive(Debug)]
pub(super) struct ExpectedTrack {
    pub(super) description: SampleDescription,
    /// When each sample is shown, in nanoseconds, 8 bytes each; of PCM also its size, 8 more.
    pub(super) times: SpoolFile,
    pub(super) samples: u64,
    pub(super) payload: Sha256Digest,
}

/// What the gate read on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) size_bytes: u64,
    pub(super) sha256: Sha256Digest,
}

/// Accepts a finished file, synced to disk, or says in what it differs.
pub(super) fn check(
    path: &Path,
    expected: &Expected,
    ffmpeg: &Ffmpeg,
    cancel: &Arc<AtomicBool>,
) -> Result<Accepted, MergeError> {
    let accept = || -> Result<Accepted, Stop> {
        let file = File::open(path).map_err(fs::failed_to("read", path))?;
        fs::sync_file(&file, path)?;
        let data = file.try_clone().map_err(fs::failed_to("read", path))?;
        let mp4 = Mp4::open(file).map_err(GateError::from)?;
        let lanes = match_tracks(&mp4, expected)?;
        let accepted = compare(mp4, lanes, (&data, path), cancel)?;
        decode_beginning(path, expected.first_group, ffmpeg, cancel)?;
        Ok(accepted)
    };
    accept().map_err(|stop| match stop {
        Stop::Refused(reason) => MergeError::Gate { path: path.to_owned(), reason },
        Stop::Failed(error) => error,
    })
}

/// Why the gate stopped: the file is refused, or it could not be judged.
enum Stop {
    Refused(GateError),
    Failed(MergeError),
}

impl From<GateError> for Stop {
    fn from(reason: GateError) -> Self {
        Self::Refused(reason)
    }
}

impl From<MergeError> for Stop {
    fn from(error: MergeError) -> Self {
        Self::Failed(error)
    }
}

impl From<fs::FsError> for Stop {
    fn from(error: fs::FsError) -> Self {
        Self::Failed(error.into())
    }
}

/// One track of the file beside what must be in it.
struct Lane<'a> {
    number: usize,
    expected: &'a ExpectedTrack,
    cursor: SampleCursor,
    next: Option<Sample>,
    times: Times,
    payload: Sha256,
    samples: u64,
}

fn match_tracks<'a>(mp4: &Mp4<File>, expected: &'a Expected) -> Result<Vec<Lane<'a>>, Stop> {
    let found: Vec<&SampleDescription> = mp4.tracks().iter().map(|track| &track.description).collect();
    // ffmpeg leaves out a track that got no samples.
    let expected: Vec<&ExpectedTrack> = expected.tracks.iter().filter(|track| track.samples > 0).collect();
    let same = found.len() == expected.len()
        && found.iter().zip(&expected).all(|(found, expected)| {
            let wanted = &expected.description;
            let same_private = match wanted.codec {
                // ffmpeg may write the same parameter sets in another order.
                Codec::H265 => parameter_sets(&found.codec_private) == parameter_sets(&wanted.codec_private),
                _ => found.codec_private == wanted.codec_private,
            };
            (found.kind, found.codec) == (wanted.kind, wanted.codec) && same_private
        });
    if !same {
        let found = found.iter().map(|track| format!("{:?} {}", track.kind, track.codec)).collect::<Vec<_>>();
        return Err(GateError::Tracks { found: found.join(", ") }.into());
    }
    let mut lanes = Vec::new();
    for (index, track) in expected.into_iter().enumerate() {
        let path = &track.times.0;
        lanes.push(Lane {
            number: index + 1,
            expected: track,
            cursor: mp4.samples(index),
            next: None,
            times: Times {
                spool: BufReader::with_capacity(
                    64 << 10,
                    File::open(path).map_err(fs::failed_to("read", path))?,
                ),
                with_sizes: track.description.codec.is_pcm(),
                pcm: None,
            },
            payload: Sha256::new(),
            samples: 0,
        });
    }
    Ok(lanes)
}

/// The parameter sets of an `hvcC`, sorted; `None` if it is damaged.
fn parameter_sets(hvcc: &[u8]) -> Option<Vec<&[u8]>> {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*hvcc.get(at)?, *hvcc.get(at + 1)?])));
    let (mut sets, mut at) = (Vec::new(), 23);
    for _ in 0..*hvcc.get(22)? {
        let count = word(at + 1)?;
        at += 3;
        for _ in 0..count {
            let end = at + 2 + word(at)?;
            sets.push(hvcc.get(at + 2..end)?);
            at = end;
        }
    }
    sets.sort_unstable();
    Some(sets)
}

/// Reads the file once from beginning to end, hashing all of it and each track's payloads.
fn compare(
    mut mp4: Mp4<File>,
    mut lanes: Vec<Lane<'_>>,
    (data, path): (&File, &Path),
    cancel: &AtomicBool,
) -> Result<Accepted, Stop> {
    for lane in &mut lanes {
        lane.advance(&mut mp4)?;
    }
    let mut whole = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER];
    let mut at = 0_u64;
    // The tables are read through the same open file: each block is read from its own place.
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(MergeError::Cancelled.into());
        }
        let count = read_at(data, &mut buffer, at).map_err(fs::failed_to("read", path))?;
        if count == 0 {
            break;
        }
        whole.update(&buffer[..count]);
        let end = at + count as u64;
        for lane in &mut lanes {
            lane.take(&mut mp4, &buffer[..count], at, end)?;
        }
        at = end;
    }
    for lane in lanes {
        lane.finish()?;
    }
    Ok(Accepted { size_bytes: at, sha256: Sha256Digest(whole.finalize().into()) })
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Lane<'_> {
    /// Goes to the next sample and compares its time.
    fn advance(&mut self, mp4: &mut Mp4<File>) -> Result<(), GateError> {
        let previous_end = self.next.map_or(0, |sample| sample.offset + u64::from(sample.size));
        self.next = mp4.next(&mut self.cursor)?;
        let Some(sample) = self.next else { return Ok(()) };
        if sample.offset < previous_end {
            return Err(GateError::Order(self.number));
        }
        let index = self.samples;
        self.samples += 1;
        if self.times.with_sizes {
            return self.times.compare_pcm(&sample, &self.expected.description).map_err(
                |(found, expected)| GateError::Time { track: self.number, sample: index, found, expected },
            );
        }
        let Some(expected) = self.times.next() else {
            // More than went in: counted in the end.
            return Ok(());
        };
        if (sample.pts - expected).abs() > TOLERANCE_NANOS {
            return Err(GateError::Time { track: self.number, sample: index, found: sample.pts, expected });
        }
        Ok(())
    }

    /// Hashes what the block `[at, end)` holds of this track.
    fn take(&mut self, mp4: &mut Mp4<File>, block: &[u8], at: u64, end: u64) -> Result<(), GateError> {
        while let Some(sample) = self.next {
            let sample_end = sample.offset + u64::from(sample.size);
            let (from, to) = (sample.offset.max(at), sample_end.min(end));
            if from < to {
                let inside = |position: u64| usize::try_from(position - at).unwrap_or(0);
                self.payload.update(&block[inside(from)..inside(to)]);
            }
            if sample_end > end {
                break;
            }
            self.advance(mp4)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), GateError> {
        let (track, expected) = (self.number, self.expected);
        let is_counted = !self.times.with_sizes;
        if is_counted && self.samples != expected.samples {
            return Err(GateError::Count { track, found: self.samples, expected: expected.samples });
        }
        let found = Sha256Digest(self.payload.finalize().into());
        if found != expected.payload {
            return Err(GateError::Payload { track, found, expected: expected.payload });
        }
        if self.times.next().is_some() {
            return Err(GateError::Count { track, found: self.samples, expected: expected.samples });
        }
        Ok(())
    }
}

/// The spooled times of a track.
struct Times {
    spool: BufReader<File>,
    with_sizes: bool,
    /// The current block of PCM: when it is shown, and how much of it is left to compare.
    pcm: Option<(i64, u64)>,
}

impl Times {
    fn next(&mut self) -> Option<i64> {
        let mut bytes = [0; 8];
        self.spool.read_exact(&mut bytes).ok()?;
        Some(i64::from_le_bytes(bytes))
    }

    /// Compares a stretch of PCM with the blocks that went in; files may cut the two differently.
    fn compare_pcm(&mut self, sample: &Sample, track: &SampleDescription) -> Result<(), (i64, i64)> {
        let bytes_a_second = i64::from(track.sample_rate.max(1)) * i64::from(track.channels.max(1));
        let duration = |bytes: u64| i64::try_from(bytes).unwrap_or(0) * 1_000_000_000 / bytes_a_second;
        let mut done = 0;
        while done < u64::from(sample.size) {
            let (shown, left) = match self.pcm.take() {
                Some(block) => block,
                None => match (self.next(), self.next()) {
                    (Some(shown), Some(size)) => (shown, size.unsigned_abs()),
                    _ => return Ok(()),
                },
            };
            let found = sample.pts + duration(done);
            if (found - shown).abs() > TOLERANCE_NANOS {
                return Err((found, shown));
            }
            let step = left.min(u64::from(sample.size) - done);
            done += step.max(1);
            if step < left {
                self.pcm = Some((shown + duration(step), left - step));
            }
        }
        Ok(())
    }
}

/// Decodes the first pictures; ffmpeg must have nothing to say about them.
fn decode_beginning(
    path: &Path,
    pictures: u64,
    ffmpeg: &Ffmpeg,
    cancel: &Arc<AtomicBool>,
) -> Result<(), Stop> {
    let mut input = OsString::from("file:");
    input.push(path);
    let frames = pictures.to_string();
    let mut args: Vec<OsString> =
        ["-nostdin", "-hide_banner", "-v", "error", "-xerror", "-protocol_whitelist", "file", "-i"]
            .map(OsString::from)
            .into();
    args.push(input);
    // By default the decoder's output counts in frames of the average rate: pictures that stand closer to each
    // other than that get one and the same time, and ffmpeg complains about its own rounding.
    args.extend(["-map", "0:v:0", "-frames:v", &frames, "-enc_time_base", "1:90000"].map(OsString::from));
    args.extend(["-f", "null", "-"].map(OsString::from));
    let ended = ffmpeg
        .start(&args, false, cancel)
        .and_then(super::ffmpeg::Running::wait)
        .map_err(|source| MergeError::Start { path: ffmpeg.path.clone(), source })?;
    if cancel.load(Ordering::Relaxed) {
        return Err(MergeError::Cancelled.into());
    }
    let clean = ended.status.success() && ended.messages.is_empty();
    if clean { Ok(()) } else { Err(GateError::Decode { how: ended.how(), messages: ended.messages }.into()) }
}
