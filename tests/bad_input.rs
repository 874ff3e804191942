//! Bad input, given to the real program: one clear message with the way out, the right exit code, nothing lost.
//!
//! Every run here is made with `--format json`; that standard output holds exactly one document, that its
//! outcome fits the exit code and that an early end has a reason is checked for each of them.

#[path = "support/fake_ffmpeg.rs"]
mod fake_ffmpeg;
#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::Arc;

use kvs_export::clock::SystemClock;
use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule};
use kvs_export::store::{SCHEMA_VERSION, StateLock, Store};
use rusqlite::Connection;
use serde_json::Value;
use support::after_midnight;
use support::scene::{Job, Scene};

/// A range for job files that are refused before anybody looks for it in an archive.
const RANGE: &str = "from = 2025-03-03T08:00:00Z\nto = 2025-03-03T08:00:20Z\n";

/// An archive of two cameras, `gate` and `yard`.
fn archive() -> EmulatorConfig {
    EmulatorConfig::with_cameras([Camera::steady("gate"), Camera::steady("yard")])
}

fn archive_denying(denied: &[(&str, Api)]) -> EmulatorConfig {
    let denied = denied.iter().map(|(stream, api)| ((*stream).to_owned(), *api)).collect();
    EmulatorConfig { denied, ..archive() }
}

fn archive_with(fault: FaultRule) -> EmulatorConfig {
    EmulatorConfig { faults: vec![fault], ..archive() }
}

/// Twenty seconds of a stream, by a job of its name; a fragment lies astride of the start.
fn job_for(stream: &str) -> Job {
    Job::new(stream, stream, after_midnight(0, 20_000))
}

/// A scene, and what is to be said of a run in it.
struct Place {
    scene: Scene,
}

/// How a run ended.
struct Ended {
    code: i32,
    report: Value,
    stderr: String,
}

impl Place {
    /// A folder without a job file, and no archive to speak of.
    fn empty() -> Self {
        Self { scene: Scene::new(EmulatorConfig::default()) }
    }

    /// A folder whose job file is that text; no archive is needed to refuse it.
    fn holding(text: impl AsRef<[u8]>) -> Self {
        let place = Self::empty();
        place.write("jobs.toml", text);
        place
    }

    /// A folder whose job file asks for both cameras.
    fn asking(config: EmulatorConfig) -> Self {
        Self::asking_for(config, &[job_for("gate"), job_for("yard")])
    }

    fn asking_for(config: EmulatorConfig, jobs: &[Job]) -> Self {
        let scene = Scene::new(config);
        scene.write_jobs("", jobs);
        Self { scene }
    }

    /// The same place with another archive behind the same streams.
    fn meet(&mut self, config: EmulatorConfig) {
        self.scene.restart_emulator(config);
        self.scene.write_jobs("", &[job_for("gate"), job_for("yard")]);
    }

    fn requests(&self, api: Api) -> Vec<kvs_export::emulator::RequestRecord> {
        self.scene.requests(api)
    }

    #[track_caller]
    fn assert_no_clip_twice(&self) {
        let mut asked = BTreeSet::new();
        for clip in self.requests(Api::GetClip) {
            let selector = format!("{} {:?}", clip.stream, clip.selector);
            assert!(asked.insert(selector.clone()), "asked for twice: {selector}");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.folder().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// Changes the job file.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.scene.job_file()).expect("read");
        assert!(text.contains(from), "{text}");
        self.write("jobs.toml", text.replace(from, to));
    }

    fn run(&self) -> Ended {
        self.run_with(|_| {})
    }

    fn run_with(&self, change: impl FnOnce(&mut Command)) -> Ended {
        let mut command = self.scene.command();
        change(&mut command);
        self.ended(&command.output().expect("the program starts"))
    }

    fn ended(&self, output: &Output) -> Ended {
        let code = output.status.code().expect("it ends by itself");
        let stderr = self.normalised(&String::from_utf8_lossy(&output.stderr));
        let stdout = std::str::from_utf8(&output.stdout).expect("UTF-8");
        let report: Value = serde_json::from_str(stdout)
            .unwrap_or_else(|error| panic!("not one document: {error}\n{stdout}\n{stderr}"));
        assert_eq!(report["schema"], "kvs-export/run/1");
        let outcome = report["outcome"].as_str().expect("an outcome");
        let fitting = match outcome {
            "done" => 0,
            "failed" => 1,
            "usage" => 2,
            "incomplete" => 3,
            "locked" => 4,
            "auth" => 5,
            "interrupted" => 130,
            other => panic!("no outcome: {other}"),
        };
        assert_eq!(code, fitting, "{outcome}\n{stderr}\n{report:#}");
        assert!(report["exports"].is_array() && report["totals"].is_object(), "{report:#}");
        let error = report.get("error").expect("the key is always there");
        let told = error.is_string() || report["exports"].to_string().contains("\"error\":\"");
        assert_eq!(told, code != 0, "{report:#}");
        Ended { code, report, stderr }
    }

    /// The text with this folder called `.`.
    fn normalised(&self, text: &str) -> String {
        let folder = fs::canonicalize(self.scene.folder()).expect("it is there");
        text.replace(folder.to_str().expect("UTF-8"), ".")
            .replace(self.scene.folder().to_str().expect("UTF-8"), ".")
    }

    /// Every file below the folder, sorted.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, files: &mut Vec<String>) {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
                    files.push(name);
                }
            }
        }
        let mut files = Vec::new();
        walk(self.scene.folder(), self.scene.folder(), &mut files);
        files.sort();
        files
    }

    /// All files but the state's own.
    fn files_beside_state(&self) -> Vec<String> {
        self.files().into_iter().filter(|name| !name.starts_with("state.db")).collect()
    }

    /// Nothing but the job file and, where the run got that far, the state.
    fn assert_nothing_made(&self) {
        assert_eq!(self.files_beside_state(), ["jobs.toml"]);
    }
}

impl Ended {
    fn error(&self) -> &str {
        self.report["error"].as_str().unwrap_or_default()
    }

    /// The status and error of the export of a stream.
    fn export(&self, stream: &str) -> (&str, &str) {
        let exports = self.report["exports"].as_array().expect("a list");
        let export = exports.iter().find(|export| export["stream"] == stream).expect("an export");
        (export["status"].as_str().expect("a status"), export["error"].as_str().unwrap_or_default())
    }

    #[track_caller]
    fn assert_says(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}\n{:#}", self.stderr, self.report);
        for part in parts {
            assert!(self.stderr.contains(part), "not said: {part:?}\n{}", self.stderr);
        }
    }
}

/// A job file that is right but for what `lines` say; they begin at line 4.
fn job(lines: &str) -> String {
    format!("version = 1\n[[job]]\nname = \"night\"\n{lines}")
}

fn outputs_of(stream: &str) -> [String; 3] {
    ["manifest.json", "mp4", "sha256"].map(|end| format!("out/{stream}.{end}"))
}

/// Runs a job file that must be refused whole: exit 2, the words in the document, the line on standard error, not even a state made.
#[track_caller]
fn assert_refused(text: impl AsRef<[u8]>, parts: &[&str]) {
    let place = Place::holding(text);
    let ended = place.run();
    ended.assert_says(2, &[]);
    let error = place.normalised(ended.error());
    for part in parts {
        let told = part.strip_prefix("error: ").unwrap_or(part);
        assert!(error.contains(told), "not in the document: {told:?}\n{error}");
        // People are shown the line.
        if let Some((at, _)) = told.split_once(": ").filter(|_| told != *part) {
            assert!(ended.stderr.contains(&format!("--> {at}\n")), "{}", ended.stderr);
        }
    }
    assert_eq!(place.files(), ["jobs.toml"]);
}

// The job file as a file.

#[test]
fn a_missing_job_file_is_named() {
    let place = Place::empty();
    let ended = place.run();
    insta::assert_snapshot!(ended.stderr, @r#"
    error: cannot read the job file ./jobs.toml: No such file or directory (os error 2)
      hint: write one to begin with: kvs-export init
    "#);
    ended.assert_says(2, &[]);
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_folder_is_no_job_file() {
    let place = Place::empty();
    fs::create_dir(place.path("jobs.toml")).expect("a folder");
    let ended = place.run();
    insta::assert_snapshot!(ended.stderr, @r#"
    error: cannot read the job file ./jobs.toml: Is a directory (os error 21)
      hint: name a job file that this user can read
    "#);
    ended.assert_says(2, &[]);
}

#[test]
fn a_job_file_that_cannot_be_reached_is_named() {
    let place = Place::holding("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    command.args(["run", "jobs.toml/night.toml", "--format", "json"]).current_dir(place.scene.folder());
    let ended = place.ended(&command.output().expect("it starts"));
    ended.assert_says(2, &["error: cannot read the job file jobs.toml/night.toml: Not a directory"]);
    assert_eq!(place.files(), ["jobs.toml"]);
}

#[test]
fn a_job_file_that_is_not_utf_8_is_told_where() {
    assert_refused(
        b"version = 1\n[[job]]\nname = \"n\xff\"\n",
        &["error: ./jobs.toml:3:10: the file is not UTF-8 text", "accepted: TOML in UTF-8"],
    );
}

#[test]
fn broken_toml_is_told_where() {
    assert_refused("version = 1\n[[job]\nname = \"night\"\n", &["error: ./jobs.toml:2:7: "]);
}

// The job file's content.

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_meant() {
    let text = job("streams = [\"gate\"]\nlast = \"1h\"\nedges = \"covr\"\n[aws]\nregoin = \"x\"\n");
    let ended = Place::holding(&text).run();
    insta::assert_snapshot!(ended.stderr, @r#"
    error: job[1].edges: "covr" is not one of its values
     --> ./jobs.toml:6:9
      |
    6 | edges = "covr"
      |         ^^^^^^ did you mean "cover"?
      |
      = accepted: "cover" or "inside"

    error: aws.regoin: there is no key `regoin` here
     --> ./jobs.toml:8:1
      |
    8 | regoin = "x"
      | ^^^^^^ did you mean `region`?
      |
      = accepted: region, profile, endpoint_url

    error: 2 problems in ./jobs.toml
    "#);
    assert_refused(&text, &["error: ./jobs.toml:8:1: aws.regoin:", "did you mean `region`?"]);
}

#[test]
fn a_wrong_type_is_told_with_the_right_one() {
    assert_refused(
        job("streams = \"gate\"\nlast = \"1h\"\n"),
        &["error: ./jobs.toml:4:11: job[1].streams: expected a list", "accepted: "],
    );
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let range = "streams = [\"gate\"]\nfrom = 2025-03-03T09:00:00Z\nto = 2025-03-03T08:00:00Z\n";
    assert_refused(
        job(range),
        &["error: ./jobs.toml:6:6: job[1].to: ", "is not after `from`", "accepted: a `to` later than `from`"],
    );
}

#[test]
fn an_empty_range_is_refused() {
    let range = "streams = [\"gate\"]\nfrom = 2025-03-03T09:00:00Z\nto = 2025-03-03T09:00:00Z\n";
    assert_refused(job(range), &["error: ./jobs.toml:6:6: job[1].to: ", "is not after `from`"]);
}

#[test]
fn a_fixed_range_in_the_future_is_refused() {
    let range = "streams = [\"gate\"]\nfrom = 2025-03-03T09:00:00Z\nto = 2999-03-03T09:00:00Z\n";
    assert_refused(job(range), &["error: ./jobs.toml:6:6: job[1].to: ", "in the future", "accepted: "]);
}

#[test]
fn an_unknown_zone_is_refused() {
    assert_refused(
        job("streams = [\"gate\"]\nlast = \"1h\"\ntime_zone = \"America/Los_Angles\"\n"),
        &["error: ./jobs.toml:6:13: job[1].time_zone: ", "accepted: ", "did you mean"],
    );
}

#[test]
fn a_local_time_needs_a_zone() {
    let range = "streams = [\"gate\"]\nfrom = 2025-03-03T08:00:00\nto = 2025-03-03T09:00:00Z\n";
    assert_refused(job(range), &["error: ./jobs.toml:5:8: job[1].from: ", "needs a time_zone", "accepted: "]);
}

#[test]
fn a_local_time_that_exists_twice_is_refused_with_both_offsets() {
    let range = "time_zone = \"America/Los_Angeles\"\nstreams = [\"gate\"]\n\
                 from = 2024-11-03T00:00:00\nto = 2024-11-03T01:30:00\n";
    assert_refused(
        job(range),
        &["error: ./jobs.toml:7:6: job[1].to: ", "exists twice", "accepted: ", "-07:00", "-08:00"],
    );
}

#[test]
fn a_local_time_that_does_not_exist_is_refused_with_its_neighbours() {
    let range = "time_zone = \"America/Los_Angeles\"\nstreams = [\"gate\"]\n\
                 from = 2025-03-09T02:30:00\nto = 2025-03-09T04:00:00\n";
    assert_refused(
        job(range),
        &["error: ./jobs.toml:6:8: job[1].from: ", "does not exist", "accepted: ", "-07:00", "-08:00"],
    );
}

#[test]
fn two_outputs_that_are_one_file_on_some_disks_are_refused() {
    let text = format!(
        "version = 1\n[[job]]\nname = \"a\"\nstreams = [\"gate\"]\n{RANGE}output = \"out/Night.mp4\"\n\
         [[job]]\nname = \"b\"\nstreams = [\"yard\"]\n{RANGE}output = \"OUT/night.mp4\"\n"
    );
    let ended = Place::holding(&text).run();
    insta::assert_snapshot!(ended.stderr, @r#"
    error: job[2].output: two exports have one output: ./out/Night.mp4 of job "a" (gate, 2025-03-03T08:00:00.000Z to 2025-03-03T08:00:20.000Z) and ./OUT/night.mp4 of job "b" (yard, 2025-03-03T08:00:00.000Z to 2025-03-03T08:00:20.000Z)
      --> ./jobs.toml:13:10
       |
    13 | output = "OUT/night.mp4"
       |          ^^^^^^^^^^^^^^^
       |
       = accepted: a template that tells jobs apart: {job}, or a folder for each
    "#);
    assert_refused(&text, &["jobs.toml:13:10: job[2].output"]);
}

#[test]
fn an_output_that_leaves_its_folder_is_refused() {
    let text = job(&format!("streams = [\"gate\"]\n{RANGE}output = \"{{stream}}/../../x.mp4\"\n"));
    assert_refused(text, &["error: ./jobs.toml:7:10: job[1].output: ", "leaves the folder", "accepted: "]);
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let text = "version = 1\nstat = \"x\"\n[[job]]\nname = \"a b\"\nstreams = []\nlast = 5\n";
    let ended = Place::holding(text).run();
    insta::assert_snapshot!(ended.stderr, @r#"
    error: stat: there is no key `stat` here
     --> ./jobs.toml:2:1
      |
    2 | stat = "x"
      | ^^^^ did you mean `state`?
      |
      = accepted: version, state, work, aws, limits, notify, defaults, job

    error: job[1].name: "a b" is not a job's name
     --> ./jobs.toml:4:8
      |
    4 | name = "a b"
      |        ^^^^^
      |
      = accepted: 1 to 64 of a-z, A-Z, 0-9, '_', '.', '-', not only dots

    error: job[1].streams: the list is empty
     --> ./jobs.toml:5:11
      |
    5 | streams = []
      |           ^^
      |
      = accepted: a list of stream names, ARNs, or prefixes with a * at the end: ["front-gate", "yard-*"]

    error: job[1].last: expected text, found a whole number
     --> ./jobs.toml:6:8
      |
    6 | last = 5
      |        ^
      |
      = accepted: a number with a unit, such as "500ms", "60s", "90m", "1h30m", "2d", "1w"

    error: 4 problems in ./jobs.toml
    "#);
    ended.assert_says(2, &[]);
}

// Streams and permissions.

#[test]
fn an_unknown_stream_fails_its_own_exports_only() {
    let place = Place::asking_for(archive(), &[job_for("attic"), job_for("gate")]);
    let ended = place.run();
    ended.assert_says(3, &[]);
    let (status, error) = ended.export("attic");
    assert_eq!(status, "failed");
    assert!(error.contains("there is no stream attic in this region and account"), "{error}");
    assert_eq!(ended.export("gate"), ("done", ""));
    assert_eq!(place.files_beside_state(), [&["jobs.toml".to_owned()], &outputs_of("gate")[..]].concat());
}

/// Denies one call on `gate`: its export fails and names the action, that of `yard` is done.
#[track_caller]
fn assert_denied(api: Api, action: &str) {
    let mut place = Place::asking(archive_denying(&[("gate", api)]));
    let ended = place.run();
    ended.assert_says(3, &[]);
    let (status, error) = ended.export("gate");
    assert_eq!(status, "failed");
    assert!(error.contains("the credentials") && error.contains(action), "{error}");
    assert_eq!(ended.export("yard"), ("done", ""));
    assert_eq!(place.files_beside_state(), [&["jobs.toml".to_owned()], &outputs_of("yard")[..]].concat());
    // Once it is granted, the same command finishes the work.
    place.meet(archive());
    let ended = place.run();
    assert_eq!((ended.code, ended.export("gate").0), (0, "done"), "{:#}", ended.report);
    assert!(place.requests(Api::GetClip).iter().all(|record| record.stream == "gate"));
}

#[test]
fn a_denied_get_clip_fails_its_stream_and_names_the_action() {
    assert_denied(Api::GetClip, "kinesisvideo:GetClip");
}

#[test]
fn a_denied_list_fragments_fails_its_stream_and_names_the_action() {
    assert_denied(Api::ListFragments, "kinesisvideo:ListFragments");
}

#[test]
fn a_denied_get_data_endpoint_fails_its_stream_and_names_the_action() {
    assert_denied(Api::GetDataEndpoint, "kinesisvideo:GetDataEndpoint");
}

#[test]
fn a_denied_describe_stream_fails_its_stream_and_names_the_action() {
    assert_denied(Api::DescribeStream, "kinesisvideo:DescribeStream");
}

/// Denies one call on every stream: that is no matter of single exports any more.
#[track_caller]
fn assert_all_denied(api: Api, action: &str) {
    let place = Place::asking(archive_denying(&[("*", api)]));
    let ended = place.run();
    ended.assert_says(5, &[]);
    assert!(ended.error().contains("the credentials may read none of the streams"), "{}", ended.error());
    for stream in ["gate", "yard"] {
        let (status, error) = ended.export(stream);
        assert!(status == "failed" && error.contains(action), "{status}: {error}");
    }
    place.assert_nothing_made();
}

#[test]
fn every_stream_denied_ends_with_the_code_for_credentials() {
    assert_all_denied(Api::DescribeStream, "kinesisvideo:DescribeStream");
}

#[test]
fn every_listing_denied_ends_with_the_code_for_credentials() {
    assert_all_denied(Api::ListFragments, "kinesisvideo:ListFragments");
}

#[test]
fn every_clip_denied_ends_with_the_code_for_credentials() {
    assert_all_denied(Api::GetClip, "kinesisvideo:GetClip");
}

#[test]
fn missing_credentials_end_the_run_with_the_ways_to_get_some() {
    let place = Place::asking(archive());
    let ended = place.run_with(|command| {
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    });
    ended.assert_says(
        5,
        &[
            "error: no usable AWS credentials: ",
            "  hint: set AWS_PROFILE or [aws] profile, sign in (aws sso login)",
        ],
    );
    place.assert_nothing_made();
    assert!(place.requests(Api::DescribeStream).is_empty());
    assert_eq!(place.run().code, 0, "with credentials the same command goes through");
}

#[test]
fn an_expired_token_stops_the_run_and_the_next_goes_on() {
    let mut place =
        Place::asking(archive_with(FaultRule::always(Api::GetClip, Fault::ExpiredToken).on_stream("yard")));
    let ended = place.run();
    ended.assert_says(5, &[]);
    assert!(ended.error().contains("AWS does not accept the credentials"), "{}", ended.error());
    assert!(ended.error().contains("ExpiredTokenException"), "{}", ended.error());
    assert!(!place.path("out/yard.mp4").exists());
    place.meet(archive());
    let ended = place.run();
    assert_eq!((ended.code, ended.export("yard")), (0, ("done", "")), "{:#}", ended.report);
    assert!(place.requests(Api::ListFragments).len() <= 2, "nothing that was listed is listed again");
}

#[test]
fn a_token_that_has_expired_before_the_start_stops_the_run_at_once() {
    let place = Place::asking(archive_with(FaultRule::always(Api::DescribeStream, Fault::ExpiredToken)));
    let ended = place.run();
    ended.assert_says(5, &[]);
    assert!(ended.error().contains("AWS does not accept the credentials"), "{}", ended.error());
    place.assert_nothing_made();
}

// The machine.

#[test]
fn a_missing_region_is_told_with_where_to_set_it() {
    let place = Place::asking(archive());
    place.edit("region = \"us-west-2\"\n", "");
    let ended = place.run();
    ended.assert_says(
        2,
        &["error: no AWS region is configured\n  hint: set AWS_REGION, [aws] region in the job file, or --region with clip\n"],
    );
    place.assert_nothing_made();
}

#[test]
fn a_missing_ffmpeg_is_told_with_the_commands_that_install_it() {
    let place = Place::asking(archive());
    let ended = place.run_with(|command| {
        command.env("PATH", "").env_remove("KVS_EXPORT_FFMPEG");
    });
    insta::assert_snapshot!(ended.stderr, @"error: ffmpeg is not found. Install it with `sudo apt-get install ffmpeg` (Debian, Ubuntu) or `brew install ffmpeg` (macOS), or set KVS_EXPORT_FFMPEG=/path/to/ffmpeg");
    ended.assert_says(2, &[]);
    assert_eq!(place.files(), ["jobs.toml"]);
}

#[test]
fn an_ffmpeg_that_is_named_and_not_there_is_told() {
    let place = Place::asking(archive());
    let ended = place.run_with(|command| {
        command.env("KVS_EXPORT_FFMPEG", "/nonexistent/ffmpeg");
    });
    ended.assert_says(
        2,
        &[
            "error: ffmpeg is not found at /nonexistent/ffmpeg.",
            "sudo apt-get install ffmpeg",
            "brew install",
        ],
    );
    assert_eq!(place.files(), ["jobs.toml"]);
}

#[test]
fn an_ffmpeg_that_is_something_else_is_told() {
    let place = Place::asking(archive());
    let ended = place.run_with(|command| {
        command.env("KVS_EXPORT_FFMPEG", "/bin/echo");
    });
    ended.assert_says(2, &["error: /bin/echo does not answer as ffmpeg does", "hint: "]);
    assert_eq!(place.files(), ["jobs.toml"]);
}

#[test]
fn an_output_folder_that_cannot_be_made_is_told_before_anything_is_fetched() {
    let place = Place::asking(archive());
    place.write("out", "a file");
    let ended = place.run();
    ended.assert_says(2, &[]);
    assert!(place.normalised(ended.error()).contains("./out"), "{}", ended.error());
    assert!(
        ended.error().contains("Not a directory") && ended.error().contains("hint: "),
        "{}",
        ended.error()
    );
    assert!(place.requests(Api::GetClip).is_empty());
    assert_eq!(fs::read(place.path("out")).expect("still there"), b"a file");
    fs::remove_file(place.path("out")).expect("moved away");
    assert_eq!(place.run().code, 0, "the same command goes through");
}

#[test]
fn a_work_folder_that_cannot_be_made_is_told() {
    let place = Place::asking(archive());
    place.write("chunks", "a file");
    let ended = place.run();
    ended.assert_says(2, &["error: cannot create the folder ./chunks: "]);
    assert_eq!(place.files_beside_state(), ["chunks", "jobs.toml"]);
    assert!(place.requests(Api::GetClip).is_empty());
}

#[test]
fn a_state_folder_that_cannot_be_made_is_told() {
    let place = Place::asking(archive());
    place.edit("state.db", "held/state.db");
    place.write("held", "a file");
    let ended = place.run();
    ended.assert_says(2, &["error: cannot create the folder ./held: "]);
    assert_eq!(place.files(), ["held", "jobs.toml"]);
}

#[test]
fn a_foreign_file_under_an_outputs_name_is_never_overwritten() {
    for foreign in ["out/gate.mp4", "out/gate.manifest.json", "out/gate.sha256", "out/gate-part1.mp4"] {
        let place = Place::asking(archive());
        place.write(foreign, "somebody's evidence");
        for _ in 0..2 {
            let ended = place.run();
            ended.assert_says(3, &[]);
            let (status, error) = ended.export("gate");
            let words =
                format!("./{foreign} is already there and is not this export's: it is never overwritten");
            assert!(status == "failed" && place.normalised(error).contains(&words), "{status}: {error}");
            assert_eq!(ended.export("yard"), ("done", ""));
            assert_eq!(fs::read(place.path(foreign)).expect("still there"), b"somebody's evidence");
        }
        assert!(place.requests(Api::GetClip).iter().all(|record| record.stream == "yard"));
        fs::remove_file(place.path(foreign)).expect("moved away");
        assert_eq!(place.run().export("gate"), ("done", ""));
    }
}

#[test]
fn a_foreign_folder_where_chunks_would_be_kept_is_left_alone() {
    let place = Place::asking_for(archive(), &[job_for("gate").with("keep_chunks = true")]);
    place.write("out/gate.chunks/1.mp4", "somebody's evidence");
    let ended = place.run();
    ended.assert_says(3, &[]);
    let (status, error) = ended.export("gate");
    assert!(status == "failed" && error.contains("gate.chunks is already there"), "{status}: {error}");
    assert!(place.requests(Api::GetClip).is_empty());
    assert_eq!(fs::read(place.path("out/gate.chunks/1.mp4")).expect("still there"), b"somebody's evidence");
}

#[test]
fn a_disk_that_is_full_for_ffmpeg_ends_the_run_resumably() {
    let place = Place::asking(archive());
    let ffmpeg = fake_ffmpeg::write(
        place.scene.folder(),
        "echo 'av_interleaved_write_frame(): No space left on device' >&2; exit 1",
    );
    let ended = place.run_with(|command| {
        command.env("KVS_EXPORT_FFMPEG", &ffmpeg);
    });
    ended.assert_says(3, &[]);
    assert!(ended.error().contains("the disk is full") && ended.error().contains("hint: make room"));
    let left = place.files_beside_state();
    assert!(!left.iter().any(|name| name.starts_with("out/")), "{left:?}");
    let ended = place.run();
    assert_eq!((ended.code, ended.export("gate"), ended.export("yard")), (0, ("done", ""), ("done", "")));
}

/// Runs the program on a small disk, then on one with room, and says how both runs ended.
///
/// `None` where no disk can be made.
fn on_a_small_disk(place: &Place, size: &str) -> Option<[Ended; 2]> {
    fs::create_dir(place.path("small")).expect("a folder");
    let mut shell = place.scene.own_namespace("mount -t tmpfs -o size=64k none small")?;
    let run = "\"$PROGRAM\" run jobs.toml --format json";
    let script = format!(
        "mount -t tmpfs -o {size} none small || exit 99; {run} >1.json 2>1.txt; echo $? >1.code; \
         mount -o remount,size=64m,nr_inodes=9999 small || exit 99; {run} >2.json 2>2.txt; echo $? >2.code; \
         find small -name '*.part' -o -name '.kvs-export-*' -o -name '*.mp4' -path '*chunks*' >left"
    );
    let status = shell.arg(script).status().expect("it starts");
    assert!(status.success(), "{status}");
    assert_eq!(fs::read_to_string(place.path("left")).expect("listed"), "", "no half-made file stays");
    Some(["1", "2"].map(|run| {
        let read = |end: &str| fs::read(place.path(&format!("{run}.{end}"))).expect("read");
        let code = String::from_utf8(read("code")).expect("text").trim().parse::<i32>().expect("a number");
        place.ended(&Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: read("json"),
            stderr: read("txt"),
        })
    }))
}

/// A full disk ends the run with code 3 and the way out; with room the same command goes through, and asks for
/// no chunk again that it had.
#[track_caller]
fn assert_full_disk(from: &str, to: &str, size: &str) {
    let place = Place::asking(archive());
    place.edit(from, to);
    let Some([full, roomy]) = on_a_small_disk(&place, size) else { return };
    full.assert_says(3, &[]);
    let said = format!("{}\n{}", full.stderr, full.error());
    assert!(said.contains("hint: make room"), "{said}");
    assert_eq!(roomy.code, 0, "{}\n{:#}", roomy.stderr, roomy.report);
    assert_eq!((roomy.export("gate"), roomy.export("yard")), (("done", ""), ("done", "")));
}

#[test]
fn a_disk_that_is_full_of_chunks_ends_the_run_resumably() {
    // There are bytes enough, so that the export is begun, but no more than a few files can be made.
    assert_full_disk("\"chunks\"", "\"small/chunks\"", "size=64m,nr_inodes=5");
}

#[test]
fn a_disk_that_is_full_of_outputs_ends_the_run_resumably() {
    assert_full_disk("\"out/", "\"small/out/", "size=64m,nr_inodes=4");
}

#[test]
fn exports_that_do_not_fit_beside_each_other_take_turns() {
    let place = Place::asking(archive());
    place.edit("\"chunks\"", "\"small/chunks\"");
    let Some([small, again]) = on_a_small_disk(&place, "size=700k") else { return };
    assert_eq!((small.code, small.export("gate"), small.export("yard")), (0, ("done", ""), ("done", "")));
    assert_eq!(again.code, 0);
    place.assert_no_clip_twice();
}

#[test]
fn an_export_that_can_never_fit_is_refused_with_the_numbers() {
    let place = Place::asking(archive());
    place.edit("\"chunks\"", "\"small/chunks\"");
    let Some([small, roomy]) = on_a_small_disk(&place, "size=300k") else { return };
    small.assert_says(3, &[]);
    let (status, error) = small.export("gate");
    assert!(status == "failed" && error.contains("it needs ") && error.contains("that disk has "), "{error}");
    assert_eq!((roomy.code, roomy.export("gate"), roomy.export("yard")), (0, ("done", ""), ("done", "")));
}

#[test]
fn a_disk_that_has_no_room_for_the_state_ends_the_run_resumably() {
    assert_full_disk("\"state.db\"", "\"small/state.db\"", "size=32k");
}

#[test]
fn a_disk_that_is_filled_by_the_state_ends_the_run_resumably() {
    assert_full_disk("\"state.db\"", "\"small/state.db\"", "size=240k");
}

#[test]
fn a_failing_ffmpeg_fails_its_export_in_its_own_words() {
    let place = Place::asking(archive());
    let ffmpeg = fake_ffmpeg::write(
        place.scene.folder(),
        "case \"$*\" in *gate*) echo 'out of luck' >&2; exit 7;; esac; exec REAL \"$@\"",
    );
    let ended = place.run_with(|command| {
        command.env("KVS_EXPORT_FFMPEG", &ffmpeg);
    });
    ended.assert_says(3, &[]);
    let (status, error) = ended.export("gate");
    assert!(status == "failed" && error.contains("exit code 7") && error.contains("out of luck"), "{error}");
    assert_eq!(ended.export("yard"), ("done", ""));
    assert!(!place.files().iter().any(|name| name.starts_with("out/gate") || name.contains("out/.kvs")));
    assert_eq!(place.run().export("gate"), ("done", ""));
    place.assert_no_clip_twice();
}

// The state file.

#[test]
fn a_state_file_that_is_no_database_is_left_alone() {
    let place = Place::asking(archive());
    place.write("state.db", "shopping list: tea");
    let ended = place.run();
    insta::assert_snapshot!(ended.stderr, @r#"
    error: ./state.db is not a state file of kvs-export: it is no SQLite database
      hint: give another path with `state` in the job file or --state; nothing was changed
    "#);
    ended.assert_says(2, &[]);
    place.assert_nothing_made();
    let content = fs::read(place.path("state.db")).expect("still there");
    assert_eq!(content, b"shopping list: tea");
}

#[test]
fn another_programs_database_is_left_alone() {
    let place = Place::asking(archive());
    place.write("foreign.db", "");
    let path = place.path("foreign.db");
    let foreign = Connection::open(&path).expect("opened");
    foreign.execute_batch("create table tea (leaf text)").expect("made");
    foreign.close().expect("closed");
    let before = fs::read(&path).expect("read");
    let ended = place.run_with(|command| {
        command.args(["--state", "foreign.db"]);
    });
    ended.assert_says(
        2,
        &["error: ./foreign.db is not a state file of kvs-export: it is another program's SQLite database\n", "hint: "],
    );
    assert_eq!(fs::read(&path).expect("read"), before);
    assert!(place.requests(Api::DescribeStream).is_empty());
}

#[test]
fn a_newer_versions_state_file_is_left_alone() {
    let place = Place::asking(archive());
    assert_eq!(place.run().code, 0);
    let path = place.path("state.db");
    let state = Connection::open(&path).expect("opened");
    state.pragma_update(None, "user_version", SCHEMA_VERSION + 1).expect("set");
    state.close().expect("closed");
    let (files, before) = (place.files(), fs::read(&path).expect("read"));
    let ended = place.run();
    ended.assert_says(
        2,
        &["error: the state file ./state.db has schema version 4, this program knows up to 3\n  hint: use the newer version"],
    );
    assert_eq!((place.files(), fs::read(&path).expect("read")), (files, before));
}

#[test]
fn a_second_run_is_refused_and_told_who_holds_the_state() {
    let place = Place::asking(archive());
    let state = place.path("state.db");
    let lock = StateLock::acquire(&state, &SystemClock).expect("free");
    let ended = place.run();
    let holder = format!("./state.db: process {} on ", std::process::id());
    ended.assert_says(4, &["error: another run holds the state file", &holder, "hint: wait for it"]);
    place.assert_nothing_made();
    assert!(place.requests(Api::DescribeStream).is_empty());
    drop(lock);
    assert_eq!(place.run().code, 0);
    Store::open_read_only(&state, Arc::new(SystemClock)).expect("whole");
}

// The other documents.

#[test]
fn a_status_that_cannot_be_told_is_one_document_too() {
    let place = Place::asking(archive());
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    command.args(["status", "--state", "state.db", "--format", "json"]).current_dir(place.scene.folder());
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["schema"], "kvs-export/status/1");
    let error = place.normalised(document["error"].as_str().expect("an error"));
    assert_eq!(error, "there is no state file state.db");
    assert_eq!(place.files(), ["jobs.toml"]);
}

#[test]
fn a_command_line_that_is_wrong_is_one_document_too() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    let output = command.args(["run", "--format", "json", "--jobs", "night"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!((&document["schema"], &document["outcome"]), (&"kvs-export/run/1".into(), &"usage".into()));
    let error = document["error"].as_str().expect("an error");
    assert!(error.contains("--jobs"), "{error}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("'--job'"), "it says what was meant");
}

#[test]
fn every_command_that_is_refused_gives_its_own_document() {
    let folder = tempfile::tempdir().expect("a folder");
    for kind in ["run", "plan", "validate", "status", "verify", "emulator"] {
        let operand = (kind != "emulator").then_some("x");
        for (option, filter, why) in [("--nonsense", "", "--nonsense"), ("-v", "=loud=", "KVS_EXPORT_LOG")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
            command.args([kind, option, "--format", "json"]).args(operand);
            let output = command.env("KVS_EXPORT_LOG", filter).current_dir(folder.path()).output();
            let output = output.expect("it starts");
            assert_eq!(output.status.code(), Some(2), "{kind} {option}");
            let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
            assert_eq!(document["schema"], format!("kvs-export/{kind}/1"), "{option}");
            assert!(document["error"].as_str().is_some_and(|error| error.contains(why)), "{document}");
        }
    }
}

#[test]
fn help_is_no_error_and_no_document() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    let output = command.args(["run", "--help", "--format", "json"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Usage: kvs-export run"));
    assert!(output.stderr.is_empty());
}
