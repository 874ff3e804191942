//! What can go wrong with a request, as a table: another kind of fault is another line.

use std::time::Duration;

use fastrand::Rng;
use kvs_export::emulator::{Api, Fault, FaultRule, SecondClient, When};

/// On which occasions a fault comes.
#[derive(Clone, Copy, PartialEq)]
enum Occasion {
    /// Now and then, or a few times in a row: the run gets over it.
    Repeated,
    /// Once: it may end the stream's exports, or the run.
    Once,
    /// Every time in a short while, which no attempt outlives and a run may or may not.
    While,
}
use Occasion::{Once, Repeated, While};

/// A fault in the making.
type Make = fn(&mut Rng) -> Fault;

/// The call (`None`: any), the occasions, the fault.
///
/// Not here: silence, which costs a minute each time; and what changes the archive itself (late listings, a head that
/// moves), since then no script says what an output must hold.
const TABLE: &[(Option<Api>, Occasion, Make)] = &[
    (Some(Api::GetClip), Repeated, |_| Fault::Throttle),
    (Some(Api::GetClip), Repeated, |_| Fault::InternalFailure),
    (Some(Api::GetClip), Repeated, |_| Fault::ServiceUnavailable),
    (Some(Api::GetClip), Repeated, |_| Fault::NoFragments),
    (Some(Api::GetClip), Repeated, |rng| Fault::ShortClip { missing: rng.usize(1..12) }),
    (Some(Api::GetClip), Repeated, |rng| Fault::CutBody { after: bytes(rng) }),
    (Some(Api::GetClip), Repeated, |_| Fault::ResetConnection { after: None }),
    (Some(Api::GetClip), Repeated, |rng| Fault::ResetConnection { after: Some(bytes(rng)) }),
    (Some(Api::GetClip), Repeated, |_| Fault::Garbage),
    (Some(Api::GetClip), Repeated, |_| Fault::EmptyBody),
    (Some(Api::GetClip), Repeated, |rng| Fault::Slow { bytes_per_second: rng.u64(100_000..2_000_000) }),
    (Some(Api::GetClip), Repeated, |_| Fault::ExpireEndpoint),
    (Some(Api::GetClip), Once, |_| Fault::ExpireCredentials),
    (Some(Api::GetClip), Once, |_| Fault::AccessDenied),
    (Some(Api::GetClip), Once, |_| Fault::ExpiredToken),
    (Some(Api::GetClip), Once, |_| Fault::UnsupportedMedia),
    (Some(Api::GetClip), Once, |_| Fault::UnknownCodec),
    (Some(Api::ListFragments), Repeated, |_| Fault::Throttle),
    (Some(Api::ListFragments), Repeated, |_| Fault::InternalFailure),
    (Some(Api::ListFragments), Repeated, |_| Fault::ServiceUnavailable),
    (Some(Api::ListFragments), Repeated, |rng| Fault::CutBody { after: rng.u64(0..2_000) }),
    (Some(Api::ListFragments), Repeated, |_| Fault::ResetConnection { after: None }),
    (Some(Api::ListFragments), Repeated, |_| Fault::Garbage),
    (Some(Api::ListFragments), Repeated, |_| Fault::EmptyBody),
    (Some(Api::ListFragments), Repeated, |rng| Fault::Slow { bytes_per_second: rng.u64(5_000..100_000) }),
    (Some(Api::ListFragments), Repeated, |_| Fault::ExpireEndpoint),
    (Some(Api::ListFragments), Once, |_| Fault::ExpireCredentials),
    (Some(Api::ListFragments), Once, |_| Fault::AccessDenied),
    (Some(Api::ListFragments), Once, |_| Fault::ExpiredToken),
    (Some(Api::GetDataEndpoint), Repeated, |_| Fault::Throttle),
    (Some(Api::GetDataEndpoint), Repeated, |_| Fault::EmptyBody),
    (Some(Api::GetDataEndpoint), Once, |_| Fault::AccessDenied),
    (Some(Api::DescribeStream), Repeated, |_| Fault::InternalFailure),
    (Some(Api::DescribeStream), Repeated, |_| Fault::EmptyBody),
    (Some(Api::DescribeStream), Once, |_| Fault::ExpiredToken),
    (Some(Api::DescribeStream), Once, |_| Fault::ExpireCredentials),
    (None, Repeated, |_| Fault::Away),
    (None, While, |_| Fault::Away),
    (None, While, |_| Fault::Throttle),
    (None, While, |_| Fault::InternalFailure),
    (None, While, |rng| Fault::CutBody { after: bytes(rng) }),
];

/// Somewhere in the body of a clip, or behind it.
fn bytes(rng: &mut Rng) -> u64 {
    match rng.u8(0..3) {
        0 => rng.u64(0..200),
        1 => rng.u64(0..20_000),
        _ => rng.u64(0..600_000),
    }
}

/// The faults of one run, on all streams or on one of them.
pub(crate) fn some(rng: &mut Rng, streams: &[String]) -> Vec<FaultRule> {
    let count = rng.usize(0..7);
    (0..count).map(|_| one(rng, streams)).collect()
}

fn one(rng: &mut Rng, streams: &[String]) -> FaultRule {
    let (api, occasion, make) = TABLE[rng.usize(0..TABLE.len())];
    let when = match (occasion, rng.u8(0..5)) {
        (While, _) => When::Always,
        (Once, _) => When::Nth(rng.u64(1..8)),
        (Repeated, 0) => When::First(rng.u64(1..4)),
        (Repeated, 1) => When::Nth(rng.u64(1..6)),
        (Repeated, 2) => When::Rate(0.4 * rng.f64()),
        (Repeated, _) => When::Every(rng.u64(2..6)),
    };
    let rule = FaultRule { api, when, ..FaultRule::every_request(make(rng)) };
    let rule = if occasion == While || rng.u8(0..6) == 0 {
        let from = Duration::from_millis(rng.u64(0..2_000));
        rule.during(from, from + Duration::from_millis(rng.u64(50..2_500)))
    } else {
        rule
    };
    if rng.bool() { rule.on_stream(&streams[rng.usize(0..streams.len())]) } else { rule }
}

/// Now and then somebody else who spends a stream's points, up to more than there are.
pub(crate) fn second_clients(rng: &mut Rng, streams: &[String]) -> Vec<SecondClient> {
    if rng.u8(0..5) > 0 {
        return Vec::new();
    }
    let stream = rng.bool().then(|| streams[rng.usize(0..streams.len())].clone());
    vec![SecondClient { stream, media: rng.u32(50..600), metadata: *rng.choice(&[0, 5_000]).expect("some") }]
}

/// How far the service's clock is ahead: mostly not, seldom more than a signature may be off.
pub(crate) fn clock_offset_ms(rng: &mut Rng) -> i64 {
    match rng.u8(0..10) {
        0 => rng.i64(-200_000..200_000),
        1 => rng.i64(-3_600_000..3_600_000),
        _ => 0,
    }
}
