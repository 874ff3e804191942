//! Keeps a received clip: to a temporary file, hashed → checked against what it should hold → synced → renamed.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::fetch::FetchJob;
use super::window;
use crate::archive::ClipSink;
use crate::crash_point::{Point, reached};
use crate::fs::{self, FsError};
use crate::media::clip::{ClipVerdict, UnusableClip, check_clip, check_whole_clip};
use crate::media::mp4::Mp4Error;
use crate::model::{Fragment, RequestBounds, Sha256Digest};
use crate::store::ChunkError;

/// What became of a received clip.
pub(super) enum Kept {
    /// It lies whole and synced under its final name.
    Whole { size_bytes: u64, sha256: Sha256Digest },
    /// It ends early, or may.
    Short(ChunkError),
    /// It cannot be used; another may be.
    Unusable(ChunkError),
    /// It holds what one clip cannot hold together.
    Refused(ChunkError),
    /// Nor would any other clip of the stream be usable.
    NeverUsable(String),
}

/// What a clip should hold.
pub(super) enum Expected {
    /// These fragments.
    Fragments(Vec<Fragment>),
    /// Whatever begins between inclusive bounds.
    Window(RequestBounds),
}

impl Expected {
    pub(super) fn of(job: &FetchJob) -> Self {
        if job.is_fixed() { Self::Window(job.bounds) } else { Self::Fragments(job.fragments.clone()) }
    }

    /// Why a clip is not what was asked for, or `None`.
    fn judge(&self, clip: impl Read + Seek, size_bytes: u64) -> Result<Option<Kept>, io::Error> {
        let refused = match self {
            Self::Fragments(fragments) => match check_clip(clip, fragments) {
                ClipVerdict::Complete(_) => return Ok(None),
                ClipVerdict::Short { present, planned } => {
                    let detail = format!("the clip holds {present} of {planned} fragments");
                    return Ok(Some(Kept::Short(ChunkError { code: "short".to_owned(), detail })));
                }
                ClipVerdict::Unusable(reason) => reason,
            },
            Self::Window(bounds) => match check_whole_clip(clip) {
                Ok(whole) => return Ok(window::may_be_cut(*bounds, size_bytes, &whole).map(Kept::Short)),
                Err(reason) => reason,
            },
        };
        // This machine could not read what it had just written: no other answer would help.
        if let UnusableClip::Unreadable(Mp4Error::Read(source)) = refused {
            if source.raw_os_error().is_some() {
                return Err(source);
            }
            let error = UnusableClip::Unreadable(Mp4Error::Read(source));
            return Ok(Some(Kept::Unusable(unusable(&error))));
        }
        let error = unusable(&refused);
        Ok(Some(match (self, refused) {
            // The service has put together what changes between two fragments: each by itself is good.
            (Self::Window(_), UnusableClip::Unreadable(Mp4Error::SeveralDescriptions)) => {
                Kept::Refused(error)
            }
            (Self::Fragments(fragments), refused) if refused.recurs(fragments.len()) => {
                Kept::NeverUsable(error.detail)
            }
            (Self::Window(_), refused) if refused.recurs(usize::MAX) => Kept::NeverUsable(error.detail),
            _ => Kept::Unusable(error),
        }))
    }
}

fn unusable(error: &UnusableClip) -> ChunkError {
    ChunkError { code: "unusable".to_owned(), detail: crate::error::chain(error) }
}

/// Checks a received clip and, if it is whole, makes it last under its final name.
pub(super) async fn keep(sink: FileSink, expected: Expected, path: PathBuf) -> Result<Kept, FsError> {
    let work = move || keep_blocking(sink, &expected, &path);
    match tokio::task::spawn_blocking(work).await {
        Ok(kept) => kept,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn keep_blocking(sink: FileSink, expected: &Expected, path: &Path) -> Result<Kept, FsError> {
    let part = sink.path.clone();
    let Some((file, size_bytes, sha256)) = sink.finish() else {
        let detail = "nothing was received".to_owned();
        return Ok(Kept::Unusable(ChunkError { code: "empty".to_owned(), detail }));
    };
    let reader = io::BufReader::new(File::open(&part).map_err(fs::failed_to("open", &part))?);
    match expected.judge(reader, size_bytes) {
        Ok(None) => {
            reached(Point::ChunkWritten);
            if let Err(error) = fs::sync_file(&file, &part) {
                fs::remove_file(&part)?;
                return Err(error);
            }
            reached(Point::ChunkSynced);
            fs::rename(&part, path)?;
            reached(Point::ChunkNamed);
            fs::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
            reached(Point::ChunkFolderSynced);
            Ok(Kept::Whole { size_bytes, sha256 })
        }
        Ok(Some(kept)) => {
            fs::remove_file(&part)?;
            Ok(kept)
        }
        Err(source) => {
            fs::remove_file(&part)?;
            Err(fs::failed_to("read", &part)(source))
        }
    }
}

/// Writes to a temporary file and hashes on the way.
pub(super) struct FileSink {
    path: PathBuf,
    file: Option<File>,
    hasher: Sha256,
    size_bytes: u64,
}

impl FileSink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, hasher: Sha256::new(), size_bytes: 0 }
    }

    /// Hands the file over to who keeps or removes it.
    fn finish(mut self) -> Option<(File, u64, Sha256Digest)> {
        let hasher = std::mem::take(&mut self.hasher);
        Some((self.file.take()?, self.size_bytes, Sha256Digest(hasher.finalize().into())))
    }
}

impl Drop for FileSink {
    /// Removes what a request that failed or was cancelled has left.
    fn drop(&mut self) {
        if self.file.take().is_some()
            && let Err(error) = fs::remove_file(&self.path)
        {
            // The next run's start removes it.
            tracing::debug!(error = crate::error::chain(&error), "a temporary file stays");
        }
    }
}

impl ClipSink for FileSink {
    fn restart(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.set_len(0)?;
            file.rewind()?;
        } else {
            self.file = Some(fs::create(&self.path).map_err(|error| error.source)?);
            reached(Point::ChunkCreated);
        }
        self.hasher = Sha256::new();
        self.size_bytes = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }
}
