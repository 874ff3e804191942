//! Decides what to request: fragments → windows → chunks, and what is missing between them.
//!
//! Pure: no clock, no network, no database. What is decided here is stored before it is used, so every function
//! must give the same answer for the same fragments, in whatever order they were listed.

mod chunks;
mod coverage;
mod estimate;
mod fixed;
mod order;
mod reckoning;
mod session;
mod window;

#[cfg(test)]
mod tests;

pub use chunks::{
    DROP_EQUAL_PRODUCER_TIMESTAMP, DroppedFragment, MAX_CLIP_BYTES, MAX_CLIP_FRAGMENTS, PlannedChunk,
    PlannedWindow, WindowQuery, plan_window, split_chunk,
};
pub use coverage::{Coverage, Gap, Skew, Survey, gap_tolerance_ms};
pub use estimate::{Rates, Turn, Work, turns};
pub use fixed::{fixed_gaps, fixed_points, fixed_windows, halve_fixed, is_halvable, plan_fixed};
pub use order::{ChunkSpan, IngestionOrder, MergeOrder, follows};
pub use reckoning::{MediaClock, Reckoning};
pub use window::{list_bounds, list_page_size, windows, windows_of};
