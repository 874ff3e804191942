//! Instants and ranges in whole milliseconds, the resolution of Kinesis Video timestamps.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since the Unix epoch, UTC.
///
/// Displays as RFC 3339 with three decimals and `Z`, the form used in every output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UtcMillis(i64);

impl UtcMillis {
    /// Wraps milliseconds since the Unix epoch.
    pub const fn new(epoch_ms: i64) -> Self {
        Self(epoch_ms)
    }

    /// Returns milliseconds since the Unix epoch.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the same instant for calendar arithmetic, or `None` outside the years −9999…9999.
    pub fn to_jiff(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_millisecond(self.0).ok()
    }
}

impl From<jiff::Timestamp> for UtcMillis {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.as_millisecond())
    }
}

impl Add<i64> for UtcMillis {
    type Output = Self;
    fn add(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<i64> for UtcMillis {
    type Output = Self;
    fn sub(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl Sub for UtcMillis {
    /// Milliseconds between the two instants.
    type Output = i64;
    fn sub(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UtcMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_jiff() {
            Some(timestamp) => write!(f, "{timestamp:.3}"),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

/// Serialises an instant as it displays, for documents that people read too.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants this signature")]
pub(super) fn rfc3339<S: serde::Serializer>(instant: &UtcMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(instant)
}

/// A half-open range of instants, `[start, end)`, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    start: UtcMillis,
    end: UtcMillis,
}

impl TimeRange {
    /// Makes `[start, end)`, or `None` when `end` is not after `start`.
    pub fn new(start: UtcMillis, end: UtcMillis) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The first instant inside.
    pub const fn start(self) -> UtcMillis {
        self.start
    }

    /// The first instant after.
    pub const fn end(self) -> UtcMillis {
        self.end
    }

    /// Length in milliseconds, at least 1.
    pub fn length_ms(self) -> i64 {
        self.end - self.start
    }

    /// Whether `instant` lies inside.
    pub fn contains(self, instant: UtcMillis) -> bool {
        self.start <= instant && instant < self.end
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_displays_as_rfc_3339_with_milliseconds() {
        assert_eq!(UtcMillis::new(1_511_852_108_513).to_string(), "2017-11-28T06:55:08.513Z");
        assert_eq!(UtcMillis::new(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_range_is_half_open_and_never_empty() {
        let at = UtcMillis::new;
        assert!(TimeRange::new(at(5), at(5)).is_none());
        let range = TimeRange::new(at(5), at(7)).expect("not empty");
        assert!(range.contains(at(5)) && range.contains(at(6)) && !range.contains(at(7)));
    }
}
