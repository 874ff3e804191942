//! Encoded pictures to build fragments from: H.264 from ffmpeg, taken apart into groups of pictures.

#![expect(clippy::disallowed_methods, reason = "the emulator encodes its pictures")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::error::EmulatorError;

/// Frames a second of transcoded files.
pub(super) const VIDEO_FRAME_RATE: u32 = 25;

/// Milliseconds of each closed group of transcoded files.
pub(super) const VIDEO_GROUP_MS: u32 = 2_000;

/// One picture: its access unit delimiter and slices as NAL units without start codes.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// The NAL units, in order; parameter sets and the encoder's own messages are left out.
    pub(super) units: Vec<Vec<u8>>,
}

/// An encoded video.
#[derive(Debug)]
pub struct Video {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) sequence_parameters: Vec<u8>,
    pub(super) picture_parameters: Vec<u8>,
    /// Closed groups: each begins with an IDR picture and has no reordered pictures, so its first pictures
    /// decode without the rest.
    pub(super) groups: Vec<Vec<Picture>>,
}

/// Test pictures with a running clock, of a size and rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TestPictures {
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// Frames per second.
    pub frame_rate: u32,
    /// Frames in each group: the longest fragment they serve.
    pub group_frames: u32,
    /// Groups before they repeat.
    pub groups: u32,
}

impl TestPictures {
    /// Small pictures for fragments of up to `group_frames` frames, that repeat after about a minute.
    pub fn looping(frame_rate: u32, group_frames: u32) -> Self {
        let group_frames = group_frames.max(1);
        let groups = (frame_rate.saturating_mul(60) / group_frames).clamp(1, 60);
        Self { width: 320, height: 180, frame_rate: frame_rate.max(1), group_frames, groups }
    }

    /// The same pictures in another size, so that their codec private data differs.
    #[must_use]
    pub fn enlarged(self, times: usize) -> Self {
        let more = u16::try_from(times).unwrap_or(u16::MAX).min(100) * 16;
        Self { width: self.width + more, height: self.height + more, ..self }
    }

    /// The encoded pictures; encoded once in a process and shared by all emulators in it.
    pub(super) fn encoded(&self) -> Result<Arc<Video>, EmulatorError> {
        type Cache = Mutex<HashMap<TestPictures, Arc<Video>>>;
        static CACHE: OnceLock<Cache> = OnceLock::new();
        // Held while encoding: whoever comes second waits instead of encoding the same again.
        let mut cache = CACHE.get_or_init(Cache::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(video) = cache.get(self) {
            return Ok(Arc::clone(video));
        }
        let source = format!("testsrc=size={}x{}:rate={}", self.width, self.height, self.frame_rate);
        let frames = u64::from(self.group_frames) * u64::from(self.groups);
        let input = ["-f", "lavfi", "-i", &source, "-frames:v", &frames.to_string()].map(OsString::from);
        let stream = encode("test pictures", &input, self.group_frames)?;
        let video = Video::parse("test pictures", &stream, (self.width, self.height))?;
        let video = Arc::new(video);
        cache.insert(self.clone(), Arc::clone(&video));
        Ok(video)
    }
}

impl Video {
    /// Transcodes a video file: at most three minutes of it.
    pub(super) fn from_file(file: &Path) -> Result<Self, EmulatorError> {
        let (width, height) = (640, 360);
        let filter = format!(
            "scale={width}:{height}:force_original_aspect_ratio=decrease,\
             pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,fps={VIDEO_FRAME_RATE}"
        );
        let mut input = ["-t", "180", "-i"].map(OsString::from).to_vec();
        // A file's name is never taken for an option or another protocol.
        input.push(std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).into());
        input.extend(["-map", "0:v:0", "-vf", &filter].map(OsString::from));
        let group_frames = VIDEO_FRAME_RATE * VIDEO_GROUP_MS / 1000;
        let what = file.display().to_string();
        let mut video = Self::parse(&what, &encode(&what, &input, group_frames)?, (width, height))?;
        let whole = usize::try_from(group_frames).unwrap_or(usize::MAX);
        video.groups.retain(|group| group.len() == whole);
        if video.groups.is_empty() {
            return Err(EmulatorError::Encode { what, stderr: "shorter than two seconds".to_owned() });
        }
        Ok(video)
    }

    /// Takes an Annex-B stream with access unit delimiters apart.
    fn parse(what: &str, stream: &[u8], (width, height): (u16, u16)) -> Result<Self, EmulatorError> {
        let mut video = Self {
            width,
            height,
            sequence_parameters: Vec::new(),
            picture_parameters: Vec::new(),
            groups: Vec::new(),
        };
        let mut picture = Picture::default();
        for unit in nal_units(stream) {
            match unit.first().map(|header| header & 0x1F) {
                Some(NAL_DELIMITER) => {
                    video.push(std::mem::take(&mut picture));
                    picture.units.push(unit.to_vec());
                }
                Some(NAL_SLICE | NAL_IDR_SLICE) => picture.units.push(unit.to_vec()),
                Some(NAL_SEQUENCE_PARAMETERS) => video.sequence_parameters = unit.to_vec(),
                Some(NAL_PICTURE_PARAMETERS) => video.picture_parameters = unit.to_vec(),
                _ => {}
            }
        }
        video.push(picture);
        let complete = !video.sequence_parameters.is_empty()
            && !video.picture_parameters.is_empty()
            && !video.groups.is_empty();
        if complete { Ok(video) } else { Err(EmulatorError::NoPictures { what: what.to_owned() }) }
    }

    fn push(&mut self, picture: Picture) {
        let is_key = picture.units.iter().any(|unit| unit[0] & 0x1F == NAL_IDR_SLICE);
        match self.groups.last_mut() {
            _ if is_key => self.groups.push(vec![picture]),
            Some(group) if picture.units.len() > 1 => group.push(picture),
            _ => {}
        }
    }
}

const NAL_SLICE: u8 = 1;
const NAL_IDR_SLICE: u8 = 5;
const NAL_SEQUENCE_PARAMETERS: u8 = 7;
const NAL_PICTURE_PARAMETERS: u8 = 8;
const NAL_DELIMITER: u8 = 9;

/// The NAL units between the start codes of an Annex-B stream.
fn nal_units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, code)| code == &[0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let mut units = Vec::with_capacity(starts.len());
    for (start, end) in starts.iter().zip(ends) {
        let mut unit = &stream[start + 3..end];
        // A start code of four bytes begins with a zero, and no NAL unit ends in one.
        while let [shorter @ .., 0] = unit {
            unit = shorter;
        }
        if !unit.is_empty() {
            units.push(unit);
        }
    }
    units
}

/// Runs ffmpeg on `input` and returns an H.264 stream with closed groups of exactly `group_frames` frames.
fn encode(what: &str, input: &[OsString], group_frames: u32) -> Result<Vec<u8>, EmulatorError> {
    let program = std::env::var_os("KVS_EXPORT_FFMPEG").unwrap_or_else(|| "ffmpeg".into());
    let parameters = format!("keyint={group_frames}:min-keyint={group_frames}:scenecut=0:open-gop=0:aud=1");
    let output = Command::new(&program)
        .args(["-v", "error", "-nostdin"])
        .args(input)
        .args(["-an", "-sn", "-dn", "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main"])
        // One thread: the same pictures have the same bytes on every machine.
        .args(["-crf", "28", "-bf", "0", "-pix_fmt", "yuv420p", "-threads", "1"])
        .args(["-x264-params", &parameters, "-f", "h264", "pipe:1"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| EmulatorError::StartFfmpeg { program: PathBuf::from(&program), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(EmulatorError::Encode { what: what.to_owned(), stderr });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_pictures_come_in_groups_of_the_length_asked_for() {
        let pictures = TestPictures { groups: 3, ..TestPictures::looping(10, 7) };
        let video = pictures.encoded().expect("ffmpeg is installed");
        assert_eq!(video.groups.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7]);
        for group in &video.groups {
            for (index, picture) in group.iter().enumerate() {
                assert_eq!(picture.units[0][0] & 0x1F, NAL_DELIMITER);
                let slice = if index == 0 { NAL_IDR_SLICE } else { NAL_SLICE };
                assert!(picture.units[1..].iter().all(|unit| unit[0] & 0x1F == slice));
            }
        }
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_end_a_unit() {
        let stream = [0, 0, 0, 1, 9, 16, 0, 0, 1, 7, 66, 0, 0, 0, 1, 8, 1];
        assert_eq!(nal_units(&stream), [&[9, 16][..], &[7, 66], &[8, 1]]);
    }
}
