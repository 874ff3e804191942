//! Collects the requests of one task for the audit trail, and tells the user of throttles and repetitions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::archive::{ArchiveError, CallObserver, FailureKind};
use crate::model::Attempt;
use crate::model::event::{EventSink, PauseReason, RunEvent};

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

    fn paused(&self, stream: &str, reason: PauseReason, retry: Duration) {
        let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
        self.events.event(RunEvent::StreamPaused { stream: stream.to_owned(), reason, retry_ms });
    }

    fn resumed(&self, stream: &str) {
        self.events.event(RunEvent::StreamResumed { stream: stream.to_owned() });
    }
}
