//! What can go wrong with the state file.

use std::path::PathBuf;

use super::codec::CodecError;
use super::lock::Holder;
use crate::fs::FsError;
use crate::model::{ChunkEvent, ChunkId, ChunkState, ExportEvent, ExportId, ExportState, UtcMillis};

/// An operation on the state file, or on its lock, failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error("another run holds the state file {}{}", path.display(), held_by(holder.as_ref()))]
    Locked {
        /// The state file.
        path: PathBuf,
        /// Who holds it; `None` in the instant between its taking the lock and saying so.
        holder: Option<Holder>,
    },
    /// The file is something else; it was not touched.
    #[error("{} is not a state file of kvs-export: it is {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file was written by a newer version of this program; it was not touched.
    #[error("the state file {} has schema version {found}, this program knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The file has to be migrated first, and it was opened for reading only.
    #[error(
        "the state file {} has the older schema version {found}; the next run brings it to {known}",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version to read.
        known: i64,
    },
    /// Locks and shared memory do not work there.
    #[error("the state file {} would lie on a network file system ({kind})", path.display())]
    NetworkFileSystem {
        /// The file.
        path: PathBuf,
        /// The file system's name.
        kind: String,
    },
    /// There is no such file.
    #[error("there is no state file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file that is open is not the one of that name any more.
    #[error("the state file {} was removed or replaced during the run", path.display())]
    TakenAway {
        /// The state file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// SQLite could not open the file.
    #[error("cannot open the state file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the state file {} to this version's schema", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<rusqlite_migration::Error>,
    },
    /// A query failed.
    #[error("the state file failed to {operation}")]
    Sqlite {
        /// What was tried, as a verb phrase.
        operation: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A value could not be written as, or read from, JSON.
    #[error("the state file cannot hold or does not hold a valid {what}")]
    Json {
        /// Which value.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A window's fragments cannot be read.
    #[error("the fragments of window {window} of export {export} are damaged")]
    Fragments {
        /// The export.
        export: ExportId,
        /// The window.
        window: u32,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// A kept listing cannot be read.
    #[error("a kept listing is damaged")]
    Listing(#[source] CodecError),
    /// A path is not UTF-8; the state file holds text.
    #[error("the path {} is not UTF-8", path.display())]
    PathNotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The row is not in the state that the caller believed.
    #[error("{row} is {found}, not {expected} as this run believed: nothing was changed")]
    Conflict {
        /// Which row.
        row: String,
        /// The state it should have had.
        expected: &'static str,
        /// The state it has, or `missing`.
        found: String,
    },
    /// No such step in the diagram of chunks.
    #[error("a chunk that is {} cannot meet {event:?}", state.as_str())]
    IllegalChunkEvent {
        /// From.
        state: ChunkState,
        /// With.
        event: ChunkEvent,
    },
    /// No such step in the diagram of exports.
    #[error("an export that is {} cannot meet {event:?}", state.as_str())]
    IllegalExportEvent {
        /// From.
        state: ExportState,
        /// With.
        event: ExportEvent,
    },
    /// The event comes with facts that only its own function takes.
    #[error("{event:?} is recorded with its facts, not as a bare event")]
    NeedsFacts {
        /// The event.
        event: ChunkEvent,
    },
    /// The step would leave work behind.
    #[error("export {export} still has {windows} windows to plan and {chunks} chunks to settle")]
    Outstanding {
        /// The export.
        export: ExportId,
        /// Windows that are not planned.
        windows: u64,
        /// Chunks that are planned, fetching or failed.
        chunks: u64,
    },
    /// An export of that identity is there already.
    #[error("export {0} is already in the state file")]
    ExportExists(ExportId),
    /// No such export.
    #[error("there is no export {0} in the state file")]
    NoExport(ExportId),
    /// No such chunk.
    #[error("there is no chunk {0} in the state file")]
    NoChunk(ChunkId),
    /// A window can be planned once only.
    #[error("window {window} of export {export} is already planned")]
    AlreadyPlanned {
        /// The export.
        export: ExportId,
        /// The window.
        window: u32,
    },
    /// No such window, or nothing planned in it yet.
    #[error("window {window} of export {export} is not there, or not planned yet")]
    NoWindow {
        /// The export.
        export: ExportId,
        /// The window.
        window: u32,
    },
    /// Chunks do not cover their fragments exactly once and in order.
    #[error(
        "{count} chunks do not cover fragments {first} to {end} (exclusive) exactly: fragment {at} is wrong"
    )]
    DoesNotTile {
        /// How many chunks.
        count: usize,
        /// The first fragment to cover.
        first: u32,
        /// One after the last.
        end: u32,
        /// Where the cover breaks.
        at: u32,
    },
    /// Fixed windows that do not cover their whole exactly once and in order.
    #[error(
        "{count} windows do not cover {start} to {end} (inclusive) exactly: the one that should begin at {at} is wrong"
    )]
    DoesNotTileTime {
        /// How many windows.
        count: usize,
        /// The first instant to cover.
        start: UtcMillis,
        /// The last.
        end: UtcMillis,
        /// Where the cover breaks.
        at: UtcMillis,
    },
    /// Requests can only be recorded within a run.
    #[error("no run has begun on this state file")]
    NoRun,
}

impl StoreError {
    /// Whether the disk, or the user's quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Fs(error) => error.is_disk_full(),
            // SQLite's error lies at different depths, in rusqlite's and in the migrations' types.
            _ => crate::error::chain(self).contains("database or disk is full"),
        }
    }
}

fn held_by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |Holder { pid, host, since }| {
        format!(": process {pid} on {host}, since {since}")
    })
}

/// Says which operation failed.
pub(super) trait During<T> {
    /// Wraps the error; `operation` is a verb phrase.
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sqlite { operation, source })
    }
}
