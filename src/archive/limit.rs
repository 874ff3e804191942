//! How much of the service to use: points per stream, requests in flight, bandwidth, pauses. Rules and reasons:
//! `design/pacing.md`.

mod bandwidth;
mod bucket;
mod health;
mod pace;

use std::time::Duration;

pub use pace::Pace;

pub(super) use health::Verdict;
pub(super) use pace::{Answered, Call, Cost, Pass};

/// How much of the service to use.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// Requests at a time, over the whole run.
    pub requests_in_flight: usize,
    /// Share of each stream's points and calls, 0 < share ≤ 1.
    pub stream_budget: f64,
    /// Bytes of media per second over the whole run; `None`: as many as there are.
    pub bandwidth: Option<u64>,
}

/// Points a stream grants per second to listing and fetching together (KVS.md, "Quotas").
pub const METADATA_POINTS_PER_SECOND: f64 = 10_000.0;

/// Points a stream grants per second to media (KVS.md, "Quotas").
pub const MEDIA_POINTS_PER_SECOND: f64 = 500.0;

/// Calls of each API of the control plane that a stream grants per second (KVS.md, "Calls").
const CONTROL_CALLS_PER_SECOND: f64 = 5.0;

/// The largest page of a listing: a bucket of metadata points holds at least that.
const LARGEST_LISTING: f64 = 1_000.0;

/// The largest clip: a bucket of media points holds at least that.
const LARGEST_CLIP: f64 = 200.0;

/// How long no request of a stream succeeds before the question is asked whether the service is there at all.
const AWAY_AFTER: Duration = Duration::from_secs(5);

/// How long a stream is throttled, without one request that succeeds, before it is left alone.
const THROTTLED_AFTER: Duration = Duration::from_secs(20);

/// How long a paused stream is left alone between two probes.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// How far apart a call makes its attempts that fails alone: eight of them outlast two minutes without clips.
pub(super) const APART_INTERVAL: Duration = Duration::from_secs(20);

/// After how long in which nobody asked a failure tells nothing of what the service does now: longer than a call that
/// goes on waits before it asks again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
