//! The table of windows in `src/job/tests/windows.txt` as another calendar has it: Python's, with the system's time
//! zones.
//!
//! `tests/foreign/windows.py` finds the windows in another way, by walking a clock through the range. That the program finds
//! what stands in the table is a unit test of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Has Python check a table.
fn check(table: &Path) -> Output {
    let mut command = Command::new("python3");
    command.arg("-B").arg(in_project("tests/foreign/windows.py")).arg(table);
    command
        .output()
        .expect("this test needs python3 (3.9 or newer) and the system's time zones: apt-get install tzdata")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn another_calendar_has_the_same_windows() {
    let checked = check(&in_project("src/job/tests/windows.txt"));
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).ends_with(" cases, 0 wrong\n"), "{}", said(&checked));
}

#[test]
fn another_calendar_finds_a_row_that_is_wrong() {
    let table = std::fs::read_to_string(in_project("src/job/tests/windows.txt")).expect("the table");
    // The night on which clocks are set forward, as long as any other.
    let (right, long) = ("Sun 2024-03-10T06:00:00-0700  11h", "Sun 2024-03-10T07:00:00-0700  12h");
    let block = table.split("\n\n").find(|block| block.contains(right)).expect("that night");
    let wrong = block.replace(right, long);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("windows.txt");
    std::fs::write(&path, wrong).expect("written");
    let checked = check(&path);
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    assert!(said(&checked).ends_with(" cases, 1 wrong\n"), "{}", said(&checked));
}
