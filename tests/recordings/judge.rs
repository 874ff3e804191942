//! Plays a recording: one run of the real binary exports it in every way, and the oracle reads what came out.

use std::collections::BTreeSet;
use std::path::Path;

use kvs_export::emulator::{Camera, EmulatorConfig, Fault, Script, ScriptedFragment};
use kvs_export::model::{Edges, TimeRange, Timeline, TimestampKind, UtcMillis};
use serde_json::Value;

use crate::refusals::{self, Refusal};
use crate::support::expected::{Content, ExpectedPart};
use crate::support::oracle;
use crate::support::scene::{Job, Run, Scene};
use crate::support::truth::Difference;
use crate::table::Row;

/// How long before it is shown a reordered picture may be decoded, whatever pause is before it; in the first seconds of
/// a file ffmpeg guesses.
const LONGEST_DECODED_AHEAD_MS: f64 = 6_000.0;

/// Recordings of more fragments, or of more bytes, take long.
const LONG: usize = 300;
const HEAVY: u64 = 100_000_000;

/// Exports everything and a stretch in the middle of it, each in every combination.
///
/// In short: everything in four combinations that have each clock with each kind of edges and each timeline, and the
/// stretch in the other four; of long recordings everything alone.
pub(crate) fn play(name: &str, config: &EmulatorConfig, in_short: bool) -> Vec<Row> {
    let camera = as_listed(config);
    let fragments = all(&camera, TimestampKind::Server);
    let is_long = fragments.len() > LONG || fragments.iter().map(|of| of.size_bytes).sum::<u64>() > HEAVY;
    let mut jobs = Vec::new();
    for job in Job::matrix("whole", range(0), |_| camera.name.clone()) {
        jobs.push(Job { range: whole(&camera, job.timestamps), ..job });
    }
    for (index, job) in (0..).zip(Job::matrix("middle", range(0), |_| camera.name.clone())) {
        if let Some(range) = middle(&camera, &job, index) {
            jobs.push(Job { range, ..job });
        }
    }
    if in_short {
        let middles: BTreeSet<String> = jobs.iter().filter_map(combination_of_middle).collect();
        jobs.retain(|job| {
            let is_odd = [job.timestamps == TimestampKind::Producer, job.edges == Edges::Inside]
                .into_iter()
                .fold(job.timeline == Timeline::Wallclock, |odd, other| odd != other);
            match combination_of_middle(job) {
                Some(_) => is_odd && !is_long,
                None => !is_odd || (!is_long && !middles.contains(&combination(job))),
            }
        });
    }
    let refusal = refusals::of(name);
    // How fast it goes is not the question here.
    let scene = Scene::new(EmulatorConfig { points: None, ..config.clone() });
    let run =
        scene.run_jobs_otherwise_than_planned(&jobs, "clips that are refused, or end early, are divided");
    let mut rows: Vec<Row> = Vec::new();
    for job in &jobs {
        let words = combination(job);
        let place = rows.iter().position(|row| row.combination == words).unwrap_or_else(|| {
            rows.push(Row { recording: name.to_owned(), combination: words, ..Row::default() });
            rows.len() - 1
        });
        let row = &mut rows[place];
        let judged = match refusal {
            Some(refusal) => judge_refusal(&run, job, refusal).map(|reason| row.refused = Some(reason)),
            None => judge_export(&scene, &run, job, &camera, row),
        };
        if let Err(problem) = judged {
            row.problems.push(format!(
                "{} [{}, {}): {problem}",
                job.name,
                job.range.start(),
                job.range.end()
            ));
        }
    }
    rows
}

/// What a row of the table is of.
fn combination(job: &Job) -> String {
    [job.timestamps.as_str(), job.edges.as_str(), job.timeline.as_str()].join(", ")
}

/// The same, of an export of a stretch.
fn combination_of_middle(job: &Job) -> Option<String> {
    job.name.starts_with("middle").then(|| combination(job))
}

/// The first camera, without what the listings lack.
fn as_listed(config: &EmulatorConfig) -> Camera {
    let mut camera = config.cameras.first().expect("a stream").clone();
    let is_listed = |of: &ScriptedFragment| {
        let is_late =
            |fault: &Fault| matches!(fault, Fault::ListLate { fragment, .. } if *fragment == of.number);
        !config.faults.iter().any(|rule| is_late(&rule.fault))
    };
    if let Script::Fragments(fragments) = &mut camera.script {
        fragments.retain(is_listed);
    }
    camera
}

/// A range that is replaced.
fn range(at: i64) -> TimeRange {
    TimeRange::new(UtcMillis::new(at), UtcMillis::new(at + 1)).expect("a range")
}

/// All that was recorded, by that clock, and a little more on either side; but for what a camera without a clock puts
/// years away from the rest.
fn whole(camera: &Camera, kind: TimestampKind) -> TimeRange {
    let mut all = all(camera, kind);
    let usual = all[all.len() / 2].start(kind);
    all.retain(|of| (of.start(kind) - usual).abs() < 86_400_000);
    let first = all.iter().map(|of| of.start(kind)).min().expect("a fragment");
    let last = all.iter().map(|of| of.start(kind) + i64::from(of.length_ms)).max().expect("a fragment");
    // Not beyond what the tolerance of gaps allows.
    TimeRange::new(first - 450, last + 450).expect("a range")
}

fn all(camera: &Camera, kind: TimestampKind) -> Vec<ScriptedFragment> {
    let ever = TimeRange::new(UtcMillis::new(0), UtcMillis::new(4_102_444_800_000)).expect("a range");
    camera.fragments(ever, kind)
}

/// From a third to two thirds of the fragments: from the start of one, or a millisecond beside it, to another's.
fn middle(camera: &Camera, job: &Job, index: i64) -> Option<TimeRange> {
    let all = all(camera, job.timestamps);
    let start = |at: usize| all.get(at).map(|of| of.start(job.timestamps));
    let (from, to) = (start(all.len() / 3)?, start(all.len() * 2 / 3)?);
    let beside = index.rem_euclid(3) - 1;
    // Where sessions overlap, whether a fragment reaches in is asked of each of them.
    let from = if job.edges == Edges::Cover { from + 700 } else { from + beside };
    TimeRange::new(from, to - beside)
}

fn judge_refusal(run: &Run, job: &Job, refusal: Refusal) -> Result<String, String> {
    let export = run.export(&job.name);
    let error = export["error"].as_str().unwrap_or_default();
    if export["status"] != "failed" || run.code != Some(3) {
        return Err(format!("{} with exit code {:?}, not failed: {error}", export["status"], run.code));
    }
    match refusal.reason.iter().find(|word| !error.contains(**word)) {
        Some(word) => Err(format!("the reason does not say {word:?}: {error}")),
        None => Ok(error.to_owned()),
    }
}

fn judge_export(scene: &Scene, run: &Run, job: &Job, camera: &Camera, row: &mut Row) -> Result<(), String> {
    let content = Content::of(camera, job);
    let export = run.export(&job.name);
    let status = if content.kept.is_empty() { "empty" } else { "done" };
    if export["status"] != status {
        return Err(format!("{}, not {status}: {}", export["status"], export["error"]));
    }
    let manifest = run.manifest(&job.name);
    let expected = content.parts(job, &BTreeSet::new());
    let videos: Vec<&str> =
        export["output"].as_array().expect("outputs").iter().filter_map(Value::as_str).collect();
    row.parts += videos.len();
    if videos.len() != expected.len() {
        let reasons: Vec<&Value> =
            manifest["outputs"].as_array().expect("outputs").iter().map(|of| &of["reason"]).collect();
        return Err(format!("{} parts, not {}: {reasons:?}", videos.len(), expected.len()));
    }
    let mut problems = Vec::new();
    for (index, (video, part)) in videos.iter().zip(&expected).enumerate() {
        if let Err(problem) = judge_part(Path::new(video), part, job, row) {
            problems.push(format!("part {}: {problem}", index + 1));
        }
    }
    problems.extend(content.compare_manifest(&manifest, job).err());
    scene.check_sums(&job.name);
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn judge_part(video: &Path, part: &ExpectedPart, job: &Job, row: &mut Row) -> Result<(), String> {
    let (pictures, sound) = (oracle::frames(video), oracle::sound(video));
    let ahead_ms = oracle::longest_decoded_ahead_ms(video);
    if row.recording.starts_with("reordered") && ahead_ms > LONGEST_DECODED_AHEAD_MS {
        return Err(format!("a picture is decoded {ahead_ms} ms before it is shown"));
    }
    let seen = Difference::between(&pictures, &part.pictures, &job.stream);
    let heard = Difference::between(&sound, &part.sound, &job.stream);
    row.pictures.add(part.pictures.len(), pictures.len(), &seen);
    row.sound.add(part.sound.len(), sound.len(), &heard);
    match (seen.is_none(), heard.is_none()) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("pictures: {seen}")),
        (true, false) => Err(format!("sound: {heard}")),
    }
}
