//! The top-level error: what stopped a command, its exit code, the ways out.

use std::io;
use std::path::PathBuf;

use crate::archive::ConnectError;
use crate::emulator::EmulatorError;
use crate::error::chain;
use crate::evidence::verify::VerifyError;
use crate::fs::FsError;
use crate::job::JobErrors;
use crate::logging::LoggingError;
use crate::merge::FfmpegError;
use crate::model::report::Outcome;
use crate::run::Stop;
use crate::store::StoreError;

const WITHOUT_AWS: &str = "without an AWS account: kvs-export run JOBS --emulator";

const MAKE_ROOM: &str = "make room, then run the same command again";

/// What stopped a command before its work began.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The job file cannot be read.
    #[error("cannot read the job file {}", path.display())]
    ReadJobFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The job file is wrong.
    #[error("{0}")]
    JobFile(JobErrors),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The file that is to be written is there.
    #[error("{} is already there, and is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no usable ffmpeg.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
    /// The state file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder cannot be used.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// AWS cannot be asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The embedded archive does not start.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// There is nothing to verify.
    #[error(transparent)]
    Verify(VerifyError),
    /// The log cannot be set up.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// Another run, of another state file, uses the folder of chunks.
    #[error("another run uses the folder of chunks {}", path.display())]
    WorkLocked {
        /// The folder.
        path: PathBuf,
    },
    /// The streams of a prefix could not be asked for.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// The operating system refused something.
    #[error("cannot {what}")]
    Io {
        /// What, as a verb phrase.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<JobErrors> for CommandError {
    fn from(errors: JobErrors) -> Self {
        Self::JobFile(errors)
    }
}

impl CommandError {
    /// The error with its causes.
    pub fn told(&self) -> String {
        match self {
            Self::JobFile(errors) => errors.to_string(),
            Self::Stopped(stop) => stop.told(),
            error => chain(error),
        }
    }

    /// How the command ends for it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::ReadJobFile { .. }
            | Self::JobFile(_)
            | Self::Usage(_)
            | Self::Exists { .. }
            | Self::Ffmpeg(_)
            | Self::Emulator(_)
            | Self::Verify(_)
            | Self::Logging(_)
            | Self::Connect(ConnectError::NoRegion) => Outcome::Usage,
            Self::WorkLocked { .. } => Outcome::Locked,
            Self::Connect(ConnectError::Credentials(_)) => Outcome::Auth,
            Self::Stopped(stop) => stop.outcome(),
            Self::Store(error) => store_outcome(error),
            Self::Fs(error) => fs_outcome(error),
            Self::Io { .. } => Outcome::Failed,
        }
    }

    /// The ways out.
    pub fn hints(&self) -> Vec<String> {
        let hints: &[&str] = match self {
            Self::Connect(ConnectError::Credentials(_)) => &[
                "set AWS_PROFILE or [aws] profile, sign in (aws sso login), or set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY",
                WITHOUT_AWS,
            ],
            Self::Connect(ConnectError::NoRegion) => {
                &["set AWS_REGION, [aws] region in the job file, or --region with clip", WITHOUT_AWS]
            }
            Self::Store(StoreError::Locked { path, .. }) => {
                return vec![format!(
                    "wait for it, or see what it does with: kvs-export status --state {}",
                    path.display()
                )];
            }
            Self::WorkLocked { .. } => &["wait for it, or give each job file a `work` folder of its own"],
            Self::Store(StoreError::Newer { .. }) => {
                &["use the newer version of kvs-export that wrote it; nothing was changed"]
            }
            Self::Store(StoreError::Foreign { .. }) => {
                &["give another path with `state` in the job file or --state; nothing was changed"]
            }
            Self::Store(StoreError::NetworkFileSystem { .. }) => &[
                "put it on a local disk with `state` in the job file or --state; outputs may stay where they are",
            ],
            Self::ReadJobFile { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                &["write one to begin with: kvs-export init"]
            }
            Self::Exists { .. } => &["name another file, or print one: kvs-export init -"],
            Self::ReadJobFile { .. } => &["name a job file that this user can read"],
            Self::Ffmpeg(FfmpegError::Run { .. } | FfmpegError::NotFfmpeg { .. }) => {
                &["set KVS_EXPORT_FFMPEG=/path/to/ffmpeg, or unset it to take the one in PATH"]
            }
            Self::Fs(error) if error.is_disk_full() => &[MAKE_ROOM],
            Self::Store(error) if error.is_disk_full() => &[MAKE_ROOM],
            Self::Fs(_) | Self::Store(StoreError::Fs(_)) => &[
                "make it writable, or name another folder: `state` and `work` in the job file, -o with clip",
            ],
            _ => &[],
        };
        hints.iter().map(|hint| (*hint).to_owned()).collect()
    }
}

fn store_outcome(error: &StoreError) -> Outcome {
    match error {
        StoreError::Locked { .. } => Outcome::Locked,
        error if error.is_disk_full() => Outcome::Incomplete,
        StoreError::Fs(error) => fs_outcome(error),
        StoreError::Foreign { .. }
        | StoreError::Newer { .. }
        | StoreError::Older { .. }
        | StoreError::NetworkFileSystem { .. }
        | StoreError::Missing { .. }
        | StoreError::Open { .. }
        | StoreError::PathNotUtf8 { .. } => Outcome::Usage,
        _ => Outcome::Failed,
    }
}

fn fs_outcome(error: &FsError) -> Outcome {
    if error.is_disk_full() { Outcome::Incomplete } else { Outcome::Usage }
}
