//! The real binary, and what befalls it from outside: its ffmpeg dies, disks are full or read-only, folders are
//! taken away under it, signals come twice, another run comes in between.
//!
//! In each case: a clear end with the right exit code, nothing half-made under a final name, and the same command
//! goes on from there.

#[path = "support/fake_ffmpeg.rs"]
mod fake_ffmpeg;
#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use kvs_export::emulator::{Api, ByteTrigger, Camera, EmulatorConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::scene::{Job, Run, Scene};
use support::{after_midnight, expect_exact};

const NAME: &str = "gate";

/// Each stream records ten seconds and then nothing for four: a chunk never spans a gap.
const PERIODS: i64 = 6;
const PERIOD_MS: i64 = 14_000;

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn camera() -> Camera {
    let gap = |period: i64| after_midnight(period * PERIOD_MS + 10_000, (period + 1) * PERIOD_MS);
    (0..PERIODS).map(gap).fold(Camera::steady(NAME), Camera::gap)
}

fn job() -> Job {
    Job::new(NAME, NAME, after_midnight(1_000, PERIODS * PERIOD_MS))
}

/// An export of one stream in some chunks, to which something is about to happen.
struct Place {
    scene: Scene,
}

impl Place {
    fn new() -> Self {
        Self::with(EmulatorConfig::default())
    }

    fn with(config: EmulatorConfig) -> Self {
        let scene = Scene::new(EmulatorConfig { cameras: vec![camera()], ..config });
        scene.write_jobs("", &[job()]);
        Self { scene }
    }

    /// Where something is done once half of the media is on its way; `folder` is told below the scene's.
    fn where_midway(action: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        let folder: Arc<Mutex<PathBuf>> = Arc::default();
        let told = Arc::clone(&folder);
        let action = move || action(&told.lock().unwrap_or_else(PoisonError::into_inner));
        let trigger = ByteTrigger { at: 700_000, action: Arc::new(action) };
        let latency = Duration::from_millis(20);
        let place =
            Self::with(EmulatorConfig { on_bytes: Some(trigger), latency, ..EmulatorConfig::default() });
        place.scene.write_jobs("requests_in_flight = 1", &[job()]);
        place.scene.folder().clone_into(&mut folder.lock().unwrap_or_else(PoisonError::into_inner));
        place
    }

    /// Changes the job file.
    #[track_caller]
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.scene.job_file()).expect("read");
        assert!(text.contains(from), "{text}");
        fs::write(self.scene.job_file(), text.replace(from, to)).expect("written");
    }

    /// State and chunks where they are without a word in the job file.
    fn with_default_folders(self) -> Self {
        self.edit("state = \"state.db\"\nwork = \"chunks\"\n", "");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.folder().join(name)
    }

    fn fake_ffmpeg(&self, script: &str) -> PathBuf {
        fake_ffmpeg::write(self.scene.folder(), script)
    }

    fn run_with(&self, script: &str) -> Ended {
        let ffmpeg = self.fake_ffmpeg(script);
        Ended::of(&self.scene.command().env("KVS_EXPORT_FFMPEG", ffmpeg).output().expect("it starts"))
    }

    fn clips(&self) -> usize {
        self.scene.requests(Api::GetClip).len()
    }

    /// What has a name in the folder of outputs, fresh folders included.
    fn output_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.scene.outputs()).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Nothing has a final name.
    #[track_caller]
    fn assert_nothing_published(&self) {
        let names = self.output_names();
        assert!(names.iter().all(|name| name.starts_with(".kvs-export-")), "{names:?}");
    }

    /// The same command goes on, and leaves the whole export and nothing else; returns how many clips it fetched.
    #[track_caller]
    fn assert_goes_on(&self) -> usize {
        let before = self.clips();
        let run = self.scene.run().expect_code(0);
        self.assert_ended_well(&run);
        self.clips() - before
    }

    #[track_caller]
    fn assert_ended_well(&self, run: &Run) {
        expect_exact(run, &job(), &camera());
        self.scene.check_sums(NAME);
        assert_eq!(self.output_names(), ["gate.manifest.json", "gate.mp4", "gate.sha256"]);
    }
}

/// How a run ended by itself.
#[derive(Debug)]
struct Ended {
    code: i32,
    report: Value,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        let code = code.unwrap_or_else(|| panic!("signal {:?}\n{stderr}", output.status.signal()));
        let report = serde_json::from_slice(&output.stdout).expect("one document");
        Self { code, report, stderr }
    }

    /// The exit code, and words of the run's or the export's error.
    #[track_caller]
    fn assert_says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}\n{:#}", self.stderr, self.report);
        let said = format!("{}\n{:#}", self.stderr, self.report);
        for word in words {
            assert!(said.contains(word), "not said: {word:?}\n{said}");
        }
    }
}

/// A run whose merge waits: everything is fetched, and its ffmpeg has not begun.
struct Held {
    child: Child,
    release: fs::File,
}

impl Held {
    fn new(place: &Place) -> Self {
        let fifo = place.path("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo starts");
        assert!(made.success());
        let ffmpeg = place.fake_ffmpeg(&format!("case $* in *pipe:0*) cat '{}';; esac", fifo.display()));
        let mut child = place
            .scene
            .command()
            .env("KVS_EXPORT_FFMPEG", ffmpeg)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (opened, is_open) = mpsc::channel();
        // Opening waits for the reader: then the merge has begun.
        std::thread::spawn(move || opened.send(fs::OpenOptions::new().write(true).open(fifo)));
        let Ok(release) = is_open.recv_timeout(PATIENCE) else {
            child.kill().expect("killed");
            panic!("no merge: {:?}", child.wait_with_output());
        };
        Self { child, release: release.expect("opened") }
    }

    /// Lets the merge go on, and waits for the end.
    #[track_caller]
    fn release(self) -> Ended {
        drop(self.release);
        Ended::of(&self.child.wait_with_output().expect("it ends"))
    }
}

// Its ffmpeg.

/// Its ffmpeg writes half a video and ends so; then a real one goes on, with every chunk there.
#[track_caller]
fn ffmpeg_ends_midway(how: &str, words: &[&str]) {
    let place = Place::new();
    let half = "for last; do :; done; head -c 200000 >\"${last#file:}\"";
    place.run_with(&format!("case $* in *pipe:0*) {half}; {how};; esac")).assert_says(3, words);
    assert_eq!(place.output_names(), [""; 0], "nor is anything left of it");
    assert_eq!(place.assert_goes_on(), 0, "every chunk was there");
}

#[test]
fn an_ffmpeg_that_is_killed_midway_fails_its_export_for_this_run() {
    ffmpeg_ends_midway("kill -9 $$", &["ffmpeg", "signal"]);
}

#[test]
fn an_ffmpeg_that_fails_midway_fails_its_export_for_this_run() {
    ffmpeg_ends_midway("echo out of luck >&2; exit 7", &["exit code 7", "out of luck"]);
}

#[test]
fn an_ffmpeg_that_ends_too_early_without_an_error_fails_its_export_for_this_run() {
    ffmpeg_ends_midway("exit 0", &["failed"]);
}

// Signals.

/// A run whose ffmpeg hangs gets these signals one after the other.
#[track_caller]
fn stopped_in_a_merge_by(signals: &str) {
    let place = Place::new();
    let kills = format!("for signal in {signals}; do kill -$signal $PPID; done");
    let ended = place.run_with(&format!("case $* in *pipe:0*) {kills}; exec tail -f /dev/null;; esac"));
    ended.assert_says(130, &["interrupted"]);
    assert_eq!(place.output_names(), [""; 0]);
    assert_eq!(place.assert_goes_on(), 0, "every chunk was there");
}

#[test]
fn a_merge_is_stopped_from_the_keyboard() {
    stopped_in_a_merge_by("INT");
}

#[test]
fn a_merge_is_stopped_when_its_terminal_goes_away() {
    stopped_in_a_merge_by("HUP");
}

#[test]
fn a_merge_that_is_asked_to_stop_again_and_again_stops_as_cleanly() {
    stopped_in_a_merge_by("TERM TERM INT HUP TERM");
}

#[test]
fn a_fetch_that_is_asked_to_stop_twice_stops_as_cleanly() {
    let target: Arc<Mutex<Option<Pid>>> = Arc::default();
    let told = Arc::clone(&target);
    let place = Place::where_midway(move |_| {
        let pid = told.lock().unwrap_or_else(PoisonError::into_inner).expect("it runs");
        kill_process(pid, Signal::TERM).expect("sent");
        kill_process(pid, Signal::INT).expect("sent");
    });
    let mut slot = target.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = place.scene.command();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    *slot = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    drop(slot);
    Ended::of(&child.wait_with_output().expect("it ends")).assert_says(130, &["interrupted"]);
    place.assert_nothing_published();
    let rest = place.assert_goes_on();
    assert!((1..6).contains(&rest), "{rest} chunks were left");
}

// Two runs at once.

#[test]
fn a_second_run_is_turned_away_by_the_state_and_told_who_holds_it() {
    let place = Place::new();
    let held = Held::new(&place);
    let pid = held.child.id();
    let before = place.scene.log().len();
    for _ in 0..2 {
        let second = Ended::of(&place.scene.command().output().expect("it starts"));
        second.assert_says(4, &["another run holds the state file", &format!("process {pid} on ")]);
    }
    assert_eq!(place.scene.log().len(), before, "it asks for nothing");
    held.release().assert_says(0, &[]);
    place.assert_ended_well(&place.scene.run().expect_code(0));
}

#[test]
fn a_run_of_another_state_is_turned_away_by_the_folder_of_chunks() {
    let place = Place::new();
    let held = Held::new(&place);
    let text = fs::read_to_string(place.scene.job_file()).expect("read");
    place.edit("\"state.db\"", "\"other.db\"");
    let second = Ended::of(&place.scene.command().output().expect("it starts"));
    second.assert_says(4, &["another run uses the folder of chunks"]);
    fs::write(place.scene.job_file(), text).expect("written");
    held.release().assert_says(0, &[]);
    place.assert_ended_well(&place.scene.run().expect_code(0));
}

#[test]
fn status_is_told_during_a_run_and_disturbs_nothing() {
    let place = Place::new();
    let held = Held::new(&place);
    let status = Command::new(env!("CARGO_BIN_EXE_kvs-export"))
        .args(["--format", "json", "status"])
        .arg(place.scene.job_file())
        .output()
        .expect("it starts");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let told = String::from_utf8_lossy(&status.stdout);
    assert!(told.contains("\"merging\"") && told.contains(&held.child.id().to_string()), "{told}");
    held.release().assert_says(0, &[]);
    place.assert_ended_well(&place.scene.run().expect_code(0));
}

#[test]
fn another_programs_look_into_the_state_takes_nothing_from_a_run() {
    let place = Place::new();
    let held = Held::new(&place);
    // The last to close a database deletes its log: it must see the locks of the run. The SQLite in this program
    // finds that out in another way as well since 3.51; the one of another program may be older.
    let look = "import sqlite3; state = sqlite3.connect('state.db'); \
                assert state.execute('select count(*) from run').fetchall() == [(1,)]; state.close()";
    let looked = Command::new("python3").args(["-c", look]).current_dir(place.scene.folder()).output();
    let looked = looked.expect("python3 starts");
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
    assert!(place.path("state.db-wal").exists(), "the log was taken from under the run");
    held.release().assert_says(0, &[]);
    place.assert_ended_well(&place.scene.run().expect_code(0));
}

/// The file of the lock is removed during a run; a second one comes, perhaps with a folder of its own for chunks.
#[cfg(target_os = "linux")]
fn second_run_without_a_lock_file(work: &str) {
    let place = Place::new();
    let held = Held::new(&place);
    fs::remove_file(place.path("state.db.lock")).expect("removed");
    let text = fs::read_to_string(place.scene.job_file()).expect("read");
    place.edit("\"chunks\"", &format!("\"{work}\""));
    let before = place.scene.log().len();
    for _ in 0..2 {
        let second = Ended::of(&place.scene.command().output().expect("it starts"));
        second.assert_says(4, &["another run holds the state file"]);
    }
    assert_eq!(place.scene.log().len(), before, "it asks for nothing");
    fs::write(place.scene.job_file(), text).expect("written");
    held.release().assert_says(0, &[]);
    place.assert_ended_well(&place.scene.run().expect_code(0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_lock_file_that_is_removed_lets_no_second_run_in() {
    second_run_without_a_lock_file("chunks");
    second_run_without_a_lock_file("other-chunks");
}

// Folders that are taken away.

#[test]
fn a_state_folder_that_vanishes_during_the_fetch_ends_the_run_and_the_next_begins_anew() {
    let place = Place::where_midway(|folder| {
        fs::remove_dir_all(folder.join(".kvs-export")).expect("removed");
    });
    let place = place.with_default_folders();
    let ended = Ended::of(&place.scene.command().output().expect("it starts"));
    // Whichever it comes to first, the next row or the next chunk.
    let error = ended.report["error"].as_str().unwrap_or_default();
    let told =
        error.contains("was removed or replaced during the run") || error.contains("cannot write a chunk");
    assert!(told && ended.code == 1, "{}\n{:#}", ended.stderr, ended.report);
    place.assert_nothing_published();
    assert_eq!(place.assert_goes_on(), 6, "all from the beginning");
}

/// The state file is taken away or replaced while a merge waits: no output may get its name.
#[track_caller]
fn state_is_lost_in_a_merge(lose: impl FnOnce(&Place)) {
    let place = Place::new();
    let held = Held::new(&place);
    lose(&place);
    let ended = held.release();
    ended.assert_says(1, &["state.db was removed or replaced during the run", "run the same command again"]);
    place.assert_nothing_published();
    place.assert_goes_on();
}

#[test]
fn a_state_file_that_vanishes_in_a_merge_ends_the_run_before_anything_has_its_name() {
    state_is_lost_in_a_merge(|place| {
        for name in ["state.db", "state.db-wal", "state.db-shm", "state.db.lock"] {
            fs::remove_file(place.path(name)).expect("removed");
        }
    });
}

#[test]
fn a_state_file_that_is_replaced_in_a_merge_ends_the_run_before_anything_has_its_name() {
    state_is_lost_in_a_merge(|place| {
        let copy = place.path("copy");
        fs::copy(place.path("state.db"), &copy).expect("copied");
        for name in ["state.db-wal", "state.db-shm"] {
            fs::remove_file(place.path(name)).expect("removed");
        }
        fs::rename(copy, place.path("state.db")).expect("replaced");
    });
}

#[test]
fn outputs_that_a_new_state_does_not_know_are_not_overwritten() {
    let place = Place::new().with_default_folders();
    place.assert_goes_on();
    let video = place.scene.outputs().join("gate.mp4");
    let made = fs::read(&video).expect("read");
    fs::remove_dir_all(place.path(".kvs-export")).expect("removed");
    let ended = Ended::of(&place.scene.command().output().expect("it starts"));
    ended.assert_says(3, &["gate.mp4 is already there", "never overwritten"]);
    assert!(made == fs::read(&video).expect("read"));
    assert_eq!(place.output_names(), ["gate.manifest.json", "gate.mp4", "gate.sha256"]);
}

#[test]
fn a_folder_of_chunks_that_vanishes_during_the_fetch_ends_the_run_and_the_next_fetches_them_again() {
    let place = Place::where_midway(|folder| fs::remove_dir_all(folder.join("chunks")).expect("removed"));
    let ended = Ended::of(&place.scene.command().output().expect("it starts"));
    // The chunk under way was being written, read back or renamed.
    let told = ["a file operation failed", "No such file or directory", "run the same command again"];
    ended.assert_says(1, &told);
    place.assert_nothing_published();
    assert_eq!(place.assert_goes_on(), 6, "none was there any more");
}

#[test]
fn a_folder_of_chunks_that_vanishes_in_a_merge_ends_in_nothing_half_made() {
    let place = Place::new();
    let held = Held::new(&place);
    fs::remove_dir_all(place.scene.work()).expect("removed");
    let ended = held.release();
    assert_ne!(ended.code, 0, "{:#}", ended.report);
    assert!([1, 3].contains(&ended.code), "{}\n{:#}", ended.stderr, ended.report);
    place.assert_nothing_published();
    assert!(place.assert_goes_on() > 0);
}

#[test]
fn an_output_folder_that_vanishes_before_the_merge_is_made_again() {
    let place = Place::where_midway(|folder| fs::remove_dir_all(folder.join("out")).expect("removed"));
    assert_eq!(place.assert_goes_on(), 6);
}

#[test]
fn an_output_folder_that_vanishes_in_the_merge_fails_the_export_for_this_run() {
    let place = Place::new();
    let held = Held::new(&place);
    fs::remove_dir_all(place.scene.outputs()).expect("removed");
    let ended = held.release();
    assert!([1, 3].contains(&ended.code), "{}\n{:#}", ended.stderr, ended.report);
    place.assert_nothing_published();
    assert_eq!(place.assert_goes_on(), 0, "every chunk was there");
}

// Disks of one's own.

/// Runs a script in a mount namespace where `disk` is a file system of its own; `RUN n` runs the program and keeps
/// how it ended. `None` where the system gives no such thing.
fn on_a_disk_of_its_own(place: &Place, script: &str, ffmpeg: Option<&Path>) -> Option<Vec<Ended>> {
    fs::create_dir(place.path("disk")).expect("a folder");
    let mount = "mount -t tmpfs -o size=8m none disk";
    let mut shell = place.scene.own_namespace(mount)?;
    if let Some(ffmpeg) = ffmpeg {
        shell.env("KVS_EXPORT_FFMPEG", ffmpeg);
    }
    let run = "run() { code=0; \"$PROGRAM\" run jobs.toml --format json >$1.json 2>$1.txt || code=$?; echo $code >$1.code; }";
    let done = shell.arg(format!("set -e; {mount}; {run}; {script}")).output().expect("it starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut ended = Vec::new();
    while let Ok(code) = fs::read_to_string(place.path(&format!("{}.code", ended.len() + 1))) {
        let read = |end: &str| fs::read(place.path(&format!("{}.{end}", ended.len() + 1))).expect("read");
        ended.push(Ended {
            code: code.trim().parse().expect("a number"),
            report: serde_json::from_slice(&read("json")).expect("one document"),
            stderr: String::from_utf8_lossy(&read("txt")).into_owned(),
        });
    }
    Some(ended)
}

/// What lies there cannot be written at first: said before any media is asked for; then it can.
#[track_caller]
fn read_only(from: &str, to: &str) {
    let place = Place::new();
    place.edit(from, to);
    let script = "mount -o remount,ro disk; run 1; mount -o remount,rw disk; run 2";
    let Some(ended) = on_a_disk_of_its_own(&place, script, None) else { return };
    ended[0].assert_says(2, &["ead-only file system", "disk"]);
    ended[1].assert_says(0, &["\"done\""]);
    assert_eq!(place.clips(), 6, "nothing was fetched before, and nothing twice");
}

#[test]
fn a_read_only_state_folder_is_told_before_anything_is_fetched() {
    read_only("\"state.db\"", "\"disk/state.db\"");
}

#[test]
fn a_read_only_folder_of_chunks_is_told_before_anything_is_fetched() {
    read_only("\"chunks\"", "\"disk/chunks\"");
}

#[test]
fn a_read_only_output_folder_is_told_before_anything_is_fetched() {
    read_only("\"out/", "\"disk/out/");
}

#[test]
fn a_disk_that_is_full_when_the_sidecars_are_written_ends_the_run_resumably() {
    let place = Place::new();
    place.edit("\"out/", "\"disk/out/");
    // The video is whole and about to be proven; then there is room for nothing more.
    let fill = "case $* in *pipe:0*) ;; *) [ -e fill ] && cat /dev/zero >disk/filler 2>/dev/null;; esac";
    let ffmpeg = place.fake_ffmpeg(fill);
    let script = "touch fill; run 1; rm fill disk/filler; find disk -name '*.mp4' -o -name '*.json' >left; run 2; \
                  find disk/out -type f | sort >made";
    let Some(ended) = on_a_disk_of_its_own(&place, script, Some(&ffmpeg)) else { return };
    ended[0].assert_says(3, &["the disk is full", "/out/.kvs-export-", "hint: make room"]);
    assert_eq!(fs::read_to_string(place.path("left")).expect("listed"), "", "nothing half-made stays");
    ended[1].assert_says(0, &["\"done\""]);
    assert_eq!(place.clips(), 6, "nothing was fetched twice");
    let made = fs::read_to_string(place.path("made")).expect("listed");
    assert_eq!(made, "disk/out/gate.manifest.json\ndisk/out/gate.mp4\ndisk/out/gate.sha256\n");
}
