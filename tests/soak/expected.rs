//! What an export must hold, worked out from the emulator's script in the plainest way: fragments, parts, gaps.

use std::collections::BTreeSet;

use kvs_export::emulator::{Camera, ScriptedFragment};
use kvs_export::model::{Edges, TimeRange, Timeline, TimestampKind, UtcMillis};

use crate::support::scene::Job;
use crate::support::truth::{self, ExpectedFrame};

/// The fragments of an export in the order of its output, and those that a rule leaves out.
pub(crate) struct Content {
    /// What belongs in.
    pub(crate) kept: Vec<ScriptedFragment>,
    /// Equal producer timestamps, of which GetClip gives the oldest ingested.
    pub(crate) dropped: BTreeSet<String>,
    /// How much time between two of them is no gap.
    tolerance_ms: i64,
}

impl Content {
    /// The content of an export, refused fragments included.
    pub(crate) fn of(camera: &Camera, job: &Job) -> Self {
        let mut kept = truth::fragments(camera, job);
        let mut dropped = BTreeSet::new();
        if job.timestamps == TimestampKind::Producer {
            // In order of time, then of ingestion.
            kept.dedup_by(|later, earlier| {
                let is_equal = later.producer == earlier.producer;
                if is_equal {
                    dropped.insert(later.number.to_string());
                }
                is_equal
            });
        }
        // Sessions that overlap follow each other in order of ingestion; otherwise that is the order of time.
        kept.sort_by(|a, b| a.number.cmp(&b.number));
        let tolerance_ms = (median(kept.iter().map(|of| i64::from(of.length_ms))).unwrap_or(0) / 2).max(500);
        Self { kept, dropped, tolerance_ms }
    }

    /// The frames of each part without the fragments named in `missing`.
    pub(crate) fn parts(&self, job: &Job, missing: &BTreeSet<String>) -> Vec<Vec<ExpectedFrame>> {
        let mut parts: Vec<Vec<ExpectedFrame>> = Vec::new();
        let mut before: Option<(&ScriptedFragment, f64)> = None;
        for fragment in self.kept.iter().filter(|of| !missing.contains(&of.number.to_string())) {
            let follows =
                before.and_then(|(before, at_ms)| Some((before, at_ms + self.step(job, before, fragment)?)));
            let at_ms = follows.map_or(0.0, |(_, at_ms)| at_ms);
            let frames = (0..fragment.frames).map(|index| ExpectedFrame {
                fragment: fragment.number.to_string(),
                index,
                frames: fragment.frames,
                at_ms: at_ms + f64::from(index) * 1000.0 / f64::from(fragment.frame_rate),
            });
            match parts.last_mut() {
                Some(part) if follows.is_some() => part.extend(frames),
                _ => parts.push(frames.collect()),
            }
            before = Some((fragment, at_ms));
        }
        parts
    }

    /// From the start of one fragment to the start of the next in the file; `None`: the next begins a part.
    fn step(&self, job: &Job, before: &ScriptedFragment, after: &ScriptedFragment) -> Option<f64> {
        if before.video != after.video {
            return None;
        }
        let distance_ms = after.producer - before.producer;
        let media_ms = f64::from(before.frames) * 1000.0 / f64::from(before.frame_rate);
        let silence_ms = distance_ms - i64::from(before.length_ms);
        let overlaps = silence_ms < -500;
        match job.timeline {
            Timeline::Wallclock if overlaps => None,
            Timeline::Compact if overlaps || silence_ms > self.tolerance_ms => Some(media_ms),
            _ => Some(f64::from(i32::try_from(distance_ms).expect("less than 24 days"))),
        }
    }

    /// The gaps in the range: between fragments on the camera's clock, at the range's ends on the selecting one.
    pub(crate) fn gaps(&self, job: &Job) -> Vec<(UtcMillis, UtcMillis)> {
        let (from, to) = (job.range.start(), job.range.end());
        let starts = self.kept.iter().map(|of| of.start(job.timestamps));
        let Some(first) = starts.min() else {
            return vec![(from, to)];
        };
        let ends = self.kept.iter().map(|of| of.start(job.timestamps) + i64::from(of.length_ms));
        let last = ends.max().unwrap_or(first);
        let is_gap = |from: UtcMillis, to: UtcMillis| to - from > self.tolerance_ms;
        let ahead = match job.timestamps {
            TimestampKind::Server => median(self.kept.iter().map(|of| of.producer - of.server)).unwrap_or(0),
            TimestampKind::Producer => 0,
        };
        let mut gaps = Vec::new();
        if is_gap(from, first) {
            gaps.push((from, first));
        }
        let mut by_camera: Vec<&ScriptedFragment> = self.kept.iter().collect();
        by_camera.sort_by_key(|of| of.producer);
        let mut covered = by_camera[0].producer;
        for fragment in by_camera {
            let (begins, ends) = (covered.max(from + ahead), fragment.producer.min(to + ahead));
            if is_gap(covered, fragment.producer) && is_gap(begins, ends) {
                gaps.push((begins, ends));
            }
            covered = covered.max(fragment.producer + i64::from(fragment.length_ms));
        }
        if is_gap(last, to) {
            gaps.push((last, to));
        }
        gaps
    }
}

/// The middle one, the lower of two.
fn median(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// A range about footage: its ends anywhere, on a start or beside it, or on the edge of an hour.
pub(crate) fn random_range(
    rng: &mut fastrand::Rng,
    camera: &Camera,
    around: TimeRange,
    edge: UtcMillis,
) -> TimeRange {
    let kind = if rng.bool() { TimestampKind::Server } else { TimestampKind::Producer };
    let fragments = camera.fragments(around, kind);
    let mut instant = || match rng.u8(0..8) {
        0 => edge,
        1..4 if !fragments.is_empty() => {
            fragments[rng.usize(0..fragments.len())].start(kind) + rng.i64(-1..=1)
        }
        _ => around.start() + rng.i64(-30_000..around.end() - around.start() + 30_000),
    };
    let (one, other) = (instant(), instant());
    let (from, to) = (one.min(other), one.max(other));
    TimeRange::new(from, to).unwrap_or_else(|| TimeRange::new(from, from + 30_000).expect("a range"))
}

/// Whether a covering range could be reached into by fragments of two sessions: which of them then belongs to it is
/// no question of completeness.
pub(crate) fn edges(rng: &mut fastrand::Rng, replays: bool) -> Edges {
    if replays || rng.bool() { Edges::Inside } else { Edges::Cover }
}
