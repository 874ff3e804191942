//! Windows: the hours in which an export is listed and planned.

use super::fixed::fixed_windows;
use crate::model::{Chunking, Edges, ExportSpec, RequestBounds, TimeRange, UtcMillis};

/// The longest that a fragment can be (KVS.md, "Words"): how far before a range one that reaches into it can begin.
pub(super) const MAX_FRAGMENT_MS: i64 = 20_000;

/// How much more than a window is listed on either side, so that neighbours, joins and contiguity at its edges
/// are known: the longest fragment and a second.
const CONTEXT_MS: i64 = MAX_FRAGMENT_MS + 1_000;

/// The length of a window; edges lie on whole hours of UTC.
const WINDOW_MS: i64 = 3_600_000;

/// Fragments that a stream can hold at most per second (KVS.md, "Words").
const MAX_FRAGMENTS_PER_SECOND: i64 = 5;

/// The largest page ListFragments gives.
const MAX_PAGE: i64 = 1_000;

/// Cuts what has to be listed for `range` into windows that tile it without holes.
///
/// With [`Edges::Cover`] the first window begins 20 s early, where a fragment that reaches into the range can begin.
pub fn windows(range: TimeRange, edges: Edges) -> Vec<TimeRange> {
    let mut start = match edges {
        Edges::Cover => range.start() - MAX_FRAGMENT_MS,
        Edges::Inside => range.start(),
    };
    let mut edge = UtcMillis::new((range.start().get().div_euclid(WINDOW_MS) + 1) * WINDOW_MS);
    let mut windows = Vec::new();
    while let Some(window) = TimeRange::new(start, edge.min(range.end())) {
        windows.push(window);
        start = window.end();
        edge = edge + WINDOW_MS;
    }
    windows
}

/// The windows of an export: hours to list, or units of fixed windows.
pub fn windows_of(spec: &ExportSpec) -> Vec<TimeRange> {
    match spec.chunk {
        Chunking::Auto => windows(spec.range, spec.edges),
        Chunking::Fixed(length_ms) => fixed_windows(spec.range, length_ms),
    }
}

/// The inclusive bounds to list for a window: the window and its surroundings.
pub fn list_bounds(window: TimeRange) -> RequestBounds {
    RequestBounds { start: window.start() - CONTEXT_MS, end: window.end() + CONTEXT_MS }
}

/// The page size to list `bounds` with: a page costs its size in points whether it is full or not, so a short
/// window asks for no more than it can hold.
pub fn list_page_size(bounds: RequestBounds) -> u32 {
    let seconds = (bounds.end - bounds.start).div_euclid(1_000) + 1;
    let most = (seconds * MAX_FRAGMENTS_PER_SECOND).clamp(1, MAX_PAGE);
    u32::try_from(most).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(UtcMillis::new(start), UtcMillis::new(end)).expect("not empty")
    }

    #[test]
    fn windows_tile_the_range_on_whole_hours() {
        let hour = WINDOW_MS;
        assert_eq!(
            windows(range(hour / 2, 3 * hour + 5), Edges::Inside),
            [
                range(hour / 2, hour),
                range(hour, 2 * hour),
                range(2 * hour, 3 * hour),
                range(3 * hour, 3 * hour + 5)
            ]
        );
        assert_eq!(windows(range(hour, 2 * hour), Edges::Inside), [range(hour, 2 * hour)]);
        assert_eq!(windows(range(-5, 5), Edges::Inside), [range(-5, 0), range(0, 5)]);
    }

    #[test]
    fn a_covering_range_is_listed_from_twenty_seconds_before_in_its_first_window() {
        let hour = WINDOW_MS;
        assert_eq!(
            windows(range(hour, 2 * hour + 1), Edges::Cover),
            [range(hour - 20_000, 2 * hour), range(2 * hour, 2 * hour + 1)]
        );
    }

    #[test]
    fn a_short_window_asks_for_small_pages() {
        let bounds = |ms| RequestBounds { start: UtcMillis::new(0), end: UtcMillis::new(ms) };
        assert_eq!(list_page_size(bounds(0)), 5);
        assert_eq!(list_page_size(bounds(60_000)), 305);
        assert_eq!(list_page_size(bounds(3_600_000)), 1_000);
    }
}
