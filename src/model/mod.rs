//! The vocabulary every other module speaks: ids, times, fragments, chunks, states, events.
//!
//! Leaf module: it imports no other module of this crate, does no input or output, and knows neither the
//! network nor the database.

pub mod attempt;
pub mod chunk;
pub mod event;
pub mod export;
pub mod fragment;
pub mod hash;
pub mod listing;
pub mod path_key;
pub mod plan_report;
pub mod prune_report;
pub mod report;
pub mod serving;
pub mod spec;
pub mod status;
pub mod stream;
pub mod time;
pub mod validate_report;
pub mod verification;
pub mod written;

pub use attempt::{Attempt, AttemptOutcome};
pub use chunk::{ChunkEvent, ChunkId, ChunkState, RequestBounds};
pub use export::{ExportEvent, ExportId, ExportState};
pub use fragment::{Fragment, FragmentNumber};
pub use hash::Sha256Digest;
pub use listing::{
    ListedStream, NotListed, StreamListings, StreamPattern, StreamPrefix, StreamStatus, UnlistedRange,
};
pub use path_key::path_key;
pub use spec::{
    Chunking, Edges, ExportSpec, GapPolicy, GapTolerance, OnCodecChange, RangeText, Timeline, TimestampKind,
};
pub use stream::{StreamArn, StreamSelector};
pub use time::{TimeRange, UtcMillis};
