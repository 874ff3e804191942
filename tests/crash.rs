//! The real binary, killed and stopped at every stage: what was recorded as fetched is never requested again, the
//! samples are those of an undisturbed run, and nothing half-made stays (`design/lifecycle.md`).

#[path = "support/fake_ffmpeg.rs"]
mod fake_ffmpeg;
#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use kvs_export::clock::SystemClock;
use kvs_export::emulator::{Api, ByteTrigger, Camera, EmulatorConfig, RequestRecord};
use kvs_export::model::{ChunkState, ExportState};
use kvs_export::store::{ExportRecord, Store};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::after_midnight;
use support::oracle::{self, Frame};
use support::scene::{Job, Run, Scene};
use support::truth::{self, Difference};

/// Two exports, so that one can be merged while the other is fetched.
const STREAMS: [&str; 2] = ["gate", "yard"];

/// Each stream records ten seconds and then nothing for three: a chunk never spans a gap.
const PERIODS: i64 = 8;
const PERIOD_MS: i64 = 14_000;

fn camera(name: &str) -> Camera {
    let gap = |period: i64| after_midnight(period * PERIOD_MS + 10_000, (period + 1) * PERIOD_MS);
    (0..PERIODS).map(gap).fold(Camera::steady(name), Camera::gap)
}

fn jobs() -> [Job; 2] {
    STREAMS.map(|stream| Job::new(stream, stream, after_midnight(1_000, PERIODS * PERIOD_MS)))
}

/// A run that ended by itself, with both videos.
fn videos(run: &Run) -> BTreeMap<&'static str, Vec<Frame>> {
    STREAMS.into_iter().map(|stream| (stream, oracle::frames(&run.video(stream)))).collect()
}

/// What an undisturbed run makes, and how much it is sent.
struct Undisturbed {
    videos: BTreeMap<&'static str, Vec<Frame>>,
    clips: usize,
    media_bytes: u64,
}

static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let scene = Scene::new(EmulatorConfig::with_cameras(STREAMS.map(camera)));
    let run = scene.run_jobs(&jobs()).expect_code(0);
    let videos = videos(&run);
    for job in jobs() {
        let expected = truth::frames(&truth::fragments(&camera(&job.stream), &job), job.timeline);
        let difference = Difference::between(&videos[job.stream.as_str()], &expected, &job.stream);
        assert!(difference.is_none(), "{difference}");
    }
    let clips = scene.requests(Api::GetClip);
    assert!(clips.len() >= 2 * 8, "only {} chunks: too few to be killed between", clips.len());
    Undisturbed { videos, clips: clips.len(), media_bytes: clips.iter().map(|clip| clip.bytes_sent).sum() }
});

/// The process that a trigger is to end; held locked until it is known.
type Target = Arc<Mutex<Option<Pid>>>;

/// A scene whose emulator sends `signal` to the target after so many bytes of clips.
fn scene_with_trigger(at: u64, signal: Signal, target: &Target) -> Scene {
    let target = Arc::clone(target);
    let action = move || {
        let pid = target.lock().unwrap_or_else(PoisonError::into_inner);
        kill_process(pid.expect("it is running"), signal).expect("it is sent");
    };
    let scene = Scene::new(EmulatorConfig {
        latency: Duration::from_millis(20),
        on_bytes: Some(ByteTrigger { at, action: Arc::new(action) }),
        ..EmulatorConfig::with_cameras(STREAMS.map(camera))
    });
    scene.write_jobs("requests_in_flight = 2", &jobs());
    scene
}

/// A scene without a trigger.
fn quiet_scene() -> Scene {
    let scene = Scene::new(EmulatorConfig::with_cameras(STREAMS.map(camera)));
    scene.write_jobs("", &jobs());
    scene
}

/// Runs with the target set to the new process.
fn run_aimed_at(scene: &Scene, target: &Target) -> Output {
    let mut slot = target.lock().unwrap_or_else(PoisonError::into_inner);
    let child = scene.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    *slot = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    drop(slot);
    child.wait_with_output().expect("it ends")
}

/// Runs with a script in ffmpeg's place.
fn run_with_ffmpeg(scene: &Scene, script: &str) -> Output {
    let path = fake_ffmpeg::write(scene.folder(), script);
    let output = scene.command().env("KVS_EXPORT_FFMPEG", &path).output().expect("it starts");
    fs::remove_file(path).expect("removed");
    output
}

#[track_caller]
fn assert_killed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{:?}\n{said}", output.status);
}

fn open(scene: &Scene) -> Store {
    Store::open_read_only(&scene.state(), Arc::new(SystemClock)).expect("the state can be read")
}

fn exports(store: &Store) -> Vec<ExportRecord> {
    store.exports(0, 100).expect("the exports can be read")
}

/// A request, by what decides its answer.
type Asked = (String, i64, i64);

/// The requests of the chunks that are recorded as fetched.
fn recorded(scene: &Scene) -> Vec<Asked> {
    let store = open(scene);
    let mut recorded = Vec::new();
    for export in exports(&store) {
        for chunk in store.leaf_chunks(&export.identity.id) {
            let chunk = chunk.expect("a chunk");
            if chunk.state == ChunkState::Fetched {
                let bounds = chunk.planned.bounds;
                recorded.push((export.spec.job.clone(), bounds.start.get(), bounds.end.get()));
            }
        }
    }
    recorded
}

fn asked(clip: &RequestRecord) -> Asked {
    let selector = clip.selector.expect("a range");
    (clip.stream.clone(), selector.start.get(), selector.end.get())
}

/// The clips that were asked for after the first `before` requests.
fn clips_after(scene: &Scene, before: usize) -> Vec<Asked> {
    let log = scene.log();
    log[before..].iter().filter(|record| record.api == Api::GetClip).map(asked).collect()
}

/// Every file and folder below a folder, sorted.
fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            found.push(path.strip_prefix(folder).expect("below").to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Nothing but the job file, the state and three files for each export; no chunk, no temporary file.
#[track_caller]
fn assert_no_stray_file(scene: &Scene) {
    let outputs: Vec<String> = STREAMS
        .iter()
        .flat_map(|stream| ["manifest.json", "mp4", "sha256"].map(|end| format!("{stream}.{end}")))
        .collect();
    assert_eq!(below(&scene.outputs()), outputs);
    assert_eq!(below(&scene.work()), [""; 0]);
    let top: Vec<String> = below(scene.folder()).into_iter().filter(|name| !name.contains('/')).collect();
    assert_eq!(top, ["chunks", "jobs.toml", "out", "state.db", "state.db.lock"]);
}

/// Runs the same command again, undisturbed, and once more: the end is that of an undisturbed run, nothing that
/// was recorded is requested again, everything else once, and then there is nothing left to do.
///
/// Returns what was asked for.
#[track_caller]
fn assert_resumes(scene: &Scene) -> Vec<Asked> {
    let (recorded, before) = (recorded(scene), scene.log().len());
    let run = scene.run().expect_code(0);
    let mut clips = clips_after(scene, before);
    for clip in &recorded {
        assert!(!clips.contains(clip), "{clip:?} was recorded as fetched and is requested again");
    }
    assert_eq!(clips.len() + recorded.len(), UNDISTURBED.clips, "each chunk once: {clips:?}");
    clips.sort();
    clips.dedup();
    assert_eq!(clips.len() + recorded.len(), UNDISTURBED.clips, "no chunk twice: {clips:?}");
    assert_ends_well(scene, &run);
    clips
}

/// The videos are those of an undisturbed run, no stray file is left, and a further run has nothing to do.
#[track_caller]
fn assert_ends_well(scene: &Scene, run: &Run) {
    for (stream, frames) in videos(run) {
        assert_eq!(run.status(stream), "done");
        let same = frames == UNDISTURBED.videos[stream];
        assert!(same, "{stream}: {} frames, not those of an undisturbed run", frames.len());
        scene.check_sums(stream);
    }
    assert_no_stray_file(scene);
    let (before, contents) = (scene.log().len(), contents(&scene.outputs()));
    let third = scene.run().expect_code(0);
    for stream in STREAMS {
        assert_eq!((third.status(stream), &third.export(stream)["already"]), ("done", &Value::Bool(true)));
    }
    let media = |record: &&RequestRecord| matches!(record.api, Api::GetClip | Api::ListFragments);
    assert_eq!(scene.log()[before..].iter().filter(media).count(), 0, "a third run has nothing to do");
    assert!(contents == self::contents(&scene.outputs()), "a third run leaves the outputs alone");
    assert_no_stray_file(scene);
}

/// The files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = below(folder).into_iter().filter(|name| folder.join(name).is_file());
    files.map(|name| (name.clone(), fs::read(folder.join(name)).expect("read"))).collect()
}

/// Kills the run when so many elevenths of the media are on their way, and lets the next one resume.
///
/// Returns how many chunks were recorded by then.
#[track_caller]
fn kill_after_elevenths(count: u64) -> usize {
    let target = Target::default();
    let scene = scene_with_trigger(UNDISTURBED.media_bytes * count / 11, Signal::KILL, &target);
    assert_killed(&run_aimed_at(&scene, &target));
    let recorded = recorded(&scene).len();
    assert!(recorded < UNDISTURBED.clips, "it was to be killed before its end");
    assert_resumes(&scene);
    recorded
}

#[test]
fn a_run_killed_after_any_eleventh_of_the_media_resumes_exactly() {
    let recorded: Vec<usize> = (1..=10).map(kill_after_elevenths).collect();
    assert!(recorded[0] < recorded[9], "later kills find more recorded: {recorded:?}");
    let between = recorded.iter().filter(|count| **count > 0).count();
    assert!(between >= 7, "most kills find some chunks recorded and others not: {recorded:?}");
}

// Kills during the merge.

/// Kills the run by its ffmpeg, then lets it resume; says whether anything had to be fetched again.
#[track_caller]
fn kill_in_merge(script: &str) -> Vec<Asked> {
    let scene = quiet_scene();
    assert_killed(&run_with_ffmpeg(&scene, script));
    let states: Vec<ExportState> = exports(&open(&scene)).iter().map(|export| export.state).collect();
    assert!(states.contains(&ExportState::Merging), "{states:?}");
    assert_resumes(&scene)
}

#[test]
fn a_run_killed_before_ffmpeg_has_read_a_byte_resumes_exactly() {
    kill_in_merge("case $* in *pipe:0*) kill -9 $PPID; exit;; esac");
}

#[test]
fn a_run_killed_midway_through_a_merge_resumes_exactly() {
    kill_in_merge("case $* in *pipe:0*) { head -c 300000; kill -9 $PPID; } | REAL \"$@\"; exit;; esac");
}

#[test]
fn a_run_killed_when_ffmpeg_has_finished_resumes_exactly() {
    kill_in_merge("case $* in *pipe:0*) REAL \"$@\"; kill -9 $PPID; exit;; esac");
}

#[test]
fn a_run_killed_during_the_proof_of_a_video_resumes_exactly() {
    kill_in_merge("case $* in *pipe:0*) ;; *) kill -9 $PPID; exit;; esac");
}

#[test]
fn a_run_killed_in_its_second_merge_resumes_exactly() {
    let script = "case $* in *pipe:0*) if [ -e merged-one ]; then rm merged-one; REAL \"$@\"; kill -9 $PPID; exit; \
                  fi; touch merged-one;; esac";
    assert_eq!(kill_in_merge(script), [], "both exports had all their chunks");
}

#[test]
fn a_run_killed_twice_in_its_merge_resumes_exactly() {
    let scene = quiet_scene();
    for _ in 0..2 {
        assert_killed(&run_with_ffmpeg(
            &scene,
            "case $* in *pipe:0*) REAL \"$@\"; kill -9 $PPID; exit;; esac",
        ));
    }
    assert_resumes(&scene);
}

// Signals that ask it to stop.

#[track_caller]
fn stop_midway(signal: Signal) {
    let target = Target::default();
    let scene = scene_with_trigger(UNDISTURBED.media_bytes * 5 / 11, signal, &target);
    let output = run_aimed_at(&scene, &target);
    assert_interrupted(&scene, &output);
    assert_resumes(&scene);
}

/// Exit code 130, a document that says so, no chunk in anybody's hands, no merge half-done.
#[track_caller]
fn assert_interrupted(scene: &Scene, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{:?}\n{said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!((&report["schema"], &report["outcome"]), (&"kvs-export/run/1".into(), &"interrupted".into()));
    let store = open(scene);
    let last = store.last_run().expect("read").expect("a run");
    assert_eq!((last.outcome.as_deref(), last.exit_code), (Some("interrupted"), Some(130)));
    for export in exports(&store) {
        assert_ne!(export.state, ExportState::Merging);
        let counts = store.chunk_counts(&export.identity.id).expect("counted");
        assert_eq!(counts.in_state(ChunkState::Fetching).chunks, 0);
    }
    let left = below(&scene.outputs());
    assert!(!left.iter().any(|name| name.contains(".kvs-export-")), "{left:?}");
}

#[test]
fn a_terminated_run_is_interrupted_and_resumes_exactly() {
    stop_midway(Signal::TERM);
}

#[test]
fn a_run_stopped_from_the_keyboard_is_interrupted_and_resumes_exactly() {
    stop_midway(Signal::INT);
}

#[test]
fn a_run_whose_terminal_goes_away_is_interrupted_and_resumes_exactly() {
    stop_midway(Signal::HUP);
}

#[test]
fn a_run_stopped_in_a_merge_ends_its_ffmpeg_and_resumes_exactly() {
    let scene = quiet_scene();
    // It would never end by itself.
    let output =
        run_with_ffmpeg(&scene, "case $* in *pipe:0*) kill -TERM $PPID; exec tail -f /dev/null;; esac");
    assert_interrupted(&scene, &output);
    assert_resumes(&scene);
}

// Chunks that are not what they were.

/// The files of all chunks of one stream, with every chunk fetched and nothing merged.
fn chunk_files(scene: &Scene, stream: &str) -> Vec<PathBuf> {
    let store = open(scene);
    let export = exports(&store).into_iter().find(|export| export.spec.job == stream).expect("an export");
    let folder = scene.work().join(&export.identity.id.0);
    below(&folder).iter().map(|name| folder.join(name)).collect()
}

/// Damages one fetched chunk between two runs: that one is fetched again and no other.
#[track_caller]
fn damage_one_chunk(damage: impl FnOnce(&Path)) {
    let scene = quiet_scene();
    // Both merges wait until all is fetched and the second has begun.
    let script = "case $* in *yard*) kill -9 $PPID; exit;; *pipe:0*) kill -9 $PPID; exit;; esac";
    assert_killed(&run_with_ffmpeg(&scene, script));
    let (before, recorded) = (scene.log().len(), recorded(&scene));
    let merging = exports(&open(&scene)).into_iter().find(|export| export.state == ExportState::Merging);
    let stream = merging.expect("a merge was under way").spec.job;
    let files = chunk_files(&scene, &stream);
    let store = open(&scene);
    let chunk = files[files.len() / 2].clone();
    let id = chunk.file_stem().and_then(|stem| stem.to_str()).expect("a name").parse().expect("a number");
    let bounds = store.chunk(kvs_export::model::ChunkId(id)).expect("its row").planned.bounds;
    drop(store);
    damage(&chunk);
    let run = scene.run().expect_code(0);
    let again: Vec<Asked> =
        clips_after(&scene, before).into_iter().filter(|clip| recorded.contains(clip)).collect();
    assert_eq!(again, [(stream, bounds.start.get(), bounds.end.get())]);
    assert_ends_well(&scene, &run);
}

#[test]
fn a_chunk_that_is_gone_is_fetched_again_alone() {
    damage_one_chunk(|chunk| fs::remove_file(chunk).expect("removed"));
}

#[test]
fn a_truncated_chunk_is_fetched_again_alone() {
    damage_one_chunk(|chunk| {
        let file = fs::OpenOptions::new().write(true).open(chunk).expect("opened");
        let length = file.metadata().expect("told").len();
        file.set_len(length - 1_000).expect("cut");
    });
}

#[test]
fn a_chunk_with_one_altered_bit_is_fetched_again_alone() {
    damage_one_chunk(|chunk| {
        let mut bytes = fs::read(chunk).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(chunk, bytes).expect("written");
    });
}

#[test]
fn a_foreign_file_among_the_chunks_is_not_taken_for_one() {
    let target = Target::default();
    let scene = scene_with_trigger(UNDISTURBED.media_bytes / 2, Signal::KILL, &target);
    assert_killed(&run_aimed_at(&scene, &target));
    let store = open(&scene);
    for export in exports(&store) {
        for chunk in store.leaf_chunks(&export.identity.id) {
            let chunk = chunk.expect("a chunk");
            if chunk.state != ChunkState::Fetched {
                let file = scene.work().join(&export.identity.id.0).join(format!("{}.mp4", chunk.id));
                fs::write(file, "not what was fetched").expect("written");
            }
        }
    }
    drop(store);
    assert_resumes(&scene);
}

// Ends that were cut short: between the first rename and the row that says done.

/// An export of `gate` that is done, and everything needed to take its end back step by step.
struct CutEnd {
    scene: Scene,
    /// The folder beside the output in which its files were made.
    staging: PathBuf,
    done: BTreeMap<String, Vec<u8>>,
}

const VIDEO: &str = "gate.mp4";
const SIDECARS: [&str; 2] = ["gate.manifest.json", "gate.sha256"];

impl CutEnd {
    fn new() -> Self {
        Self::of(quiet_scene())
    }

    /// Does the export, and then takes back F7 to F9: the row is `merging`, the chunks lie in the work folder.
    fn of(scene: Scene) -> Self {
        // Its chunks are put aside when its merge begins, for they are deleted at its end.
        let script = "case $* in *pipe:0*gate.mp4*) cp -R chunks aside;; esac";
        let output = run_with_ffmpeg(&scene, script);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let export = exports(&open(&scene)).into_iter().find(|export| export.spec.job == "gate");
        let id = export.expect("an export").identity.id.0;
        let state = Connection::open(scene.state()).expect("opened");
        let changed = state.execute(
            "update export set state = 'merging', finished_ms = null, manifest_path = null where id = ?1",
            [&id],
        );
        assert_eq!(changed.expect("changed"), 1);
        state.close().expect("closed");
        let aside = scene.folder().join("aside");
        fs::rename(aside.join(&id), scene.work().join(&id)).expect("put back");
        fs::remove_dir_all(aside).expect("removed");
        let staging = scene.outputs().join(format!(".kvs-export-{id}"));
        fs::create_dir(&staging).expect("made");
        let done = contents(&scene.outputs());
        Self { scene, staging, done }
    }

    /// Takes back the rename of a file.
    fn take_back(&self, name: &str) {
        fs::rename(self.scene.outputs().join(name), self.staging.join(name)).expect("renamed");
    }

    /// The next run goes forward: the very same files, nothing requested, nothing merged.
    #[track_caller]
    fn assert_goes_forward(&self) {
        let before = self.scene.log().len();
        let output = run_with_ffmpeg(&self.scene, "exit 1");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(clips_after(&self.scene, before), []);
        assert!(self.done == contents(&self.scene.outputs()), "the same files");
        assert_ends_well(&self.scene, &self.scene.run().expect_code(0));
    }

    /// The next run merges again, from the chunks that are there.
    #[track_caller]
    fn assert_merges_again(&self) {
        let before = self.scene.log().len();
        let run = self.scene.run().expect_code(0);
        assert_eq!(clips_after(&self.scene, before), []);
        assert_ends_well(&self.scene, &run);
    }
}

#[test]
fn an_end_cut_short_before_its_row_goes_forward() {
    CutEnd::new().assert_goes_forward();
}

#[test]
fn an_end_cut_short_before_the_videos_rename_goes_forward() {
    let end = CutEnd::new();
    end.take_back(VIDEO);
    end.assert_goes_forward();
}

#[test]
fn an_end_cut_short_between_the_sidecars_renames_goes_forward() {
    let end = CutEnd::new();
    end.take_back(VIDEO);
    end.take_back(SIDECARS[1]);
    end.assert_goes_forward();
}

#[test]
fn an_end_cut_short_before_any_rename_goes_forward() {
    let end = CutEnd::new();
    end.take_back(VIDEO);
    for name in SIDECARS {
        end.take_back(name);
    }
    end.assert_goes_forward();
}

#[test]
fn an_end_whose_video_is_lost_is_undone_and_merged_again() {
    let end = CutEnd::new();
    fs::remove_file(end.scene.outputs().join(VIDEO)).expect("removed");
    end.assert_merges_again();
}

#[test]
fn an_end_whose_staged_video_is_damaged_is_undone_and_merged_again() {
    let end = CutEnd::new();
    end.take_back(VIDEO);
    let video = end.staging.join(VIDEO);
    let mut bytes = fs::read(&video).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&video, bytes).expect("written");
    end.assert_merges_again();
}

#[test]
fn an_end_whose_name_somebody_else_has_taken_fails_and_leaves_their_file_alone() {
    let end = CutEnd::new();
    let video = end.scene.outputs().join(VIDEO);
    end.take_back(VIDEO);
    fs::write(&video, "somebody's evidence").expect("written");
    for _ in 0..2 {
        let before = end.scene.log().len();
        let run = end.scene.run().expect_code(3);
        assert_eq!((run.status("gate"), run.status("yard")), ("failed", "done"));
        let error = run.export("gate")["error"].as_str().expect("an error");
        assert!(error.contains("never overwritten"), "{error}");
        assert_eq!(clips_after(&end.scene, before), []);
        assert_eq!(fs::read(&video).expect("still there"), b"somebody's evidence");
        let left = below(&end.scene.outputs());
        assert!(!left.iter().any(|name| name.contains(".kvs-export-")), "{left:?}");
    }
    fs::remove_file(&video).expect("moved away");
    end.assert_merges_again();
}

#[test]
fn an_end_cut_short_after_its_chunks_were_kept_is_merged_again_or_goes_forward() {
    for video_is_lost in [true, false] {
        let scene = quiet_scene();
        scene.write_jobs("", &jobs().map(|job| job.with("keep_chunks = true")));
        let end = CutEnd::of(scene);
        let kept = contents(&end.scene.outputs().join("gate.chunks"));
        assert!(kept.len() >= 8, "{:?}", kept.keys());
        if video_is_lost {
            fs::remove_file(end.scene.outputs().join(VIDEO)).expect("removed");
        } else {
            end.take_back(VIDEO);
        }
        let before = end.scene.log().len();
        let run = end.scene.run().expect_code(0);
        assert_eq!(clips_after(&end.scene, before), []);
        let same = oracle::frames(&run.video("gate")) == UNDISTURBED.videos["gate"];
        assert!(same && kept == contents(&end.scene.outputs().join("gate.chunks")));
    }
}

#[test]
fn a_finished_export_whose_chunks_were_not_deleted_yet_is_cleaned_up() {
    let end = CutEnd::new();
    let state = Connection::open(end.scene.state()).expect("opened");
    let done = "update export set state = 'done', finished_ms = updated_ms where state = 'merging'";
    assert_eq!(state.execute(done, []).expect("changed"), 1);
    state.close().expect("closed");
    end.assert_goes_forward();
}

#[test]
fn an_export_without_media_cut_short_before_its_row_is_done_over() {
    let scene = Scene::new(EmulatorConfig::with_cameras([camera("gate")]));
    // Its range lies in the first gap.
    let job = Job::new("silence", "gate", after_midnight(11_500, 13_000));
    let run = scene.run_jobs(std::slice::from_ref(&job)).expect_code(0);
    assert_eq!(run.status("silence"), "empty", "{:#}", run.report);
    let state = Connection::open(scene.state()).expect("opened");
    let cut = "update export set state = 'fetching', finished_ms = null, manifest_path = null";
    assert_eq!(state.execute(cut, []).expect("changed"), 1);
    state.close().expect("closed");
    let run = scene.run().expect_code(0);
    assert_eq!(run.status("silence"), "empty", "{:#}", run.report);
    assert_eq!(below(&scene.outputs()), ["silence.manifest.json", "silence.sha256"]);
}
