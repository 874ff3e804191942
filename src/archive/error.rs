//! Why a call to the archive failed, in the classes that decide what happens next.

use crate::model::AttemptOutcome;

/// What a failure means for the call, the stream and the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A quota is spent: slow down, then go on. Costs no attempt.
    Throttled,
    /// The service or the network failed in a way that passes.
    Transient,
    /// The credentials are missing, expired or not accepted: renew once, then stop the run.
    Auth,
    /// The credentials are good but lack a permission on this stream.
    Denied,
    /// The stream does not exist.
    StreamNotFound,
    /// GetClip found no fragments. For a planned chunk this is never a gap.
    NoMedia,
    /// The range is outside of the stream's retention.
    OutsideRetention,
    /// The service cannot make a clip of this media.
    MediaRefused,
    /// No clip can be made of the stream's media, whatever the range.
    MediaUnsupported,
    /// The service will never accept this request.
    Invalid,
    /// The bytes could not be kept on this machine.
    Local,
    /// The service was away, or throttled every request of the stream, for as long as the user would wait.
    Away,
}

impl FailureKind {
    /// How the audit trail records it.
    pub const fn outcome(self) -> AttemptOutcome {
        match self {
            Self::Throttled => AttemptOutcome::Throttled,
            Self::Transient | Self::Local | Self::Away => AttemptOutcome::Transient,
            Self::Auth => AttemptOutcome::Auth,
            Self::Denied
            | Self::StreamNotFound
            | Self::NoMedia
            | Self::OutsideRetention
            | Self::MediaRefused
            | Self::MediaUnsupported
            | Self::Invalid => AttemptOutcome::Permanent,
        }
    }
}

/// A call to the archive failed.
#[derive(Debug, thiserror::Error)]
#[error("{api} for {stream}: {message}")]
pub struct ArchiveError {
    /// The API's name.
    pub api: &'static str,
    /// The stream's name.
    pub stream: String,
    /// What it means.
    pub kind: FailureKind,
    /// The service's error code, if it answered with one.
    pub code: Option<String>,
    /// The service's words, or what went wrong on the way.
    pub message: String,
    /// The answer's request id, if an answer came.
    pub request_id: Option<String>,
    /// What the sink said, where the bytes could not be kept.
    #[source]
    pub source: Option<std::io::Error>,
}

impl ArchiveError {
    /// The IAM action that the call needs.
    pub fn iam_action(&self) -> String {
        format!("kinesisvideo:{}", self.api)
    }
}
