//! Fixed windows: a range cut by the clock alone, where nothing may be listed.
//!
//! The service counts both ends of a request as inside, and its times are whole milliseconds: a window that ends
//! where the next begins asks for its last millisecond as its end. So a fragment that starts on an edge is in the later
//! window, and in no other.

use super::chunks::{MAX_CLIP_FRAGMENTS, PlannedChunk};
use super::coverage::Gap;
use super::window::MAX_FRAGMENT_MS;
use crate::model::{RequestBounds, TimeRange};

/// The windows that are planned together take about so long: their rows are stored in one transaction.
const PLANNED_TOGETHER_MS: i64 = 3_600_000;

/// The shortest window: a clip's end must be later than its start, and both are inside.
const SHORTEST_MS: i64 = 2;

/// How long a fragment lasts at least, as a rule.
const USUAL_LEAST_FRAGMENT_MS: i64 = 1_000;

/// Cuts a range into planned units of whole fixed windows, from the range's start; they tile it without holes.
pub fn fixed_windows(range: TimeRange, length_ms: u32) -> Vec<TimeRange> {
    let length = i64::from(length_ms);
    tiles(range, (PLANNED_TOGETHER_MS / length).max(1) * length)
}

/// The chunks of a planned unit: a window each, without fragments.
pub fn plan_fixed(unit: TimeRange, length_ms: u32) -> Vec<PlannedChunk> {
    let windows = tiles(unit, i64::from(length_ms)).into_iter();
    windows
        .map(|window| {
            let bounds = RequestBounds { start: window.start(), end: window.end() - 1 };
            let twice_middle = (bounds.start - unit.start()) + (bounds.end - unit.start());
            PlannedChunk { first: usize::try_from(twice_middle).unwrap_or(0), count: 0, bounds, bytes: 0 }
        })
        .collect()
}

/// Whether both halves of a window could be asked for.
pub fn is_halvable(bounds: RequestBounds) -> bool {
    bounds.end - bounds.start + 1 >= 2 * SHORTEST_MS
}

/// Halves a window; `None` where a half could not be asked for.
///
/// Where there are no fragments to count, a chunk's place is twice the middle of its window, in milliseconds from
/// the start of its planned unit: it orders the chunks, and no part has that of its whole.
pub fn halve_fixed(whole: &PlannedChunk) -> Option<[PlannedChunk; 2]> {
    let RequestBounds { start, end } = whole.bounds;
    if !is_halvable(whole.bounds) {
        return None;
    }
    let middle = start + (end - start + 1) / 2;
    let half = |bounds: RequestBounds| {
        let moved = (bounds.start - start) + (bounds.end - end);
        let first = whole.first.checked_add_signed(isize::try_from(moved).ok()?)?;
        Some(PlannedChunk { first, count: 0, bounds, bytes: 0 })
    };
    Some([half(RequestBounds { start, end: middle - 1 })?, half(RequestBounds { start: middle, end })?])
}

/// What the clip of a window is taken to cost in points, one a fragment: as many as its seconds.
///
/// Fragments last a second or longer but for rare cameras, so it is seldom too little, and a throttle answers for those. At
/// two seconds it is twice too much: even so, three minutes can be asked for about twice a second.
pub fn fixed_points(bounds: RequestBounds) -> u32 {
    let seconds = (bounds.end - bounds.start).div_euclid(USUAL_LEAST_FRAGMENT_MS) + 1;
    u32::try_from(seconds).unwrap_or(u32::MAX).clamp(1, u32::try_from(MAX_CLIP_FRAGMENTS).unwrap_or(u32::MAX))
}

/// Time without media, as far as fixed windows tell: `empty` are the bounds of those without any, in order.
///
/// A fragment that began before a stretch of them may last through 20 s of it: only what is longer is a gap for certain.
/// In a range without any media there is nothing that could.
pub fn fixed_gaps(empty: impl Iterator<Item = RequestBounds>, range: TimeRange) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for bounds in empty {
        let (from, to) = (bounds.start, bounds.end + 1);
        match gaps.last_mut() {
            Some(last) if last.to == from => (last.to, last.ms) = (to, to - last.from),
            _ => gaps.push(Gap { from, to, ms: to - from }),
        }
    }
    gaps.retain(|gap| gap.ms > MAX_FRAGMENT_MS || gap.ms == range.length_ms());
    gaps
}

/// Tiles of that length; the last takes with it what would be too short to be asked for.
fn tiles(range: TimeRange, length_ms: i64) -> Vec<TimeRange> {
    let mut tiles = Vec::new();
    let mut start = range.start();
    while start < range.end() {
        let end = start + length_ms;
        let end = if range.end() - end < SHORTEST_MS { range.end() } else { end };
        tiles.extend(TimeRange::new(start, end));
        start = end;
    }
    tiles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::UtcMillis;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(UtcMillis::new(start), UtcMillis::new(end)).expect("not empty")
    }

    /// The bounds of all chunks of a range, in order.
    fn bounds(of: TimeRange, length_ms: u32) -> Vec<(i64, i64)> {
        let units = fixed_windows(of, length_ms).into_iter();
        let chunks = units.flat_map(|unit| plan_fixed(unit, length_ms));
        chunks.map(|chunk| (chunk.bounds.start.get(), chunk.bounds.end.get())).collect()
    }

    #[test]
    fn windows_begin_with_the_range_and_their_ends_are_outside() {
        assert_eq!(bounds(range(500, 2_900), 1_000), [(500, 1_499), (1_500, 2_499), (2_500, 2_899)]);
        assert_eq!(bounds(range(0, 2_000), 1_000), [(0, 999), (1_000, 1_999)]);
    }

    #[test]
    fn no_window_is_too_short_to_be_asked_for() {
        assert_eq!(bounds(range(0, 2_001), 1_000), [(0, 999), (1_000, 2_000)]);
        assert_eq!(bounds(range(0, 2_002), 1_000), [(0, 999), (1_000, 1_999), (2_000, 2_001)]);
        let day = 86_400_000;
        assert_eq!(bounds(range(0, i64::from(day) + 1), day), [(0, i64::from(day))], "24 h apart at most");
    }

    #[test]
    fn windows_of_about_an_hour_are_planned_together() {
        let units = |length_ms| fixed_windows(range(0, 7_200_000), length_ms).len();
        assert_eq!((units(1_000), units(180_000), units(3_600_000), units(5_400_000)), (2, 2, 2, 2));
        assert_eq!(
            fixed_windows(range(0, 7_200_000), 420_000)[0],
            range(0, 3_360_000),
            "eight of seven minutes"
        );
    }

    #[test]
    fn points_are_the_seconds_up_to_a_full_clip() {
        let points =
            |ms: i64| fixed_points(RequestBounds { start: UtcMillis::new(0), end: UtcMillis::new(ms - 1) });
        assert_eq!((points(2), points(1_000), points(180_000), points(86_400_000)), (1, 1, 180, 200));
    }

    #[test]
    fn a_stretch_of_empty_windows_is_a_gap_where_no_fragment_can_last_through_it() {
        let gaps = |empty: &[(i64, i64)]| {
            let empty = empty.iter().map(|(start, end)| range(*start, *end));
            let bounds = empty.map(|of| RequestBounds { start: of.start(), end: of.end() - 1 });
            let found = fixed_gaps(bounds, range(0, 60_000)).into_iter();
            found.map(|gap| (gap.from.get(), gap.to.get(), gap.ms)).collect::<Vec<_>>()
        };
        assert_eq!(gaps(&[(0, 10_000), (10_000, 20_001)]), [(0, 20_001, 20_001)]);
        assert_eq!(gaps(&[(0, 20_000), (20_002, 40_002), (50_000, 60_000)]), []);
        assert_eq!(gaps(&[(0, 2), (30_000, 50_001)]), [(30_000, 50_001, 20_001)]);
        let all = fixed_gaps(
            [RequestBounds { start: UtcMillis::new(0), end: UtcMillis::new(4) }].into_iter(),
            range(0, 5),
        );
        assert_eq!(all.len(), 1, "a range without any media");
    }

    /// All chunks that halving makes of one, itself first.
    fn family(whole: PlannedChunk) -> Vec<PlannedChunk> {
        let mut family = vec![whole];
        for half in halve_fixed(&whole).into_iter().flatten() {
            family.extend(self::family(half));
        }
        family
    }

    proptest! {
        #[test]
        fn chunks_tile_the_range_and_halves_their_whole(
            start in -10_000_i64..10_000, length in 2_i64..20_000_000, window in 1_000_u32..5_000_000,
        ) {
            let asked = bounds(range(start, start + length), window);
            prop_assert_eq!(asked[0].0, start);
            prop_assert_eq!(asked[asked.len() - 1].1, start + length - 1);
            prop_assert!(asked.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
            prop_assert!(asked.iter().all(|(start, end)| end > start));
        }

        #[test]
        fn places_order_the_chunks_and_no_two_are_equal(length in 2_i64..3_000, window in 1_000_u32..2_000) {
            let mut all: Vec<PlannedChunk> =
                plan_fixed(range(7, 7 + length), window).into_iter().flat_map(family).collect();
            let leaves: Vec<PlannedChunk> =
                all.iter().filter(|chunk| halve_fixed(chunk).is_none()).copied().collect();
            prop_assert!(leaves.is_sorted_by(|a, b| a.first < b.first && a.bounds.end + 1 == b.bounds.start));
            prop_assert!(leaves.iter().all(|leaf| (1..=2).contains(&(leaf.bounds.end - leaf.bounds.start))));
            all.sort_by_key(|chunk| chunk.first);
            prop_assert!(all.windows(2).all(|pair| pair[0].first != pair[1].first));
        }
    }
}
