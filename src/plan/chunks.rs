//! One window's fragments → the chunks that fetch each of them exactly once.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::coverage::Survey;
use super::reckoning::MediaClock;
use super::session::{Sessions, Span, overlap, slack_ms};
use crate::model::{Edges, Fragment, GapTolerance, RequestBounds, TimeRange, TimestampKind, UtcMillis};

/// The most fragments that a clip can hold (KVS.md, "Calls": the service stops there without a word).
pub const MAX_CLIP_FRAGMENTS: usize = 200;

/// The most bytes, as listed, to ask of one clip: 15 % below the service's silent limit, which counts other bytes.
pub const MAX_CLIP_BYTES: u64 = 85_000_000;

/// Starts closer than this, in milliseconds, are never told apart by a request's bounds.
const INSEPARABLE_MS: i64 = 4;

/// How far a request's bound may lie from the fragment it is to select, in milliseconds.
const MAX_BOUND_MS: i64 = 500;

/// Into how many clips an export of one window is cut where fewer could hold it: as many as requests are in flight by
/// default, so that a short export alone does not leave most of them idle.
///
/// All else is cut by the service's limits alone. The service takes some 300 ms before the first byte of every clip,
/// and a full clip takes about 4 s: each clip more than needed costs a run of many exports 300 ms of one connection,
/// while the last full clip of a long export keeps the others waiting for seconds, once.
const CLIPS_OF_SHORT_EXPORT: usize = 8;

/// The fewest fragments worth a request of their own for that reason: at 2 s and 2 Mbit/s about a second's transfer,
/// so that a run of nothing but short exports takes a fifth longer by it at most.
const LEAST_CLIP_FRAGMENTS: usize = 50;

/// The rule by which a fragment with the producer timestamp of an older one is dropped.
pub const DROP_EQUAL_PRODUCER_TIMESTAMP: &str = "equal-producer-timestamp-oldest-ingested-kept";

/// What a window is planned for.
#[derive(Debug, Clone, Copy)]
pub struct WindowQuery {
    /// The window; one of [`super::windows`].
    pub window: TimeRange,
    /// The export's range.
    pub range: TimeRange,
    /// The clock that selects and orders.
    pub timestamps: TimestampKind,
    /// Which fragments at the range's start belong to it.
    pub edges: Edges,
    /// How much time between two fragments is still no gap.
    pub gap_tolerance: GapTolerance,
}

/// A fragment that is listed in the range but not exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedFragment {
    /// The fragment.
    pub fragment: Fragment,
    /// The rule that drops it.
    pub rule: String,
}

/// One request: consecutive fragments of a window and the bounds that select exactly them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedChunk {
    /// Index of its first fragment in the window; of a fixed window its place, which only orders.
    pub first: usize,
    /// How many fragments it has, at least 1; 0 of a fixed window, where they are not known.
    pub count: usize,
    /// What to ask for.
    pub bounds: RequestBounds,
    /// The sum of the fragments' listed sizes.
    pub bytes: u64,
}

/// A planned window: immutable from here on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedWindow {
    /// The fragments it owns, ordered by selecting clock and number.
    pub fragments: Vec<Fragment>,
    /// Fragments it would own but for a rule.
    pub dropped: Vec<DroppedFragment>,
    /// Chunks that tile `fragments`.
    pub chunks: Vec<PlannedChunk>,
}

/// Plans a window from everything that [`super::list_bounds`] of it lists, in any order.
///
/// Windows planned from the same archive own disjoint fragments that together are the export's. Fragments less
/// than 4 ms apart go to one window and one chunk; only the range's own edges separate exactly.
pub fn plan_window(query: &WindowQuery, mut listed: Vec<Fragment>) -> PlannedWindow {
    let start = |fragment: &Fragment| fragment.start(query.timestamps);
    listed.sort_by(|a, b| start(a).cmp(&start(b)).then_with(|| a.number.cmp(&b.number)));
    // A page that was asked for twice lists its fragments twice.
    listed.dedup_by(|a, b| a.number == b.number);

    let mut survey = Survey::default();
    for fragment in &listed {
        survey.add(fragment);
    }
    let context = Context::new(&listed, query, &survey);

    let mut planned = PlannedWindow::default();
    let mut owned = Vec::new();
    for unit in units(query, &context) {
        if !query.window.contains(context.start(unit[0])) {
            continue;
        }
        let mut kept: Vec<usize> = Vec::new();
        for index in unit {
            let fragment = &listed[index];
            // The listing is in order of ingestion where timestamps are equal: the first is the oldest.
            let equal = kept.last().is_some_and(|kept| listed[*kept].producer == fragment.producer);
            if equal && query.timestamps == TimestampKind::Producer {
                let rule = DROP_EQUAL_PRODUCER_TIMESTAMP.to_owned();
                planned.dropped.push(DroppedFragment { fragment: fragment.clone(), rule });
            } else {
                kept.push(index);
            }
        }
        owned.push(kept);
    }
    // The first window of a covering export begins before its range.
    let is_whole_export =
        query.window.start() <= query.range.start() && query.window.end() == query.range.end();
    planned.chunks = cut(&context, &owned, is_whole_export);
    planned.fragments = owned.into_iter().flatten().map(|index| listed[index].clone()).collect();
    planned
}

/// Replaces a chunk by two halves, or gives `None` where its fragments cannot be told apart.
///
/// `fragments` are the chunk's own; the halves' outer bounds are the chunk's.
pub fn split_chunk(
    chunk: &PlannedChunk,
    fragments: &[Fragment],
    timestamps: TimestampKind,
) -> Option<[PlannedChunk; 2]> {
    let start = |index: usize| fragments[index].start(timestamps);
    let middle = fragments.len() / 2;
    let at = (1..fragments.len())
        .filter(|at| start(*at) - start(at - 1) >= INSEPARABLE_MS)
        .min_by_key(|at| at.abs_diff(middle))?;
    let (before, after) = (start(at - 1), start(at));
    let half = |range: std::ops::Range<usize>, bounds| PlannedChunk {
        first: chunk.first + range.start,
        count: range.len(),
        bounds,
        bytes: fragments[range].iter().map(|fragment| fragment.size_bytes).sum(),
    };
    Some([
        half(0..at, RequestBounds { start: chunk.bounds.start, end: last_instant(before, Some(after)) }),
        half(
            at..fragments.len(),
            RequestBounds { start: first_instant(Some(before), after), end: chunk.bounds.end },
        ),
    ])
}

/// The first instant that selects `start` but not `before`.
fn first_instant(before: Option<UtcMillis>, start: UtcMillis) -> UtcMillis {
    start - before.map_or(MAX_BOUND_MS, |before| ((start - before) / 2).min(MAX_BOUND_MS))
}

/// The last instant that selects `start` but not `after`.
fn last_instant(start: UtcMillis, after: Option<UtcMillis>) -> UtcMillis {
    start + after.map_or(MAX_BOUND_MS, |after| ((after - start) / 2).min(MAX_BOUND_MS))
}

/// Everything listed around a window, with what was found out about it.
struct Context<'a> {
    listed: &'a [Fragment],
    timestamps: TimestampKind,
    /// When each listed fragment begins on the media clock.
    media: Vec<UtcMillis>,
    tolerance_ms: i64,
    /// How long a fragment lasts whose length is listed as 0.
    usual_length_ms: u32,
    /// Session of each listed fragment.
    sessions: Vec<usize>,
    /// Whether each overlaps a fragment of another session.
    overlapped: Vec<bool>,
}

impl<'a> Context<'a> {
    fn new(listed: &'a [Fragment], query: &WindowQuery, survey: &Survey) -> Self {
        let timestamps = query.timestamps;
        let Ok(reckoning) = survey.reckon(query.gap_tolerance, |add| {
            listed.iter().for_each(add);
            Ok::<_, Infallible>(())
        });
        let mut clock = MediaClock::new(survey.media_clock(), reckoning.as_ref());
        let media: Vec<UtcMillis> = listed.iter().map(|fragment| clock.start(fragment)).collect();
        let span = |index: usize| Span {
            first_number: &listed[index].number,
            last_number: &listed[index].number,
            start: media[index],
            end: media[index] + i64::from(listed[index].length_ms),
            slack_ms: slack_ms(listed[index].length_ms),
        };
        let tolerance_ms = survey.tolerance_ms(query.gap_tolerance);
        let mut assigner = Sessions::default();
        let sessions: Vec<usize> =
            (0..listed.len()).map(|index| assigner.assign(&span(index), tolerance_ms)).collect();
        let mut overlapped = vec![false; listed.len()];
        for later in 0..listed.len() {
            // Only what begins within the longest fragment before can reach into it.
            let near = |earlier: &usize| {
                listed[later].start(timestamps) - listed[*earlier].start(timestamps)
                    <= super::window::MAX_FRAGMENT_MS
            };
            for earlier in (0..later).rev().take_while(near) {
                let (a, b) = (span(earlier), span(later));
                let (a, b) = if a.start <= b.start { (a, b) } else { (b, a) };
                if sessions[earlier] != sessions[later] && overlap(&a, &b) {
                    overlapped[earlier] = true;
                    overlapped[later] = true;
                }
            }
        }
        Self {
            listed,
            timestamps,
            media,
            tolerance_ms,
            usual_length_ms: survey.usual_length_ms().unwrap_or(0),
            sessions,
            overlapped,
        }
    }

    fn start(&self, index: usize) -> UtcMillis {
        self.listed[index].start(self.timestamps)
    }

    /// Time between the end of one fragment and the start of another, on the media clock, in milliseconds.
    fn pause_ms(&self, earlier: usize, later: usize) -> i64 {
        let length = match self.listed[earlier].length_ms {
            0 => self.usual_length_ms,
            listed => listed,
        };
        self.media[later] - self.media[earlier] - i64::from(length)
    }

    /// Whether a fragment's media reaches past `instant` of the selecting clock.
    ///
    /// Listed lengths can be 0 or leave the last frame out: where the session goes on within the tolerance, a
    /// fragment lasts until the next one begins.
    fn reaches_past(&self, index: usize, instant: UtcMillis) -> bool {
        if self.start(index) + i64::from(self.listed[index].length_ms) > instant {
            return true;
        }
        let next = (index + 1..self.listed.len()).find(|next| self.sessions[*next] == self.sessions[index]);
        match next {
            // Where nothing is known of its end the safe side is to have it.
            Some(next) => {
                let goes_on =
                    self.listed[index].length_ms == 0 || self.pause_ms(index, next) <= self.tolerance_ms;
                goes_on && self.start(next) > instant
            }
            None => self.listed[index].length_ms == 0,
        }
    }

    /// The inclusive bounds that select the listed fragments `first..=last` and no other.
    fn bounds(&self, first: usize, last: usize) -> RequestBounds {
        let (start, end) = (self.start(first), self.start(last));
        let before =
            self.listed[..first].iter().rev().map(|f| f.start(self.timestamps)).find(|at| *at < start);
        let after = self.listed[last + 1..].iter().map(|f| f.start(self.timestamps)).find(|at| *at > end);
        RequestBounds { start: first_instant(before, start), end: last_instant(end, after) }
    }
}

/// The listed fragments (by index) that belong to the export, those too close to be told apart together.
fn units(query: &WindowQuery, context: &Context<'_>) -> Vec<Vec<usize>> {
    let from = query.range.start();
    let count = context.listed.len();
    let near = |earlier: usize, later: usize| context.start(later) - context.start(earlier) < INSEPARABLE_MS;
    let mut selected: Vec<bool> = (0..count)
        .map(|index| {
            let start = context.start(index);
            let reaches_in = || {
                query.edges == Edges::Cover
                    && start < from
                    && from - start <= super::window::MAX_FRAGMENT_MS
                    && context.reaches_past(index, from)
            };
            query.range.contains(start) || reaches_in()
        })
        .collect();
    // What cannot be told apart from a fragment that reaches into the range comes with it.
    let pairs = (1..count).filter(|later| context.start(*later) < from && near(later - 1, *later));
    let pairs: Vec<usize> = pairs.collect();
    for later in pairs.iter().chain(pairs.iter().rev()) {
        let either = selected[later - 1] || selected[*later];
        (selected[later - 1], selected[*later]) = (either, either);
    }
    let mut units: Vec<Vec<usize>> = Vec::new();
    for index in (0..count).filter(|index| selected[*index]) {
        match units.last_mut() {
            Some(unit) if unit.last() == index.checked_sub(1).as_ref() && near(index - 1, index) => {
                unit.push(index);
            }
            _ => units.push(vec![index]),
        }
    }
    units
}

/// The most fragments of a clip where these are an export's only ones.
fn most_of_short_export(fragments: usize, bytes: u64) -> usize {
    let by_bytes = usize::try_from(bytes.div_ceil(MAX_CLIP_BYTES)).unwrap_or(usize::MAX);
    let needed = fragments.div_ceil(MAX_CLIP_FRAGMENTS).max(by_bytes);
    let worthwhile = fragments / LEAST_CLIP_FRAGMENTS;
    let clips = needed.max(worthwhile.min(CLIPS_OF_SHORT_EXPORT));
    fragments.div_ceil(clips.max(1)).max(1)
}

/// Cuts the owned units (indices into the listing) into chunks.
fn cut(context: &Context<'_>, owned: &[Vec<usize>], is_whole_export: bool) -> Vec<PlannedChunk> {
    let most = if is_whole_export {
        let fragments = owned.iter().flatten();
        let bytes = fragments.clone().map(|index| context.listed[*index].size_bytes).sum();
        most_of_short_export(fragments.count(), bytes)
    } else {
        MAX_CLIP_FRAGMENTS
    };
    let mut chunks: Vec<PlannedChunk> = Vec::new();
    let mut first = 0;
    let mut previous: Option<usize> = None;
    for unit in owned {
        let (Some(&unit_first), Some(&unit_last)) = (unit.first(), unit.last()) else { continue };
        let bytes: u64 = unit.iter().map(|index| context.listed[*index].size_bytes).sum();
        let bounds = context.bounds(unit_first, unit_last);
        let joins = chunks.last().is_some_and(|chunk| {
            chunk.count + unit.len() <= most
                && chunk.bytes + bytes <= MAX_CLIP_BYTES
                && previous.is_some_and(|previous| may_follow(context, previous, unit_first))
        });
        match chunks.last_mut() {
            Some(chunk) if joins => {
                chunk.count += unit.len();
                chunk.bytes += bytes;
                chunk.bounds.end = bounds.end;
            }
            _ => {
                chunks.push(PlannedChunk { first, count: unit.len(), bounds, bytes });
            }
        }
        first += unit.len();
        previous = Some(unit_last);
    }
    chunks
}

/// Whether one clip can hold both fragments: neighbours in the listing, of one session, without a gap between
/// them, and neither mixed with another session.
fn may_follow(context: &Context<'_>, earlier: usize, later: usize) -> bool {
    let neighbours = (earlier + 1..later).all(|between| context.start(between) == context.start(earlier));
    neighbours
        && context.sessions[earlier] == context.sessions[later]
        && !context.overlapped[earlier]
        && !context.overlapped[later]
        && context.pause_ms(earlier, later) <= context.tolerance_ms
}
