//! Ranges about footage, chosen at random.

use kvs_export::emulator::Camera;
use kvs_export::model::{Edges, TimeRange, TimestampKind, UtcMillis};

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
