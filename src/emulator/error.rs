//! Why the emulator cannot start.

use std::io;
use std::path::PathBuf;

/// An error while the emulator or one of its cameras is set up.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The port cannot be listened on.
    #[error("cannot listen on 127.0.0.1:{port}; another program may be using the port")]
    Listen {
        /// The port asked for.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// ffmpeg did not start.
    #[error(
        "cannot start {program:?} to encode pictures; install ffmpeg or set KVS_EXPORT_FFMPEG to its path"
    )]
    StartFfmpeg {
        /// The program that was to be started.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// ffmpeg failed.
    #[error("ffmpeg could not encode {what}: {stderr}")]
    Encode {
        /// What was to be encoded.
        what: String,
        /// What ffmpeg said.
        stderr: String,
    },
    /// What ffmpeg wrote has no pictures, or no sound, in it.
    #[error("ffmpeg wrote no media for {what}")]
    NoMedia {
        /// What was to be encoded.
        what: String,
    },
    /// A camera's script cannot be served with its videos.
    #[error("camera {camera:?}: {problem}")]
    Script {
        /// The camera's name.
        camera: String,
        /// What does not fit.
        problem: String,
    },
    /// A scenario file cannot be understood.
    #[error("the scenario {file}: {message}")]
    Scenario {
        /// The file.
        file: String,
        /// What is wrong, and where.
        message: String,
    },
    /// The scenario file cannot be read.
    #[error("cannot read the scenario {file}")]
    ReadScenario {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The argument is not `NAME` or `NAME=VIDEO`.
    #[error(
        "{argument:?} is not NAME or NAME=VIDEO with a stream name (1 to 256 of a-z, A-Z, 0-9, '_', '.', '-')"
    )]
    StreamArgument {
        /// The argument.
        argument: String,
    },
    /// The task that encodes ended early.
    #[error("the encoding task ended early")]
    EncodingStopped,
}
