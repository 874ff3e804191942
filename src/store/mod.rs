//! The state store: every run, export, window, chunk and request in one SQLite file; the only user of rusqlite.
//!
//! One [`Store`] writes, owned by a run's dispatcher under the [`StateLock`]; other processes read meanwhile.
//! Each change of a state goes through the model's one function and a compare-and-set update: one row or an
//! error. What lasts through a crash, and in what order, is written down in `design/lifecycle.md`.
//!
//! It must not decide what to do next, start requests, or touch media files.

mod chunks;
mod codec;
mod error;
mod exports;
mod identity;
mod listings;
mod local;
mod lock;
mod open;
mod outputs;
mod place;
mod recovery;
mod runs;
mod status;
#[cfg(test)]
mod tests;
mod values;
mod windows;

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use chunks::{AttemptRecord, ChunkError, ChunkRecord, FetchedFiles, LeafChunks, NewChunk};
pub use codec::{CodecError, Dropped};
pub use error::StoreError;
pub use exports::{ExportRecord, ExportTotals, NewExport, UnfinishedExport};
pub use identity::{ExportIdentity, output_key};
pub use listings::{Listing, ListingKey, PackedFragments};
pub use local::refuse_network;
pub use lock::{Holder, StateLock};
pub use open::SCHEMA_VERSION;
pub use outputs::{ExpectedOutput, Finish, Former, OutputRole};
pub use recovery::{Recovery, Redo};
pub use runs::{NewRun, RunId, RunRecord};
pub use status::{ChunkCounts, StateCount};
pub use windows::{WindowPlan, WindowRecord};

use crate::clock::Clock;
use crate::crash_point::{self, Durable};
use error::During;

/// An open state file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// There if the file is open for writing; after the connection, so that it is dropped after it.
    place: Option<place::Place>,
    clock: Arc<dyn Clock>,
    /// The run that changes are booked on.
    run: Option<RunId>,
}

impl Store {
    /// Opens the state file at `path`, made (with its folder) or migrated as needed.
    ///
    /// The caller holds the [`StateLock`]. A file that is not a state file, or a newer version's, is refused
    /// before anything is written.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (connection, place) = open::open(path)?;
        Ok(Self { connection, place: Some(place), clock, run: None })
    }

    /// Opens a state file that is there, for reading only; needs no lock.
    pub fn open_read_only(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { connection: open::open_read_only(path)?, place: None, clock, run: None })
    }

    /// Opens the state file that this process has open for writing a second time, for reading only.
    pub fn open_beside(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { connection: open::open_beside(path)?, place: None, clock, run: None })
    }

    /// Opens the state file that this process has open for reading a second time, for writing: for what a plan
    /// leaves there and no run rests on.
    ///
    /// The caller holds the [`StateLock`].
    pub fn open_again(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { connection: open::open_again(path)?, place: None, clock, run: None })
    }

    /// Whether it is nowhere on the disk.
    pub fn is_in_memory(&self) -> bool {
        self.connection.path().is_none_or(str::is_empty)
    }

    /// Makes an empty store that is nowhere on the disk: what a plan reads where there is no state file.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { connection: open::open_in_memory()?, place: None, clock, run: None })
    }

    /// Runs `change` in one transaction, which is undone if it fails.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .during("begin a transaction")?;
        let value = change(&transaction)?;
        if let Some(place) = &self.place {
            place.check()?;
        }
        transaction.commit().during("commit a transaction")?;
        Ok(value)
    }

    /// Like [`Store::write`], and on the disk with everything before it when this returns.
    ///
    /// The log is one file: syncing it for this commit syncs the commits before as well.
    fn write_durably<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.set_synchronous("FULL")?;
        let result = self.write(change);
        // A connection left on FULL is slower but not wrong, so the change's own error goes first.
        let restored = self.set_synchronous("NORMAL");
        let value = result?;
        restored?;
        crash_point::lasts(Durable::Committed, Path::new(""));
        Ok(value)
    }

    fn set_synchronous(&self, level: &str) -> Result<(), StoreError> {
        self.connection.pragma_update(None, "synchronous", level).during("set how it syncs")
    }
}

/// The folder of a state file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
