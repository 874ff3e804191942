//! The clock: the only place that reads the time of day, so that tests can set it.

#![expect(clippy::disallowed_methods, reason = "this is the module that may")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::UtcMillis;

/// Tells the time of day.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, in UTC.
    fn now(&self) -> UtcMillis;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcMillis {
        jiff::Timestamp::now().into()
    }
}

/// A clock that stands where it was set, for tests.
#[derive(Debug, Clone)]
pub struct SetClock(Arc<AtomicI64>);

impl SetClock {
    /// Makes a clock that stands at `now`.
    pub fn at(now: UtcMillis) -> Self {
        Self(Arc::new(AtomicI64::new(now.get())))
    }

    /// Moves it.
    pub fn set(&self, now: UtcMillis) {
        self.0.store(now.get(), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UtcMillis {
        UtcMillis::new(self.0.load(Ordering::SeqCst))
    }
}
