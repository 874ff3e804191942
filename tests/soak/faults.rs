//! What can go wrong with a request, as a table: another kind of fault is another line.

use fastrand::Rng;
use kvs_export::emulator::{Api, Fault, FaultRule, When};

/// On which occasions a fault comes.
#[derive(Clone, Copy, PartialEq)]
enum Occasion {
    /// Now and then, or a few times in a row: the run gets over it.
    Repeated,
    /// Once: it may end the stream's exports, or the run.
    Once,
}
use Occasion::{Once, Repeated};

/// A fault in the making.
type Make = fn(&mut Rng) -> Fault;

/// The call, the occasions, the fault.
const TABLE: &[(Api, Occasion, Make)] = &[
    (Api::GetClip, Repeated, |_| Fault::Throttle),
    (Api::GetClip, Repeated, |_| Fault::InternalFailure),
    (Api::GetClip, Repeated, |_| Fault::ServiceUnavailable),
    (Api::GetClip, Repeated, |_| Fault::NoFragments),
    (Api::GetClip, Repeated, |rng| Fault::ShortClip { missing: rng.usize(1..12) }),
    (Api::GetClip, Repeated, |rng| Fault::CutBody { after: bytes(rng) }),
    (Api::GetClip, Repeated, |_| Fault::ResetConnection { after: None }),
    (Api::GetClip, Repeated, |rng| Fault::ResetConnection { after: Some(bytes(rng)) }),
    (Api::GetClip, Repeated, |_| Fault::Garbage),
    (Api::GetClip, Repeated, |_| Fault::EmptyBody),
    (Api::GetClip, Once, |_| Fault::AccessDenied),
    (Api::GetClip, Once, |_| Fault::ExpiredToken),
    (Api::GetClip, Once, |_| Fault::UnsupportedMedia),
    (Api::GetClip, Once, |_| Fault::UnknownCodec),
    (Api::ListFragments, Repeated, |_| Fault::Throttle),
    (Api::ListFragments, Repeated, |_| Fault::InternalFailure),
    (Api::ListFragments, Repeated, |_| Fault::ServiceUnavailable),
    (Api::ListFragments, Repeated, |rng| Fault::CutBody { after: rng.u64(0..2_000) }),
    (Api::ListFragments, Repeated, |_| Fault::ResetConnection { after: None }),
    (Api::ListFragments, Repeated, |_| Fault::Garbage),
    (Api::ListFragments, Repeated, |_| Fault::EmptyBody),
    (Api::ListFragments, Once, |_| Fault::AccessDenied),
    (Api::ListFragments, Once, |_| Fault::ExpiredToken),
    (Api::GetDataEndpoint, Repeated, |_| Fault::Throttle),
    (Api::GetDataEndpoint, Repeated, |_| Fault::EmptyBody),
    (Api::GetDataEndpoint, Once, |_| Fault::AccessDenied),
    (Api::DescribeStream, Repeated, |_| Fault::InternalFailure),
    (Api::DescribeStream, Repeated, |_| Fault::EmptyBody),
    (Api::DescribeStream, Once, |_| Fault::ExpiredToken),
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
    let when = match (occasion, rng.u8(0..4)) {
        (Once, _) => When::Nth(rng.u64(1..8)),
        (Repeated, 0) => When::First(rng.u64(1..4)),
        (Repeated, 1) => When::Nth(rng.u64(1..6)),
        (Repeated, _) => When::Every(rng.u64(2..6)),
    };
    let rule = FaultRule { when, ..FaultRule::always(api, make(rng)) };
    if rng.bool() { rule.on_stream(&streams[rng.usize(0..streams.len())]) } else { rule }
}
