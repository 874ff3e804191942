//! The archive of one account, as this program sees it: a trait, its AWS implementation, decorators around it.
//!
//! ```text
//! Retry (attempts, back-off, renewal; asks Pace for leave before each request)  →  Log (audit trail)  →  AWS
//! Pace  (points, requests in flight, bandwidth, pauses)
//! ```
//!
//! [`assemble`] is the only place that stacks them; the rules are in `design/pacing.md`. The AWS SDK's own retries are off: they hide attempts from
//! the audit trail and do not know the service's throttling error.

mod aws;
mod classify;
mod error;
mod limit;
mod log;
mod redact;
mod request;
mod retry;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::event::PauseReason;
use crate::model::{
    Attempt, Fragment, ListedStream, RequestBounds, StreamArn, StreamPrefix, StreamSelector, TimestampKind,
    UtcMillis,
};

pub use aws::{AwsArchive, AwsSettings, ConnectError};
pub use error::{ArchiveError, FailureKind};
pub use limit::{LimitSettings, MEDIA_POINTS_PER_SECOND, METADATA_POINTS_PER_SECOND, Pace};
pub use retry::{RetrySettings, jitter};

/// What DescribeStream and ListTagsForStream say of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    /// Its ARN, which ends in its creation time.
    pub arn: StreamArn,
    /// When it was created.
    pub created: Option<UtcMillis>,
    /// How long it keeps fragments, in hours; 0 keeps none.
    pub retention_hours: u32,
    /// The key that encrypts it.
    pub kms_key: Option<String>,
    /// What the producer says of its media.
    pub media_type: Option<String>,
}

/// One page of the account's streams to ask for.
#[derive(Debug, Clone)]
pub struct StreamQuery {
    /// What their names begin with.
    pub prefix: StreamPrefix,
    /// Where the page before ended.
    pub next_token: Option<String>,
}

/// One page of the account's streams, in no order.
#[derive(Debug, Clone, Default)]
pub struct StreamPage {
    /// The streams.
    pub streams: Vec<ListedStream>,
    /// Where the next page begins; `None` on the last.
    pub next_token: Option<String>,
}

/// One page of a listing to ask for.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// The stream.
    pub stream: StreamArn,
    /// The clock that selects.
    pub timestamps: TimestampKind,
    /// Inclusive bounds.
    pub bounds: RequestBounds,
    /// `MaxResults`, 1 to 1000; what the page costs in metadata points.
    pub page_size: u32,
    /// Where the page before ended.
    pub next_token: Option<String>,
}

/// One page of a listing, in no order.
#[derive(Debug, Clone, Default)]
pub struct FragmentPage {
    /// The fragments.
    pub fragments: Vec<Fragment>,
    /// Where the next page begins; `None` on the last.
    pub next_token: Option<String>,
}

/// One clip to ask for.
#[derive(Debug, Clone)]
pub struct ClipQuery {
    /// The stream.
    pub stream: StreamArn,
    /// The clock that selects.
    pub timestamps: TimestampKind,
    /// Inclusive bounds.
    pub bounds: RequestBounds,
    /// How many fragments they select: what the request costs in points.
    pub fragments: u32,
    /// How many requests may fail before the call does, where that is fewer than for any call.
    pub attempts: u32,
    /// Whether a listing may be asked for to see whether the service answers, where clips fail.
    pub may_list: bool,
}

/// An API of a stream's archive; each has an endpoint of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataApi {
    /// ListFragments.
    ListFragments,
    /// GetClip.
    GetClip,
}

/// Where the bytes of a clip go.
#[async_trait]
pub trait ClipSink: Send {
    /// Begins anew: what an earlier attempt wrote is worthless.
    fn restart(&mut self) -> io::Result<()>;
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Waits until more may be read; the answer is not idle meanwhile.
    async fn ready(&mut self) {}
}

/// Who is told about each request as it happens.
pub trait CallObserver: Send + Sync {
    /// The head of an answer came; its request id, if it has one.
    fn answered(&self, _request_id: Option<&str>) {}
    /// A request ended, well or not.
    fn attempt(&self, attempt: Attempt);
    /// A request will be sent again after a pause.
    fn retrying(&self, error: &ArchiveError, attempt: u32, delay_ms: u64);
    /// Bytes of media arrived.
    fn bytes(&self, count: u64);
    /// A clip was got or given up; so many attempts of its budget it cost.
    fn spent(&self, _attempts: u32) {}
    /// Requests of the stream wait; one is tried after `retry`.
    fn paused(&self, stream: &str, reason: PauseReason, retry: Duration);
    /// The paused stream answers again.
    fn resumed(&self, stream: &str);
}

/// An archive. Every method is one API call, or one page of it.
#[async_trait]
pub trait Archive: Send + Sync {
    /// DescribeStream.
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError>;

    /// ListStreams, one page.
    async fn list_streams(
        &self,
        query: &StreamQuery,
        observer: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError>;

    /// ListTagsForStream, all pages.
    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError>;

    /// Whether a call of that API needs GetDataEndpoint first.
    fn needs_endpoint(&self, _stream: &StreamArn, _api: DataApi) -> bool {
        false
    }

    /// GetDataEndpoint: keeps the endpoint for the calls of that API.
    async fn find_endpoint(
        &self,
        _stream: &StreamArn,
        _api: DataApi,
        _observer: &dyn CallObserver,
    ) -> Result<(), ArchiveError> {
        Ok(())
    }

    /// ListFragments, one page.
    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError>;

    /// GetClip; the body goes to `sink`, whole or not at all: on an error what the sink has is worthless.
    ///
    /// Gives the number of bytes.
    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError>;
}

/// An archive within its decorators.
#[derive(Clone)]
pub struct Assembled {
    /// What requests go through.
    pub archive: Arc<dyn Archive>,
    /// When the next of them would be sent.
    pub pace: Arc<Pace>,
}

/// Stacks the decorators around an archive.
pub fn assemble(inner: impl Archive + 'static, limits: LimitSettings, retries: RetrySettings) -> Assembled {
    let pace = Arc::new(Pace::new(limits, retries.outage));
    let archive = Arc::new(retry::Retry::new(log::Log::new(inner), Arc::clone(&pace), retries));
    Assembled { archive, pace }
}
