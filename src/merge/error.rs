//! Why a merge stopped.

use std::io;
use std::path::{Path, PathBuf};

use super::change::{TrackChange, told};
use super::gate::GateError;
use crate::fs::FsError;
use crate::media::clip::UnusableClip;
use crate::media::mp4::Mp4Error;
use crate::model::{Fragment, Sha256Digest, TimeRange};

/// A merge stopped; nothing in its folder is to be used.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The caller's iterator failed.
    #[error("cannot tell the next chunk")]
    Chunks(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There was no chunk, or none with a fragment.
    #[error("there is nothing to merge")]
    Nothing,
    /// A chunk is not what was fetched: it must be fetched again.
    #[error("the chunk {} is not as it was fetched", path.display())]
    ChunkLost {
        /// The chunk's file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: ChunkLoss,
    },
    /// A chunk's file is there, but this machine cannot read it now: it says nothing about what is in it.
    #[error(
        "cannot read the chunk {}; it is kept (a damaged file can be deleted: it is then fetched again)",
        path.display()
    )]
    ReadChunk {
        /// The chunk's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The sample description changed and the job forbids that.
    #[error(
        "the media changes with fragment {} (producer time {}, server time {}), and the job says on_codec_change = \
         \"fail\": {}; on_codec_change = \"split\" makes a part of each",
        fragment.number,
        fragment.producer,
        fragment.server,
        told(changes)
    )]
    CodecChange {
        /// The first fragment of the new description.
        fragment: Box<Fragment>,
        /// The tracks that change.
        changes: Vec<TrackChange>,
    },
    /// The same between chunks whose fragments are not known.
    #[error(
        "the media changes with the window{}, and the job says on_codec_change = \"fail\": {}; on_codec_change = \"split\" \
         makes a part of each",
        window.map(|window| format!(" {window}")).unwrap_or_default(),
        told(changes)
    )]
    CodecChangeInWindow {
        /// The first window of the new description.
        window: Option<TimeRange>,
        /// The tracks that change.
        changes: Vec<TrackChange>,
    },
    /// ffmpeg did not start.
    #[error("cannot start {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// ffmpeg failed.
    #[error("ffmpeg failed ({how}): {messages}")]
    Ffmpeg {
        /// Its exit code or signal.
        how: String,
        /// What it said.
        messages: String,
    },
    /// ffmpeg said that it changed sample times.
    #[error("ffmpeg changed sample times: {messages}")]
    TimesChanged {
        /// What it said.
        messages: String,
    },
    /// A file of the merge's own cannot be written.
    #[error("cannot write the output")]
    Write(#[from] FsError),
    /// The part is not what went in.
    #[error("the merged file {} is not exactly what went in", path.display())]
    Gate {
        /// The part.
        path: PathBuf,
        /// In what it differs.
        #[source]
        reason: GateError,
    },
    /// The run is ending.
    #[error("the merge was cancelled")]
    Cancelled,
}

impl MergeError {
    /// A chunk's file could not be read: it is lost only where there is none.
    pub(super) fn of_read(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if error.kind() == io::ErrorKind::NotFound {
            return Self::ChunkLost { path, reason: ChunkLoss::Gone(error) };
        }
        Self::ReadChunk { path, source: error }
    }

    /// A chunk's file could not be read as MP4, which `lost` makes a loss.
    pub(super) fn of_mp4(path: &Path, error: Mp4Error, lost: impl FnOnce(Mp4Error) -> ChunkLoss) -> Self {
        match error {
            // The end of the file is what is in it, not how it was read.
            Mp4Error::Read(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Self::of_read(path, error)
            }
            error => Self::ChunkLost { path: path.to_owned(), reason: lost(error) },
        }
    }

    /// Whether the disk, or the user's quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Write(error) => error.is_disk_full(),
            Self::Ffmpeg { messages, .. } => {
                messages.contains("No space left on device") || messages.contains("quota exceeded")
            }
            _ => false,
        }
    }
}

/// What is wrong with a chunk's file.
#[derive(Debug, thiserror::Error)]
pub enum ChunkLoss {
    /// It is gone.
    #[error("it is gone")]
    Gone(#[source] io::Error),
    /// Its bytes changed.
    #[error("its SHA-256 is {found}, not {expected}")]
    Altered {
        /// As it was fetched.
        expected: Sha256Digest,
        /// As it is now.
        found: Sha256Digest,
    },
    /// It holds fewer fragments than recorded.
    #[error("it holds {present} of its {planned} fragments")]
    Short {
        /// Whole leading fragments.
        present: usize,
        /// Recorded fragments.
        planned: usize,
    },
    /// It is no usable clip.
    #[error("it is no usable clip")]
    Unusable(#[source] UnusableClip),
    /// A sample cannot be read.
    #[error("a sample of it cannot be read")]
    Sample(#[source] Mp4Error),
}
