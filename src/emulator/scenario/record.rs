//! The records of a scenario file: what a camera did, step by step.

use serde::Deserialize;

use super::Instant;
use crate::emulator::camera::VideoSource;
use crate::emulator::hash;
use crate::emulator::media::MediaProblem;
use crate::emulator::recording::Recording;
use crate::emulator::script::{ScriptedFragment, fragment_number};
use crate::emulator::sound::{SoundCodec, TestSound};
use crate::emulator::video::{PictureCodec, TestPictures};
use crate::model::UtcMillis;

/// One step. Clocks are set and time passes first, then what was said to change changes, then fragments are recorded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    // What happens once.
    pause_ms: Option<i64>,
    producer_ms: Option<i64>,
    producer_at: Option<Instant>,
    server_ms: Option<i64>,
    #[serde(default)]
    fragments: usize,
    /// How often all of this happens.
    repeat: Option<usize>,
    burst_ms: Option<i64>,
    #[serde(default)]
    reversed: bool,
    // What stays until it is changed.
    length_ms: Option<Lengths>,
    listed_length_ms: Option<ListedLength>,
    delay_ms: Option<i64>,
    delay_jitter_ms: Option<u32>,
    producer_jitter_ms: Option<u32>,
    drift_ppm: Option<i32>,
    frame_rate: Option<u32>,
    bytes_per_second: Option<u64>,
    picture: Option<Picture>,
    reordered: Option<bool>,
    size: Option<(u16, u16)>,
    sound: Option<Sound>,
    sound_rate: Option<u32>,
}

/// One length, or several that take turns.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Lengths {
    One(u32),
    Turns(Vec<u32>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum ListedLength {
    Ms(u32),
    Word(ListedWord),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ListedWord {
    Real,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Picture {
    #[default]
    H264,
    H265,
    Mjpeg,
    WithoutCodecPrivateData,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Sound {
    None,
    Aac,
    ALaw,
    MuLaw,
}

/// A video of a camera: fragments that differ in any of these differ in codec private data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pictures {
    picture: Picture,
    reordered: bool,
    size: (u16, u16),
    frame_rate: u32,
}

/// A stream's footage in the making.
#[derive(Debug)]
pub(super) struct Shooting {
    start: UtcMillis,
    recording: Recording,
    lengths: Vec<u32>,
    recorded: usize,
    pictures: Pictures,
    videos: Vec<Pictures>,
    sounds: Vec<TestSound>,
    sound_rate: Option<u32>,
    delay_jitter_ms: u32,
    producer_jitter_ms: u32,
    /// By how many millionths the camera's clock is too fast, and since when.
    drift: (i64, UtcMillis),
    fragments: Vec<ScriptedFragment>,
}

impl Shooting {
    pub(super) fn at(start: UtcMillis) -> Self {
        Self {
            start,
            recording: Recording::at(start),
            lengths: Vec::new(),
            recorded: 0,
            pictures: Pictures { picture: Picture::H264, reordered: false, size: (320, 180), frame_rate: 10 },
            videos: Vec::new(),
            sounds: Vec::new(),
            sound_rate: None,
            delay_jitter_ms: 0,
            producer_jitter_ms: 0,
            drift: (0, start),
            fragments: Vec::new(),
        }
    }

    /// Carries out one step, as often as it says.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), String> {
        (0..record.repeat.unwrap_or(1)).try_for_each(|_| self.record_once(record))
    }

    fn record_once(&mut self, record: &Record) -> Result<(), String> {
        if record.producer_ms.is_some() && record.producer_at.is_some() {
            return Err("`producer_ms` and `producer_at` set the same clock".to_owned());
        }
        if record.sound_rate.is_some() && record.sound.is_none() {
            return Err("`sound_rate` needs `sound` beside it".to_owned());
        }
        self.pass_time(record);
        self.change(record);
        let video = self.video();
        let frame_rate = self.pictures.frame_rate;
        self.step(|recording| recording.video(video).frame_rate(frame_rate));
        for _ in 0..record.fragments {
            let turn = self.recorded.checked_rem(self.lengths.len());
            let Some(length) = turn.and_then(|turn| self.lengths.get(turn)).copied() else {
                return Err("`length_ms` is missing".to_owned());
            };
            self.step(|recording| recording.fragments(1, length));
            self.recorded += 1;
        }
        let mut new = self.recording.fragments_after(self.fragments.len());
        for fragment in &mut new {
            self.shift(fragment);
        }
        if record.reversed {
            receive_last_first(&mut new);
        }
        if let Some(apart_ms) = record.burst_ms {
            let mut at = self.recording.server();
            for fragment in &mut new {
                fragment.server = at;
                at = at + apart_ms;
            }
            self.step(|recording| recording.ingested_at(at));
        }
        self.fragments.append(&mut new);
        Ok(())
    }

    fn step(&mut self, step: impl FnOnce(Recording) -> Recording) {
        let recording = std::mem::replace(&mut self.recording, Recording::at(self.start));
        self.recording = step(recording);
    }

    /// What happens before anything is recorded.
    fn pass_time(&mut self, record: &Record) {
        if let Some(ms) = record.pause_ms {
            self.step(|recording| recording.gap_ms(ms));
        }
        let producer = record.producer_at.map(|at| at.0).or(record.producer_ms.map(|ms| self.start + ms));
        if let Some(producer) = producer {
            self.step(|recording| recording.restart_at(producer));
            self.drift.1 = producer;
        }
        if let Some(ms) = record.server_ms {
            let server = self.start + ms;
            self.step(|recording| recording.ingested_at(server));
        }
    }

    /// What stays until it is changed again.
    fn change(&mut self, record: &Record) {
        match &record.length_ms {
            Some(Lengths::One(length)) => self.lengths = vec![*length],
            Some(Lengths::Turns(lengths)) => self.lengths.clone_from(lengths),
            None => {}
        }
        if let Some(listed) = record.listed_length_ms {
            let listed = match listed {
                ListedLength::Ms(ms) => Some(ms),
                ListedLength::Word(ListedWord::Real) => None,
            };
            self.step(|recording| recording.listed_length_ms(listed));
        }
        if let Some(delay_ms) = record.delay_ms {
            self.step(|recording| recording.server_delay_ms(delay_ms));
        }
        if let Some(rate) = record.bytes_per_second {
            self.step(|recording| recording.bytes_per_second(rate));
        }
        if let Some(per_million) = record.drift_ppm {
            self.drift = (per_million.into(), self.recording.producer());
        }
        self.delay_jitter_ms = record.delay_jitter_ms.unwrap_or(self.delay_jitter_ms);
        self.producer_jitter_ms = record.producer_jitter_ms.unwrap_or(self.producer_jitter_ms);
        let now = self.pictures;
        self.pictures = Pictures {
            picture: record.picture.unwrap_or(now.picture),
            reordered: record.reordered.unwrap_or(now.reordered),
            size: record.size.unwrap_or(now.size),
            frame_rate: record.frame_rate.unwrap_or(now.frame_rate).max(1),
        };
        self.sound_rate = record.sound_rate.or(self.sound_rate);
        if let Some(sound) = record.sound {
            let codec = match sound {
                Sound::None => None,
                Sound::Aac => Some(SoundCodec::Aac),
                Sound::ALaw => Some(SoundCodec::ALaw),
                Sound::MuLaw => Some(SoundCodec::MuLaw),
            };
            let kind = codec.map(|codec| {
                let usual = if codec == SoundCodec::Aac { 48_000 } else { 8_000 };
                TestSound { codec, sample_rate: self.sound_rate.unwrap_or(usual) }
            });
            let kind = kind.map(|kind| (place_of(&mut self.sounds, kind), kind));
            self.step(|recording| recording.sound(kind));
        }
    }

    /// The video of the pictures that are being taken.
    fn video(&mut self) -> usize {
        place_of(&mut self.videos, self.pictures)
    }

    /// Moves a fragment's clocks by jitter and drift.
    fn shift(&self, fragment: &mut ScriptedFragment) {
        let number = fragment.number.as_str();
        let within = |clock: &str, ms: u32| {
            let ms = hash::of(&(clock, number)) % (u64::from(ms) + 1);
            i64::try_from(ms).unwrap_or(0)
        };
        let (per_million, since) = self.drift;
        let drift_ms = ((fragment.producer - since) * per_million).div_euclid(1_000_000);
        let jitter_ms = within("producer", 2 * self.producer_jitter_ms) - i64::from(self.producer_jitter_ms);
        fragment.server = fragment.server + within("server", self.delay_jitter_ms);
        fragment.producer = fragment.producer + drift_ms + jitter_ms;
    }

    /// The fragments, the videos and the sounds; fragments are numbered anew if they are `by_server_time`.
    pub(super) fn finish(
        self,
        by_server_time: bool,
    ) -> (Vec<ScriptedFragment>, Vec<VideoSource>, Vec<TestSound>) {
        let mut fragments = self.fragments;
        if by_server_time {
            fragments.sort_by_key(|fragment| fragment.server);
            for (index, fragment) in (0..).zip(&mut fragments) {
                fragment.number = fragment_number(index);
            }
        }
        let source = |(video, pictures): (usize, &Pictures)| {
            let of_video = fragments.iter().filter(|fragment| fragment.video == video);
            let (width, height) = pictures.size;
            let codec = match pictures.picture {
                Picture::H264 => PictureCodec::H264,
                Picture::H265 => PictureCodec::H265,
                Picture::Mjpeg => return VideoSource::Refused(MediaProblem::Unsupported),
                Picture::WithoutCodecPrivateData => {
                    return VideoSource::Refused(MediaProblem::MissingCodecPrivateData);
                }
            };
            let frames = of_video.map(|fragment| fragment.frames).max().unwrap_or(1);
            VideoSource::TestPictures(TestPictures {
                width,
                height,
                codec,
                reordered: pictures.reordered,
                ..TestPictures::looping(pictures.frame_rate, frames)
            })
        };
        let videos = self.videos.iter().enumerate().map(source).collect();
        (fragments, videos, self.sounds)
    }
}

/// The place of an item in a list, which it is added to if it is not in it.
fn place_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    if let Some(place) = list.iter().position(|other| *other == item) {
        return place;
    }
    list.push(item);
    list.len() - 1
}

/// Gives the last fragment the first number and server timestamp, and so on: a camera that sends its latest first.
fn receive_last_first(fragments: &mut [ScriptedFragment]) {
    let received: Vec<_> = fragments.iter().map(|of| (of.number.clone(), of.server)).collect();
    for (fragment, (number, server)) in fragments.iter_mut().rev().zip(received) {
        (fragment.number, fragment.server) = (number, server);
    }
}
