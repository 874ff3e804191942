//! Exports: their identity and the states they pass through.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An export's identity: 16 hex digits of the SHA-256 over everything that decides its output's content and path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportId(pub String);

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an export stands.
///
/// ```text
///  planning ── Planned ──► fetching ── MergeStarted ──► merging ──┬─ Completed ──────► done
///     │  ▲                  │  ▲  ▲                      │        └─ CompletedPartly ► partial
///     │  │                  │  │  └──── Interrupted ─────┘
///     │  └─ ReopenedToPlan  │  └─ Reopened ── failed ◄── GaveUp (from any of the three)
///     │     (failed)        └─ FoundEmpty ──► empty
///     └──── (windows are still being listed)
///  done, partial ── Redone ──► planning
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportState {
    /// Its windows are being listed; planned chunks are fetched meanwhile.
    Planning,
    /// All windows are planned, chunks are outstanding.
    Fetching,
    /// All chunks are settled; the output is being written.
    Merging,
    /// The output stands, proven whole.
    Done,
    /// The output stands; fragments that the service refused or let expire are missing and named.
    Partial,
    /// The range holds no media.
    Empty,
    /// This run could not finish it; the next one tries again.
    Failed,
}

/// What can happen to an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportEvent {
    /// The last window is planned.
    Planned,
    /// The merge begins.
    MergeStarted,
    /// The output stands whole.
    Completed,
    /// The output stands without some fragments.
    CompletedPartly,
    /// No media, by either clock.
    FoundEmpty,
    /// It cannot be finished in this run.
    GaveUp,
    /// The run ended during the merge, or a chunk was lost.
    Interrupted,
    /// A later run goes on with fetching.
    Reopened,
    /// A later run goes on with planning.
    ReopenedToPlan,
    /// The user asked for it again.
    Redone,
}

impl ExportState {
    /// Every state, in the order of the diagram.
    pub const ALL: [Self; 7] =
        [Self::Planning, Self::Fetching, Self::Merging, Self::Done, Self::Partial, Self::Empty, Self::Failed];

    /// The state that `event` leads to, or `None` where it cannot happen.
    pub const fn after(self, event: ExportEvent) -> Option<Self> {
        use ExportEvent as E;
        match (self, event) {
            (Self::Planning, E::Planned) | (Self::Merging, E::Interrupted) | (Self::Failed, E::Reopened) => {
                Some(Self::Fetching)
            }
            (Self::Fetching, E::MergeStarted) => Some(Self::Merging),
            (Self::Fetching, E::FoundEmpty) => Some(Self::Empty),
            (Self::Merging, E::Completed) => Some(Self::Done),
            (Self::Merging, E::CompletedPartly) => Some(Self::Partial),
            (Self::Planning | Self::Fetching | Self::Merging, E::GaveUp) => Some(Self::Failed),
            (Self::Failed, E::ReopenedToPlan) | (Self::Done | Self::Partial | Self::Empty, E::Redone) => {
                Some(Self::Planning)
            }
            _ => None,
        }
    }

    /// Whether a run leaves it alone.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Partial | Self::Empty)
    }

    /// The word in the state file and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Fetching => "fetching",
            Self::Merging => "merging",
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Empty => "empty",
            Self::Failed => "failed",
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
    fn a_final_export_only_begins_again_when_redone() {
        let events = [
            ExportEvent::Planned,
            ExportEvent::MergeStarted,
            ExportEvent::Completed,
            ExportEvent::CompletedPartly,
            ExportEvent::FoundEmpty,
            ExportEvent::GaveUp,
            ExportEvent::Interrupted,
            ExportEvent::Reopened,
            ExportEvent::ReopenedToPlan,
        ];
        for state in ExportState::ALL.into_iter().filter(|state| state.is_final()) {
            assert!(events.iter().all(|event| state.after(*event).is_none()), "{state:?}");
            assert_eq!(state.after(ExportEvent::Redone), Some(ExportState::Planning));
        }
    }

    #[test]
    fn every_state_has_its_own_word() {
        for state in ExportState::ALL {
            assert_eq!(ExportState::parse(state.as_str()), Some(state));
        }
    }
}
