//! Records every request, answered or not, in the audit trail and in the operator's log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;

use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, FragmentPage, ListQuery, StreamDescription,
};
use crate::clock::{Clock, SystemClock};
use crate::model::{Attempt, AttemptOutcome, StreamArn, StreamSelector, UtcMillis};

/// Reports each attempt to the observer.
#[derive(Debug)]
pub(super) struct Log<A> {
    inner: A,
}

impl<A> Log<A> {
    pub(super) fn new(inner: A) -> Self {
        Self { inner }
    }
}

/// One request on its way.
struct Trace<'a> {
    api: &'static str,
    stream: &'a str,
    started: UtcMillis,
    clock: Instant,
    bytes: AtomicU64,
    observer: &'a dyn CallObserver,
}

impl<'a> Trace<'a> {
    fn begin(api: &'static str, stream: &'a str, observer: &'a dyn CallObserver) -> Self {
        let started = SystemClock.now();
        Self { api, stream, started, clock: Instant::now(), bytes: AtomicU64::new(0), observer }
    }

    fn end<T>(&self, result: &Result<T, ArchiveError>, request_id: Option<String>) {
        let duration_ms = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let error = result.as_ref().err();
        let request_id = error.and_then(|error| error.request_id.clone()).or(request_id);
        let outcome = error.map_or(AttemptOutcome::Succeeded, |error| error.kind.outcome());
        tracing::debug!(
            api = self.api,
            stream = self.stream,
            outcome = outcome.as_str(),
            request_id = request_id.as_deref(),
            duration_ms,
            bytes,
            error = error.map(tracing::field::display),
            "request"
        );
        self.observer.attempt(Attempt {
            api: self.api.to_owned(),
            started: self.started,
            duration_ms,
            outcome,
            request_id,
            error: error.map(|error| error.message.clone()),
            bytes,
        });
    }
}

/// Catches the request id and the bytes that the implementation reports, and hands the bytes on.
struct Catch<'a> {
    trace: &'a Trace<'a>,
    request_id: std::sync::Mutex<Option<String>>,
}

impl<'a> Catch<'a> {
    fn new(trace: &'a Trace<'a>) -> Self {
        Self { trace, request_id: std::sync::Mutex::new(None) }
    }

    fn request_id(&self) -> Option<String> {
        self.request_id.lock().ok().and_then(|mut id| id.take())
    }
}

impl CallObserver for Catch<'_> {
    fn answered(&self, request_id: Option<&str>) {
        if let Ok(mut id) = self.request_id.lock() {
            *id = request_id.map(str::to_owned);
        }
    }

    fn attempt(&self, attempt: Attempt) {
        self.trace.observer.attempt(attempt);
    }

    fn retrying(&self, error: &ArchiveError, attempt: u32, delay_ms: u64) {
        self.trace.observer.retrying(error, attempt, delay_ms);
    }

    fn bytes(&self, count: u64) {
        self.trace.bytes.fetch_add(count, Ordering::Relaxed);
        self.trace.observer.bytes(count);
    }
}

#[async_trait]
impl<A: Archive> Archive for Log<A> {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        let trace = Trace::begin("DescribeStream", stream.name(), observer);
        let catch = Catch::new(&trace);
        let result = self.inner.describe_stream(stream, &catch).await;
        trace.end(&result, catch.request_id());
        result
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let trace = Trace::begin("ListTagsForStream", stream.name(), observer);
        let catch = Catch::new(&trace);
        let result = self.inner.list_tags(stream, &catch).await;
        trace.end(&result, catch.request_id());
        result
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        let trace = Trace::begin("ListFragments", query.stream.name(), observer);
        let catch = Catch::new(&trace);
        let result = self.inner.list_fragments(query, &catch).await;
        trace.end(&result, catch.request_id());
        result
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let trace = Trace::begin("GetClip", query.stream.name(), observer);
        let catch = Catch::new(&trace);
        let result = self.inner.get_clip(query, sink, &catch).await;
        trace.end(&result, catch.request_id());
        result
    }
}
