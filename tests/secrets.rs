//! No credential gets out: canaries for all three parts of one, from every source, through runs that succeed, fail
//! and die, at the most verbose level; then everything that was written is searched.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kvs_export::emulator::{Api, ByteTrigger, Camera, EmulatorConfig, Fault, FaultRule, When};
use kvs_export::model::TimeRange;
use rustix::process::{Pid, Signal, kill_process};
use support::after_midnight;
use support::scene::{Job, Scene};
use tempfile::TempDir;

const KEY_ID: &str = "ASIACANARYKEYID7XMPL";
const SECRET: &str = "CanarySecret/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "CanaryToken+IQoJb3JpZ2luX2VjEXAMPLE////////wEaCXVzLXdlc3QtMiJHMEUCIQ==";

/// What is searched for: encodings of URLs leave these as they are.
const NEEDLES: [&str; 3] = ["CANARYKEYID", "CanarySecret", "CanaryToken"];

/// Where the program is to find the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Environment,
    Profile,
    Process,
}

/// The canaries, in a folder apart from all that is searched.
struct Canaries(TempDir);

impl Canaries {
    fn new() -> Self {
        let canaries = Self(tempfile::tempdir().expect("a folder"));
        let keys = format!(
            "aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
        );
        let json = format!(
            "{{\"Version\": 1, \"AccessKeyId\": \"{KEY_ID}\", \"SecretAccessKey\": \"{SECRET}\", \"SessionToken\": \"{TOKEN}\"}}"
        );
        canaries.write("credentials", &format!("[canary]\n{keys}"));
        canaries.write("keys.json", &json);
        canaries.write("broken.json", &json[..json.len() - 1]);
        for (name, script) in [
            ("good", "cat keys.json"),
            ("failing", "cat keys.json; exit 3"),
            ("broken", "cat broken.json"),
            ("foreign", "sed 's/: 1,/: 9,/' keys.json"),
            ("telling", "cat keys.json credentials >&2; exit 3"),
        ] {
            let script = format!("#!/bin/sh\ncd '{}'\n{script}\n", canaries.0.path().display());
            canaries.write(name, &script);
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(canaries.0.path().join(name), executable).expect("made executable");
        }
        canaries.process("good");
        canaries
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    /// Names the process that the profile asks.
    fn process(&self, name: &str) {
        let path = self.0.path().join(name);
        self.write("config", &format!("[profile asking]\ncredential_process = {}\n", path.display()));
    }

    /// Gives them to a command.
    fn give<'c>(&self, command: &'c mut Command, source: Source) -> &'c mut Command {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        for (name, value) in names.into_iter().zip([KEY_ID, SECRET, TOKEN]) {
            match source {
                Source::Environment => command.env(name, value),
                Source::Profile | Source::Process => command.env_remove(name),
            };
        }
        match source {
            Source::Environment => command,
            Source::Profile => command
                .env("AWS_SHARED_CREDENTIALS_FILE", self.0.path().join("credentials"))
                .env("AWS_PROFILE", "canary"),
            Source::Process => {
                command.env("AWS_CONFIG_FILE", self.0.path().join("config")).env("AWS_PROFILE", "asking")
            }
        }
    }
}

/// Panics if a canary is in it.
#[track_caller]
fn expect_clean(what: &str, bytes: &[u8]) {
    for needle in NEEDLES {
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
        if let Some(at) = at {
            let around = &bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())];
            panic!("{needle} is in {what}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Searches every file below a folder; how many there were.
#[track_caller]
fn expect_clean_folder(folder: &Path) -> usize {
    let mut searched = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path()) {
            expect_clean("the name of a file", entry.as_os_str().as_encoded_bytes());
            if entry.is_dir() {
                folders.push(entry);
            } else {
                expect_clean(&entry.display().to_string(), &fs::read(&entry).expect("read"));
                searched += 1;
            }
        }
    }
    searched
}

/// Searches what a process said, which is a great deal.
#[track_caller]
fn expect_clean_output(output: &Output) {
    expect_clean("standard output", &output.stdout);
    expect_clean("standard error", &output.stderr);
    assert!(output.stderr.len() > 100, "it was to be verbose: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(scene: &Scene, canaries: &Canaries, source: Source, log_format: &str) -> Output {
    let mut command = scene.program();
    // Where the log is JSON, so is what is told of the progress.
    let progress = if log_format == "json" { "json" } else { "lines" };
    command.args(["--format", "json", "--progress", progress, "-vvv", "--log-format", log_format, "run"]);
    command.arg(scene.job_file()).env("KVS_EXPORT_LOG", "trace");
    canaries.give(&mut command, source).output().expect("the binary starts")
}

/// Searches the whole scene: job file, state, chunks, outputs, and what the emulator noted.
#[track_caller]
fn expect_clean_scene(scene: &Scene) {
    assert!(expect_clean_folder(scene.folder()) >= 2, "a state file at least");
    expect_clean("the emulator's log", format!("{:?}", scene.log()).as_bytes());
    let mut status = scene.program();
    status.args(["-vvv", "--format", "json", "status", "--state"]).arg(scene.state());
    let status = status.output().expect("the binary starts");
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    expect_clean("status", &status.stdout);
    expect_clean("status", &status.stderr);
}

fn minute() -> TimeRange {
    after_midnight(5_500, 65_500)
}

/// Tells the report of a run to be copied to where it is searched.
fn with_notification(scene: &Scene) {
    let copy = "cp \"$KVS_EXPORT_REPORT\" notified.json";
    let text = fs::read_to_string(scene.job_file()).expect("read");
    let text = format!("{text}\n[notify]\ncommand = [\"sh\", \"-c\", {copy:?}]\n");
    fs::write(scene.job_file(), text).expect("written");
}

/// Panics unless the notification had the report of the run, without a canary.
#[track_caller]
fn expect_clean_notification(scene: &Scene) {
    let report = fs::read(scene.folder().join("notified.json")).expect("the report was copied");
    expect_clean("the report of the notification", &report);
    let report: serde_json::Value = serde_json::from_slice(&report).expect("a document");
    assert_eq!(report["schema"], "kvs-export/run/1");
}

#[test]
fn the_search_finds_what_is_there() {
    for needle in [KEY_ID, SECRET, TOKEN] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("a")).expect("made");
        fs::write(folder.path().join("a/state.db-wal"), format!("\0\0{needle}\0")).expect("written");
        let searched = std::panic::catch_unwind(|| expect_clean_folder(folder.path()));
        assert!(searched.is_err(), "{needle}");
    }
}

#[test]
fn runs_that_overcome_every_fault_tell_no_secret() {
    let first = |count, api, fault| FaultRule { when: When::First(count), ..FaultRule::always(api, fault) };
    let clip = |fault| first(2, Api::GetClip, fault);
    let list = |fault| first(1, Api::ListFragments, fault);
    let faults = vec![
        ("none", clip(Fault::NoFragments)),
        ("short", clip(Fault::ShortClip { missing: 1 })),
        ("cut", clip(Fault::CutBody { after: 10_000 })),
        ("garbage", clip(Fault::Garbage)),
        ("empty", clip(Fault::EmptyBody)),
        ("reset", clip(Fault::ResetConnection { after: None })),
        ("reset-within", clip(Fault::ResetConnection { after: Some(50_000) })),
        ("throttled", clip(Fault::Throttle)),
        ("internal", clip(Fault::InternalFailure)),
        ("unavailable", clip(Fault::ServiceUnavailable)),
        ("expired-once", first(1, Api::GetClip, Fault::ExpiredToken)),
        ("expired-endpoint", first(1, Api::GetClip, Fault::ExpireEndpoint)),
        ("expired-list-endpoint", list(Fault::ExpireEndpoint)),
        ("away", FaultRule { when: When::First(2), ..FaultRule::every_request(Fault::Away) }),
        ("slow", clip(Fault::Slow { bytes_per_second: 800_000 })),
        ("list-garbage", list(Fault::Garbage)),
        ("list-throttled", list(Fault::Throttle)),
        ("list-empty", list(Fault::EmptyBody)),
        ("tags-denied", FaultRule::always(Api::ListTagsForStream, Fault::AccessDenied)),
    ];
    let canaries = Canaries::new();
    for (source, log_format) in
        [(Source::Environment, "text"), (Source::Profile, "json"), (Source::Process, "text")]
    {
        let cameras: Vec<Camera> = faults.iter().map(|(name, _)| Camera::steady(*name)).collect();
        let rules = faults.iter().cloned().map(|(name, rule)| rule.on_stream(name)).collect();
        let scene = Scene::new(EmulatorConfig { faults: rules, ..EmulatorConfig::with_cameras(cameras) });
        let jobs = faults.iter().map(|(name, _)| Job::new(*name, *name, minute()).with("keep_chunks = true"));
        scene.write_jobs("", &jobs.collect::<Vec<_>>());
        with_notification(&scene);
        let output = run(&scene, &canaries, source, log_format);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{source:?}: {said}");
        assert!(said.contains("kvs_export::") && said.contains("GetClip"), "{said}");
        expect_clean_output(&output);
        expect_clean_scene(&scene);
        expect_clean_notification(&scene);
        assert!(scene.outputs().join("cut.chunks").is_dir());
    }
}

#[test]
fn runs_that_fail_tell_no_secret() {
    let always = |fault| FaultRule::always(Api::GetClip, fault);
    let gone = Fault::ResetConnection { after: None };
    let fragment = Camera::steady("refused").fragments(minute(), kvs_export::model::TimestampKind::Server);
    let faults = vec![
        ("denied", always(Fault::AccessDenied)),
        ("list-denied", FaultRule::always(Api::ListFragments, Fault::AccessDenied)),
        ("endpoint-denied", FaultRule::always(Api::GetDataEndpoint, Fault::AccessDenied)),
        ("stream-denied", FaultRule::always(Api::DescribeStream, Fault::AccessDenied)),
        ("stream-garbage", FaultRule::always(Api::DescribeStream, Fault::Garbage)),
        ("unsupported", always(Fault::UnsupportedMedia)),
        ("codec", always(Fault::UnknownCodec)),
        ("garbage", always(Fault::Garbage)),
        ("empty", always(Fault::EmptyBody)),
        ("internal", always(Fault::InternalFailure)),
        ("none", always(Fault::NoFragments)),
        ("list-reset", FaultRule::always(Api::ListFragments, gone)),
        ("away", FaultRule { api: None, ..always(Fault::Away) }),
        ("refused", always(Fault::RefuseFragment(fragment[7].number.clone()))),
    ];
    let canaries = Canaries::new();
    for (source, log_format) in
        [(Source::Environment, "json"), (Source::Profile, "text"), (Source::Process, "json")]
    {
        let cameras: Vec<Camera> = faults.iter().map(|(name, _)| Camera::steady(*name)).collect();
        let rules = faults.iter().cloned().map(|(name, rule)| rule.on_stream(name)).collect();
        let scene = Scene::new(EmulatorConfig { faults: rules, ..EmulatorConfig::with_cameras(cameras) });
        let jobs: Vec<Job> = faults.iter().map(|(name, _)| Job::new(*name, *name, minute())).collect();
        scene.write_jobs("attempts = 2\noutage = \"1s\"", &jobs);
        with_notification(&scene);
        let output = run(&scene, &canaries, source, log_format);
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        expect_clean_output(&output);
        expect_clean_scene(&scene);
        expect_clean_notification(&scene);
    }
}

#[test]
fn runs_whose_credentials_are_refused_tell_no_secret() {
    let canaries = Canaries::new();
    let signature = |status, code: &str| Fault::Refuse {
        status,
        code: code.to_owned(),
        message: "The signature does not match.".to_owned(),
    };
    let cases = [
        (0, 5, Some((Api::DescribeStream, Fault::ExpiredToken))),
        (0, 5, Some((Api::GetClip, Fault::ExpiredToken))),
        (0, 5, Some((Api::GetClip, Fault::ExpireCredentials))),
        (0, 5, Some((Api::ListFragments, signature(403, "InvalidSignatureException")))),
        (0, 5, Some((Api::GetDataEndpoint, signature(401, "NotAuthorizedException")))),
        // The clock is off: refused, then corrected.
        (600_000, 0, None),
    ];
    for source in [Source::Environment, Source::Profile, Source::Process] {
        for (clock_offset_ms, code, fault) in cases.clone() {
            let faults = fault.map(|(api, fault)| FaultRule::always(api, fault));
            let scene = Scene::new(EmulatorConfig {
                clock_offset_ms,
                faults: faults.into_iter().collect(),
                ..EmulatorConfig::with_cameras([Camera::steady("gate")])
            });
            scene.write_jobs("", &[Job::new("gate", "gate", minute())]);
            with_notification(&scene);
            let output = run(&scene, &canaries, source, "text");
            assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
            expect_clean_output(&output);
            expect_clean_scene(&scene);
            expect_clean_notification(&scene);
        }
    }
}

#[test]
fn what_a_killed_run_leaves_behind_holds_no_secret() {
    let canaries = Canaries::new();
    let target: Arc<Mutex<Option<Pid>>> = Arc::default();
    let aim = Arc::clone(&target);
    let action = move || {
        let pid = aim.lock().unwrap_or_else(PoisonError::into_inner);
        kill_process(pid.expect("it is running"), Signal::KILL).expect("it is sent");
    };
    let scene = Scene::new(EmulatorConfig {
        on_bytes: Some(ByteTrigger { at: 600_000, action: Arc::new(action) }),
        ..EmulatorConfig::with_cameras([Camera::steady("gate")])
    });
    scene.write_jobs("requests_in_flight = 1", &[Job::new("gate", "gate", minute())]);
    let mut command = scene.command();
    canaries.give(command.arg("-vvv"), Source::Environment);
    let mut slot = target.lock().expect("not poisoned");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    *slot = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    drop(slot);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()));
    let log = PathBuf::from(format!("{}-wal", scene.state().display()));
    assert!(log.metadata().is_ok_and(|log| log.len() > 0), "the write-ahead log is there");
    expect_clean_output(&output);
    expect_clean_scene(&scene);
}

#[test]
fn a_clip_tells_no_secret() {
    let canaries = Canaries::new();
    let scene = Scene::new(EmulatorConfig::with_cameras([Camera::steady("gate")]));
    let mut command = scene.program();
    command.args(["-vvv", "clip", "gate", "--region", "us-west-2", "--endpoint-url", &scene.endpoint()]);
    command.args(["--from", "2024-03-01T00:00:01Z", "--to", "2024-03-01T00:00:21Z"]);
    let output = canaries.give(&mut command, Source::Environment).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(0));
    expect_clean_output(&output);
    assert_eq!(expect_clean_folder(scene.folder()), 3, "a video and its sidecars");
}

#[test]
fn credential_processes_that_fail_tell_no_secret() {
    let canaries = Canaries::new();
    for process in ["failing", "broken", "foreign", "telling"] {
        canaries.process(process);
        let scene = Scene::new(EmulatorConfig::with_cameras([Camera::steady("gate")]));
        scene.write_jobs("", &[Job::new("gate", "gate", minute())]);
        let output = run(&scene, &canaries, Source::Process, "text");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{process}: {said}");
        expect_clean_output(&output);
        expect_clean_scene(&scene);
    }
}

/// A server that refuses every request and quotes it in the refusal, as the service does with bad signatures.
struct Echo {
    endpoint: String,
    heard: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(status: &'static str, code: &'static str, quote: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let heard: Arc<Mutex<String>> = Arc::default();
        let record = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(request) = read_head(stream.as_ref().expect("a connection")) else { break };
                let body = serde_json::json!({ "__type": code, "message": quote(&request) }).to_string();
                record.lock().expect("not poisoned").push_str(&request);
                let answer = format!(
                    "HTTP/1.1 {status}\r\nx-amzn-ErrorType: {code}\r\ncontent-type: application/json\r\ncontent-length: \
                     {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                // Whoever asked may have gone.
                drop(stream.expect("a connection").write_all(answer.as_bytes()));
            }
        });
        Self { endpoint, heard, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // A connection without a word ends it.
        drop(TcpStream::connect(self.endpoint.trim_start_matches("http://")));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// The head of a request, whose body is read too; `None` where nothing comes.
fn read_head(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(head)
}

#[test]
fn what_the_service_quotes_of_a_request_tells_no_secret() {
    let canonical = |head: &str| {
        format!(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method.\n\nThe Canonical String for this request should have been\n'{head}'"
        )
    };
    let incomplete = |head: &str| {
        let header = head.lines().find(|line| line.to_lowercase().starts_with("authorization"));
        format!("Authorization header requires 'SignedHeaders' parameter. {}", header.unwrap_or_default())
    };
    let whole = |head: &str| format!("I do not understand {head}");
    let canaries = Canaries::new();
    for (status, code, quote) in [
        ("403 Forbidden", "InvalidSignatureException", canonical as fn(&str) -> String),
        ("403 Forbidden", "IncompleteSignature", incomplete),
        ("400 Bad Request", "SomethingNew", whole),
        ("403 Forbidden", "AccessDeniedException", whole),
    ] {
        for source in [Source::Environment, Source::Profile, Source::Process] {
            let echo = Echo::start(status, code, quote);
            let scene = Scene::new(EmulatorConfig::with_cameras([Camera::steady("gate")]));
            scene.write_jobs("", &[Job::new("gate", "gate", minute())]);
            let jobs = fs::read_to_string(scene.job_file()).expect("read");
            let jobs = jobs.replace(&scene.endpoint(), &echo.endpoint);
            fs::write(scene.job_file(), jobs).expect("written");
            let output = run(&scene, &canaries, source, "text");
            assert!(matches!(output.status.code(), Some(3 | 5)), "{output:?}");
            // The canaries were used: the key id and the token went over the wire, and came back.
            let heard = echo.heard.lock().expect("not poisoned").clone();
            assert!(heard.contains(KEY_ID) && heard.contains("CanaryToken"), "{source:?}: {heard}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("[hidden]"));
            expect_clean_output(&output);
            expect_clean_scene(&scene);
        }
    }
}

#[test]
fn the_emulators_own_log_tells_no_secret() {
    let canaries = Canaries::new();
    let scene = Scene::new(EmulatorConfig::with_cameras([Camera::steady("gate")]));
    let mut server = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    server.args(["-vvv", "--log-format", "json", "emulator", "--port", "0", "--stream", "gate"]);
    let mut server = server.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut endpoint = String::new();
    let mut out = BufReader::new(server.stdout.take().expect("a pipe"));
    out.read_line(&mut endpoint).expect("it tells its endpoint");
    scene.write_jobs("", &[Job::new("gate", "gate", minute())]);
    let jobs =
        fs::read_to_string(scene.job_file()).expect("read").replace(&scene.endpoint(), endpoint.trim());
    fs::write(scene.job_file(), jobs).expect("written");
    let output = run(&scene, &canaries, Source::Environment, "json");
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::TERM).expect("it is sent");
    let ended = server.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    expect_clean("the emulator's output", &ended.stderr);
    expect_clean_output(&output);
    expect_clean_scene(&scene);
}
