//! The real binary, killed after each numbered step of `design/lifecycle.md`, recovery included: the same command
//! goes on, and in the end everything is in the output once and in order.
//!
//! After every kill: nothing half-made has a final name, and the rows are true. After every run: nothing that was
//! recorded before was requested again.

mod again;
mod cases;
mod lasting;
mod stage;
#[expect(dead_code, reason = "only a part of it is needed here")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use kvs_export::crash_point::Point;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use cases::{ALL, BEGINNINGS, CHUNKS, Case, DAMAGES, ENDS, Kind, MERGES, OTHER_ENDS, RECOVERIES};
use stage::Stage;

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn play(case: &Case) {
    let stage = Stage::new(case.kind);
    for (index, at) in case.crashes.iter().enumerate() {
        stage.crash(at);
        if index == 0 {
            stage.damage(case.damage);
        }
    }
    stage.finish();
}

#[test]
fn a_run_that_dies_before_its_first_chunk_resumes_exactly() {
    BEGINNINGS.iter().for_each(play);
}

#[test]
fn a_run_that_dies_in_any_step_of_a_chunk_resumes_exactly() {
    CHUNKS.iter().for_each(play);
}

#[test]
fn a_run_that_dies_in_any_step_of_a_merge_resumes_exactly() {
    MERGES.iter().for_each(play);
}

#[test]
fn a_run_that_dies_in_any_step_of_its_end_resumes_exactly() {
    ENDS.iter().for_each(play);
}

#[test]
fn ends_of_several_files_of_few_and_of_none_resume_exactly() {
    OTHER_ENDS.iter().for_each(play);
}

#[test]
fn a_recovery_that_dies_in_any_of_its_steps_is_done_again() {
    RECOVERIES.iter().for_each(play);
}

#[test]
fn a_recovery_from_damage_that_dies_is_done_again() {
    DAMAGES.iter().for_each(play);
}

/// Points that an undisturbed run passes, with how often.
const PASSED: [(&str, u32); 22] = [
    ("run.begun", 1),
    ("I5", 1),
    ("I6", 2),
    ("I8.planned", 1),
    ("I1.created", 4),
    ("I1.written", 4),
    ("I1.named", 4),
    ("I1.folder", 4),
    ("I1.recorded", 4),
    ("I8.merging", 1),
    ("M2", 4),
    ("M3", 1),
    ("M4", 1),
    ("F1", 1),
    ("F2", 1),
    ("F3", 1),
    ("F4", 2),
    ("F5", 1),
    ("F6", 1),
    ("F7", 1),
    ("F8", 1),
    ("R2", 1),
];

/// Kills run after run anywhere, by that seed, until one ends before it comes to its point.
fn play_at_random(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new(random.choice([Kind::Plain, Kind::Masters, Kind::Parts]).expect("one of them"));
    for _ in 0..5 {
        let (point, passes) = random.choice(PASSED).expect("one of them");
        let at = format!("{point}:{}", random.u32(1..=passes));
        let output = stage.run_until(&at);
        let killed = output.status.signal() == Some(Signal::KILL.as_raw());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(killed || output.status.success(), "{at}: {:?}\n{said}", output.status);
    }
    stage.finish();
}

#[test]
fn runs_that_die_again_and_again_anywhere_end_exactly() {
    (1..=6).for_each(play_at_random);
}

#[test]
fn a_recovery_that_reads_a_large_output_is_stopped_by_a_signal() {
    /// Hours of reading; a file with nothing in it takes no room.
    const LARGE: u64 = 1 << 40;
    let stage = Stage::new(Kind::Plain);
    stage.crash("F5");
    let video = stage.scene.outputs().join("gate.mp4");
    let length = fs::metadata(&video).expect("told").len();
    let set_length = |length: u64| {
        fs::OpenOptions::new().write(true).open(&video).expect("opened").set_len(length).expect("set");
        let rows = Connection::open(stage.scene.state()).expect("opened");
        let update = "update output set size_bytes = ?1 where role = 'video'";
        assert_eq!(rows.execute(update, [length.cast_signed()]).expect("changed"), 1);
    };
    set_length(LARGE);
    let steps = tempfile::tempdir().expect("a folder");
    let steps = steps.path().join("steps");
    assert!(Command::new("mkfifo").arg(&steps).status().expect("mkfifo starts").success());
    let mut command = stage.scene.command();
    command.env("KVS_EXPORT_STEP_LOG", &steps).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    // After R2 comes R3. The pipe stays open to the end: the program must be able to write.
    let log = BufReader::new(fs::File::open(&steps).expect("opened"));
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let mut log = log.lines().map(|line| line.expect("a line"));
    assert!(log.any(|line| line == "reached R2"), "no recovery");
    kill_process(pid, Signal::TERM).expect("sent");
    let Ok(output) = end.recv_timeout(PATIENCE) else {
        kill_process(pid, Signal::KILL).expect("killed");
        panic!("it does not stop");
    };
    let output = output.expect("it ended");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    set_length(length);
    stage.finish();
}

#[test]
fn every_point_is_the_end_of_some_run() {
    let name = |at: &&'static str| at.split(':').next().unwrap_or_default();
    let played = ALL.iter().copied().flatten().flat_map(|case| case.crashes.iter().map(name));
    let again = again::points().map(|at| at.split(':').next().unwrap_or_default());
    let played: BTreeSet<&str> = played.chain(again).collect();
    let points: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(played, points);
}
