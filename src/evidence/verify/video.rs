//! Compares a video with what its manifest says: its bytes by size and hash, its tracks by its own tables.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Findings;
use super::manifest::{OutputFacts, TrackFacts};
use crate::error::chain;
use crate::fs::open_plain;
use crate::media::mp4::{Mp4, Mp4Error};
use crate::media::{Codec, SampleDescription};
use crate::model::Sha256Digest;
use crate::model::verification::ProblemKind;

const READ_BUFFER: usize = 1 << 20;

/// How far the length by the tables may be from the manifest's: the last sample's duration is not exact in MP4.
const MEDIA_TOLERANCE_MS: u64 = 1_000;

/// What the tables of a video say.
#[derive(Debug, Default)]
struct Media {
    tracks: Vec<(SampleDescription, u64)>,
    /// The end of the last sample, in nanoseconds.
    end: i64,
}

/// Size and hash of an open file, read once.
pub(super) fn hash(file: &mut impl Read) -> io::Result<(u64, Sha256Digest)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, Sha256Digest(hasher.finalize().into()))),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens, reads and hashes a file, and compares size and hash; the file, if it could be read.
pub(super) fn check_bytes(
    path: &Path,
    (size, sha256): (u64, Sha256Digest),
    findings: &mut Findings,
) -> Option<File> {
    let mut file = match open_plain(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.problem(path, ProblemKind::Missing, "is missing");
            return None;
        }
        Err(error) => {
            findings.problem(path, ProblemKind::Unreadable, &format!("cannot be read: {}", chain(&error)));
            return None;
        }
    };
    let (found_size, found_hash) = match hash(&mut file) {
        Ok(found) => found,
        Err(error) => {
            findings.problem(path, ProblemKind::Unreadable, &format!("cannot be read: {}", chain(&error)));
            return None;
        }
    };
    findings.bytes += found_size;
    if found_size != size {
        let message = if found_size < size { "is shorter than recorded" } else { "is longer than recorded" };
        findings.differs(
            path,
            ProblemKind::Size,
            message,
            &format!("{size} bytes"),
            &format!("{found_size} bytes"),
        );
    }
    if found_hash != sha256 {
        findings.differs(path, ProblemKind::Hash, "has another SHA-256 than recorded", &sha256, &found_hash);
    }
    Some(file)
}

/// Compares a video with its entry in the manifest; its samples and its length in milliseconds, as found.
pub(super) fn check(path: &Path, output: &OutputFacts, findings: &mut Findings) -> (u64, u64) {
    let Some(mut file) = check_bytes(path, (output.size_bytes, output.sha256), findings) else {
        return (0, 0);
    };
    // A track without samples is in the manifest and not in the file.
    let recorded: Vec<&TrackFacts> = output.tracks.iter().filter(|track| track.samples > 0).collect();
    let media = file.rewind().map_err(Mp4Error::from).and_then(|()| read_tables(file, &recorded));
    let media = match media {
        Ok(media) => media,
        Err(error) => {
            let message = format!("cannot be read as MP4: {}", chain(&error));
            findings.problem(path, ProblemKind::Unreadable, &message);
            return (0, 0);
        }
    };
    compare_tracks(path, &recorded, &media, findings);
    let found_ms = u64::try_from(media.end.div_euclid(1_000_000)).unwrap_or(0);
    if found_ms.abs_diff(output.duration_ms) > MEDIA_TOLERANCE_MS {
        let (expected, found) = (format!("{} ms", output.duration_ms), format!("{found_ms} ms"));
        findings.differs(path, ProblemKind::MediaTime, "has another length than recorded", &expected, &found);
    }
    (media.tracks.iter().map(|(_, samples)| samples).sum(), found_ms)
}

/// Walks the sample tables; no payload is read.
fn read_tables(file: File, recorded: &[&TrackFacts]) -> Result<Media, Mp4Error> {
    let mut mp4 = Mp4::open(file)?;
    let mut media = Media::default();
    for index in 0..mp4.tracks().len() {
        let description = mp4.tracks()[index].description.clone();
        // A damaged table may claim more samples than anybody wants to count.
        let most = recorded.get(index).map_or(0, |track| track.samples).saturating_add(1);
        let is_pcm = description.codec.is_pcm();
        let mut cursor = mp4.samples(index);
        let mut samples = 0;
        while let Some(sample) = mp4.next(&mut cursor)? {
            samples += 1;
            media.end = media.end.max(sample.pts.saturating_add(sample.duration));
            if samples > most && !is_pcm {
                break;
            }
        }
        media.tracks.push((description, samples));
    }
    Ok(media)
}

fn compare_tracks(path: &Path, recorded: &[&TrackFacts], media: &Media, findings: &mut Findings) {
    let same = recorded.len() == media.tracks.len()
        && recorded.iter().zip(&media.tracks).all(|(recorded, (found, _))| is_same_track(recorded, found));
    if !same {
        let kinds =
            |tracks: Vec<String>| if tracks.is_empty() { "none".to_owned() } else { tracks.join(", ") };
        let expected = recorded.iter().map(|track| format!("{} {}", track.kind, track.codec)).collect();
        let found =
            media.tracks.iter().map(|(track, _)| format!("{} {}", kind(track), track.codec)).collect();
        let (expected, found) = (kinds(expected), kinds(found));
        let message = if expected == found {
            "has a track with other codec data than recorded"
        } else {
            "has other tracks than recorded"
        };
        findings.differs(path, ProblemKind::Tracks, message, &expected, &found);
        return;
    }
    for (number, (recorded, (track, samples))) in (1..).zip(recorded.iter().zip(&media.tracks)) {
        // Files may cut G.711 into samples anywhere.
        if recorded.samples == *samples || track.codec.is_pcm() {
            continue;
        }
        let message = format!("has another number of samples in track {number} than recorded");
        let found =
            if *samples > recorded.samples { "more".to_owned() } else { format!("{samples} samples") };
        findings.differs(
            path,
            ProblemKind::Samples,
            &message,
            &format!("{} samples", recorded.samples),
            &found,
        );
    }
}

fn is_same_track(recorded: &TrackFacts, found: &SampleDescription) -> bool {
    let private = Sha256Digest(Sha256::digest(&found.codec_private).into());
    // ffmpeg may write the parameter sets of H.265 in another order than the clips have them.
    let same_private = found.codec == Codec::H265 || private == recorded.codec_private_sha256;
    recorded.kind == kind(found) && recorded.codec == found.codec.to_string() && same_private
}

fn kind(track: &SampleDescription) -> &'static str {
    use crate::media::TrackKind;
    match track.kind {
        TrackKind::Video => "video",
        TrackKind::Audio => "audio",
        TrackKind::Other => "other",
    }
}
