//! One request to the service, as the audit trail keeps it.

use serde::{Deserialize, Serialize};

use super::time::UtcMillis;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The answer was whole.
    Succeeded,
    /// A quota was spent; costs no attempt.
    Throttled,
    /// The service or the network failed in a way that passes.
    Transient,
    /// The service said no and will say no again.
    Permanent,
    /// The credentials are not accepted any more.
    Auth,
    /// The run was stopped meanwhile.
    Cancelled,
}

impl AttemptOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::Throttled, Self::Transient, Self::Permanent, Self::Auth, Self::Cancelled];

    /// The word in the state file and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Auth => "auth",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// One request, answered or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The API's name, `GetClip` say.
    pub api: String,
    /// When it was sent.
    pub started: UtcMillis,
    /// Milliseconds until its answer was read or given up.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The answer's `x-amzn-RequestId`, if an answer came.
    pub request_id: Option<String>,
    /// The error in words, without secrets; `None` on success.
    pub error: Option<String>,
    /// Bytes of media received, whole or not.
    pub bytes: u64,
}
