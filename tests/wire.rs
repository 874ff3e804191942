//! What the service answers, byte for byte, through the real SDK: every error of its documentation in every spelling,
//! connections that break, endpoints and credentials that expire, clocks that are wrong.

#[path = "wire/server.rs"]
mod server;

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvs_export::archive::{
    self, Archive, ArchiveError, Assembled, AwsArchive, AwsSettings, CallObserver, ClipQuery, ClipSink,
    DataApi, FailureKind, LimitSettings, ListQuery, RetrySettings,
};
use kvs_export::model::event::PauseReason;
use kvs_export::model::{Attempt, RequestBounds, StreamArn, StreamSelector, TimestampKind, UtcMillis};

use server::{Answer, Got, Server};

const ARN: &str = "arn:aws:kinesisvideo:us-west-2:123456789012:stream/gate/1511852108513";

fn arn() -> StreamArn {
    StreamArn::parse(ARN).expect("an ARN")
}

fn clip_query() -> ClipQuery {
    ClipQuery {
        stream: arn(),
        timestamps: TimestampKind::Server,
        bounds: bounds(),
        fragments: 1,
        attempts: 8,
        may_list: true,
    }
}

fn bounds() -> RequestBounds {
    RequestBounds { start: UtcMillis::new(1_700_000_000_000), end: UtcMillis::new(1_700_000_010_000) }
}

fn list_query() -> ListQuery {
    ListQuery {
        stream: arn(),
        timestamps: TimestampKind::Server,
        bounds: bounds(),
        page_size: 10,
        next_token: None,
    }
}

#[derive(Default)]
struct Memory(Vec<u8>);

impl ClipSink for Memory {
    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Attempt>>);

impl CallObserver for Heard {
    fn attempt(&self, attempt: Attempt) {
        self.0.lock().expect("no panic").push(attempt);
    }

    fn retrying(&self, _: &ArchiveError, _: u32, _: u64) {}

    fn bytes(&self, _: u64) {}

    fn paused(&self, _: &str, _: PauseReason, _: Duration) {}

    fn resumed(&self, _: &str) {}
}

/// What the service answers when nothing is wrong.
fn good(got: &Got) -> Answer {
    match got.operation() {
        "describeStream" => Answer::json(200, &format!(r#"{{"StreamInfo":{{"StreamARN":"{ARN}"}}}}"#)),
        "getDataEndpoint" => Answer::json(200, &format!(r#"{{"DataEndpoint":"http://{}/e1"}}"#, got.host())),
        "listFragments" => Answer::json(200, r#"{"Fragments":[]}"#),
        "getClip" => Answer::new(200, b"a clip"),
        other => panic!("nobody asks for {other}"),
    }
}

fn settings(server: &Server) -> AwsSettings {
    AwsSettings {
        region: Some("us-west-2".to_owned()),
        endpoint_url: Some(server.url()),
        static_credentials: Some(("KEY".to_owned(), "secret".to_owned())),
        ..AwsSettings::default()
    }
}

async fn connect(server: &Server) -> AwsArchive {
    AwsArchive::connect(&settings(server)).await.expect("static credentials")
}

fn assemble(archive: AwsArchive, bandwidth: Option<u64>) -> Assembled {
    let limits = LimitSettings { requests_in_flight: 8, stream_budget: 1.0, bandwidth };
    archive::assemble(archive, limits, RetrySettings { attempts: 3, outage: Duration::from_mins(1) })
}

/// The calls of which each error is tried.
const CALLS: [&str; 4] = ["listFragments", "getClip", "describeStream", "getDataEndpoint"];

/// Makes a call, once; its error, if it fails.
async fn make(archive: &AwsArchive, call: &str) -> Option<ArchiveError> {
    let heard = Heard::default();
    match call {
        "listFragments" => archive.list_fragments(&list_query(), &heard).await.err(),
        "getClip" => archive.get_clip(&clip_query(), &mut Memory::default(), &heard).await.err(),
        "describeStream" => archive.describe_stream(&StreamSelector::Arn(arn()), &heard).await.err(),
        "getDataEndpoint" => archive.find_endpoint(&arn(), DataApi::GetClip, &heard).await.err(),
        other => panic!("no call {other}"),
    }
}

/// What the service's errors mean, from its documentation: code, status, message, and the class for each of [`CALLS`].
fn documented() -> Vec<(&'static str, u16, &'static str, [FailureKind; 4])> {
    use FailureKind::{
        Auth, Denied, Invalid, MediaRefused, MediaUnsupported, NoMedia, OutsideRetention, StreamNotFound,
        Throttled, Transient,
    };
    let nothing = "No fragments found in the stream for the clip request.";
    let gone = "The start of the range is outside of the stream retention period.";
    vec![
        ("ClientLimitExceededException", 400, "Rate exceeded.", [Throttled; 4]),
        ("ClientLimitExceededException", 429, "Rate exceeded.", [Throttled; 4]),
        ("ConnectionLimitExceededException", 400, "Too many connections.", [Throttled; 4]),
        ("FragmentLimitExceeded", 400, "Too many fragments.", [Throttled; 4]),
        ("ThrottlingException", 400, "Rate exceeded", [Throttled; 4]),
        ("SomethingNewException", 429, "Slow down.", [Throttled; 4]),
        ("InternalFailure", 500, "An unknown error.", [Transient; 4]),
        ("ServiceUnavailable", 503, "A temporary failure.", [Transient; 4]),
        ("SomethingNewException", 500, "Who knows.", [Transient; 4]),
        ("SomethingNewException", 502, "Who knows.", [Transient; 4]),
        ("SomethingNewException", 599, "Who knows.", [Transient; 4]),
        ("ExpiredTokenException", 403, "The security token is expired", [Auth; 4]),
        ("NotAuthorizedException", 401, "Not authorized.", [Auth; 4]),
        ("NotAuthorizedException", 403, "Not authorized.", [Auth; 4]),
        ("InvalidSignatureException", 403, "The signature does not match.", [Auth; 4]),
        ("InvalidSignatureException", 401, "The signature does not match.", [Auth; 4]),
        ("RequestExpired", 400, "Request has expired.", [Auth; 4]),
        ("AccessDeniedException", 403, "User is not authorized to perform: x", [Denied; 4]),
        (
            "ResourceNotFoundException",
            404,
            nothing,
            [StreamNotFound, NoMedia, StreamNotFound, StreamNotFound],
        ),
        ("InvalidArgumentException", 400, gone, [OutsideRetention; 4]),
        ("InvalidArgumentException", 400, "EndTimestamp must be later.", [Invalid; 4]),
        ("InvalidCodecPrivateDataException", 400, "It changes.", [MediaRefused; 4]),
        ("InvalidCodecPrivateData", 400, "It changes.", [MediaRefused; 4]),
        ("MissingCodecPrivateDataException", 400, "There is none.", [MediaRefused; 4]),
        ("InvalidMediaFrameException", 400, "A frame cannot be read.", [MediaRefused; 4]),
        ("UnsupportedStreamMediaTypeException", 400, "No video.", [MediaUnsupported; 4]),
        ("NoDataRetentionException", 400, "Nothing is kept.", [OutsideRetention; 4]),
        ("SomethingNewException", 400, "No.", [Invalid; 4]),
        ("SomethingNewException", 403, "No.", [Denied; 4]),
    ]
}

/// The ways an error is put.
fn spellings(code: &str, status: u16, message: &str) -> Vec<(&'static str, Answer)> {
    let url = "http://internal.amazon.com/coral/com.amazonaws.kinesisvideo/";
    let body = |key: &str| format!(r#"{{"{key}":"{message}"}}"#);
    let typed = |name: &str| Answer::json(status, &format!(r#"{{"__type":"{name}","Message":"{message}"}}"#));
    let header = |name, value: &str, body: &str| Answer::json(status, body).with(name, value);
    let coloned = format!("{code}:{url}");
    vec![
        ("wire header, Message", header("x-amzn-ErrorType", &coloned, &body("Message"))),
        ("wire header, message", header("x-amzn-ErrorType", &coloned, &body("message"))),
        ("wire header, bare", header("x-amzn-ErrorType", code, &body("Message"))),
        ("documented header, Message", header("x-amz-ErrorType", &coloned, &body("Message"))),
        ("documented header, message", header("x-amz-ErrorType", code, &body("message"))),
        ("in the body", typed(code)),
        ("in the body with its namespace", typed(&format!("com.amazonaws.kinesisvideo#{code}"))),
    ]
}

/// A server that gives one answer to the call that the test is about, and its client.
async fn with_one_answer() -> (Server, AwsArchive, Arc<Mutex<Answer>>) {
    let answer = Arc::new(Mutex::new(Answer::close()));
    let given = Arc::clone(&answer);
    let server = Server::start(move |got| match got.operation() {
        operation if Some(operation) == got.wants => given.lock().expect("no panic").clone(),
        _ => good(got),
    })
    .await;
    let archive = connect(&server).await;
    (server, archive, answer)
}

#[tokio::test]
async fn every_documented_error_means_what_the_documentation_says_in_every_spelling() {
    let (server, archive, given) = with_one_answer().await;
    for (code, status, message, kinds) in documented() {
        for (spelling, answer) in spellings(code, status, message) {
            *given.lock().expect("no panic") = answer;
            for (call, kind) in CALLS.into_iter().zip(kinds) {
                server.expect(call);
                let case = format!("{call}: {code} {status}, {spelling}");
                let error = make(&archive, call).await.unwrap_or_else(|| panic!("{case}: no error"));
                assert_eq!(error.kind, kind, "{case}: {error}");
                assert_eq!(error.code.as_deref(), Some(code), "{case}");
                let words = format!("{code}: {message} (HTTP {status})");
                assert!(error.message.starts_with(&words), "{case}: {error}");
                assert_eq!(error.request_id.as_deref(), Some(server.last_request_id().as_str()), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn errors_without_a_message_or_a_code_are_classified_by_what_there_is() {
    use FailureKind::{Auth, Denied, Invalid, Throttled, Transient};
    let html = "<html><body>Bad gateway</body></html>";
    let mut cases = Vec::new();
    for (status, kind) in [
        (400, Invalid),
        (401, Auth),
        (403, Denied),
        (404, Invalid),
        (408, Transient),
        (429, Throttled),
        (500, Transient),
        (502, Transient),
        (503, Transient),
        (504, Transient),
    ] {
        for body in ["", "{}", html, "null", r#"{"Message":null}"#] {
            cases.push((Answer::json(status, body), kind, format!("HTTP {status}")));
        }
    }
    let wire = "x-amzn-ErrorType";
    let coded = |status, code: &str| Answer::json(status, "").with(wire, code);
    cases.push((
        coded(400, "ClientLimitExceededException:"),
        Throttled,
        "ClientLimitExceededException".into(),
    ));
    cases.push((coded(403, "ExpiredTokenException"), Auth, "ExpiredTokenException (HTTP 403".into()));
    cases.push((coded(403, "AccessDeniedException:"), Denied, "AccessDeniedException".into()));
    cases.push((coded(500, ":http://nothing/"), Transient, "HTTP 500".into()));
    let expired = r#"{"message":"Signature expired: 20250301T000000Z is now earlier than 20250301T010000Z"}"#;
    cases.push((Answer::json(403, expired), Auth, "Signature expired".into()));
    let (server, archive, given) = with_one_answer().await;
    for (answer, kind, words) in cases {
        let told = format!("{answer:?}");
        *given.lock().expect("no panic") = answer;
        for call in CALLS {
            server.expect(call);
            let error = make(&archive, call).await.unwrap_or_else(|| panic!("{call}: {told}: no error"));
            assert_eq!(error.kind, kind, "{call}: {told}: {error}");
            assert!(error.message.contains(&words), "{call}: {told}: {error}");
            assert_eq!(
                error.request_id.as_deref(),
                Some(server.last_request_id().as_str()),
                "{call}: {told}"
            );
        }
    }
}

#[tokio::test]
async fn answers_that_are_no_answers_are_worth_another_attempt() {
    let whole = vec![7; 100_000];
    let broken = [
        ("reset before the answer", Answer::reset()),
        ("closed before the answer", Answer::close()),
        ("half a head", Answer::raw(b"HTTP/1.1 200 OK\r\ncontent-le").then_close()),
        ("no HTTP", Answer::raw(b"\x16\x03\x01 what is this\r\n\r\n").then_close()),
        ("empty 200", Answer::new(200, b"")),
    ];
    let listings = [
        ("garbage", Answer::json(200, "<html>")),
        ("half a document", Answer::json(200, r#"{"Fragments":[{"#)),
        ("empty document", Answer::json(200, "{}")),
        ("short body", Answer::json(200, r#"{"Fragments":[]}"#).cut_to(5).then_close()),
        ("reset in the body", Answer::json(200, r#"{"Fragments":[]}"#).cut_to(5).then_reset()),
    ];
    let clips = [
        ("short body", Answer::new(200, &whole).cut_to(50_000).then_close()),
        ("reset in the body", Answer::new(200, &whole).cut_to(50_000).then_reset()),
        ("no byte of the body", Answer::new(200, &whole).cut_to(0).then_close()),
    ];
    let all = broken.iter().flat_map(|(name, answer)| CALLS.map(|call| (call, *name, answer.clone())));
    let some = listings.into_iter().map(|(name, answer)| ("listFragments", name, answer));
    let clips = clips.into_iter().map(|(name, answer)| ("getClip", name, answer));
    let (server, archive, given) = with_one_answer().await;
    for (call, name, answer) in all.chain(some).chain(clips) {
        *given.lock().expect("no panic") = answer;
        server.expect(call);
        let error = make(&archive, call).await.unwrap_or_else(|| panic!("{call}, {name}: no error"));
        assert_eq!(error.kind, FailureKind::Transient, "{call}, {name}: {error}");
        let words = match name {
            "empty 200" | "garbage" | "half a document" | "empty document" => "the answer",
            "short body" | "reset in the body" | "no byte of the body" if call == "getClip" => {
                "the answer broke off after"
            }
            "short body" | "reset in the body" => "the answer cannot be read",
            _ => "the connection failed",
        };
        assert!(error.message.starts_with(words), "{call}, {name}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_given_up() {
    let whole = vec![7; 100_000];
    for (name, answer) in [
        ("before the head", Answer::raw(b"").then_silence()),
        ("in the head", Answer::raw(b"HTTP/1.1 200 OK\r\n").then_silence()),
        ("in the body", Answer::new(200, &whole).cut_to(50_000).then_silence()),
    ] {
        let server = Server::start(move |got| match got.operation() {
            "getClip" => answer.clone(),
            _ => good(got),
        })
        .await;
        let idle_timeout = Some(Duration::from_millis(200));
        let settings = AwsSettings { idle_timeout, ..settings(&server) };
        let archive = AwsArchive::connect(&settings).await.expect("static credentials");
        let error = make(&archive, "getClip").await.expect("an error");
        assert_eq!(error.kind, FailureKind::Transient, "{name}: {error}");
        assert!(error.message.contains("no byte for 0.2 s"), "{name}: {error}");
        if name == "in the body" {
            assert_eq!(error.request_id.as_deref(), Some(server.last_request_id().as_str()));
        }
    }
}

#[tokio::test]
async fn a_slow_body_that_lives_is_waited_for() {
    let whole = vec![7; 30];
    let server = Server::start({
        let whole = whole.clone();
        move |got| match got.operation() {
            "getClip" => Answer::new(200, &whole).byte_by_byte(Duration::from_millis(100)),
            _ => good(got),
        }
    })
    .await;
    let settings = AwsSettings { idle_timeout: Some(Duration::from_secs(2)), ..settings(&server) };
    let archive = AwsArchive::connect(&settings).await.expect("static credentials");
    let (begun, mut memory) = (Instant::now(), Memory::default());
    archive.get_clip(&clip_query(), &mut memory, &Heard::default()).await.expect("it lives");
    assert_eq!(memory.0, whole);
    assert!(begun.elapsed() > Duration::from_secs(2), "longer than the idle time-out");
}

#[tokio::test]
async fn the_bandwidth_delays_reading_and_is_not_taken_for_silence() {
    let whole = vec![7; 100_000];
    let server = Server::start({
        let whole = whole.clone();
        move |got| match got.operation() {
            "getClip" => Answer::new(200, &whole),
            _ => good(got),
        }
    })
    .await;
    // Each part takes longer to pay for than the answer may be silent.
    let settings = AwsSettings { idle_timeout: Some(Duration::from_millis(500)), ..settings(&server) };
    let archive = AwsArchive::connect(&settings).await.expect("static credentials");
    let Assembled { archive, .. } = assemble(archive, Some(50_000));
    let (begun, mut memory) = (Instant::now(), Memory::default());
    archive.get_clip(&clip_query(), &mut memory, &Heard::default()).await.expect("it is only slow");
    assert_eq!(memory.0, whole);
    assert!(begun.elapsed() >= Duration::from_millis(1_700), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_expires_is_fetched_anew_twice_at_most_and_then_the_error_stands() {
    let refusal =
        |status, code: &str| Answer::json(status, r#"{"Message":"no"}"#).with("x-amzn-ErrorType", code);
    for (name, expired) in [
        ("401", refusal(401, "NotAuthorizedException")),
        ("403", refusal(403, "AccessDeniedException")),
        ("403 without a code", Answer::json(403, "")),
        ("reset", Answer::reset()),
    ] {
        for lasting in [false, true] {
            let (expired, endpoints) = (expired.clone(), Arc::new(AtomicU32::new(0)));
            let asked = Arc::clone(&endpoints);
            let server = Server::start(move |got| match got.operation() {
                "getDataEndpoint" => {
                    let nth = asked.fetch_add(1, Ordering::SeqCst) + 1;
                    Answer::json(200, &format!(r#"{{"DataEndpoint":"http://{}/e{nth}"}}"#, got.host()))
                }
                "getClip" if lasting || got.path.starts_with("/e1/") => expired.clone(),
                _ => good(got),
            })
            .await;
            let Assembled { archive, .. } = assemble(connect(&server).await, None);
            let heard = Heard::default();
            let result = archive.get_clip(&clip_query(), &mut Memory::default(), &heard).await;
            assert_eq!(result.is_err(), lasting, "{name}: {result:?}");
            let clips = server.log().iter().filter(|path| path.ends_with("/getClip")).count();
            if name != "reset" {
                let expected = if lasting { (3, 3) } else { (2, 2) };
                assert_eq!((clips, endpoints.load(Ordering::SeqCst)), expected, "{name}");
            }
            let apis: Vec<String> =
                heard.0.lock().expect("no panic").iter().map(|attempt| attempt.api.clone()).collect();
            assert_eq!(apis[..4], ["GetDataEndpoint", "GetClip", "GetDataEndpoint", "GetClip"], "{name}");
        }
    }
}

/// Refuses requests that are signed for another time than the server's, which is `ahead` of this machine's.
fn refuses_old_signatures(got: &Got, ahead: i64) -> Answer {
    let there = UtcMillis::from(jiff::Timestamp::now()) + ahead;
    let signed = got.header("x-amz-date").expect("a signature");
    let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", signed).expect("a time");
    let signed = signed.to_zoned(jiff::tz::TimeZone::UTC).expect("UTC").timestamp();
    let date = jiff::Timestamp::from_millisecond(there.get()).expect("a time");
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).expect("a date");
    if (there - UtcMillis::from(signed)).abs() > 300_000 {
        let message = r#"{"message":"Signature expired: it is now earlier"}"#;
        return Answer::json(403, message)
            .with("x-amzn-ErrorType", "InvalidSignatureException")
            .with("date", &date);
    }
    good(got).with("date", &date)
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_corrected_by_the_sdk_on_the_same_client() {
    for ahead in [3_600_000, -3_600_000] {
        let server = Server::start(move |got| refuses_old_signatures(got, ahead)).await;
        let Assembled { archive, .. } = assemble(connect(&server).await, None);
        let heard = Heard::default();
        archive.describe_stream(&StreamSelector::Arn(arn()), &heard).await.expect("corrected");
        archive.get_clip(&clip_query(), &mut Memory::default(), &heard).await.expect("corrected");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_named_in_the_error() {
    for (ahead, words) in [(3_600_000, "s behind the service's"), (-3_600_000, "s ahead of the service's")] {
        let server = Server::start(move |got| refuses_old_signatures(got, ahead)).await;
        let error = make(&connect(&server).await, "describeStream").await.expect("refused");
        assert_eq!(error.kind, FailureKind::Auth);
        assert!(error.message.contains("this machine's clock is 3"), "{error}");
        assert!(error.message.contains(words) && error.message.contains("set the clock"), "{error}");
    }
    let server = Server::start(|_| {
        Answer::json(403, r#"{"message":"It does not match."}"#)
            .with("x-amzn-ErrorType", "InvalidSignatureException")
    })
    .await;
    let error = make(&connect(&server).await, "describeStream").await.expect("refused");
    assert!(!error.message.contains("clock"), "{error}");
}

/// Set for the process that has its AWS settings from a folder of this test.
const FOLDER: &str = "KVS_EXPORT_TEST_FOLDER";

#[test]
fn credentials_that_expire_midway_are_loaded_anew_from_where_they_come_from() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(outlive_credentials(Path::new(&folder)));
    }
    // A process of its own: the SDK finds its files by the environment, which belongs to all tests.
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys.json");
    let config = format!(
        "[profile process]\nregion = us-west-2\ncredential_process = cat {}\n[profile file]\nregion = us-west-2\n",
        keys.display()
    );
    std::fs::write(folder.path().join("config"), config).expect("the configuration is written");
    let name = "credentials_that_expire_midway_are_loaded_anew_from_where_they_come_from";
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("AWS_") {
            command.env_remove(variable);
        }
    }
    let output = command
        .args(["--exact", name, "--nocapture"])
        .env(FOLDER, folder.path())
        .env("AWS_CONFIG_FILE", folder.path().join("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("credentials"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn outlive_credentials(folder: &Path) {
    let write_keys = |profile: &str, key: &str| {
        let (file, keys) = if profile == "process" {
            ("keys.json", format!(r#"{{"Version":1,"AccessKeyId":"{key}","SecretAccessKey":"s"}}"#))
        } else {
            ("credentials", format!("[file]\naws_access_key_id = {key}\naws_secret_access_key = s\n"))
        };
        std::fs::write(folder.join(file), keys).expect("keys are written");
    };
    for profile in ["process", "file"] {
        write_keys(profile, "OLD");
        let accepted = Arc::new(Mutex::new("OLD"));
        let accepts = Arc::clone(&accepted);
        let server = Server::start(move |got| {
            let key = *accepts.lock().expect("no panic");
            if got.header("authorization").is_some_and(|words| words.contains(&format!("Credential={key}/")))
            {
                return good(got);
            }
            let message = r#"{"message":"The security token included in the request is expired"}"#;
            Answer::json(403, message).with("x-amzn-ErrorType", "ExpiredTokenException")
        })
        .await;
        let settings = AwsSettings {
            profile: Some(profile.to_owned()),
            endpoint_url: Some(server.url()),
            ..AwsSettings::default()
        };
        let archive = AwsArchive::connect(&settings).await.expect("credentials");
        let Assembled { archive, .. } = assemble(archive, None);
        let get = || async {
            archive
                .get_clip(&clip_query(), &mut Memory::default(), &Heard::default())
                .await
                .map_err(|e| e.kind)
        };
        assert_eq!(get().await, Ok(6), "{profile}");
        *accepted.lock().expect("no panic") = "NEW";
        write_keys(profile, "NEW");
        // Many at once: one of them loads the credentials, all go on with them.
        let all = futures_util::future::join_all((0..16).map(|_| get())).await;
        assert_eq!(all, vec![Ok(6); 16], "{profile}");
        *accepted.lock().expect("no panic") = "NEWER";
        assert_eq!(get().await, Err(FailureKind::Auth), "{profile}: nobody has renewed them");
        write_keys(profile, "NEWER");
        assert_eq!(get().await, Ok(6), "{profile}");
    }
}
