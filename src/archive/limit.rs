//! Keeps requests within a share of each stream's points and within the run's requests in flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, FragmentPage, ListQuery, StreamDescription,
};
use crate::model::{StreamArn, StreamSelector};

/// Points a stream grants per second to listing and fetching together (KVS.md, "Quotas").
const METADATA_POINTS_PER_SECOND: f64 = 10_000.0;

/// Points a stream grants per second to media (KVS.md, "Quotas").
const MEDIA_POINTS_PER_SECOND: f64 = 500.0;

/// How much of the service to use.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// Requests at a time, over the whole run.
    pub requests_in_flight: usize,
    /// Share of each stream's points, 0 < share ≤ 1.
    pub stream_budget: f64,
}

/// Points that refill with time; a request may take more than is there and then waits until the debt is paid,
/// so that a request larger than a second's share is slow but never impossible.
#[derive(Debug)]
struct Bucket {
    points: f64,
    per_second: f64,
    updated: Instant,
}

impl Bucket {
    fn full(per_second: f64) -> Self {
        Self { points: per_second, per_second, updated: Instant::now() }
    }

    /// Takes `cost` points and says how long to wait before using them.
    fn take(&mut self, cost: f64) -> Duration {
        let (now, points) = self.after(cost);
        self.updated = now;
        self.points = points;
        self.wait(points)
    }

    /// How long `cost` points would have to be waited for now.
    fn delay(&self, cost: f64) -> Duration {
        self.wait(self.after(cost).1)
    }

    fn after(&self, cost: f64) -> (Instant, f64) {
        let now = Instant::now();
        let refill = now.duration_since(self.updated).as_secs_f64() * self.per_second;
        (now, (self.points + refill).min(self.per_second.max(cost)) - cost)
    }

    fn wait(&self, points: f64) -> Duration {
        Duration::from_secs_f64((-points / self.per_second).max(0.0))
    }
}

#[derive(Debug)]
struct StreamBuckets {
    metadata: Bucket,
    media: Bucket,
}

/// What is left of each stream's points, and of the run's requests in flight.
#[derive(Debug)]
pub struct Pace {
    share: f64,
    places: Semaphore,
    streams: Mutex<HashMap<StreamArn, StreamBuckets>>,
}

impl Pace {
    pub(super) fn new(settings: LimitSettings) -> Self {
        Self {
            share: settings.stream_budget,
            places: Semaphore::new(settings.requests_in_flight),
            streams: Mutex::default(),
        }
    }

    /// How long a clip of so many fragments would wait for the stream's points, were it requested now.
    pub fn until_clip(&self, stream: &StreamArn, fragments: u32) -> Duration {
        self.with(stream, |buckets| {
            buckets.metadata.delay(f64::from(fragments)).max(buckets.media.delay(f64::from(fragments)))
        })
    }

    /// How long a page of a listing would wait for the stream's points, were it requested now.
    pub fn until_listing(&self, stream: &StreamArn, page_size: u32) -> Duration {
        self.with(stream, |buckets| buckets.metadata.delay(f64::from(page_size)))
    }

    /// Waits for `metadata` and `media` points of the stream.
    async fn spend(&self, stream: &StreamArn, metadata: u32, media: u32) {
        let wait = self.with(stream, |buckets| {
            buckets.metadata.take(f64::from(metadata)).max(buckets.media.take(f64::from(media)))
        });
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn with<T>(&self, stream: &StreamArn, f: impl FnOnce(&mut StreamBuckets) -> T) -> T {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        f(streams.entry(stream.clone()).or_insert_with(|| StreamBuckets {
            metadata: Bucket::full(METADATA_POINTS_PER_SECOND * self.share),
            media: Bucket::full(MEDIA_POINTS_PER_SECOND * self.share),
        }))
    }

    /// Waits for a place among the requests in flight.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; without a permit the request would only be unlimited.
        self.places.acquire().await.ok()
    }
}

/// Waits before each request until its points and its place are there.
#[derive(Debug)]
pub(super) struct Limit<A> {
    inner: A,
    pace: Arc<Pace>,
}

impl<A> Limit<A> {
    pub(super) fn new(inner: A, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }
}

#[async_trait]
impl<A: Archive> Archive for Limit<A> {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        let _place = self.pace.place().await;
        self.inner.describe_stream(stream, observer).await
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let _place = self.pace.place().await;
        self.inner.list_tags(stream, observer).await
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        self.pace.spend(&query.stream, query.page_size, 0).await;
        let _place = self.pace.place().await;
        self.inner.list_fragments(query, observer).await
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        self.pace.spend(&query.stream, query.fragments, query.fragments).await;
        let _place = self.pace.place().await;
        self.inner.get_clip(query, sink, observer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_gets_its_share_and_no_more_over_any_second() {
        let mut bucket = Bucket::full(350.0);
        let begin = Instant::now();
        let mut spent = 0.0;
        for _ in 0..100 {
            let wait = bucket.take(200.0);
            tokio::time::sleep(wait).await;
            spent += 200.0;
            let allowed = 350.0 * (begin.elapsed().as_secs_f64() + 1.0);
            assert!(spent <= allowed + 1.0, "{spent} points by {:?}", begin.elapsed());
        }
        let rate = (spent - 350.0) / begin.elapsed().as_secs_f64();
        assert!((340.0..=351.0).contains(&rate), "{rate} points a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_larger_than_a_second_is_slow_but_not_impossible() {
        let mut bucket = Bucket::full(100.0);
        assert_eq!(bucket.take(250.0), Duration::from_millis(1_500));
    }
}
