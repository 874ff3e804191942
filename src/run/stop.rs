//! Why a run ends before its exports do.

use std::path::PathBuf;

use super::disk::size;
use crate::archive::ArchiveError;
use crate::fs::FsError;
use crate::model::report::Outcome;
use crate::store::StoreError;

/// A run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The user, or the system, asked it to.
    #[error("interrupted")]
    Interrupted,
    /// The credentials are not accepted, also after they were renewed.
    #[error("AWS does not accept the credentials")]
    Auth(#[source] Box<ArchiveError>),
    /// No room is left.
    #[error("the disk is full")]
    DiskFull(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too little room is left, and nothing is under way that could make some.
    #[error("no room is left: {} of {} are free, and `min_free` keeps {}", size(*.free), .folder.display(), size(*.min_free))]
    NoRoom {
        /// A folder on the disk.
        folder: PathBuf,
        /// Bytes that are free there.
        free: u64,
        /// Bytes that are to stay free.
        min_free: u64,
    },
    /// The run is planned larger than it may be.
    #[error(
        "the run is planned to fetch {} in {exports} {}, and `max_bytes` allows {}; nothing was fetched",
        size(*.planned),
        if *exports == 1 { "export" } else { "exports" },
        size(*.max_bytes)
    )]
    TooMuch {
        /// Bytes to fetch, as listed.
        planned: u64,
        /// Of how many exports.
        exports: usize,
        /// The most that is allowed.
        max_bytes: u64,
    },
    /// A folder cannot be written.
    #[error("a folder is not writable")]
    NotWritable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file operation failed.
    #[error("a file operation failed")]
    Fs(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The state file failed.
    #[error("the state file cannot be used")]
    Store(#[source] Box<StoreError>),
    /// A task of the program ended in a panic.
    #[error("a part of the program failed: {0}")]
    Panic(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl Stop {
    /// Classifies a failed file operation.
    pub(super) fn of_fs(error: FsError) -> Self {
        match &error {
            error_ref if error_ref.is_disk_full() => Self::DiskFull(Box::new(error)),
            error_ref if error_ref.is_not_writable() => Self::NotWritable(Box::new(error)),
            _ => Self::Fs(Box::new(error)),
        }
    }

    /// Classifies a clip that could not be kept.
    pub(super) fn of_archive(mut error: ArchiveError) -> Self {
        match error.source.take() {
            Some(source) => {
                Self::of_fs(FsError { operation: "write a chunk for", path: error.stream.into(), source })
            }
            None => Self::Fs(Box::new(error)),
        }
    }

    /// The reason with its causes, and the way out.
    pub fn told(&self) -> String {
        let hint = match self {
            Self::Auth(_) => {
                "sign in again or renew the credentials, then run the same command again to resume"
            }
            Self::DiskFull(_) => "make room, then run the same command again to resume",
            Self::Store(error) if error.is_disk_full() => {
                "make room, then run the same command again to resume"
            }
            Self::Store(error) if matches!(**error, StoreError::TakenAway { .. }) => {
                "put it back, or run the same command again to begin with what is there"
            }
            Self::NoRoom { .. } => {
                "make room, or lower `min_free` in [limits], then run the same command again to resume"
            }
            Self::TooMuch { .. } => {
                "raise `max_bytes` in [limits], or run fewer or shorter exports at a time (--job); what was listed \
                 is kept and not listed again"
            }
            Self::NotWritable(_) => {
                "make it a folder that can be written, or name another in the job file, then run again"
            }
            Self::Fs(_) => "when that is mended, run the same command again to resume",
            Self::Interrupted | Self::Store(_) | Self::Panic(_) => {
                return crate::error::chain(self);
            }
        };
        format!("{}\n  hint: {hint}", crate::error::chain(self))
    }

    /// How the run ends for it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted => Outcome::Interrupted,
            Self::Auth(_) => Outcome::Auth,
            Self::DiskFull(_) | Self::NoRoom { .. } => Outcome::Incomplete,
            Self::NotWritable(_) | Self::TooMuch { .. } => Outcome::Usage,
            Self::Store(error) if error.is_disk_full() => Outcome::Incomplete,
            Self::Fs(_) | Self::Store(_) | Self::Panic(_) => Outcome::Failed,
        }
    }
}
