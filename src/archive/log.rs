//! Records every request, answered or not, in the audit trail and in the operator's log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, DataApi, FragmentPage, ListQuery,
    StreamDescription, StreamPage, StreamQuery,
};
use crate::clock::{Clock, SystemClock};
use crate::model::event::PauseReason;
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

/// `-v` shows the requests that failed, `-vv` all.
macro_rules! log_request {
    ($error:expr, $($fields:tt)*) => {
        if $error.is_some() { tracing::info!($($fields)*) } else { tracing::debug!($($fields)*) }
    };
}

/// One request on its way; also its observer, to catch the request id and the bytes before they are handed on.
struct Trace<'a> {
    api: &'static str,
    stream: &'a str,
    started: UtcMillis,
    clock: Instant,
    bytes: AtomicU64,
    request_id: Mutex<Option<String>>,
    ended: AtomicBool,
    observer: &'a dyn CallObserver,
}

impl<'a> Trace<'a> {
    fn begin(api: &'static str, stream: &'a str, observer: &'a dyn CallObserver) -> Self {
        Self {
            api,
            stream,
            started: SystemClock.now(),
            clock: Instant::now(),
            bytes: AtomicU64::new(0),
            request_id: Mutex::new(None),
            ended: AtomicBool::new(false),
            observer,
        }
    }

    /// Records how the request ended.
    fn end<T>(&self, result: &Result<T, ArchiveError>) {
        match result {
            Ok(_) => self.record(AttemptOutcome::Succeeded, None),
            Err(error) => self.record(error.kind.outcome(), Some(error)),
        }
    }

    fn record(&self, outcome: AttemptOutcome, error: Option<&ArchiveError>) {
        self.ended.store(true, Ordering::Relaxed);
        let duration_ms = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let seen = self.request_id.lock().unwrap_or_else(PoisonError::into_inner).take();
        let request_id = error.and_then(|error| error.request_id.clone()).or(seen);
        log_request!(
            error,
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

impl Drop for Trace<'_> {
    /// Nobody waits for the answer any more: the run is stopped.
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.record(AttemptOutcome::Cancelled, None);
        }
    }
}

impl CallObserver for Trace<'_> {
    fn answered(&self, request_id: Option<&str>) {
        *self.request_id.lock().unwrap_or_else(PoisonError::into_inner) = request_id.map(str::to_owned);
        self.observer.answered(request_id);
    }

    fn attempt(&self, attempt: Attempt) {
        self.observer.attempt(attempt);
    }

    fn retrying(&self, error: &ArchiveError, attempt: u32, delay_ms: u64) {
        self.observer.retrying(error, attempt, delay_ms);
    }

    fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        self.observer.bytes(count);
    }

    fn paused(&self, stream: &str, reason: PauseReason, retry: Duration) {
        self.observer.paused(stream, reason, retry);
    }

    fn resumed(&self, stream: &str) {
        self.observer.resumed(stream);
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
        let result = self.inner.describe_stream(stream, &trace).await;
        trace.end(&result);
        result
    }

    async fn list_streams(
        &self,
        query: &StreamQuery,
        observer: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        let prefix = query.prefix.to_string();
        let trace = Trace::begin("ListStreams", &prefix, observer);
        let result = self.inner.list_streams(query, &trace).await;
        trace.end(&result);
        result
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let trace = Trace::begin("ListTagsForStream", stream.name(), observer);
        let result = self.inner.list_tags(stream, &trace).await;
        trace.end(&result);
        result
    }

    fn needs_endpoint(&self, stream: &StreamArn, api: DataApi) -> bool {
        self.inner.needs_endpoint(stream, api)
    }

    async fn find_endpoint(
        &self,
        stream: &StreamArn,
        api: DataApi,
        observer: &dyn CallObserver,
    ) -> Result<(), ArchiveError> {
        let trace = Trace::begin("GetDataEndpoint", stream.name(), observer);
        let result = self.inner.find_endpoint(stream, api, &trace).await;
        trace.end(&result);
        result
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        let trace = Trace::begin("ListFragments", query.stream.name(), observer);
        let result = self.inner.list_fragments(query, &trace).await;
        trace.end(&result);
        result
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let trace = Trace::begin("GetClip", query.stream.name(), observer);
        let result = self.inner.get_clip(query, sink, &trace).await;
        trace.end(&result);
        result
    }
}
