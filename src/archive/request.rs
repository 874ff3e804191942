//! The calls, each as one value that can be sent again: what it costs, what it needs, what would show that the
//! service answers.

use async_trait::async_trait;

use super::limit::{Cost, Pace};
use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, DataApi, FragmentPage, ListQuery,
    StreamDescription, StreamPage, StreamQuery,
};
use crate::model::{StreamArn, StreamSelector};

/// A cheap request that shows whether the service answers for the stream, other than the one that fails.
#[derive(Debug)]
pub(super) enum Evidence {
    /// One fragment of a listing.
    Listing(Box<ListQuery>),
    /// DescribeStream.
    Describe(StreamArn),
    /// None: other streams have to show it.
    OtherStreams,
}

/// What the quota and the health of calls on no stream are kept under: the account's. No stream can be called so.
const ACCOUNT: &str = "*";

/// What a call is about: a stream, or those of the account.
pub(super) struct Subject<'a> {
    pub(super) name: &'a str,
    key: &'a str,
    arn: Option<&'a StreamArn>,
}

impl Subject<'_> {
    /// What its points and its health are kept under.
    pub(super) fn key(&self) -> &str {
        self.key
    }
}

impl<'a> From<&'a StreamArn> for Subject<'a> {
    fn from(arn: &'a StreamArn) -> Self {
        Self { name: arn.name(), key: arn.as_str(), arn: Some(arn) }
    }
}

impl<'a> From<&'a StreamSelector> for Subject<'a> {
    fn from(selector: &'a StreamSelector) -> Self {
        match selector {
            StreamSelector::Arn(arn) => arn.into(),
            StreamSelector::Name(name) => Self { name, key: name, arn: None },
        }
    }
}

/// One call.
#[async_trait]
pub(super) trait Request: Send {
    /// What the service answers.
    type Answer: Send;

    /// The API's name.
    fn api(&self) -> &'static str;
    /// What it is about.
    fn subject(&self) -> Subject<'_>;
    fn cost(&self) -> Cost {
        Cost::Control(self.api())
    }
    /// The endpoint that it goes to, when it is not the control plane's.
    fn endpoint(&self) -> Option<(&StreamArn, DataApi)> {
        None
    }
    /// How many requests may fail, where that is fewer than for any call.
    fn attempts(&self) -> u32 {
        u32::MAX
    }
    fn evidence(&self) -> Evidence {
        self.subject().arn.map_or(Evidence::OtherStreams, |arn| Evidence::Describe(arn.clone()))
    }
    /// Sends it, once.
    async fn send(
        &mut self,
        archive: &dyn Archive,
        pace: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<Self::Answer, ArchiveError>;
}

pub(super) struct Describe<'a>(pub(super) &'a StreamSelector);

#[async_trait]
impl Request for Describe<'_> {
    type Answer = StreamDescription;

    fn api(&self) -> &'static str {
        "DescribeStream"
    }

    fn subject(&self) -> Subject<'_> {
        self.0.into()
    }

    // Nothing cheaper shows that the stream's part of the service answers.
    fn evidence(&self) -> Evidence {
        Evidence::OtherStreams
    }

    async fn send(
        &mut self,
        archive: &dyn Archive,
        _: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        archive.describe_stream(self.0, observer).await
    }
}

pub(super) struct ListStreams<'a> {
    query: &'a StreamQuery,
    /// The prefix with its `*`, for messages.
    shown: String,
}

impl<'a> ListStreams<'a> {
    pub(super) fn of(query: &'a StreamQuery) -> Self {
        Self { query, shown: query.prefix.to_string() }
    }
}

#[async_trait]
impl Request for ListStreams<'_> {
    type Answer = StreamPage;

    fn api(&self) -> &'static str {
        "ListStreams"
    }

    fn subject(&self) -> Subject<'_> {
        Subject { name: &self.shown, key: ACCOUNT, arn: None }
    }

    async fn send(
        &mut self,
        archive: &dyn Archive,
        _: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        archive.list_streams(self.query, observer).await
    }
}

pub(super) struct ListTags<'a>(pub(super) &'a StreamArn);

#[async_trait]
impl Request for ListTags<'_> {
    type Answer = Vec<(String, String)>;

    fn api(&self) -> &'static str {
        "ListTagsForStream"
    }

    fn subject(&self) -> Subject<'_> {
        self.0.into()
    }

    async fn send(
        &mut self,
        archive: &dyn Archive,
        _: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<Self::Answer, ArchiveError> {
        archive.list_tags(self.0, observer).await
    }
}

pub(super) struct FindEndpoint<'a>(pub(super) &'a StreamArn, pub(super) DataApi);

#[async_trait]
impl Request for FindEndpoint<'_> {
    type Answer = ();

    fn api(&self) -> &'static str {
        "GetDataEndpoint"
    }

    fn subject(&self) -> Subject<'_> {
        self.0.into()
    }

    async fn send(
        &mut self,
        archive: &dyn Archive,
        _: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<(), ArchiveError> {
        archive.find_endpoint(self.0, self.1, observer).await
    }
}

pub(super) struct List<'a>(pub(super) &'a ListQuery);

#[async_trait]
impl Request for List<'_> {
    type Answer = FragmentPage;

    fn api(&self) -> &'static str {
        "ListFragments"
    }

    fn subject(&self) -> Subject<'_> {
        (&self.0.stream).into()
    }

    fn cost(&self) -> Cost {
        Cost::Listing(self.0.page_size)
    }

    fn endpoint(&self) -> Option<(&StreamArn, DataApi)> {
        Some((&self.0.stream, DataApi::ListFragments))
    }

    async fn send(
        &mut self,
        archive: &dyn Archive,
        _: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        archive.list_fragments(self.0, observer).await
    }
}

pub(super) struct Clip<'a> {
    pub(super) query: &'a ClipQuery,
    pub(super) sink: &'a mut dyn ClipSink,
}

#[async_trait]
impl Request for Clip<'_> {
    type Answer = u64;

    fn api(&self) -> &'static str {
        "GetClip"
    }

    fn subject(&self) -> Subject<'_> {
        (&self.query.stream).into()
    }

    fn cost(&self) -> Cost {
        Cost::Clip(self.query.fragments)
    }

    fn endpoint(&self) -> Option<(&StreamArn, DataApi)> {
        Some((&self.query.stream, DataApi::GetClip))
    }

    fn attempts(&self) -> u32 {
        self.query.attempts
    }

    fn evidence(&self) -> Evidence {
        if !self.query.may_list {
            return Evidence::Describe(self.query.stream.clone());
        }
        Evidence::Listing(Box::new(ListQuery {
            stream: self.query.stream.clone(),
            timestamps: self.query.timestamps,
            bounds: self.query.bounds,
            page_size: 1,
            next_token: None,
        }))
    }

    async fn send(
        &mut self,
        archive: &dyn Archive,
        pace: &Pace,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let mut sink = PacedSink { inner: &mut *self.sink, pace, unpaid: 0 };
        archive.get_clip(self.query, &mut sink, observer).await
    }
}

/// A sink that takes the next bytes when the bandwidth allows it.
struct PacedSink<'a> {
    inner: &'a mut dyn ClipSink,
    pace: &'a Pace,
    unpaid: u64,
}

#[async_trait]
impl ClipSink for PacedSink<'_> {
    fn restart(&mut self) -> std::io::Result<()> {
        self.inner.restart()
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.unpaid += bytes.len() as u64;
        self.inner.write(bytes)
    }

    async fn ready(&mut self) {
        self.pace.pay(std::mem::take(&mut self.unpaid)).await;
        self.inner.ready().await;
    }
}
