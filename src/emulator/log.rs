//! What was asked of the emulator and what it answered, for tests to read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{FragmentNumber, UtcMillis};

use super::api::Api;
use super::archive::Selector;
use super::fault::Fault;

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// When it arrived, on the emulator's clock.
    pub at: UtcMillis,
    /// The call.
    pub api: Api,
    /// The stream's name; empty where the call has none or the request named none.
    pub stream: String,
    /// The region that the request was signed for.
    pub region: Option<String>,
    /// The answer's `x-amzn-RequestId`.
    pub request_id: String,
    /// The answer's status; `None` while there is none, or when the connection was reset before.
    pub status: Option<u16>,
    /// The error's code.
    pub error: Option<String>,
    /// The faults that befell it. One that found nothing to spoil is not among them.
    pub faults: Vec<Fault>,
    /// The range asked for.
    pub selector: Option<Selector>,
    /// `MaxResults` as it counts, the default included.
    pub max_results: Option<u32>,
    /// Whether a `NextToken` was sent: a further page of a listing.
    pub continued: bool,
    /// The fragments in the answer, in its order.
    pub fragments: Vec<FragmentNumber>,
    /// Points spent: `MaxResults` of a listing, fragments of a clip.
    pub points: u32,
    /// Whether the quota refused it (as opposed to an injected throttle).
    pub over_quota: bool,
    /// Bytes of body handed to the socket.
    pub bytes_sent: u64,
    /// Whether the whole body was handed to the socket.
    pub completed: bool,
}

/// What became of all requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests that arrived.
    pub requests: u64,
    /// Those answered with an error.
    pub refused: u64,
    /// Those of them that the quota refused.
    pub over_quota: u64,
    /// Requests that a fault befell.
    pub faulty: u64,
    /// Connections that were closed before a request, by [`Fault::Away`].
    pub connections_closed: u64,
}

/// The requests so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    records: Mutex<Vec<RequestRecord>>,
    connections_closed: AtomicU64,
}

/// A request's place in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry(usize);

impl Log {
    fn records(&self) -> MutexGuard<'_, Vec<RequestRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, record: RequestRecord) -> Entry {
        let mut records = self.records();
        records.push(record);
        Entry(records.len() - 1)
    }

    pub(super) fn update(&self, entry: Entry, change: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = self.records().get_mut(entry.0) {
            change(record);
        }
    }

    /// Notes that a fault took effect on a request.
    pub(super) fn befell(&self, entry: Entry, fault: &Fault) {
        self.update(entry, |record| {
            if !record.faults.contains(fault) {
                record.faults.push(fault.clone());
            }
        });
    }

    pub(super) fn connection_closed(&self) {
        self.connections_closed.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn snapshot(&self) -> Vec<RequestRecord> {
        self.records().clone()
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally =
            Tally { connections_closed: self.connections_closed.load(Ordering::SeqCst), ..Tally::default() };
        for record in self.records().iter() {
            tally.requests += 1;
            tally.refused += u64::from(record.status.is_some_and(|status| status >= 400));
            tally.over_quota += u64::from(record.over_quota);
            tally.faulty += u64::from(!record.faults.is_empty());
        }
        tally
    }
}
