//! What stands beside every output as its proof: the manifest and the checksums.

mod checksums;
mod manifest;

pub use checksums::{checksums, hash_file};
pub use manifest::{
    ChunkEntry, ClockEntry, DroppedEntry, GapEntry, JobFileEntry, MANIFEST_SCHEMA, Manifest, MergeEntry,
    MissingEntry, OutputEntry, RequestedEntry, StreamEntry, ToolEntry, manifest_warnings, write_manifest,
};
