//! A finished export that is made again, and old ones that are forgotten, killed after each of their steps.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::cases::Kind;
use crate::stage::{Stage, another_job, is_video};

/// Where a redo of one video is killed.
pub(crate) const REDONE: &[&str] = &[
    "A1",
    "I6",
    "I1.recorded:2",
    "I8.merging",
    "M4",
    "F2",
    "F3",
    "F4",
    "F4:2",
    "F5",
    "F6",
    "F7",
    "F8",
    "F9",
];

/// Where a redo is killed whose old videos have other names than the new one.
pub(crate) const REDONE_OTHERWISE: &[&str] = &["A1", "F4", "F5", "A2", "F7"];

/// Where a redo whose old videos have other names and the recovery after it are killed.
pub(crate) const RECOVERED: &[(&str, &str)] =
    &[("F2", "R3.unstored"), ("F3", "F4"), ("F3", "F5"), ("F4", "A2"), ("F5", "F7"), ("A2", "R3.standing")];

/// Where what is old is forgotten.
pub(crate) const FORGOTTEN: &[&str] = &["P1", "P2", "P3"];

/// Every point of those.
pub(crate) fn points() -> impl Iterator<Item = &'static str> {
    let recovered = RECOVERED.iter().flat_map(|(first, second)| [*first, *second]);
    [REDONE, REDONE_OTHERWISE, FORGOTTEN].into_iter().flatten().copied().chain(recovered)
}

/// A command with its arguments, killed at a point.
#[track_caller]
fn crash(stage: &Stage, command: &str, arguments: &[&str], at: &str) {
    let mut command = stage.scene.command_of(command);
    let output = command.args(arguments).env("KVS_EXPORT_CRASH_AT", at).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "never came to {at}\n{said}");
}

/// The id of the only export.
fn id(stage: &Stage) -> String {
    let rows = Connection::open(stage.scene.state()).expect("opened");
    rows.query_row("select id from export", [], |row| row.get(0)).expect("an export")
}

/// Hashes of videos: those that stand, and those that the rows know.
fn standing(stage: &Stage) -> BTreeSet<Vec<u8>> {
    let entries = fs::read_dir(stage.scene.outputs()).expect("listed").flatten().map(|entry| entry.path());
    let videos = entries.filter(|path| path.is_file() && is_video(path));
    videos.map(|path: std::path::PathBuf| Sha256::digest(fs::read(path).expect("read")).to_vec()).collect()
}

fn expected(stage: &Stage) -> BTreeSet<Vec<u8>> {
    let rows = Connection::open(stage.scene.state()).expect("opened");
    let mut select = rows.prepare("select sha256 from output where role = 'video'").expect("a query");
    let hashes = select.query_map([], |row| row.get(0)).expect("rows");
    hashes.collect::<Result<_, _>>().expect("read")
}

/// Whole videos stand, and no others: all of the old ones, or new ones by their recorded hashes.
#[track_caller]
fn assert_nothing_lost(stage: &Stage, old: &BTreeSet<Vec<u8>>, at: &str) {
    let (standing, new) = (standing(stage), expected(stage));
    assert!(standing.is_superset(old) || standing.is_superset(&new) && !new.is_empty(), "{at}: lost");
    assert!(standing.iter().all(|hash| old.contains(hash) || new.contains(hash)), "{at}: half-made");
}

#[test]
fn a_redo_that_dies_in_any_step_loses_neither_video_and_is_gone_on_with() {
    for at in REDONE {
        let stage = Stage::new(Kind::Plain);
        stage.scene.run().expect_code(0);
        let old = standing(&stage);
        crash(&stage, "redo", &[&id(&stage)], at);
        assert_nothing_lost(&stage, &old, at);
        stage.finish();
    }
}

#[test]
fn a_redo_with_other_names_deletes_the_old_ones_last() {
    for at in REDONE_OTHERWISE {
        let stage = Stage::new(Kind::Parts);
        stage.scene.run().expect_code(0);
        let old = standing(&stage);
        let stage = stage.without_change();
        crash(&stage, "redo", &[&id(&stage)], at);
        assert_nothing_lost(&stage, &old, at);
        stage.finish();
    }
}

#[test]
fn a_recovery_of_a_redo_that_dies_is_done_again() {
    for (first, second) in RECOVERED {
        let stage = Stage::new(Kind::Parts);
        stage.scene.run().expect_code(0);
        let old = standing(&stage);
        let stage = stage.without_change();
        crash(&stage, "redo", &[&id(&stage)], first);
        crash(&stage, "run", &[], second);
        assert_nothing_lost(&stage, &old, second);
        stage.finish();
    }
}

fn count(stage: &Stage, table: &str) -> i64 {
    let rows = Connection::open(stage.scene.state()).expect("opened");
    rows.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).expect("counted")
}

/// An export of which chunks are fetched and whose text has left the job file long ago.
fn superseded() -> Stage {
    let stage = Stage::new(Kind::Plain);
    stage.crash("I1.recorded:2");
    let rows = Connection::open(stage.scene.state()).expect("opened");
    rows.execute("update export set superseded = 1, updated_ms = 0", []).expect("changed");
    stage
}

#[test]
fn what_dies_while_it_is_forgotten_is_forgotten_or_whole() {
    for at in FORGOTTEN {
        let stage = superseded();
        let jobs = fs::read_to_string(stage.scene.job_file()).expect("read");
        stage.scene.write_jobs("", &[another_job()]);
        crash(&stage, "prune", &["--older-than", "0d"], at);
        let pruned =
            stage.scene.command_of("prune").args(["--older-than", "0d"]).output().expect("it starts");
        assert!(pruned.status.success(), "{at}: {}", String::from_utf8_lossy(&pruned.stderr));
        for table in ["export", "window", "chunk", "chunk_count", "attempt"] {
            assert_eq!(count(&stage, table), 0, "{at}: {table}");
        }
        let left = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
        assert_eq!((left(&stage.scene.work()), left(&stage.scene.outputs())), (0, 0), "{at}");
        fs::write(stage.scene.job_file(), jobs).expect("written");
        stage.finish();
    }
}

#[test]
fn an_export_that_is_asked_for_while_it_was_being_forgotten_is_whole_in_the_end() {
    for at in FORGOTTEN {
        let stage = superseded();
        let jobs = fs::read_to_string(stage.scene.job_file()).expect("read");
        stage.scene.write_jobs("", &[another_job()]);
        crash(&stage, "prune", &["--older-than", "0d"], at);
        fs::write(stage.scene.job_file(), jobs).expect("written");
        stage.finish();
    }
}
