//! The emulator over HTTP, asked by the AWS SDK.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_kinesisvideo::config::retry::RetryConfig;
use aws_sdk_kinesisvideo::config::{BehaviorVersion, Region};
use aws_sdk_kinesisvideo::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesisvideo::types::{ApiName, ComparisonOperator, StreamNameCondition};
use aws_sdk_kinesisvideoarchivedmedia as media_api;
use aws_smithy_types::DateTime;
use aws_types::request_id::RequestId;
use media_api::types::{
    ClipFragmentSelector, ClipFragmentSelectorType, ClipTimestampRange, FragmentSelector,
    FragmentSelectorType, TimestampRange,
};

use super::*;
use crate::clock::SetClock;
use crate::model::{FragmentNumber, TimeRange, TimestampKind, UtcMillis};

const START: UtcMillis = UtcMillis::new(1_709_251_200_000);

mod faults;
mod tracks;

struct Client {
    control: aws_sdk_kinesisvideo::Client,
    credentials: Credentials,
}

fn http_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

fn credentials() -> Credentials {
    Credentials::new("AKIDTEST", "secret", Some("session".to_owned()), None, "test")
}

impl Client {
    fn of(emulator: &Emulator) -> Self {
        Self::signing_with(emulator, credentials())
    }

    fn signing_with(emulator: &Emulator, credentials: Credentials) -> Self {
        let config = aws_sdk_kinesisvideo::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-west-2"))
            .credentials_provider(credentials.clone())
            .endpoint_url(emulator.endpoint())
            .retry_config(RetryConfig::disabled())
            .http_client(http_client())
            .build();
        Self { control: aws_sdk_kinesisvideo::Client::from_conf(config), credentials }
    }

    async fn data_endpoint(&self, stream: &str, api: ApiName) -> String {
        let answer = self.control.get_data_endpoint().stream_name(stream).api_name(api).send().await;
        answer.expect("an endpoint").data_endpoint.expect("an endpoint")
    }

    fn at(&self, endpoint: &str) -> media_api::Client {
        let config = media_api::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-west-2"))
            .credentials_provider(self.credentials.clone())
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .http_client(http_client())
            .build();
        media_api::Client::from_conf(config)
    }

    async fn list(
        &self,
        stream: &str,
        kind: TimestampKind,
        start: i64,
        end: i64,
        max_results: i64,
    ) -> Result<Vec<Vec<(String, i64)>>, Failure> {
        let client = self.at(&self.data_endpoint(stream, ApiName::ListFragments).await);
        let (mut pages, mut token) = (Vec::new(), None);
        loop {
            let range = TimestampRange::builder().start_timestamp(instant(start)).end_timestamp(instant(end));
            let selector = FragmentSelector::builder()
                .fragment_selector_type(match kind {
                    TimestampKind::Server => FragmentSelectorType::ServerTimestamp,
                    TimestampKind::Producer => FragmentSelectorType::ProducerTimestamp,
                })
                .timestamp_range(range.build().expect("a range"))
                .build()
                .expect("a selector");
            let request = client.list_fragments().stream_name(stream).fragment_selector(selector);
            let answer =
                request.max_results(max_results).set_next_token(token).send().await.map_err(Failure::of)?;
            pages.push(
                answer
                    .fragments()
                    .iter()
                    .map(|fragment| {
                        let number = fragment.fragment_number.clone().expect("a number");
                        let producer = fragment.producer_timestamp.expect("a time").to_millis();
                        (number, producer.expect("in range") - START.get())
                    })
                    .collect(),
            );
            token = answer.next_token;
            if token.is_none() {
                return Ok(pages);
            }
        }
    }

    async fn clip(
        &self,
        stream: &str,
        kind: TimestampKind,
        start: i64,
        end: i64,
    ) -> Result<Vec<u8>, Failure> {
        let client = self.at(&self.data_endpoint(stream, ApiName::GetClip).await);
        let answer = clip_request(&client, stream, kind, start, end).send().await.map_err(Failure::of)?;
        assert!(answer.request_id().is_some());
        match answer.payload.collect().await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(_) => Err(Failure::Transport),
        }
    }
}

fn clip_request(
    client: &media_api::Client,
    stream: &str,
    kind: TimestampKind,
    start: i64,
    end: i64,
) -> media_api::operation::get_clip::builders::GetClipFluentBuilder {
    let range = ClipTimestampRange::builder().start_timestamp(instant(start)).end_timestamp(instant(end));
    let selector = ClipFragmentSelector::builder()
        .fragment_selector_type(match kind {
            TimestampKind::Server => ClipFragmentSelectorType::ServerTimestamp,
            TimestampKind::Producer => ClipFragmentSelectorType::ProducerTimestamp,
        })
        .timestamp_range(range.build().expect("a range"))
        .build()
        .expect("a selector");
    client.get_clip().stream_name(stream).clip_fragment_selector(selector)
}

#[derive(Debug, PartialEq)]
enum Failure {
    Service { status: u16, code: String, message: String },
    Transport,
}

impl Failure {
    fn of<E: ProvideErrorMetadata>(
        error: SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
    ) -> Self {
        let SdkError::ServiceError(error) = error else { return Self::Transport };
        assert!(error.raw().headers().get("x-amzn-requestid").is_some());
        Self::Service {
            status: error.raw().status().as_u16(),
            code: error.err().code().unwrap_or_default().to_owned(),
            message: error.err().message().unwrap_or_default().to_owned(),
        }
    }

    fn summary(self) -> (u16, String) {
        match self {
            Self::Service { status, code, .. } => (status, code),
            Self::Transport => (0, "transport".to_owned()),
        }
    }
}

fn instant(after_start: i64) -> DateTime {
    DateTime::from_millis(START.get() + after_start)
}

async fn start(config: EmulatorConfig) -> (Emulator, Client) {
    let emulator = Emulator::start(config).await.expect("starts");
    let client = Client::of(&emulator);
    (emulator, client)
}

fn recorded(recording: Recording) -> Camera {
    Camera::with_script("gate", recording.into_script())
}

/// The marks in a file's bytes, `(fragment number, frame index, frames)`, in the order of the bytes.
fn marks(file: &[u8], stream: &str) -> Vec<(String, u32, u32)> {
    let starts = file.windows(16).enumerate().filter(|(_, window)| *window == FRAME_MARK_UUID);
    starts
        .map(|(at, _)| {
            let text = file[at + 16..].split(|byte| !byte.is_ascii_graphic()).next().expect("an end");
            let text = std::str::from_utf8(text).expect("ASCII");
            let fields: Vec<&str> = text.split('|').collect();
            assert_eq!(fields[0], stream);
            (fields[1].to_owned(), fields[2].parse().expect("index"), fields[3].parse().expect("frames"))
        })
        .collect()
}

fn expected_marks(fragments: &[ScriptedFragment]) -> Vec<(String, u32, u32)> {
    let frames = |fragment: &ScriptedFragment| {
        let (number, frames) = (fragment.number.to_string(), fragment.frames);
        (0..frames).map(move |index| (number.clone(), index, frames))
    };
    fragments.iter().flat_map(frames).collect()
}

/// Runs a tool on the bytes and returns what it prints; it must not complain.
fn tool(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clip.mp4");
    std::fs::File::create(&file).and_then(|mut file| file.write_all(input)).expect("written");
    let arguments = arguments.iter().map(|a| if *a == "FILE" { file.as_os_str() } else { a.as_ref() });
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("installed");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program}: {complaints}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Times of the frames in milliseconds, key frames marked, after a complete decode.
fn decoded(clip: &[u8]) -> Vec<(f64, bool)> {
    tool(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-xerror",
            "-i",
            "FILE",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1:90000",
            "-f",
            "null",
            "-",
        ],
        clip,
    );
    let entries = ["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags"];
    let text = tool("ffprobe", &[&entries[..], &["-of", "csv=p=0", "FILE"]].concat(), clip);
    let frames = text.lines().filter_map(|line| line.trim_end_matches(',').split_once(','));
    frames
        .map(|(time, flags)| (time.parse::<f64>().expect("time") * 1000.0, flags.starts_with('K')))
        .collect()
}

fn key_times(clip: &[u8]) -> Vec<i64> {
    let key_frames = decoded(clip).into_iter().filter(|(_, is_key)| *is_key);
    key_frames.map(|(time, _)| format!("{time:.0}").parse().expect("a number")).collect()
}

#[tokio::test]
async fn a_clip_decodes_cleanly_and_every_frame_says_where_it_belongs() {
    let camera = Camera::steady("gate");
    for movie in [MoviePosition::First, MoviePosition::Last] {
        let config = EmulatorConfig { movie, ..EmulatorConfig::with_cameras([camera.clone()]) };
        let (emulator, client) = start(config).await;
        let clip = client.clip("gate", TimestampKind::Producer, 0, 20_000).await.expect("a clip");
        let range = TimeRange::new(START, START + 20_001).expect("a range");
        let truth = camera.fragments(range, TimestampKind::Producer);
        assert_eq!(truth.len(), 11);
        assert_eq!(marks(&clip, "gate"), expected_marks(&truth));
        assert_eq!(decoded(&clip).len(), 220);
        let listed: u64 = truth.iter().map(|fragment| fragment.size_bytes).sum();
        assert!(clip.len() as u64 <= listed && clip.len() as u64 > listed * 9 / 10, "{}", clip.len());
        emulator.stop().await;
    }
}

#[tokio::test]
async fn padding_to_any_bit_rate_decodes_cleanly() {
    for rate in [6_000, 12_345, 2_500_000] {
        let camera = Camera::steady("gate").bytes_per_second(rate);
        let (_emulator, client) = start(EmulatorConfig::with_cameras([camera])).await;
        let clip = client.clip("gate", TimestampKind::Producer, 0, 6_000).await.expect("a clip");
        assert_eq!(decoded(&clip).len(), 80);
        let seconds = 8;
        assert!((clip.len() as u64).abs_diff(rate * seconds) < 8_000, "{rate}: {}", clip.len());
    }
}

#[tokio::test]
async fn each_video_of_a_camera_decodes_by_its_own_parameters() {
    let recording = Recording::at(START).fragments(2, 2_000).video(1).frame_rate(25).fragments(2, 2_000);
    let (_emulator, client) = start(EmulatorConfig::with_cameras([recorded(recording)])).await;
    let clip = async |start, end| client.clip("gate", TimestampKind::Producer, start, end).await;
    assert_eq!(decoded(&clip(0, 3_999).await.expect("the first")).len(), 40);
    assert_eq!(decoded(&clip(4_000, 8_000).await.expect("the second")).len(), 100);
    let both = clip(0, 8_000).await.expect_err("a change inside").summary();
    assert_eq!(both, (400, "InvalidCodecPrivateDataException".to_owned()));
}

#[tokio::test]
async fn a_script_that_its_pictures_do_not_fit_in_is_refused() {
    let camera = Camera::steady("gate").bytes_per_second(500);
    let error = Emulator::start(EmulatorConfig::with_cameras([camera])).await.expect_err("too small");
    assert!(error.to_string().contains("is listed with 1000 bytes, its pictures need"), "{error}");
}

#[tokio::test]
async fn inner_times_keep_or_close_the_gaps_between_fragments() {
    let recording = Recording::at(START).fragments(2, 1_856).gap_ms(3_000).fragments(2, 2_000).gap_ms(-700);
    let camera = recorded(recording.fragments(1, 1_000));
    let timings = [
        // 18 frames of 100 ms in 1 856 ms. The last one overlaps by more than a frame: it follows the media.
        (InnerTiming::KeepStarts, [0, 1_856, 6_712, 8_712, 10_712]),
        (InnerTiming::CloseGaps, [0, 1_800, 3_600, 5_600, 7_600]),
    ];
    for (inner_timing, expected) in timings {
        let cameras = EmulatorConfig::with_cameras([camera.clone()]);
        let (_emulator, client) = start(EmulatorConfig { inner_timing, ..cameras }).await;
        let clip = client.clip("gate", TimestampKind::Server, 0, 60_000).await.expect("a clip");
        assert_eq!(key_times(&clip), expected);
    }
}

#[tokio::test]
async fn listings_come_in_pages_without_order_that_hold_everything_once() {
    let camera = Camera::steady("gate");
    let (emulator, client) = start(EmulatorConfig::with_cameras([camera.clone()])).await;
    let end = 2_000 * 249;
    let pages = client.list("gate", TimestampKind::Producer, 0, end, 100).await.expect("a listing");
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
    let mut listed = pages.concat();
    assert!(!listed.is_sorted());
    listed.sort();
    let range = TimeRange::new(START, START + end + 1).expect("a range");
    let truth = camera.fragments(range, TimestampKind::Producer);
    let expected: Vec<_> = truth.iter().map(|of| (of.number.to_string(), of.producer - START)).collect();
    assert_eq!(listed, expected);
    let empty = client.list("gate", TimestampKind::Producer, 1, 1_999, 1_000).await;
    assert_eq!(empty, Ok(vec![vec![]]));
    let listings: Vec<_> = emulator.log().into_iter().filter(|of| of.api == Api::ListFragments).collect();
    assert_eq!(
        listings.iter().map(|of| (of.continued, of.points)).collect::<Vec<_>>(),
        [(false, 100), (true, 100), (true, 100), (false, 1_000)]
    );
    for max_results in [0, 1_001] {
        let refused = client.list("gate", TimestampKind::Producer, 0, 1, max_results).await;
        assert_eq!(refused.expect_err("refused").summary(), (400, "InvalidArgumentException".to_owned()));
    }
}

#[tokio::test]
async fn a_listing_of_years_is_refused_instead_of_filling_the_memory() {
    let (_emulator, client) = start(EmulatorConfig::with_cameras([Camera::steady("gate")])).await;
    let years = 2 * 365 * 86_400_000;
    let refused = client.list("gate", TimestampKind::Server, 0, years, 1_000).await.expect_err("too long");
    assert_eq!(refused.summary(), (400, "InvalidArgumentException".to_owned()));
    let beyond = i64::MAX / 1_000_000;
    let future = client.list("gate", TimestampKind::Server, beyond, beyond + 5, 1_000).await;
    assert_eq!(future, Ok(vec![vec![]]));
}

#[tokio::test]
async fn a_clip_holds_the_first_two_hundred_fragments_and_nothing_says_so() {
    let (emulator, client) = start(EmulatorConfig::with_cameras([Camera::steady("gate")])).await;
    let clip = client.clip("gate", TimestampKind::Producer, 0, 3_600_000).await.expect("a clip");
    assert_eq!(marks(&clip, "gate").len(), 200 * 20);
    let record = emulator.log().pop().expect("a record");
    assert_eq!((record.status, record.fragments.len(), record.points), (Some(200), 200, 200));
    assert_eq!((record.bytes_sent, record.completed), (clip.len() as u64, true));
    assert_eq!(emulator.media_bytes_sent(), clip.len() as u64);
}

#[tokio::test]
async fn errors_carry_status_code_and_words() {
    let clock = Arc::new(SetClock::at(START + 100_000_000));
    let config = EmulatorConfig {
        clock,
        denied: vec![("gate".to_owned(), Api::ListFragments)],
        ..EmulatorConfig::with_cameras([
            recorded(Recording::at(START).fragments(3, 2_000)),
            Camera::steady("unkept").retention_hours(0),
            Camera::steady("brief").retention_hours(1),
        ])
    };
    let (_emulator, client) = start(config).await;
    let server = TimestampKind::Server;
    let service = |status, code: &str, message: &str| Failure::Service {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
    };
    assert_eq!(
        client.clip("gate", server, 50_000, 60_000).await,
        Err(service(
            404,
            "ResourceNotFoundException",
            "No fragments found in the stream for the clip request."
        ))
    );
    let old = client.clip("brief", server, 0, 60_000).await.expect_err("past retention");
    assert_eq!(
        old,
        service(
            400,
            "InvalidArgumentException",
            "StartTimestamp 2024-03-01T00:00:00.000Z is outside of the stream retention period."
        )
    );
    let unkept = client.clip("unkept", server, 0, 1).await.expect_err("nothing kept");
    assert_eq!(unkept.summary(), (400, "NoDataRetentionException".to_owned()));
    let denied = client.list("gate", server, 0, 1, 1).await.expect_err("denied");
    assert_eq!(
        denied,
        service(
            403,
            "AccessDeniedException",
            "User: arn:aws:iam::123456789012:user/exporter is not authorized to perform: \
             kinesisvideo:ListFragments on resource: \
             arn:aws:kinesisvideo:us-west-2:123456789012:stream/gate/1514764800000 because no identity-based \
             policy allows the kinesisvideo:ListFragments action"
        )
    );
    let missing = client.control.describe_stream().stream_name("nobody").send().await.map_err(Failure::of);
    assert_eq!(missing.expect_err("missing").summary(), (404, "ResourceNotFoundException".to_owned()));
    let other = "arn:aws:kinesisvideo:us-west-2:123456789012:stream/gate/1";
    let missing = client.control.describe_stream().stream_arn(other).send().await.map_err(Failure::of);
    assert_eq!(missing.expect_err("another").summary(), (404, "ResourceNotFoundException".to_owned()));
}

#[tokio::test]
async fn an_endpoint_serves_one_api_of_one_stream() {
    let cameras = [Camera::steady("gate"), Camera::steady("yard")];
    let (_emulator, client) = start(EmulatorConfig::with_cameras(cameras)).await;
    let of_listing = client.data_endpoint("gate", ApiName::ListFragments).await;
    let of_clip = client.data_endpoint("gate", ApiName::GetClip).await;
    assert_ne!(of_listing, of_clip);
    let root = of_clip.split("/data/").next().expect("a root").to_owned();
    for (endpoint, stream) in [(&of_listing, "gate"), (&of_clip, "yard"), (&format!("{root}/data/0"), "gate")]
    {
        let answer =
            clip_request(&client.at(endpoint), stream, TimestampKind::Producer, 0, 2_000).send().await;
        let refused = answer.map_err(Failure::of).expect_err("wrong endpoint").summary();
        assert_eq!(refused, (401, "NotAuthorizedException".to_owned()));
    }
}

#[tokio::test]
async fn streams_are_described_and_listed_by_prefix_in_pages() {
    let names = ["gate", "yard-1", "yard-2", "yard-3"];
    let config = EmulatorConfig { points: None, ..EmulatorConfig::with_cameras(names.map(Camera::steady)) };
    let (_emulator, client) = start(config).await;
    let info = client.control.describe_stream().stream_name("gate").send().await.expect("a stream");
    let info = info.stream_info.expect("info");
    assert_eq!(info.data_retention_in_hours, Some(87_600));
    let arn = "arn:aws:kinesisvideo:us-west-2:123456789012:stream/gate/1514764800000";
    assert_eq!(info.stream_arn.as_deref(), Some(arn));
    assert!(client.control.describe_stream().stream_arn(arn).send().await.is_ok());
    let condition = StreamNameCondition::builder()
        .comparison_operator(ComparisonOperator::BeginsWith)
        .comparison_value("yard-");
    let request = client.control.list_streams().stream_name_condition(condition.build()).max_results(2);
    let first = request.clone().send().await.expect("a page");
    let second = request.set_next_token(first.next_token.clone()).send().await.expect("a page");
    let streams = [first.stream_info_list(), second.stream_info_list()].concat();
    let found: Vec<_> = streams.iter().filter_map(|info| info.stream_name.as_deref()).collect();
    assert_eq!(found, ["yard-1", "yard-2", "yard-3"]);
    assert_eq!((first.next_token.is_some(), second.next_token), (true, None));
    assert_eq!(streams[0].status.as_ref().expect("a status").as_str(), "ACTIVE");
    let of_others =
        client.control.list_streams().max_results(2).set_next_token(first.next_token).send().await;
    let refused = of_others.map_err(Failure::of).expect_err("a token of another condition").summary();
    assert_eq!(refused, (400, "InvalidArgumentException".to_owned()));
    for value in ["", "yard *", "yard-*"] {
        let condition = StreamNameCondition::builder().comparison_value(value).build();
        let answer = client.control.list_streams().stream_name_condition(condition).send().await;
        let refused = answer.map_err(Failure::of).expect_err("not the form of a name").summary();
        assert_eq!(refused, (400, "InvalidArgumentException".to_owned()), "{value:?}");
    }
    let tags = client.control.list_tags_for_stream().stream_name("gate").send().await.expect("tags");
    assert_eq!(tags.tags.map(|tags| tags.len()), Some(0));
}

#[tokio::test]
async fn with_any_stream_every_name_is_a_camera() {
    let config = EmulatorConfig::from_arguments(0, &[]).expect("no arguments");
    let (_emulator, client) = start(config).await;
    let clip = client.clip("whatever.you-like", TimestampKind::Server, 0, 10_000).await.expect("a clip");
    assert!(marks(&clip, "whatever.you-like").len() >= 80);
    let arn = "arn:aws:kinesisvideo:eu-west-1:210987654321:stream/elsewhere/5";
    assert!(client.control.describe_stream().stream_arn(arn).send().await.is_ok());
}

#[tokio::test]
async fn quotas_refuse_what_is_too_much() {
    let points = PointBudgets { metadata: 100, media: 5, control_calls: 1_000 };
    let cameras = EmulatorConfig::with_cameras([Camera::steady("gate")]);
    let (emulator, client) = start(EmulatorConfig { points: Some(points), ..cameras }).await;
    let clip = |end| client.clip("gate", TimestampKind::Producer, 0, end);
    assert!(clip(6_000).await.is_ok());
    let refused = clip(10_000).await.expect_err("more than five at once");
    assert_eq!(refused.summary(), (400, "ClientLimitExceededException".to_owned()));
    let record = emulator.log().pop().expect("a record");
    assert!(record.over_quota && record.points == 0 && record.fragments.is_empty());
}

#[tokio::test]
async fn every_fault_befalls_the_request_it_is_ordered_for() {
    let camera = recorded(Recording::at(START).fragments(5, 2_000));
    let number = |index: u64| script::fragment_number(index);
    let nth = |n, fault| FaultRule::nth(Api::GetClip, n, fault);
    let faults = vec![
        nth(1, Fault::Throttle),
        nth(2, Fault::InternalFailure),
        nth(3, Fault::ServiceUnavailable),
        nth(4, Fault::AccessDenied),
        nth(5, Fault::ExpiredToken),
        nth(6, Fault::NoFragments),
        nth(7, Fault::RefuseFragment(number(3))),
        nth(8, Fault::ShortClip { missing: 2 }),
        nth(9, Fault::CutBody { after: 70_000 }),
        nth(10, Fault::ResetConnection { after: None }),
        nth(11, Fault::ResetConnection { after: Some(70_000) }),
        nth(12, Fault::Garbage),
        nth(13, Fault::EmptyBody),
        nth(14, Fault::RefuseFragment(number(99))),
    ];
    let (emulator, client) =
        start(EmulatorConfig { faults, points: None, ..EmulatorConfig::with_cameras([camera]) }).await;
    let clip = async || client.clip("gate", TimestampKind::Producer, 0, 10_000).await;
    let refusals = [
        (400, "ClientLimitExceededException"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailable"),
        (403, "AccessDeniedException"),
        (403, "ExpiredTokenException"),
        (404, "ResourceNotFoundException"),
        (400, "InvalidMediaFrameException"),
    ];
    for (status, code) in refusals {
        assert_eq!(clip().await.expect_err(code).summary(), (status, code.to_owned()));
    }
    assert_eq!(marks(&clip().await.expect("short"), "gate").len(), 60);
    assert_eq!(clip().await, Err(Failure::Transport));
    let cut = emulator.log().pop().expect("a record");
    assert_eq!((cut.status, cut.bytes_sent, cut.completed), (Some(200), 70_000, false));
    assert_eq!(clip().await, Err(Failure::Transport));
    assert_eq!(emulator.log().pop().and_then(|record| record.status), None);
    assert_eq!(clip().await, Err(Failure::Transport));
    assert_eq!(clip().await.map(|body| body.len()), Ok(4_096));
    assert_eq!(clip().await, Ok(Vec::new()));
    assert_eq!(marks(&clip().await.expect("whole"), "gate").len(), 100);
}

#[tokio::test]
async fn a_late_fragment_is_missing_from_the_first_listings_only() {
    let camera = recorded(Recording::at(START).fragments(5, 2_000));
    let late: FragmentNumber = script::fragment_number(2);
    let fault = Fault::ListLate { fragment: late.clone(), listings: 2 };
    let faults = vec![FaultRule::always(Api::ListFragments, fault)];
    let (_emulator, client) =
        start(EmulatorConfig { faults, points: None, ..EmulatorConfig::with_cameras([camera]) }).await;
    for expected in [4, 4, 5, 5] {
        let outside = client.list("gate", TimestampKind::Producer, 0, 3_999, 1).await.expect("a listing");
        assert_eq!(outside.concat().len(), 2, "a listing of another range does not count");
        let pages = client.list("gate", TimestampKind::Producer, 0, 10_000, 2).await.expect("a listing");
        assert_eq!(pages.concat().len(), expected);
    }
}

#[tokio::test]
async fn answers_take_their_time_where_that_is_asked_for() {
    let config = EmulatorConfig {
        latency: Duration::from_millis(150),
        bytes_per_second: Some(1_000_000),
        ..EmulatorConfig::with_cameras([Camera::steady("gate").bytes_per_second(100_000)])
    };
    let (_emulator, client) = start(config).await;
    let before = Instant::now();
    client.clip("gate", TimestampKind::Producer, 0, 3_999).await.expect("a clip");
    // 400 000 bytes, the last piece of which is not waited for.
    assert!(before.elapsed() >= Duration::from_millis(150 + 320), "{:?}", before.elapsed());
}

#[tokio::test]
async fn the_trigger_is_pulled_once_when_enough_media_was_sent() {
    let pulled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pulled);
    let action = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let cameras = EmulatorConfig::with_cameras([Camera::steady("gate")]);
    let on_bytes = Some(ByteTrigger { at: 150_000, action });
    let (_emulator, client) = start(EmulatorConfig { on_bytes, ..cameras }).await;
    let mut pulls = Vec::new();
    for _ in 0..3 {
        client.clip("gate", TimestampKind::Producer, 0, 3_999).await.expect("a clip");
        pulls.push(pulled.load(Ordering::SeqCst));
    }
    assert_eq!(pulls, [0, 1, 1]);
}

#[tokio::test]
async fn a_stopped_or_dropped_emulator_lets_its_connections_and_its_port_go() {
    let config = || EmulatorConfig {
        bytes_per_second: Some(1_000),
        ..EmulatorConfig::with_cameras([Camera::steady("gate")])
    };
    let (emulator, client) = start(config()).await;
    let slow = tokio::spawn(async move { client.clip("gate", TimestampKind::Producer, 0, 9_999).await });
    while emulator.media_bytes_sent() == 0 {
        tokio::task::yield_now().await;
    }
    let port: u16 = emulator.endpoint().rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
    emulator.stop().await;
    assert_eq!(slow.await.expect("ends"), Err(Failure::Transport));
    let again = Emulator::start(EmulatorConfig { port, ..config() }).await.expect("the port is free");
    let taken = Emulator::start(EmulatorConfig { port, ..config() }).await.expect_err("the port is taken");
    assert!(taken.to_string().contains("another program may be using the port"));
    drop(again);
    let mut tries = 0;
    while Emulator::start(EmulatorConfig { port, ..config() }).await.is_err() {
        tries += 1;
        assert!(tries < 1_000, "the port is still taken");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_users_video_is_shown_over_and_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a film: of=mine.mkv");
    let source = "testsrc2=size=200x200:rate=30:duration=5";
    let made = Command::new("ffmpeg").args(["-v", "error", "-f", "lavfi", "-i", source]).arg(&file).status();
    assert!(made.expect("ffmpeg is installed").success());
    let argument = format!("my-cam={}", file.display());
    let config = EmulatorConfig::from_arguments(0, &[argument]).expect("a video");
    let (_emulator, client) = start(config).await;
    let clip = client.clip("my-cam", TimestampKind::Producer, 0, 7_999).await.expect("a clip");
    assert_eq!(decoded(&clip).len(), 200);
    for bad in ["", "a b", "cam=", "cam=/nowhere/at-all.mp4"] {
        assert!(EmulatorConfig::from_arguments(0, &[bad.to_owned()]).is_err(), "{bad:?}");
    }
}
