//! Whose turn it is: what may be asked of each stream now, and how long until more may.
//!
//! The limiter behind the archive keeps every request within its stream's points, whoever sends it. What is decided
//! here is who gets the run's places meanwhile: a task that would only wait for points, or for a service that is
//! away, must not stand where another stream's could be transferring.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::observe::Observer;
use crate::archive::{ArchiveError, CallObserver, Pace};
use crate::model::event::PauseReason;
use crate::model::{Attempt, StreamArn};

/// A stream whose next point is further away than this is paused: its tasks wait and transfer nothing.
///
/// One that is merely at its limit has its next point within milliseconds. Taking a slow stream for a paused one
/// does no harm: the limiter counts requests in flight by itself.
const PAUSED: Duration = Duration::from_millis(250);

/// How soon to look again at a stream that says nothing of when it goes on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What has been given out for a stream.
#[derive(Debug, Default)]
struct Load {
    fetching: usize,
    listing: usize,
    /// Those that wait to repeat a request.
    resting_fetches: Arc<AtomicUsize>,
    resting_listings: Arc<AtomicUsize>,
    /// Points of tasks that have not begun, and so have not spent them.
    unspent_clips: Arc<AtomicU32>,
    unspent_listings: Arc<AtomicU32>,
}

/// What has been given out, and to whom more may be.
#[derive(Debug)]
pub(super) struct Turns {
    pace: Arc<Pace>,
    loads: HashMap<StreamArn, Load>,
}

impl Load {
    fn running_fetches(&self) -> usize {
        self.fetching.saturating_sub(self.resting_fetches.load(Ordering::Relaxed))
    }

    fn running_listings(&self) -> usize {
        self.listing.saturating_sub(self.resting_listings.load(Ordering::Relaxed))
    }
}

/// What a task takes with it from the account of its stream.
pub(super) struct Share {
    unspent: Unspent,
    resting: Arc<AtomicUsize>,
}

impl Share {
    /// Splits it into the points, which are spent first, and the place.
    pub(super) fn watch(self, observer: &Observer) -> (Unspent, Watched<'_>) {
        (self.unspent, Watched { observer, resting: self.resting, is_resting: AtomicBool::new(false) })
    }
}

/// Notices, on the way to the observer, that a task waits to repeat its request.
pub(super) struct Watched<'a> {
    observer: &'a Observer,
    resting: Arc<AtomicUsize>,
    is_resting: AtomicBool,
}

impl Watched<'_> {
    fn rest(&self, is_resting: bool) {
        match (self.is_resting.swap(is_resting, Ordering::Relaxed), is_resting) {
            (false, true) => self.resting.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.resting.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.rest(false);
    }
}

impl CallObserver for Watched<'_> {
    fn answered(&self, request_id: Option<&str>) {
        self.rest(false);
        self.observer.answered(request_id);
    }

    fn attempt(&self, attempt: Attempt) {
        self.observer.attempt(attempt);
    }

    fn retrying(&self, error: &ArchiveError, attempt: u32, delay_ms: u64) {
        self.rest(true);
        self.observer.retrying(error, attempt, delay_ms);
    }

    fn bytes(&self, count: u64) {
        self.observer.bytes(count);
    }

    fn spent(&self, attempts: u32) {
        self.observer.spent(attempts);
    }

    fn paused(&self, stream: &str, reason: PauseReason, retry: Duration) {
        self.observer.paused(stream, reason, retry);
    }

    fn resumed(&self, stream: &str) {
        self.observer.resumed(stream);
    }
}

/// Takes points off a stream's account once they are spent.
pub(super) struct Unspent {
    account: Arc<AtomicU32>,
    points: u32,
}

impl Unspent {
    fn new(account: &Arc<AtomicU32>, points: u32) -> Self {
        account.fetch_add(points, Ordering::Relaxed);
        Self { account: Arc::clone(account), points }
    }
}

impl Drop for Unspent {
    fn drop(&mut self) {
        self.account.fetch_sub(self.points, Ordering::Relaxed);
    }
}

/// Carries a task out. The limiter takes a request's points when it is first asked: from then on they are on its
/// account, and no more on this one.
pub(super) async fn spending<T>(unspent: Unspent, task: impl Future<Output = T>) -> T {
    let mut unspent = Some(unspent);
    let mut task = pin!(task);
    poll_fn(|context| {
        let polled: Poll<T> = task.as_mut().poll(context);
        unspent.take();
        polled
    })
    .await
}

impl Turns {
    pub(super) fn new(pace: &Arc<Pace>) -> Self {
        Self { pace: Arc::clone(pace), loads: HashMap::new() }
    }

    /// How long until a clip of so many fragments may be asked for.
    pub(super) fn until_clip(&self, stream: &StreamArn, fragments: u32) -> Duration {
        let unspent = self.loads.get(stream).map_or(0, |load| load.unspent_clips.load(Ordering::Relaxed));
        self.pace.until_clip(stream, fragments.saturating_add(unspent))
    }

    /// How long until a page of a listing may be asked for.
    pub(super) fn until_listing(&self, stream: &StreamArn, page_size: u32) -> Duration {
        let unspent = self.loads.get(stream).map_or(0, |load| load.unspent_listings.load(Ordering::Relaxed));
        self.pace.until_listing(stream, page_size.saturating_add(unspent))
    }

    /// Whether requests of a stream wait for more than their turn: its points are far away, or it has several tasks, and
    /// all of them wait to repeat a request.
    pub(super) fn is_paused(&self, stream: &StreamArn) -> bool {
        self.paused(stream).is_some()
    }

    /// How long until it makes sense to look again at a stream that is paused.
    pub(super) fn paused(&self, stream: &StreamArn) -> Option<Duration> {
        let wait = self.pace.until_clip(stream, 1);
        if wait > PAUSED {
            return Some(wait);
        }
        // One that rests alone gets company: an answer to the other shows that the fault is its own.
        let load = self.loads.get(stream).filter(|load| load.fetching + load.listing > 1)?;
        (load.running_fetches() + load.running_listings() == 0).then_some(LOOK_AGAIN)
    }

    /// A task that fetches is given out.
    pub(super) fn fetch_begins(&mut self, stream: &StreamArn, fragments: u32) -> Share {
        let load = self.loads.entry(stream.clone()).or_default();
        load.fetching += 1;
        let unspent = Unspent::new(&load.unspent_clips, fragments);
        Share { unspent, resting: Arc::clone(&load.resting_fetches) }
    }

    /// A task that lists is given out.
    pub(super) fn listing_begins(&mut self, stream: &StreamArn, page_size: u32) -> Share {
        let load = self.loads.entry(stream.clone()).or_default();
        load.listing += 1;
        let unspent = Unspent::new(&load.unspent_listings, page_size);
        Share { unspent, resting: Arc::clone(&load.resting_listings) }
    }

    /// A task that fetched has ended.
    pub(super) fn fetch_ended(&mut self, stream: &StreamArn) {
        self.ended(stream, |load| load.fetching = load.fetching.saturating_sub(1));
    }

    /// A task that listed has ended.
    pub(super) fn listing_ended(&mut self, stream: &StreamArn) {
        self.ended(stream, |load| load.listing = load.listing.saturating_sub(1));
    }

    fn ended(&mut self, stream: &StreamArn, change: impl FnOnce(&mut Load)) {
        if let Some(load) = self.loads.get_mut(stream) {
            change(load);
            if load.fetching == 0 && load.listing == 0 {
                self.loads.remove(stream);
            }
        }
    }

    /// Tasks that fetch: all of them, and those that hold a place.
    pub(super) fn fetching(&self) -> (usize, usize) {
        self.count(|load| (load.fetching, load.running_fetches()))
    }

    /// Tasks that list: all of them, and those that hold a place.
    pub(super) fn listing(&self) -> (usize, usize) {
        self.count(|load| (load.listing, load.running_listings()))
    }

    fn count(&self, of: impl Fn(&Load) -> (usize, usize)) -> (usize, usize) {
        let mut sum = (0, 0);
        for (stream, load) in &self.loads {
            let (all, running) = of(load);
            sum.0 += all;
            // The tasks of a paused stream only wait.
            if running > 0 && !self.is_paused(stream) {
                sum.1 += running;
            }
        }
        sum
    }
}

/// The earliest time at which there may be something to do that no task tells of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake(Option<Duration>);

impl Wake {
    /// There may be in so long.
    pub(super) fn within(&mut self, wait: Duration) {
        self.0 = Some(self.0.map_or(wait, |earlier| earlier.min(wait)));
    }

    /// How long to wait, if for anything.
    pub(super) fn wait(self) -> Option<Duration> {
        self.0
    }

    /// Waits; for ever, if only a task's end can bring something.
    pub(super) async fn sleep(self) {
        match self.0 {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fetch::tests::SilentArchive;
    use super::super::planner::NoEvents;
    use super::*;
    use crate::archive::{self, LimitSettings, RetrySettings};
    use crate::model::event::EventSink;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_rests_alone_gets_company_and_several_that_rest_get_none() {
        let limits = LimitSettings { requests_in_flight: 8, stream_budget: 1.0, bandwidth: None };
        let retries = RetrySettings { attempts: 8, outage: Duration::from_mins(1) };
        let mut turns = Turns::new(&archive::assemble(SilentArchive, limits, retries).pace);
        let arn = "arn:aws:kinesisvideo:us-west-2:123456789012:stream/front-gate/1511852108513";
        let arn = StreamArn::parse(arn).expect("an ARN");
        let events: Arc<dyn EventSink> = Arc::new(NoEvents);
        let observer = Observer::new(&events);
        let (_, first) = turns.fetch_begins(&arn, 10).watch(&observer);
        first.rest(true);
        assert!(!turns.is_paused(&arn));
        let (_, second) = turns.fetch_begins(&arn, 10).watch(&observer);
        assert!(!turns.is_paused(&arn), "the second is at work");
        second.rest(true);
        assert!(turns.is_paused(&arn));
        second.answered(None);
        assert!(!turns.is_paused(&arn));
    }
}
