//! Encoded pictures to build fragments from: H.264 or H.265 from ffmpeg, taken apart into groups of pictures.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::encode;
use super::error::EmulatorError;

/// Frames a second of transcoded files.
pub(super) const VIDEO_FRAME_RATE: u32 = 25;

/// Milliseconds of each closed group of transcoded files.
pub(super) const VIDEO_GROUP_MS: u32 = 2_000;

/// How many pictures stand between two that others refer to, where pictures are reordered.
const B_PICTURES: u32 = 2;

/// How pictures are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PictureCodec {
    /// H.264.
    #[default]
    H264,
    /// H.265.
    H265,
}

/// What a NAL unit is, as far as the emulator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnitKind {
    Delimiter,
    ParameterSet,
    KeySlice,
    Slice,
    Other,
}

impl PictureCodec {
    fn kind_of(self, unit: &[u8]) -> UnitKind {
        let header = unit.first().copied().unwrap_or(0);
        match self {
            Self::H264 => match header & 0x1F {
                1 => UnitKind::Slice,
                5 => UnitKind::KeySlice,
                7 | 8 => UnitKind::ParameterSet,
                9 => UnitKind::Delimiter,
                _ => UnitKind::Other,
            },
            Self::H265 => match header >> 1 & 0x3F {
                // Pictures with instantaneous refresh; groups are closed, so no other key pictures come.
                19 | 20 => UnitKind::KeySlice,
                0..=31 => UnitKind::Slice,
                32..=34 => UnitKind::ParameterSet,
                35 => UnitKind::Delimiter,
                _ => UnitKind::Other,
            },
        }
    }

    /// The header of a unit with supplemental information, in front of the slices.
    pub(super) const fn supplemental_header(self) -> &'static [u8] {
        match self {
            Self::H264 => &[6],
            Self::H265 => &[39 << 1, 1],
        }
    }

    /// The header of a unit of filler data.
    pub(super) const fn filler_header(self) -> &'static [u8] {
        match self {
            Self::H264 => &[12],
            Self::H265 => &[38 << 1, 1],
        }
    }
}

/// One picture: its access unit delimiter and slices as NAL units without start codes.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// The NAL units, in order; parameter sets and the encoder's own messages are left out.
    pub(super) units: Vec<Vec<u8>>,
    /// Its place in the order in which its group is shown.
    pub(super) shown: u32,
}

/// An encoded video.
#[derive(Debug)]
pub struct Video {
    pub(super) codec: PictureCodec,
    pub(super) width: u16,
    pub(super) height: u16,
    /// Video (H.265 alone), sequence and picture parameters, in that order.
    pub(super) parameter_sets: Vec<Vec<u8>>,
    /// Closed groups in decode order: each begins with a key picture, and no picture refers to one behind it, so
    /// its first pictures decode without the rest.
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
    /// How they are coded.
    pub codec: PictureCodec,
    /// Whether two of three pictures are shown before one that is decoded before them.
    pub reordered: bool,
}

impl TestPictures {
    /// Small pictures for fragments of up to `group_frames` frames, that repeat after about a minute.
    pub fn looping(frame_rate: u32, group_frames: u32) -> Self {
        let group_frames = group_frames.max(1);
        let groups = (frame_rate.saturating_mul(60) / group_frames).clamp(1, 60);
        let (codec, reordered) = (PictureCodec::H264, false);
        Self {
            width: 320,
            height: 180,
            frame_rate: frame_rate.max(1),
            group_frames,
            groups,
            codec,
            reordered,
        }
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
        let b_pictures = if self.reordered { B_PICTURES } else { 0 };
        let stream = encode::pictures("test pictures", &input, self.codec, (self.group_frames, b_pictures))?;
        let mut video = Video::parse("test pictures", &stream, self.codec, (self.width, self.height))?;
        for group in &mut video.groups {
            let order = decode_order(u32::try_from(group.len()).unwrap_or(u32::MAX), b_pictures);
            for (picture, shown) in group.iter_mut().zip(order) {
                picture.shown = shown;
            }
        }
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
        let codec = PictureCodec::H264;
        let stream = encode::pictures(&what, &input, codec, (group_frames, 0))?;
        let mut video = Self::parse(&what, &stream, codec, (width, height))?;
        let whole = usize::try_from(group_frames).unwrap_or(usize::MAX);
        video.groups.retain(|group| group.len() == whole);
        if video.groups.is_empty() {
            return Err(EmulatorError::Encode { what, stderr: "shorter than two seconds".to_owned() });
        }
        Ok(video)
    }

    /// Takes an Annex-B stream with access unit delimiters apart.
    fn parse(
        what: &str,
        stream: &[u8],
        codec: PictureCodec,
        (width, height): (u16, u16),
    ) -> Result<Self, EmulatorError> {
        let mut video = Self { codec, width, height, parameter_sets: Vec::new(), groups: Vec::new() };
        let mut picture = Picture::default();
        for unit in nal_units(stream) {
            match codec.kind_of(unit) {
                UnitKind::Delimiter => {
                    video.push(std::mem::take(&mut picture));
                    picture.units.push(unit.to_vec());
                }
                UnitKind::Slice | UnitKind::KeySlice => picture.units.push(unit.to_vec()),
                UnitKind::ParameterSet if !video.parameter_sets.iter().any(|set| set == unit) => {
                    video.parameter_sets.push(unit.to_vec());
                }
                UnitKind::ParameterSet | UnitKind::Other => {}
            }
        }
        video.push(picture);
        let sets = match codec {
            PictureCodec::H264 => 2,
            PictureCodec::H265 => 3,
        };
        let complete = video.parameter_sets.len() == sets && !video.groups.is_empty();
        if complete { Ok(video) } else { Err(EmulatorError::NoMedia { what: what.to_owned() }) }
    }

    /// Whether pictures are shown in another order than they are decoded in.
    pub(super) fn is_reordered(&self) -> bool {
        self.groups.iter().any(|group| !group.is_sorted_by_key(|picture| picture.shown))
    }

    fn push(&mut self, mut picture: Picture) {
        let is_key = picture.units.iter().any(|unit| self.codec.kind_of(unit) == UnitKind::KeySlice);
        if is_key {
            self.groups.push(Vec::new());
        }
        if let Some(group) = self.groups.last_mut()
            && picture.units.len() > 1
        {
            picture.shown = u32::try_from(group.len()).unwrap_or(u32::MAX);
            group.push(picture);
        }
    }
}

/// The pictures of a closed group of `count` by their place on the screen, in the order in which they are decoded: as an
/// encoder puts them that sets `b_pictures` between two others wherever there is room.
fn decode_order(count: u32, b_pictures: u32) -> Vec<u32> {
    let mut order = Vec::new();
    let mut next = 0;
    while next < count {
        let anchor = if order.is_empty() { 0 } else { (next + b_pictures).min(count - 1) };
        order.push(anchor);
        order.extend(next..anchor);
        next = anchor + 1;
    }
    order
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(pictures: &TestPictures) -> Vec<Vec<Vec<UnitKind>>> {
        let video = pictures.encoded().expect("ffmpeg is installed");
        let of = |picture: &Picture| picture.units.iter().map(|unit| video.codec.kind_of(unit)).collect();
        video.groups.iter().map(|group| group.iter().map(of).collect()).collect()
    }

    #[test]
    fn test_pictures_come_in_groups_of_the_length_asked_for() {
        for codec in [PictureCodec::H264, PictureCodec::H265] {
            for reordered in [false, true] {
                let pictures = TestPictures { groups: 3, codec, reordered, ..TestPictures::looping(10, 7) };
                let kinds = kinds(&pictures);
                assert_eq!(kinds.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7]);
                for group in &kinds {
                    for (index, picture) in group.iter().enumerate() {
                        assert_eq!(picture[0], UnitKind::Delimiter);
                        let slice = if index == 0 { UnitKind::KeySlice } else { UnitKind::Slice };
                        assert!(picture[1..].iter().all(|kind| *kind == slice), "{codec:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn reordered_pictures_are_shown_between_those_that_they_refer_to() {
        assert_eq!(decode_order(8, 2), [0, 3, 1, 2, 6, 4, 5, 7]);
        assert_eq!(decode_order(9, 2), [0, 3, 1, 2, 6, 4, 5, 8, 7]);
        assert_eq!(decode_order(4, 0), [0, 1, 2, 3]);
        assert_eq!(decode_order(1, 2), [0]);
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_end_a_unit() {
        let stream = [0, 0, 0, 1, 9, 16, 0, 0, 1, 7, 66, 0, 0, 0, 1, 8, 1];
        assert_eq!(nal_units(&stream), [&[9, 16][..], &[7, 66], &[8, 1]]);
    }
}
