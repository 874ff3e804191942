//! The place of the state file: whether its name still leads to the file that is open, and nobody else writes it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::lock;
use crate::fs::failed_to;

/// What tells a file from another of the same name: its device and its number there.
pub(super) fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A state file that is open for writing.
///
/// It must be dropped after the connection: closing any handle of the file gives back SQLite's locks on it.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    identity: (u64, u64),
    _file: File,
}

impl Place {
    /// Takes the state file itself, which must be there, or fails with [`StoreError::Locked`].
    ///
    /// The file of the [`StateLock`](super::StateLock) may have been removed under the run that holds it; then this
    /// is what keeps a second one out. On Linux only: elsewhere such a lock excludes SQLite's own.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(failed_to("open", path))?;
        if cfg!(target_os = "linux") && !lock::try_lock(file.try_lock(), path)? {
            return Err(StoreError::Locked { path: path.to_owned(), holder: None });
        }
        let identity = identity(&file.metadata().map_err(failed_to("read", path))?);
        let place = Self { path: path.to_owned(), identity, _file: file };
        place.check()?;
        Ok(place)
    }

    /// Fails unless the name leads to this file: what is written into one without a name is lost.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.path.metadata() {
            Ok(metadata) if identity(&metadata) == self.identity => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed_to("find", &self.path)(error).into())
            }
            Ok(_) | Err(_) => Err(StoreError::TakenAway { path: self.path.clone() }),
        }
    }
}
