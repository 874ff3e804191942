//! What an output must hold, worked out from the emulator's script in the plainest way, and the comparison.

use std::collections::HashMap;
use std::fmt;

use kvs_export::emulator::{Camera, ScriptedFragment};
use kvs_export::model::{Edges, TimeRange, Timeline};

use super::oracle::Frame;
use super::scene::Job;

/// How far a frame may be from where it belongs.
const TOLERANCE_MS: f64 = 1.0;

/// No fragment is longer.
const LONGEST_FRAGMENT_MS: i64 = 20_000;

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

/// The fragments that belong to a job, in order of the clock that selects, then of ingestion.
pub(crate) fn fragments(camera: &Camera, job: &Job) -> Vec<ScriptedFragment> {
    let start = |fragment: &ScriptedFragment| fragment.start(job.timestamps);
    // Nothing that began earlier can reach into the range.
    let around =
        TimeRange::new(job.range.start() - LONGEST_FRAGMENT_MS, job.range.end() + LONGEST_FRAGMENT_MS);
    let all = camera.fragments(around.expect("a range"), job.timestamps);
    let tolerance = tolerance_ms(&all);
    let from = job.range.start();
    let reaches_in = |index: usize| {
        let fragment = &all[index];
        if start(fragment) + i64::from(fragment.length_ms) > from {
            return true;
        }
        // No gap until its session goes on: its media lasts until then.
        let next = all[index + 1..].iter().find(|next| next.session == fragment.session);
        next.is_some_and(|next| silence_ms(fragment, next) <= tolerance && start(next) > from)
    };
    let belongs = |index: usize| {
        job.range.contains(start(&all[index]))
            || (job.edges == Edges::Cover && start(&all[index]) < from && reaches_in(index))
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
pub(crate) fn tolerance_ms(fragments: &[ScriptedFragment]) -> i64 {
    (usual_length_ms(fragments) / 2).max(500)
}

/// The usual length as listed, or the usual distance of starts where no length is listed.
pub(crate) fn usual_length_ms(fragments: &[ScriptedFragment]) -> i64 {
    let listed = fragments.iter().map(|of| i64::from(of.length_ms)).filter(|length| *length > 0);
    let distances = fragments.windows(2).map(|pair| pair[1].producer - pair[0].producer);
    let distances = distances.filter(|ms| (1..=LONGEST_FRAGMENT_MS).contains(ms));
    median(listed).or_else(|| median(distances)).unwrap_or(0)
}

/// The middle one, the lower of two.
pub(crate) fn median(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// Milliseconds between the end of one fragment's media and the start of the next, by the camera's clock.
fn silence_ms(before: &ScriptedFragment, after: &ScriptedFragment) -> i64 {
    after.producer - before.producer - i64::from(before.length_ms).max(pictures_ms(before))
}

/// How long a fragment's pictures last.
pub(crate) fn pictures_ms(fragment: &ScriptedFragment) -> i64 {
    i64::from(fragment.frames) * 1000 / i64::from(fragment.frame_rate)
}

fn frame_ms(fragment: &ScriptedFragment) -> f64 {
    1000.0 / f64::from(fragment.frame_rate)
}

/// The same as a fraction can be counted with.
#[expect(clippy::cast_precision_loss, reason = "centuries in milliseconds are far below 2^52")]
pub(crate) fn milliseconds(ms: i64) -> f64 {
    ms as f64
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
