//! Sends a request again when that can help: full jitter, capped; throttles cost no attempt.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, FailureKind, FragmentPage, ListQuery,
    StreamDescription,
};
use crate::model::{StreamArn, StreamSelector};

/// The first pause is a random part of this, the next of twice as much, ….
const BASE: Duration = Duration::from_millis(200);

/// No pause is longer.
const CAP: Duration = Duration::from_secs(20);

/// How long to bear with a service that only throttles.
const THROTTLE_PATIENCE: Duration = Duration::from_mins(30);

/// How often to try.
#[derive(Debug, Clone, Copy)]
pub struct RetrySettings {
    /// Attempts per call, at least 1; throttles do not count.
    pub attempts: u32,
}

/// Repeats what can succeed on repetition.
#[derive(Debug)]
pub(super) struct Retry<A> {
    inner: A,
    settings: RetrySettings,
}

/// What one call has been through.
struct Patience {
    settings: RetrySettings,
    begun: Instant,
    sent: u32,
    failed: u32,
    throttled: u32,
    renewed: bool,
}

impl Patience {
    fn new(settings: RetrySettings) -> Self {
        Self { settings, begun: Instant::now(), sent: 0, failed: 0, throttled: 0, renewed: false }
    }

    /// How long to wait before the next attempt, or `None` when there is to be none.
    fn after(&mut self, error: &ArchiveError) -> Option<Duration> {
        self.sent += 1;
        match error.kind {
            FailureKind::Throttled => {
                self.throttled += 1;
                (self.begun.elapsed() < THROTTLE_PATIENCE).then(|| jitter(self.throttled))
            }
            FailureKind::Transient => {
                self.failed += 1;
                (self.failed < self.settings.attempts).then(|| jitter(self.failed))
            }
            // The next attempt asks for a new endpoint and loads the credentials anew: worth one more.
            FailureKind::Auth if !self.renewed => {
                self.renewed = true;
                Some(Duration::ZERO)
            }
            _ => None,
        }
    }
}

/// A random part of the capped exponential pause ("full jitter").
pub fn jitter(failures: u32) -> Duration {
    let most = BASE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(CAP);
    most.mul_f64(fastrand::f64())
}

impl<A> Retry<A> {
    pub(super) fn new(inner: A, settings: RetrySettings) -> Self {
        Self { inner, settings }
    }
}

/// Pauses before the next attempt, or gives the error back when there is to be none.
async fn pause(
    patience: &mut Patience,
    error: ArchiveError,
    observer: &dyn CallObserver,
) -> Result<(), ArchiveError> {
    let Some(delay) = patience.after(&error) else { return Err(error) };
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    observer.retrying(&error, patience.sent, delay_ms);
    tokio::time::sleep(delay).await;
    Ok(())
}

#[async_trait]
impl<A: Archive> Archive for Retry<A> {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        let mut patience = Patience::new(self.settings);
        loop {
            match self.inner.describe_stream(stream, observer).await {
                Ok(description) => return Ok(description),
                Err(error) => pause(&mut patience, error, observer).await?,
            }
        }
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let mut patience = Patience::new(self.settings);
        loop {
            match self.inner.list_tags(stream, observer).await {
                Ok(tags) => return Ok(tags),
                Err(error) => pause(&mut patience, error, observer).await?,
            }
        }
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        let mut patience = Patience::new(self.settings);
        loop {
            match self.inner.list_fragments(query, observer).await {
                Ok(page) => return Ok(page),
                Err(error) => pause(&mut patience, error, observer).await?,
            }
        }
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let attempts = self.settings.attempts.min(query.attempts);
        let mut patience = Patience::new(RetrySettings { attempts });
        loop {
            match self.inner.get_clip(query, sink, observer).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => pause(&mut patience, error, observer).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: FailureKind) -> ArchiveError {
        ArchiveError {
            api: "GetClip",
            stream: "front-gate".to_owned(),
            kind,
            code: None,
            message: String::new(),
            request_id: None,
            source: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn throttles_cost_no_attempt_and_other_failures_do() {
        let mut patience = Patience::new(RetrySettings { attempts: 3 });
        for _ in 0..50 {
            assert!(patience.after(&error(FailureKind::Throttled)).is_some());
        }
        assert!(patience.after(&error(FailureKind::Transient)).is_some());
        assert!(patience.after(&error(FailureKind::Transient)).is_some());
        assert!(patience.after(&error(FailureKind::Transient)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_once_and_what_cannot_pass_is_not_repeated() {
        let mut patience = Patience::new(RetrySettings { attempts: 8 });
        assert_eq!(patience.after(&error(FailureKind::Auth)), Some(Duration::ZERO));
        assert!(patience.after(&error(FailureKind::Auth)).is_none());
        for kind in
            [FailureKind::Denied, FailureKind::NoMedia, FailureKind::Invalid, FailureKind::MediaRefused]
        {
            assert!(Patience::new(RetrySettings { attempts: 8 }).after(&error(kind)).is_none());
        }
    }

    #[test]
    fn pauses_grow_to_the_cap_and_are_spread_over_all_of_it() {
        let pauses: Vec<Duration> = (0..2_000).map(|_| jitter(40)).collect();
        assert!(pauses.iter().all(|pause| *pause <= CAP));
        assert!(
            pauses.iter().any(|pause| *pause < CAP / 4) && pauses.iter().any(|pause| *pause > CAP * 3 / 4)
        );
        assert!((0..200).all(|_| jitter(1) <= BASE));
    }
}
