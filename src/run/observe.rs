//! Collects the requests of one task for the audit trail, and tells the user of throttles and repetitions.

use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::{ArchiveError, CallObserver, FailureKind};
use crate::model::Attempt;
use crate::model::event::{EventSink, RunEvent};

/// The observer of one task's calls.
pub(super) struct Observer {
    events: Arc<dyn EventSink>,
    attempts: Mutex<Vec<Attempt>>,
}

impl Observer {
    pub(super) fn new(events: &Arc<dyn EventSink>) -> Self {
        Self { events: Arc::clone(events), attempts: Mutex::default() }
    }

    /// What was requested.
    pub(super) fn into_attempts(self) -> Vec<Attempt> {
        self.attempts.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallObserver for Observer {
    fn attempt(&self, attempt: Attempt) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }

    fn retrying(&self, error: &ArchiveError, attempt: u32, delay_ms: u64) {
        let stream = error.stream.clone();
        self.events.event(if error.kind == FailureKind::Throttled {
            RunEvent::Throttled { stream }
        } else {
            RunEvent::Retrying {
                stream,
                api: error.api.to_owned(),
                attempt,
                delay_ms,
                error: error.message.clone(),
            }
        });
    }

    fn bytes(&self, bytes: u64) {
        self.events.event(RunEvent::BytesReceived { bytes });
    }
}
