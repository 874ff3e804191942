//! Chunks: one API call's worth of fragments, and the states they pass through.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::UtcMillis;

/// A chunk's row in the state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkId(pub i64);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The two instants of a request, **both inclusive**, on the selecting clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestBounds {
    /// The first instant asked for.
    pub start: UtcMillis,
    /// The last instant asked for.
    pub end: UtcMillis,
}

/// Where a chunk stands.
///
/// ```text
///             ┌──────────────── Interrupted ───────────────────────┐
///             ▼                                                    │
///   ┌──► planned ── Started ──► fetching ──┬─ Fetched ────► fetched
///   │       ▲ ▲                            ├─ FoundEmpty ─► empty      (fixed windows only)
///   │       │ └───── Lost ── (fetched)     ├─ Refused ────► rejected   (fragments that cannot be told apart, refused)
///   │       │                              ├─ Expired ────► expired    (past retention)
///   │       └────── Reopened ── failed ◄───┼─ GaveUp
///   │                                      └─ Split ──────► split      (replaced by its children)
///   └── children of a split begin here
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkState {
    /// To be fetched.
    Planned,
    /// A worker has it.
    Fetching,
    /// Its file is on disk, whole, synced and hashed.
    Fetched,
    /// A fixed window without media.
    Empty,
    /// The service refuses exactly this fragment, or fragments too close to be told apart.
    Rejected,
    /// Its fragments are past retention.
    Expired,
    /// The attempts are used up; the next run tries again.
    Failed,
    /// Replaced by smaller chunks.
    Split,
}

/// What can happen to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkEvent {
    /// A worker takes it.
    Started,
    /// Its file is whole and synced under its final name.
    Fetched,
    /// A fixed window had no media.
    FoundEmpty,
    /// The service refuses its only fragment.
    Refused,
    /// Its fragments are past retention.
    Expired,
    /// Its attempts are used up, or the error cannot pass.
    GaveUp,
    /// Smaller chunks take its place.
    Split,
    /// The run that fetched it ended first.
    Interrupted,
    /// Its file is gone, shortened or altered.
    Lost,
    /// A later run tries it again.
    Reopened,
}

impl ChunkState {
    /// Every state, in the order of the diagram.
    pub const ALL: [Self; 8] = [
        Self::Planned,
        Self::Fetching,
        Self::Fetched,
        Self::Empty,
        Self::Rejected,
        Self::Expired,
        Self::Failed,
        Self::Split,
    ];

    /// The state that `event` leads to, or `None` where it cannot happen.
    pub const fn after(self, event: ChunkEvent) -> Option<Self> {
        use ChunkEvent as E;
        match (self, event) {
            (Self::Planned, E::Started) => Some(Self::Fetching),
            (Self::Fetching, E::Fetched) => Some(Self::Fetched),
            (Self::Fetching, E::FoundEmpty) => Some(Self::Empty),
            (Self::Fetching, E::Refused) => Some(Self::Rejected),
            (Self::Fetching, E::Expired) => Some(Self::Expired),
            (Self::Fetching, E::GaveUp) => Some(Self::Failed),
            (Self::Fetching, E::Split) => Some(Self::Split),
            (Self::Fetching, E::Interrupted) | (Self::Fetched, E::Lost) | (Self::Failed, E::Reopened) => {
                Some(Self::Planned)
            }
            _ => None,
        }
    }

    /// The word in the state file and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Fetching => "fetching",
            Self::Fetched => "fetched",
            Self::Empty => "empty",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Split => "split",
        }
    }

    /// The state of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chunk_in_a_workers_hands_can_be_settled() {
        for state in ChunkState::ALL {
            for event in [ChunkEvent::Fetched, ChunkEvent::Expired, ChunkEvent::Split, ChunkEvent::GaveUp] {
                assert_eq!(
                    state.after(event).is_some(),
                    state == ChunkState::Fetching,
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn every_state_has_its_own_word() {
        for state in ChunkState::ALL {
            assert_eq!(ChunkState::parse(state.as_str()), Some(state));
        }
    }
}
