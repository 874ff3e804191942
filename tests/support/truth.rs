//! What an output must hold, worked out from the emulator's script in the plainest way, and the comparison.

use std::collections::HashMap;
use std::fmt;

use kvs_export::emulator::{Camera, ScriptedFragment};
use kvs_export::model::{Edges, TimeRange, Timeline};

use super::oracle::Frame;
use super::scene::Job;

/// How far a frame may be from where it belongs.
const TOLERANCE_MS: f64 = 1.0;

/// A frame that has to be in the output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpectedFrame {
    /// The number of its fragment.
    pub(crate) fragment: String,
    /// Its place in the fragment, from 0.
    pub(crate) index: u32,
    /// How many frames the fragment has.
    pub(crate) frames: u32,
    /// When it is to be shown, in milliseconds of the file.
    pub(crate) at_ms: f64,
}

/// The fragments that belong to a job, in order.
pub(crate) fn fragments(camera: &Camera, job: &Job) -> Vec<ScriptedFragment> {
    let start = |fragment: &ScriptedFragment| fragment.start(job.timestamps);
    // A fragment lasts 20 s at most: nothing that began earlier can reach into the range.
    let around = TimeRange::new(job.range.start() - 20_000, job.range.end() + 20_000).expect("a range");
    let all = camera.fragments(around, job.timestamps);
    let tolerance = tolerance_ms(&all);
    let belongs = |index: usize| {
        let fragment = &all[index];
        if job.range.contains(start(fragment)) {
            return true;
        }
        let mut end = start(fragment) + i64::from(fragment.length_ms);
        if let Some(next) = all.get(index + 1).filter(|next| silence_ms(fragment, next) <= tolerance) {
            // No gap: its media goes on until the next one begins.
            end = end.max(start(next));
        }
        job.edges == Edges::Cover && start(fragment) < job.range.start() && end > job.range.start()
    };
    (0..all.len()).filter(|index| belongs(*index)).map(|index| all[index].clone()).collect()
}

/// Every frame of these fragments with its time in the file.
pub(crate) fn frames(fragments: &[ScriptedFragment], timeline: Timeline) -> Vec<ExpectedFrame> {
    let tolerance = tolerance_ms(fragments);
    let mut frames = Vec::new();
    let mut at_ms = 0.0;
    for (index, fragment) in fragments.iter().enumerate() {
        if let Some(before) = index.checked_sub(1).map(|before| &fragments[before]) {
            let closed = timeline == Timeline::Compact && silence_ms(before, fragment) > tolerance;
            at_ms += if closed {
                frame_ms(before) * f64::from(before.frames)
            } else {
                milliseconds(fragment.producer - before.producer)
            };
        }
        frames.extend((0..fragment.frames).map(|frame| ExpectedFrame {
            fragment: fragment.number.to_string(),
            index: frame,
            frames: fragment.frames,
            at_ms: at_ms + f64::from(frame) * frame_ms(fragment),
        }));
    }
    frames
}

/// The larger of 500 ms and half the usual length: time between fragments that is no gap yet.
fn tolerance_ms(fragments: &[ScriptedFragment]) -> i64 {
    let mut lengths: Vec<i64> = fragments.iter().map(|fragment| i64::from(fragment.length_ms)).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).map_or(500, |usual| (usual / 2).max(500))
}

/// Milliseconds between the end of one fragment's media and the start of the next, by the camera's clock.
fn silence_ms(before: &ScriptedFragment, after: &ScriptedFragment) -> i64 {
    let media_ms = i64::from(before.frames) * 1000 / i64::from(before.frame_rate);
    after.producer - before.producer - i64::from(before.length_ms).max(media_ms)
}

fn frame_ms(fragment: &ScriptedFragment) -> f64 {
    1000.0 / f64::from(fragment.frame_rate)
}

fn milliseconds(ms: i64) -> f64 {
    f64::from(i32::try_from(ms).expect("less than 24 days"))
}

/// How an output differs from what it must be.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Frames that are not there.
    pub(crate) lost: Vec<(String, u32)>,
    /// Frames that are there more than once.
    pub(crate) doubled: Vec<(String, u32)>,
    /// Frames that belong elsewhere: of another stream, outside the range, or wrongly counted.
    pub(crate) strange: Vec<Frame>,
    /// Frames that stand before one that belongs before them.
    pub(crate) out_of_order: usize,
    /// First frames of a fragment that the file calls no key frames, and others that it does.
    pub(crate) wrong_keys: usize,
    /// How far the worst frame is from its time, in milliseconds.
    pub(crate) worst_ms: f64,
}

impl Difference {
    /// Compares the frames that were found with those that have to be there.
    pub(crate) fn between(found: &[Frame], expected: &[ExpectedFrame], stream: &str) -> Self {
        let places: HashMap<(&str, u32), usize> = expected
            .iter()
            .enumerate()
            .map(|(place, frame)| ((frame.fragment.as_str(), frame.index), place))
            .collect();
        let mut counts = vec![0_u32; expected.len()];
        let mut difference = Self::default();
        let mut last = None;
        for frame in found {
            let place = places.get(&(frame.fragment.as_str(), frame.index)).copied();
            let place = place.filter(|at| frame.stream == stream && frame.frames == expected[*at].frames);
            let Some(place) = place else {
                difference.strange.push(frame.clone());
                continue;
            };
            counts[place] += 1;
            difference.out_of_order += usize::from(last.is_some_and(|last| place <= last));
            difference.wrong_keys += usize::from(frame.is_key != (frame.index == 0));
            difference.worst_ms = difference.worst_ms.max((frame.pts_ms - expected[place].at_ms).abs());
            last = Some(place);
        }
        for (frame, count) in expected.iter().zip(counts) {
            let name = || (frame.fragment.clone(), frame.index);
            match count {
                0 => difference.lost.push(name()),
                1 => {}
                _ => difference.doubled.push(name()),
            }
        }
        difference
    }

    /// Whether there is none.
    pub(crate) fn is_none(&self) -> bool {
        self.lost.is_empty()
            && self.doubled.is_empty()
            && self.strange.is_empty()
            && self.out_of_order == 0
            && self.wrong_keys == 0
            && self.worst_ms <= TOLERANCE_MS
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lost (first {:?}), {} doubled (first {:?}), {} strange (first {:?}), {} out of order, {} wrong key \
             frames, worst time {:.3} ms off",
            self.lost.len(),
            self.lost.first(),
            self.doubled.len(),
            self.doubled.first(),
            self.strange.len(),
            self.strange.first(),
            self.out_of_order,
            self.wrong_keys,
            self.worst_ms
        )
    }
}
