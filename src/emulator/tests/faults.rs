//! Faults that outlast a request, or that end no request at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_kinesisvideo::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesisvideo::types::ApiName;

use super::{Client, Failure, START, clip_request, marks, recorded, start};
use crate::clock::SetClock;
use crate::emulator::{
    Api, Camera, Emulator, EmulatorConfig, ErrorStyle, Fault, FaultRule, PointBudgets, Recording,
    SecondClient, Tally, When, script,
};
use crate::model::{TimestampKind, UtcMillis};

fn gate() -> Camera {
    recorded(Recording::at(START).fragments(5, 2_000))
}

/// One camera, no quotas, these faults.
fn faulty(faults: Vec<FaultRule>) -> EmulatorConfig {
    EmulatorConfig { faults, points: None, ..EmulatorConfig::with_cameras([gate()]) }
}

fn second_clip(fault: Fault) -> EmulatorConfig {
    faulty(vec![FaultRule::nth(Api::GetClip, 2, fault)])
}

/// The faults of the last request.
fn befell(emulator: &Emulator) -> Vec<&'static str> {
    let last = emulator.log().pop().expect("a request");
    last.faults.iter().map(Fault::name).collect()
}

async fn clip(client: &Client) -> Result<usize, (u16, String)> {
    let clip = client.clip("gate", TimestampKind::Producer, 0, 10_000).await;
    clip.map(|clip| marks(&clip, "gate").len()).map_err(Failure::summary)
}

fn refused<T>(status: u16, code: &str) -> Result<T, (u16, String)> {
    Err((status, code.to_owned()))
}

#[tokio::test]
async fn an_expired_endpoint_refuses_until_it_is_asked_for_anew() {
    let (emulator, client) = start(second_clip(Fault::ExpireEndpoint)).await;
    let endpoint = client.data_endpoint("gate", ApiName::GetClip).await;
    let held = client.at(&endpoint);
    let at_held = async || {
        let request = clip_request(&held, "gate", TimestampKind::Producer, 0, 10_000);
        request.send().await.map(|_| ()).map_err(|error| Failure::of(error).summary())
    };
    assert_eq!(at_held().await, Ok(()));
    assert_eq!(at_held().await, refused(401, "NotAuthorizedException"));
    assert_eq!(befell(&emulator), ["expired-endpoint"]);
    assert_eq!(at_held().await, refused(401, "NotAuthorizedException"));
    assert_ne!(client.data_endpoint("gate", ApiName::GetClip).await, endpoint);
    assert_eq!(clip(&client).await, Ok(100));
    assert_eq!(at_held().await, refused(401, "NotAuthorizedException"), "the old one stays expired");
}

#[tokio::test]
async fn expired_credentials_are_refused_everywhere_until_others_come() {
    let (emulator, client) = start(second_clip(Fault::ExpireCredentials)).await;
    assert_eq!(clip(&client).await, Ok(100));
    let held = client.at(&client.data_endpoint("gate", ApiName::GetClip).await);
    let request = clip_request(&held, "gate", TimestampKind::Producer, 0, 10_000);
    let expired = request.send().await.map(|_| ()).map_err(|error| Failure::of(error).summary());
    assert_eq!(expired, refused(403, "ExpiredTokenException"));
    assert_eq!(befell(&emulator), ["expired-token"]);
    let described = client.control.describe_stream().stream_name("gate").send().await;
    let described = described.map(|_| ()).map_err(|error| Failure::of(error).summary());
    assert_eq!(described, refused(403, "ExpiredTokenException"));
    // The same key with a new session token is another credential.
    let renewed = Credentials::new("AKIDTEST", "secret", Some("the next session".to_owned()), None, "test");
    assert_eq!(clip(&Client::signing_with(&emulator, renewed)).await, Ok(100));
}

#[tokio::test]
async fn a_stalled_answer_stays_away_until_somebody_hangs_up() {
    for after in [None, Some(70_000)] {
        let faults = vec![FaultRule::nth(Api::GetClip, 1, Fault::Stall { after })];
        let (emulator, client) = start(faulty(faults)).await;
        let client = Arc::new(client);
        let waiting = tokio::spawn({
            let client = Arc::clone(&client);
            async move { clip(&client).await }
        });
        let stalled = || {
            let log = emulator.log();
            let of_clip = log.iter().find(|record| record.api == Api::GetClip && !record.faults.is_empty());
            of_clip.is_some_and(|record| record.bytes_sent >= after.unwrap_or(0))
        };
        while !stalled() {
            tokio::task::yield_now().await;
        }
        // Others are answered meanwhile, as often as they ask.
        for _ in 0..3 {
            assert_eq!(clip(&client).await, Ok(100));
        }
        assert!(!waiting.is_finished());
        let log = emulator.log();
        let record = log.iter().find(|record| record.api == Api::GetClip).expect("the stalled one");
        assert_eq!((record.status, record.completed), (after.map(|_| 200), false));
        assert_eq!(record.bytes_sent, after.unwrap_or(0));
        emulator.stop().await;
        assert_eq!(waiting.await.expect("ends"), refused(0, "transport"));
    }
}

#[tokio::test]
async fn a_slow_answer_takes_its_time_and_the_others_do_not() {
    let slow = Fault::Slow { bytes_per_second: 400_000 };
    let (emulator, client) = start(second_clip(slow)).await;
    assert_eq!(clip(&client).await, Ok(100));
    let before = Instant::now();
    assert_eq!(clip(&client).await, Ok(100));
    // 250 000 bytes; the last tenth of a second's worth is not waited for.
    assert!(before.elapsed() >= Duration::from_millis(500), "{:?}", before.elapsed());
    assert_eq!(befell(&emulator), ["slow"]);
}

#[tokio::test]
async fn while_the_service_is_away_connections_are_closed_without_an_answer() {
    let clock = SetClock::at(START);
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let rules = vec![FaultRule::every_request(Fault::Away).during(minutes(1), minutes(3))];
    let config = EmulatorConfig { clock: Arc::new(clock.clone()), ..faulty(rules) };
    let (emulator, client) = start(config).await;
    let describe = async || {
        let answer = client.control.describe_stream().stream_name("gate").send().await;
        answer.map(|_| ()).map_err(|error| Failure::of(error).summary())
    };
    assert_eq!(describe().await, Ok(()));
    clock.set(START + 60_000);
    // The connection from before, and then new ones.
    assert_eq!(describe().await, refused(0, "transport"));
    assert_eq!((befell(&emulator), emulator.log().len()), (vec!["away"], 2));
    assert_eq!(describe().await, refused(0, "transport"));
    assert_eq!(describe().await, refused(0, "transport"));
    let away = emulator.tally();
    assert_eq!((away.requests, away.faulty, away.refused), (2, 1, 0));
    assert!(away.connections_closed >= 2, "{away:?}");
    clock.set(START + 180_000);
    assert_eq!(describe().await, Ok(()));
}

#[tokio::test]
async fn a_storm_throttles_one_stream_for_its_time_and_is_counted() {
    let clock = SetClock::at(START + 100_000_000);
    let storm = FaultRule::every_request(Fault::Throttle)
        .on_stream("gate")
        .during(Duration::from_secs(10), Duration::from_secs(20));
    let config = EmulatorConfig {
        clock: Arc::new(clock.clone()),
        ..EmulatorConfig::with_cameras([gate(), Camera::steady("yard")])
    };
    let (emulator, client) = start(EmulatorConfig { faults: vec![storm], ..config }).await;
    let describe = async |stream: &str| {
        let answer = client.control.describe_stream().stream_name(stream).send().await;
        answer.map(|_| ()).map_err(|error| Failure::of(error).summary())
    };
    assert_eq!(describe("gate").await, Ok(()));
    clock.set(START + 100_010_000);
    assert_eq!(describe("gate").await, refused(400, "ClientLimitExceededException"));
    assert_eq!(befell(&emulator), ["throttle"]);
    assert_eq!(describe("yard").await, Ok(()));
    clock.set(START + 100_020_000);
    assert_eq!(describe("gate").await, Ok(()));
    let expected = Tally { requests: 4, refused: 1, faulty: 1, ..Tally::default() };
    assert_eq!(emulator.tally(), expected);
}

#[tokio::test]
async fn retention_that_passes_takes_fragments_from_listings_and_clips() {
    let head = START + 4_001;
    let passes = FaultRule::nth(Api::GetClip, 2, Fault::RetentionPasses { head });
    let (emulator, client) = start(faulty(vec![passes])).await;
    let (server, producer) = (TimestampKind::Server, TimestampKind::Producer);
    let listed =
        async || client.list("gate", server, 0, 20_000, 100).await.expect("a listing").concat().len();
    assert_eq!(listed().await, 5);
    assert_eq!(clip(&client).await, Ok(100));
    let overtaken = client.clip("gate", server, 2_000, 20_000).await.expect_err("overtaken");
    let words = "StartTimestamp 2024-03-01T00:00:02.000Z is outside of the stream retention period.";
    let message = match overtaken {
        Failure::Service { status: 400, code, message } if code == "InvalidArgumentException" => message,
        other => panic!("{other:?}"),
    };
    assert_eq!((message.as_str(), befell(&emulator)), (words, vec!["retention"]));
    assert_eq!(listed().await, 2);
    let living = client.clip("gate", server, 4_002, 20_000).await.expect("what lives");
    assert_eq!(marks(&living, "gate").len(), 40);
    let by_producer = client.clip("gate", producer, 0, 20_000).await.expect("what lives");
    assert_eq!(marks(&by_producer, "gate").len(), 40);
    let dead = client.clip("gate", producer, 0, 4_000).await.expect_err("nothing lives");
    assert_eq!(dead.summary(), (404, "ResourceNotFoundException".to_owned()));
}

#[tokio::test]
async fn a_signature_of_another_time_is_refused_and_every_answer_is_dated() {
    for (offset_ms, words) in [
        (0, None),
        (240_000, None),
        (600_000, Some("Signature expired: ")),
        (-600_000, Some("Signature not yet current: ")),
    ] {
        let config = EmulatorConfig { clock_offset_ms: offset_ms, ..faulty(Vec::new()) };
        let (_emulator, client) = start(config).await;
        let answer = client.control.describe_stream().stream_name("nobody").send().await;
        let Err(SdkError::ServiceError(error)) = answer else { panic!("nobody is described") };
        let date = error.raw().headers().get("date").expect("a date").to_owned();
        let date = jiff::fmt::rfc2822::parse(&date.replace("GMT", "+0000")).expect("a date").timestamp();
        let now = UtcMillis::from(jiff::Timestamp::now()) + offset_ms;
        assert!((now - UtcMillis::from(date)).abs() < 60_000, "{offset_ms}: {date}");
        let (status, message) = (error.raw().status().as_u16(), error.err().message().unwrap_or_default());
        match words {
            None => assert_eq!(status, 404, "{message}"),
            Some(words) => {
                assert_eq!((status, error.err().code()), (403, Some("InvalidSignatureException")));
                assert!(message.starts_with(words), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn errors_are_written_as_on_the_wire_or_as_documented() {
    let refuse = Fault::Refuse {
        status: 429,
        code: "ConnectionLimitExceededException".to_owned(),
        message: "Too many.".to_owned(),
    };
    let styles = [
        (ErrorStyle::Wire, "x-amzn-errortype", "Message"),
        (ErrorStyle::Documented, "x-amz-errortype", "message"),
    ];
    for (style, header, member) in styles {
        let faults = vec![FaultRule::always(Api::DescribeStream, refuse.clone())];
        let (_emulator, client) = start(EmulatorConfig { error_style: style, ..faulty(faults) }).await;
        let answer = client.control.describe_stream().stream_name("gate").send().await;
        let Err(SdkError::ServiceError(error)) = answer else { panic!("refused") };
        let raw = error.raw();
        let code = raw.headers().get(header).expect("a code");
        assert_eq!(
            (raw.status().as_u16(), code.split(':').next()),
            (429, Some("ConnectionLimitExceededException"))
        );
        // The SDK reads the words only where it has read the code.
        let body: serde_json::Value =
            serde_json::from_slice(raw.body().bytes().expect("read")).expect("JSON");
        assert_eq!(body, serde_json::json!({ member: "Too many." }));
    }
}

#[tokio::test]
async fn a_second_client_spends_what_the_first_one_lacks() {
    let points = PointBudgets { metadata: 10_000, media: 25, control_calls: 1_000 };
    let greedy = SecondClient { stream: Some("gate".to_owned()), media: 10_000_000, metadata: 0 };
    let cameras = [Camera::steady("gate"), Camera::steady("yard")];
    let config = EmulatorConfig {
        points: Some(points),
        second_clients: vec![greedy],
        ..EmulatorConfig::with_cameras(cameras)
    };
    let (emulator, client) = start(config).await;
    let clip = async |stream| client.clip(stream, TimestampKind::Producer, 0, 48_000).await.map(|_| ());
    assert_eq!(clip("gate").await, Ok(()));
    // All that comes back into the bucket is taken before a second request can have it.
    assert_eq!(clip("gate").await.map_err(Failure::summary), refused(400, "ClientLimitExceededException"));
    let tally = emulator.tally();
    assert_eq!((tally.over_quota, tally.faulty), (1, 0));
    assert!(emulator.second_client_tally("gate").refused > 0);
    assert_eq!(clip("yard").await, Ok(()), "only its own stream suffers");
}

#[tokio::test]
async fn a_rate_befalls_the_same_requests_in_every_run_of_a_seed() {
    let hits = async |seed| {
        let rule =
            FaultRule { when: When::Rate(0.5), ..FaultRule::always(Api::DescribeStream, Fault::Throttle) };
        let (emulator, client) = start(EmulatorConfig { seed, ..faulty(vec![rule]) }).await;
        for _ in 0..40 {
            drop(client.control.describe_stream().stream_name("gate").send().await);
        }
        emulator.log().iter().map(|record| record.status).collect::<Vec<_>>()
    };
    let first = hits(1).await;
    assert!(first.contains(&Some(200)) && first.contains(&Some(400)));
    assert_eq!(first, hits(1).await);
    assert_ne!(first, hits(2).await);
}

#[tokio::test]
async fn a_fault_that_finds_nothing_to_spoil_is_not_in_the_log() {
    let always = |fault| FaultRule::always(Api::GetClip, fault);
    let rules = vec![
        always(Fault::RefuseFragment(script::fragment_number(99))),
        always(Fault::CutBody { after: 1_000_000_000 }),
        always(Fault::ListLate { fragment: script::fragment_number(2), listings: 1 }),
    ];
    let (emulator, client) = start(faulty(rules)).await;
    assert_eq!(clip(&client).await, Ok(100));
    assert!(emulator.log().iter().all(|record| record.faults.is_empty()));
    assert_eq!(emulator.tally().faulty, 0);
}
