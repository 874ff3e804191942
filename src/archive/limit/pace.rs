//! When the next request of a stream may be sent: its points, its turn, a place in flight, no pause.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::bandwidth::Bandwidth;
use super::bucket::{Bucket, Rate};
use super::health::{CallId, Failure, Gate, Health, News, Plane, Verdict};
use super::{
    CONTROL_CALLS_PER_SECOND, LARGEST_CLIP, LARGEST_LISTING, LimitSettings, MEDIA_POINTS_PER_SECOND,
    METADATA_POINTS_PER_SECOND, PROBE_INTERVAL,
};
use crate::archive::CallObserver;
use crate::model::StreamArn;
use crate::model::event::PauseReason;

/// How long until it is worth asking again for a stream whose probe is on its way.
const PROBE_UNDER_WAY: Duration = Duration::from_secs(1);

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Cost {
    /// A page of a listing with that `MaxResults`.
    Listing(u32),
    /// A clip of so many fragments.
    Clip(u32),
    /// A call of the control plane, by the API's name.
    Control(&'static str),
}

impl Cost {
    const fn plane(self) -> Plane {
        match self {
            Self::Listing(_) => Plane::Listing,
            Self::Clip(_) => Plane::Clip,
            Self::Control(_) => Plane::Control,
        }
    }
}

/// Whether a request waits while the stream is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Pass {
    Ordinary,
    /// It is to show whether the service is there.
    Evidence,
}

/// What a request told of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Answered {
    /// It answered: with what was asked, or with a reason why not.
    Yes,
    /// It said that the quota is spent.
    Throttled,
    /// It failed.
    No,
}

/// The stream was paused for longer than the user wants to wait.
#[derive(Debug)]
pub(in crate::archive) struct GivenUp {
    /// The words of its last failure.
    pub(in crate::archive) last_error: String,
}

/// What is known of one stream.
#[derive(Debug)]
struct StreamPace {
    rate: Rate,
    metadata: Bucket,
    media: Bucket,
    control: HashMap<&'static str, Bucket>,
    /// When the rate was last halved.
    halved: Option<Instant>,
    health: Health,
    /// Points that requests in the queue are going to take.
    queued_metadata: u32,
    queued_media: u32,
    queues: Queues,
    changed: Arc<Notify>,
}

/// Who waits for points of a kind stands in a queue: first come, first served. A clip that waits for media does not
/// hold up a listing.
#[derive(Debug, Default)]
struct Queues {
    listing: Arc<tokio::sync::Mutex<()>>,
    clip: Arc<tokio::sync::Mutex<()>>,
    control: Arc<tokio::sync::Mutex<()>>,
}

impl StreamPace {
    fn new(share: f64, outage: Duration, now: Instant) -> Self {
        Self {
            rate: Rate::full(now),
            metadata: Bucket::full(METADATA_POINTS_PER_SECOND * share, LARGEST_LISTING, now),
            media: Bucket::full(MEDIA_POINTS_PER_SECOND * share, LARGEST_CLIP, now),
            control: HashMap::new(),
            halved: None,
            health: Health::new(outage),
            queued_metadata: 0,
            queued_media: 0,
            queues: Queues::default(),
            changed: Arc::new(Notify::new()),
        }
    }

    fn control(&mut self, api: &'static str, share: f64, now: Instant) -> &mut Bucket {
        self.control.entry(api).or_insert_with(|| Bucket::full(CONTROL_CALLS_PER_SECOND * share, 1.0, now))
    }

    /// How long until the points for a request are there.
    fn wait(&mut self, cost: Cost, share: f64, now: Instant) -> Duration {
        let rate = self.rate;
        match cost {
            Cost::Listing(points) => self.metadata.wait(points.into(), rate, now),
            Cost::Clip(points) => {
                let points = points.into();
                self.metadata.wait(points, rate, now).max(self.media.wait(points, rate, now))
            }
            Cost::Control(api) => self.control(api, share, now).wait(1.0, rate, now),
        }
    }

    fn take(&mut self, cost: Cost, share: f64, now: Instant) {
        let rate = self.rate;
        match cost {
            Cost::Listing(points) => self.metadata.take(points.into(), rate, now),
            Cost::Clip(points) => {
                self.metadata.take(points.into(), rate, now);
                self.media.take(points.into(), rate, now);
            }
            Cost::Control(api) => self.control(api, share, now).take(1.0, rate, now),
        }
    }

    /// Gives way to the stream's other clients.
    fn throttled(&mut self, sent: Instant, now: Instant) {
        let rate = self.rate;
        let control = self.control.values_mut();
        for bucket in [&mut self.metadata, &mut self.media].into_iter().chain(control) {
            bucket.empty(rate, now);
        }
        // Requests that were on their way together are one refusal, not many.
        if self.halved.is_none_or(|halved| sent >= halved) {
            self.rate.halve(now);
            self.halved = Some(now);
        }
    }

    fn queue(&mut self, cost: Cost, joins: bool) {
        let count = |queued: &mut u32, points| {
            *queued = if joins { queued.saturating_add(points) } else { queued.saturating_sub(points) };
        };
        match cost {
            Cost::Listing(points) => count(&mut self.queued_metadata, points),
            Cost::Clip(points) => {
                count(&mut self.queued_metadata, points);
                count(&mut self.queued_media, points);
            }
            Cost::Control(_) => {}
        }
    }

    /// How long until a request might be sent, were it to come now.
    fn until(&self, metadata: u32, media: u32, now: Instant) -> Duration {
        let wait = |bucket: &Bucket, points: u32, queued: u32| match points {
            0 => Duration::ZERO,
            _ => bucket.wait_for(points.saturating_add(queued).into(), self.rate, now),
        };
        let points = wait(&self.metadata, metadata, self.queued_metadata).max(wait(
            &self.media,
            media,
            self.queued_media,
        ));
        match self.health.gate(now, now) {
            Gate::Probing => points.max(PROBE_UNDER_WAY),
            Gate::Closed(wait) => points.max(wait),
            // Who is in the queue already will be the probe.
            Gate::Probe | Gate::GivenUp if self.queued_metadata > 0 => points.max(PROBE_UNDER_WAY),
            Gate::Open | Gate::Probe | Gate::GivenUp => points,
        }
    }
}

/// What is left of each stream's points, of the requests in flight and of the bandwidth; which streams are paused.
#[derive(Debug)]
pub struct Pace {
    share: f64,
    outage: Duration,
    places: Semaphore,
    bandwidth: Option<Bandwidth>,
    /// By ARN; DescribeStream, which knows none yet, by name.
    streams: Mutex<HashMap<String, StreamPace>>,
    calls: AtomicU64,
}

impl Pace {
    pub(in crate::archive) fn new(settings: LimitSettings, outage: Duration) -> Self {
        Self {
            share: settings.stream_budget,
            outage,
            places: Semaphore::new(settings.requests_in_flight),
            bandwidth: settings.bandwidth.map(Bandwidth::new),
            streams: Mutex::default(),
            calls: AtomicU64::new(0),
        }
    }

    /// How long a clip of so many fragments would wait, were it requested now: for the stream's points, behind the
    /// requests that wait already, or for the end of a pause.
    ///
    /// `fragments` may be the sum of several clips: then how long until all of them could have been sent.
    pub fn until_clip(&self, stream: &StreamArn, fragments: u32) -> Duration {
        self.until(stream, fragments, fragments)
    }

    /// How long a page of a listing would wait, were it requested now.
    pub fn until_listing(&self, stream: &StreamArn, page_size: u32) -> Duration {
        self.until(stream, page_size, 0)
    }

    fn until(&self, stream: &StreamArn, metadata: u32, media: u32) -> Duration {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams
            .get(stream.as_str())
            .map_or(Duration::ZERO, |state| state.until(metadata, media, Instant::now()))
    }

    fn with<T>(&self, key: &str, f: impl FnOnce(&mut StreamPace) -> T) -> T {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = streams.get_mut(key) {
            return f(state);
        }
        let state = StreamPace::new(self.share, self.outage, Instant::now());
        f(streams.entry(key.to_owned()).or_insert(state))
    }

    /// Begins a call, which may take several requests.
    pub(in crate::archive) fn call(&self, key: &str, name: &str) -> Call<'_> {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        Call { pace: self, key: key.to_owned(), name: name.to_owned(), id, begun: Instant::now() }
    }

    /// Waits until so many bytes of media may have been read.
    pub(in crate::archive) async fn pay(&self, bytes: u64) {
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.pay(bytes).await;
        }
    }
}

/// One call on its way.
#[derive(Debug)]
pub(in crate::archive) struct Call<'a> {
    pace: &'a Pace,
    key: String,
    name: String,
    id: CallId,
    begun: Instant,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.with(|state| state.health.end(self.id));
    }
}

impl<'a> Call<'a> {
    fn with<T>(&self, f: impl FnOnce(&mut StreamPace) -> T) -> T {
        self.pace.with(&self.key, f)
    }

    /// Attempts that the call has used up.
    pub(in crate::archive) fn spent(&self) -> u32 {
        self.with(|state| state.health.spent(self.id))
    }

    /// Waits until a request may be sent; its points are spent when this returns, and not before.
    pub(in crate::archive) async fn admit(&self, cost: Cost, pass: Pass) -> Result<Permit<'a>, GivenUp> {
        let asked = Instant::now();
        let (queue, changed) = self.with(|state| {
            let queue = match cost {
                Cost::Listing(_) => &state.queues.listing,
                Cost::Clip(_) => &state.queues.clip,
                Cost::Control(_) => &state.queues.control,
            };
            (Arc::clone(queue), Arc::clone(&state.changed))
        });
        let _queued = Queued::join(self.pace, &self.key, cost);
        // Evidence is asked for by one who is at the head of a queue, or while the queue stands still.
        let _turn = match pass {
            Pass::Ordinary => Some(queue.lock().await),
            Pass::Evidence => None,
        };
        loop {
            // Made before the look at the state, so that no change in between is missed.
            let change = changed.notified();
            let wait = match self.with(|state| self.ready(state, cost, pass)) {
                Ready::GivenUp(last_error) => return Err(GivenUp { last_error }),
                Ready::After(wait) => wait,
                Ready::Now(_) => {
                    // The semaphore is never closed; without a permit the request would only be unlimited.
                    let in_flight = self.pace.places.acquire().await.ok();
                    // The wait for a place may have been long: only what still holds is taken.
                    let now = Instant::now();
                    let sent = self.with(|state| {
                        let Ready::Now(probe) = self.ready(state, cost, pass) else { return None };
                        state.take(cost, self.pace.share, now);
                        if probe {
                            state.health.begin_probe();
                        }
                        Some(probe)
                    });
                    match sent {
                        Some(probe) => {
                            let key = self.key.clone();
                            let plane = cost.plane();
                            return Ok(Permit {
                                pace: self.pace,
                                key,
                                plane,
                                probe,
                                asked,
                                sent: now,
                                _in_flight: in_flight,
                            });
                        }
                        None => continue,
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = change => {}
            }
        }
    }

    fn ready(&self, state: &mut StreamPace, cost: Cost, pass: Pass) -> Ready {
        let now = Instant::now();
        let probe = match (pass, state.health.gate(self.begun, now)) {
            (Pass::Evidence, _) | (_, Gate::Open) => false,
            (_, Gate::Probe) => true,
            (_, Gate::Closed(wait)) => return Ready::After(wait),
            (_, Gate::Probing) => return Ready::After(PROBE_INTERVAL),
            (_, Gate::GivenUp) => return Ready::GivenUp(state.health.last_error.clone()),
        };
        let wait = state.wait(cost, self.pace.share, now);
        if wait.is_zero() { Ready::Now(probe) } else { Ready::After(wait) }
    }

    /// Takes note of how a request ended.
    ///
    /// `None`: it was answered. Else what its failure means for the call, of whose budget it has `attempts`.
    pub(in crate::archive) fn ended(
        &self,
        mut permit: Permit<'_>,
        answered: Answered,
        error: Option<&str>,
        attempts: u32,
        observer: &dyn CallObserver,
    ) -> Option<Verdict> {
        let now = Instant::now();
        let was_probe = std::mem::take(&mut permit.probe);
        let (verdict, news) = self.with(|state| {
            if let Some(error) = error {
                error.clone_into(&mut state.health.last_error);
            }
            let reason = match answered {
                Answered::Yes => {
                    state.health.answer(permit.plane, was_probe, now);
                    return (None, state.health.take_news());
                }
                Answered::Throttled => {
                    state.throttled(permit.sent, now);
                    PauseReason::Throttled
                }
                Answered::No => PauseReason::Away,
            };
            let (plane, asked) = (permit.plane, permit.asked);
            let failure = Failure { call: self.id, plane, reason, was_probe, asked, attempts };
            let verdict = state.health.failure(failure, now);
            (Some(verdict), state.health.take_news())
        });
        self.tell(news, observer);
        if verdict.is_none_or(|verdict| verdict == Verdict::GivenUp) {
            self.with(|state| state.changed.notify_waiters());
        }
        verdict
    }

    /// Takes note of how a request ended that was to show whether the service is there.
    pub(in crate::archive) fn evidence_ended(&self, permit: &Permit<'_>, answered: Answered) {
        if answered == Answered::Throttled {
            self.with(|state| state.throttled(permit.sent, Instant::now()));
        }
    }

    /// Whether another stream was answered since this one fails.
    pub(in crate::archive) fn others_answered(&self) -> bool {
        let streams = self.pace.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = streams.get(&self.key).and_then(|state| state.health.failing_since()) else {
            return true;
        };
        let mut others = streams.iter().filter(|(key, _)| **key != self.key);
        others.any(|(_, state)| state.health.last_answer().is_some_and(|at| at > since))
    }

    /// Ends a doubt: whether the service answers other requests.
    pub(in crate::archive) fn settle(&self, answers: bool, observer: &dyn CallObserver) -> Verdict {
        let (verdict, news) = self.with(|state| {
            let verdict = state.health.settle(self.id, answers, Instant::now());
            (verdict, state.health.take_news())
        });
        self.tell(news, observer);
        if news == Some(News::Resumed) {
            self.with(|state| state.changed.notify_waiters());
        }
        verdict
    }

    fn tell(&self, news: Option<News>, observer: &dyn CallObserver) {
        match news {
            Some(News::Paused(reason)) => {
                tracing::info!(stream = self.name, ?reason, "requests wait");
                observer.paused(&self.name, reason, PROBE_INTERVAL);
            }
            Some(News::Resumed) => {
                tracing::info!(stream = self.name, "requests go on");
                observer.resumed(&self.name);
            }
            None => {}
        }
    }
}

/// Whether a request can be sent, and whether as a probe.
enum Ready {
    Now(bool),
    After(Duration),
    GivenUp(String),
}

/// The leave to send one request; dropped without a word, the request was cancelled.
#[derive(Debug)]
pub(in crate::archive) struct Permit<'a> {
    pace: &'a Pace,
    key: String,
    plane: Plane,
    probe: bool,
    asked: Instant,
    sent: Instant,
    _in_flight: Option<SemaphorePermit<'a>>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.pace.with(&self.key, |state| {
                state.health.drop_probe();
                state.changed.notify_waiters();
            });
        }
    }
}

/// A place in the queue for points; given up when the request is sent or cancelled.
struct Queued<'a> {
    pace: &'a Pace,
    key: &'a str,
    cost: Cost,
}

impl<'a> Queued<'a> {
    fn join(pace: &'a Pace, key: &'a str, cost: Cost) -> Self {
        pace.with(key, |state| state.queue(cost, true));
        Self { pace, key, cost }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.pace.with(self.key, |state| state.queue(self.cost, false));
    }
}
