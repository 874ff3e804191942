//! What stands beside every output as its proof: the manifest and the checksums.

mod checksums;
mod manifest;
pub mod verify;

pub use checksums::{checksums, hash_file, hash_file_unless};
pub use manifest::{
    ChunkEntry, ChunkSummary, ClockEntry, DroppedEntry, GapEntry, GapSummary, JobFileEntry, MANIFEST_SCHEMA,
    Manifest, ManifestSummary, MergeEntry, MissingEntry, OutputEntry, ReckoningEntry, RequestedEntry,
    StreamEntry, StreamSummary, ToolEntry, manifest_summary, manifest_warnings, write_manifest,
};
