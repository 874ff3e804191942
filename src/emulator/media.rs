//! The coded data of a fragment: pictures and sound, marked with where they belong, and pictures padded to the
//! fragment's size.

use std::sync::Arc;

use super::camera::{Camera, VideoSource};
use super::error::EmulatorError;
use super::script::{ScriptedFragment, SoundSpan};
use super::sound::{Sound, SoundCodec};
use super::video::{Picture, PictureCodec, Video};

/// The UUID in front of every mark; spells `kvs-export-frame`.
///
/// A mark is these 16 bytes, then in ASCII `stream|fragment number|frame index from 0|frames in the fragment`, counted
/// in decode order and for each track by itself. Before a picture's slices it is an SEI `user_data_unregistered`
/// (payload type 5), in AAC a data stream element, in G.711 it is the beginning of a block; where sound follows, a line feed ends it. It holds no zero byte, so NAL units
/// with it need no emulation prevention, and it can be found by searching for the UUID.
pub const FRAME_MARK_UUID: [u8; 16] = *b"kvs-export-frame";

const PAYLOAD_USER_DATA_UNREGISTERED: u8 = 5;
/// Ends the payload of a NAL unit: the stop bit and its alignment.
const TRAILING_BITS: u8 = 0x80;
/// In front of each NAL unit of a sample.
const LENGTH_PREFIX: u64 = 4;

/// What Matroska adds to the frames of a fragment: its headers and tags once, a block header for each frame.
const MATROSKA_PER_FRAGMENT: u64 = 900;
const MATROSKA_PER_FRAME: u64 = 12;

/// What a fragment's media is made of.
#[derive(Debug, Clone)]
pub(super) struct Coded {
    pub(super) video: Arc<Video>,
    pub(super) sound: Option<Arc<Sound>>,
}

impl Coded {
    /// What this fragment of a camera is made of.
    pub(super) fn of(camera: &Camera, fragment: &ScriptedFragment) -> Result<Self, EmulatorError> {
        let wrong = |problem: String| EmulatorError::Script { camera: camera.name.clone(), problem };
        let number = &fragment.number;
        let video = match camera.videos.get(fragment.video) {
            Some(source) => source.encoded()?,
            None => return Err(wrong(format!("fragment {number} is of video {}", fragment.video))),
        };
        let sound = match fragment.sound.map(|span| (span.sound, camera.sounds.get(span.sound))) {
            Some((_, Some(sound))) => Some(sound.encoded()?),
            Some((index, None)) => return Err(wrong(format!("fragment {number} has sound {index}"))),
            None => None,
        };
        Ok(Self { video, sound })
    }
}

/// Why the service makes no clip of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaProblem {
    /// The tracks have no codec private data.
    MissingCodecPrivateData,
    /// A codec that is not served, such as MJPEG, or no pictures at all.
    Unsupported,
}

/// Why the service makes no clip of a fragment, if it does not.
pub(super) fn problem(camera: &Camera, fragment: &ScriptedFragment) -> Option<MediaProblem> {
    let codec = match camera.videos.get(fragment.video)? {
        VideoSource::Refused(problem) => return Some(*problem),
        VideoSource::TestPictures(pictures) => pictures.codec,
        VideoSource::Encoded(video) => video.codec,
    };
    let sound = camera.sounds.get(fragment.sound?.sound)?.codec;
    let refused = match (codec, sound) {
        (_, SoundCodec::MuLaw) | (PictureCodec::H265, SoundCodec::ALaw) => true,
        (_, SoundCodec::Aac) | (PictureCodec::H264, SoundCodec::ALaw) => false,
    };
    refused.then_some(MediaProblem::Unsupported)
}

/// A frame of a fragment's pictures, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct Frame<'a> {
    codec: PictureCodec,
    picture: &'a Picture,
    mark: Vec<u8>,
    filler: u64,
    /// Its place in the order in which the fragment is shown.
    pub(super) shown: u32,
}

impl Frame<'_> {
    /// Bytes of the sample.
    pub(super) fn size(&self) -> u64 {
        unpadded_size(self.picture, &self.mark) + self.filler
    }

    /// Appends the sample: delimiter, mark, slices, filler, each behind its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (index, unit) in self.picture.units.iter().enumerate() {
            push_unit(out, unit);
            if index == 0 {
                push_unit(out, &self.mark);
            }
        }
        if let Some(fill) = self.filler.checked_sub(smallest_filler(self.codec)) {
            let header = self.codec.filler_header();
            out.extend_from_slice(&length_bytes(fill + header.len() as u64 + 1));
            out.extend_from_slice(header);
            out.resize(out.len() + usize::try_from(fill).unwrap_or(0), 0xFF);
            out.push(TRAILING_BITS);
        }
    }
}

/// Length prefix, header and trailing bits: no filler is smaller.
fn smallest_filler(codec: PictureCodec) -> u64 {
    LENGTH_PREFIX + codec.filler_header().len() as u64 + 1
}

fn push_unit(out: &mut Vec<u8>, unit: &[u8]) {
    out.extend_from_slice(&length_bytes(unit.len() as u64));
    out.extend_from_slice(unit);
}

fn length_bytes(length: u64) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn unpadded_size(picture: &Picture, mark: &[u8]) -> u64 {
    let units: u64 = picture.units.iter().map(|unit| unit.len() as u64 + LENGTH_PREFIX).sum();
    units + mark.len() as u64 + LENGTH_PREFIX
}

/// The mark that says which frame this is.
fn frame_mark(stream: &str, number: &str, index: u32, frames: u32) -> Vec<u8> {
    let text = format!("{stream}|{number}|{index}|{frames}");
    [&FRAME_MARK_UUID, text.as_bytes()].concat()
}

/// The NAL unit that says which picture this is.
fn picture_mark(codec: PictureCodec, mark: &[u8]) -> Vec<u8> {
    let mut size = mark.len();
    let mut unit = codec.supplemental_header().to_vec();
    unit.push(PAYLOAD_USER_DATA_UNREGISTERED);
    while size >= 255 {
        unit.push(255);
        size -= 255;
    }
    unit.push(u8::try_from(size).unwrap_or(0));
    unit.extend_from_slice(mark);
    unit.push(TRAILING_BITS);
    unit
}

/// The pictures that a fragment shows.
fn pictures<'a>(video: &'a Video, fragment: &ScriptedFragment) -> &'a [Picture] {
    let groups = video.groups.len().max(1) as u64;
    let group = usize::try_from(fragment.picture % groups).ok().and_then(|index| video.groups.get(index));
    let count = usize::try_from(fragment.frames).unwrap_or(usize::MAX);
    group.and_then(|pictures| pictures.get(..count)).unwrap_or_default()
}

/// The frames of a fragment's pictures in decode order, padded so that they, its sound and Matroska's overhead make up its
/// listed size.
///
/// Filler cannot be smaller than a few bytes: so many may be missing from the listed size.
pub(super) fn frames<'a>(coded: &'a Coded, stream: &str, fragment: &ScriptedFragment) -> Vec<Frame<'a>> {
    let picture_codec = coded.video.codec;
    let shown = pictures(&coded.video, fragment);
    let marked = (0..).zip(shown).map(|(index, picture)| {
        let mark = frame_mark(stream, fragment.number.as_str(), index, fragment.frames);
        // A shorter fragment leaves pictures out that would be shown between others.
        let before = shown.iter().filter(|other| other.shown < picture.shown).count();
        let place = u32::try_from(before).unwrap_or(u32::MAX);
        Frame {
            codec: picture_codec,
            picture,
            mark: picture_mark(picture_codec, &mark),
            filler: 0,
            shown: place,
        }
    });
    let mut frames: Vec<Frame<'a>> = marked.collect();
    let unpadded: u64 = frames.iter().map(Frame::size).sum();
    let sound: u64 = sound_frames(coded, stream, fragment).iter().map(|frame| frame.len() as u64).sum();
    let missing = fragment.size_bytes.saturating_sub(unpadded + sound + overhead(fragment));
    let smallest = smallest_filler(picture_codec);
    let share = missing / u64::from(fragment.frames.max(1));
    if share >= smallest {
        for frame in &mut frames {
            frame.filler = share;
        }
    }
    if let Some(first) = frames.first_mut() {
        let rest = missing - if share >= smallest { share * u64::from(fragment.frames) } else { 0 };
        let filler = first.filler + rest;
        first.filler = if filler >= smallest { filler } else { 0 };
    }
    frames
}

/// The frames of a fragment's sound.
pub(super) fn sound_frames(coded: &Coded, stream: &str, fragment: &ScriptedFragment) -> Vec<Vec<u8>> {
    let (Some(sound), Some(span)) = (&coded.sound, fragment.sound) else { return Vec::new() };
    let SoundSpan { index, frames, .. } = span;
    let marked = (0..frames).map(|frame| {
        // What follows could be digits.
        let mut mark = frame_mark(stream, fragment.number.as_str(), frame, frames);
        mark.push(b'\n');
        sound.frame(index + u64::from(frame), &mark)
    });
    marked.collect()
}

fn overhead(fragment: &ScriptedFragment) -> u64 {
    let frames = fragment.frames + fragment.sound.map_or(0, |span| span.frames);
    MATROSKA_PER_FRAGMENT + MATROSKA_PER_FRAME * u64::from(frames)
}

/// The smallest listed size that the fragment's unpadded frames fit in, or `None` if its video has too few.
pub(super) fn smallest_size(coded: &Coded, stream: &str, fragment: &ScriptedFragment) -> Option<u64> {
    let pictures = pictures(&coded.video, fragment);
    if u32::try_from(pictures.len()) != Ok(fragment.frames) || pictures.is_empty() {
        return None;
    }
    let mark = frame_mark(stream, fragment.number.as_str(), fragment.frames, fragment.frames);
    let mark = picture_mark(coded.video.codec, &mark);
    let frames: u64 = pictures.iter().map(|picture| unpadded_size(picture, &mark)).sum();
    let sound: u64 = sound_frames(coded, stream, fragment).iter().map(|frame| frame.len() as u64).sum();
    Some(frames + sound + overhead(fragment))
}

/// A size that group `picture` of a video fits in, whatever the fragment's number.
pub(super) fn natural_size(video: &Video, picture: usize, stream: &str) -> u64 {
    const LONGEST_NUMBER: usize = 128;
    let pictures = video.groups.get(picture).map(Vec::as_slice).unwrap_or_default();
    let frames = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
    let mark = picture_mark(video.codec, &frame_mark(stream, &"9".repeat(LONGEST_NUMBER), frames, frames));
    let coded: u64 = pictures.iter().map(|picture| unpadded_size(picture, &mark)).sum();
    coded + MATROSKA_PER_FRAGMENT + MATROSKA_PER_FRAME * u64::from(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::script::fragment_number;
    use crate::emulator::video::TestPictures;
    use crate::model::UtcMillis;

    fn fragment(frames: u32, size_bytes: u64) -> ScriptedFragment {
        ScriptedFragment {
            number: fragment_number(7),
            producer: UtcMillis::new(0),
            server: UtcMillis::new(0),
            length_ms: 1_000,
            size_bytes,
            frames,
            frame_rate: 10,
            video: 0,
            picture: 7,
            sound: None,
            session: 0,
        }
    }

    #[test]
    fn frames_fill_the_listed_size_to_within_the_smallest_filler() {
        let video = TestPictures::looping(10, 10).encoded().expect("ffmpeg is installed");
        let video = Coded { video, sound: None };
        let smallest = smallest_size(&video, "gate", &fragment(10, 0)).expect("enough frames");
        for more in (0..80).chain([1_000, 123_457, 4_000_000]) {
            let fragment = fragment(10, smallest + more);
            let mut written = Vec::new();
            let frames = frames(&video, "gate", &fragment);
            for frame in &frames {
                frame.write(&mut written);
            }
            assert_eq!(written.len() as u64, frames.iter().map(Frame::size).sum::<u64>());
            let listed = written.len() as u64 + overhead(&fragment);
            // The mark of the first nine frames is a digit shorter than the one that `smallest` counts with.
            assert!((fragment.size_bytes - 20..=fragment.size_bytes).contains(&listed), "{more}");
            if more >= 80 {
                assert_eq!(listed, fragment.size_bytes);
            }
        }
    }

    #[test]
    fn marks_hold_nothing_that_needs_emulation_prevention() {
        for stream in ["x".to_owned(), "n".repeat(256), "n".repeat(189), "n".repeat(188)] {
            let mark = frame_mark(&stream, &"9".repeat(47), 11, 20);
            let mark = picture_mark(PictureCodec::H264, &mark);
            assert!(!mark.windows(3).any(|bytes| bytes[0] == 0 && bytes[1] == 0 && bytes[2] <= 3));
            let text = format!("{stream}|{}|11|20", "9".repeat(47));
            assert!(mark.ends_with(&[text.as_bytes(), &[TRAILING_BITS]].concat()));
            let coded: usize = mark[2..].iter().take_while(|byte| **byte == 255).count() * 255;
            let last = usize::from(mark[2..][coded / 255]);
            assert_eq!(coded + last, 16 + text.len());
        }
    }
}
