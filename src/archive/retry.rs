//! Sends a request again when that can help: full jitter, capped; throttles and outages cost no attempt.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tracing::Instrument;

use super::limit::{APART_INTERVAL, Answered, Call, Pace, Pass, Verdict};
use super::request::{Clip, Describe, Evidence, FindEndpoint, List, ListStreams, ListTags, Request};
use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, DataApi, FailureKind, FragmentPage, ListQuery,
    StreamDescription, StreamPage, StreamQuery,
};
use crate::model::{StreamArn, StreamSelector};

/// The first pause is a random part of this, the next of twice as much, ….
const BASE: Duration = Duration::from_millis(200);

/// No pause is longer.
const CAP: Duration = Duration::from_secs(20);

/// After a throttle the stream's points set the pace, in an outage its probes: the pause needs to spread requests, not
/// to slow them down.
const MOST_FREE_COUNTED: u32 = 4;

/// How often to try, and how long to wait.
#[derive(Debug, Clone, Copy)]
pub struct RetrySettings {
    /// Attempts per call, at least 1; throttles and outages do not count.
    pub attempts: u32,
    /// How long to wait for a service that is away, or throttles everything.
    pub outage: Duration,
}

/// Held by the one whose turn it is.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Repeats what can succeed on repetition.
#[derive(Debug)]
pub(super) struct Retry<A> {
    inner: A,
    pace: Arc<Pace>,
    settings: RetrySettings,
    /// Held by who asks for an endpoint, so that it is asked for once, however many need it.
    endpoints: Mutex<HashMap<(StreamArn, DataApi), Turn>>,
}

/// A random part of the capped exponential pause ("full jitter").
pub fn jitter(failures: u32) -> Duration {
    let most = BASE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(CAP);
    most.mul_f64(fastrand::f64())
}

/// What the end of a request says of the service.
fn answered<T>(result: &Result<T, ArchiveError>) -> Answered {
    match result.as_ref().map_err(|error| error.kind) {
        Err(FailureKind::Throttled) => Answered::Throttled,
        Err(FailureKind::Transient | FailureKind::Away) => Answered::No,
        _ => Answered::Yes,
    }
}

impl<A: Archive> Retry<A> {
    pub(super) fn new(inner: A, pace: Arc<Pace>, settings: RetrySettings) -> Self {
        Self { inner, pace, settings, endpoints: Mutex::default() }
    }

    /// Sends a request until it is answered or there is to be no other attempt.
    async fn persist<R: Request>(
        &self,
        mut request: R,
        observer: &dyn CallObserver,
    ) -> Result<R::Answer, ArchiveError> {
        let call = self.pace.call(request.subject().key(), request.subject().name);
        let result = self.attempt(&call, &mut request, observer).await;
        if request.api() == "GetClip" {
            observer.spent(call.spent());
        }
        result
    }

    async fn attempt<R: Request>(
        &self,
        call: &Call<'_>,
        request: &mut R,
        observer: &dyn CallObserver,
    ) -> Result<R::Answer, ArchiveError> {
        let attempts = self.settings.attempts.min(request.attempts());
        let (mut requests, mut free, mut renewals) = (0, 0, 0);
        loop {
            if let Some((stream, api)) = request.endpoint() {
                self.ensure_endpoint(stream, api, observer).await?;
            }
            let permit = match call.admit(request.cost(), Pass::Ordinary).await {
                Ok(permit) => permit,
                Err(given_up) => return Err(self.given_up(request, &given_up.last_error)),
            };
            // The request's line in the log tells which attempt it was.
            let attempt = tracing::info_span!("call", attempt = requests + 1);
            let result = request.send(&self.inner, &self.pace, observer).instrument(attempt).await;
            let words = result.as_ref().err().map(|error| error.message.as_str());
            let verdict = call.ended(permit, answered(&result), words, attempts, observer);
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            requests += 1;
            let verdict = match verdict {
                Some(Verdict::Doubt) => {
                    let answers = self.ask_for(request.evidence(), call, observer).await;
                    tracing::debug!(
                        api = request.api(),
                        stream = request.subject().name,
                        answers,
                        "service asked"
                    );
                    Some(call.settle(answers, observer))
                }
                verdict => verdict,
            };
            let delay = match verdict {
                Some(Verdict::GivenUp) => return Err(self.given_up(request, &error.message)),
                Some(Verdict::Counted(spent) | Verdict::Apart(spent)) if spent >= attempts => {
                    return Err(error);
                }
                Some(Verdict::Counted(spent)) => jitter(spent),
                Some(Verdict::Apart(_)) => APART_INTERVAL,
                Some(Verdict::Free | Verdict::Doubt) => {
                    free += 1;
                    jitter(free.min(MOST_FREE_COUNTED))
                }
                None if renewals < most_renewals(&error, request) => {
                    renewals += 1;
                    Duration::ZERO
                }
                None => return Err(error),
            };
            observer.retrying(&error, requests, u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            tokio::time::sleep(delay).await;
        }
    }

    /// Makes sure that the endpoint of an API is known: GetDataEndpoint is a request of its own, with a budget of its
    /// own.
    fn ensure_endpoint<'a>(
        &'a self,
        stream: &'a StreamArn,
        api: DataApi,
        observer: &'a dyn CallObserver,
    ) -> Pin<Box<dyn Future<Output = Result<(), ArchiveError>> + Send + 'a>> {
        Box::pin(async move {
            if !self.inner.needs_endpoint(stream, api) {
                return Ok(());
            }
            // Begun before its turn comes: should the stream be given up meanwhile, those who wait are, too.
            let mut request = FindEndpoint(stream, api);
            let call = self.pace.call(request.subject().key(), request.subject().name);
            let asking = {
                let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(endpoints.entry((stream.clone(), api)).or_default())
            };
            let _asking = asking.lock().await;
            if self.inner.needs_endpoint(stream, api) {
                self.attempt(&call, &mut request, observer).await?;
            }
            Ok(())
        })
    }

    /// Whether the service answers a cheap request for the stream.
    async fn ask_for(&self, evidence: Evidence, call: &Call<'_>, observer: &dyn CallObserver) -> bool {
        match evidence {
            Evidence::Listing(query) => {
                let list = DataApi::ListFragments;
                if self.inner.needs_endpoint(&query.stream, list)
                    && !self.once(FindEndpoint(&query.stream, list), call, observer).await
                {
                    return false;
                }
                // Without its endpoint the stream's control plane has answered, if only to refuse.
                self.inner.needs_endpoint(&query.stream, list)
                    || self.once(List(&query), call, observer).await
            }
            Evidence::Describe(arn) => self.once(Describe(&StreamSelector::Arn(arn)), call, observer).await,
            Evidence::OtherStreams => call.others_answered(),
        }
    }

    /// Sends a request once, pause or not; whether it was answered.
    async fn once<R: Request>(&self, mut request: R, call: &Call<'_>, observer: &dyn CallObserver) -> bool {
        let Ok(permit) = call.admit(request.cost(), Pass::Evidence).await else { return false };
        let answered = answered(&request.send(&self.inner, &self.pace, observer).await);
        call.evidence_ended(&permit, answered);
        answered == Answered::Yes
    }

    /// The error of a call whose stream was paused for longer than the user wants to wait.
    fn given_up<R: Request>(&self, request: &R, last: &str) -> ArchiveError {
        let outage = match self.settings.outage.as_secs() {
            seconds if seconds < 120 => format!("{seconds} s"),
            seconds => format!("{} min", seconds / 60),
        };
        ArchiveError {
            api: request.api(),
            stream: request.subject().name.to_owned(),
            kind: FailureKind::Away,
            code: None,
            message: format!(
                "no request for the stream has succeeded for {outage}, as long as `outage` allows; the last \
                 answer: {last}; run the same command again to resume"
            ),
            request_id: None,
            source: None,
        }
    }
}

/// How often a new endpoint, or credentials loaded anew, may change the answer.
fn most_renewals<R: Request>(error: &ArchiveError, request: &R) -> u32 {
    match (error.kind, request.endpoint()) {
        // The first new endpoint may have been asked for by another request, before the old one expired.
        (FailureKind::Auth | FailureKind::Denied, Some(_)) => 2,
        (FailureKind::Auth, None) => 1,
        _ => 0,
    }
}

#[async_trait]
impl<A: Archive> Archive for Retry<A> {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        self.persist(Describe(stream), observer).await
    }

    async fn list_streams(
        &self,
        query: &StreamQuery,
        observer: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        self.persist(ListStreams::of(query), observer).await
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        self.persist(ListTags(stream), observer).await
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        self.persist(List(query), observer).await
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        self.persist(Clip { query, sink }, observer).await
    }
}

#[cfg(test)]
mod tests;
