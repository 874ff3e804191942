//! The example file: every key is in it, and right.

use super::*;
use crate::job::raw::{AWS_KEYS, JOB_KEYS, LIMITS_KEYS, NOTIFY_KEYS, ROOT_KEYS};
use crate::model::ExportSpec;

const EXAMPLE: &str = include_str!("../../../jobs.example.toml");
/// Keys whose default is that they are absent.
const WITHOUT_DEFAULT: [&str; 8] =
    ["region", "profile", "endpoint_url", "bandwidth", "max_bytes", "case", "operator", "note"];

fn example(text: &str) -> (JobFile, Vec<ExportSpec>) {
    let source = JobSource { text, file: Path::new("/srv/jobs.example.toml"), display: "jobs.example.toml" };
    match load(source, utc("2026-03-05T12:00:00Z"), &[]) {
        Ok((file, resolved)) => (file, resolved.into_iter().map(|export| export.spec).collect()),
        Err(errors) => panic!("{errors}"),
    }
}

/// The key that a line would set, were its `#` taken away.
fn commented_key(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}

/// Blocks of lines that are switched on together: commented tables as a whole, other keys one by one.
fn blocks(lines: &[&str]) -> Vec<std::ops::Range<usize>> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let length = if lines[at].starts_with("#[") {
            lines[at..].iter().take_while(|line| line.starts_with('#')).count()
        } else {
            1
        };
        if length > 1 || commented_key(lines[at]).is_some() {
            blocks.push(at..at + length);
        }
        at += length;
    }
    blocks
}

fn switched_on(lines: &[&str], block: &std::ops::Range<usize>) -> String {
    let line = |(at, line): (usize, &&str)| {
        let line = if block.contains(&at) { line.strip_prefix('#').unwrap_or(line) } else { line };
        format!("{line}\n")
    };
    lines.iter().enumerate().map(line).collect()
}

#[test]
fn the_example_is_the_demo_two_cameras_and_three_minutes() {
    let (_, specs) = example(EXAMPLE);
    let streams: Vec<&str> = specs.iter().map(|spec| spec.stream.name()).collect();
    assert_eq!(streams, ["front-gate", "loading-dock"]);
    assert_eq!(specs.iter().map(|spec| spec.range.length_ms()).sum::<i64>(), 180_000);
    assert!(specs.iter().all(|spec| spec.output.starts_with("/srv/exports")));
}

#[test]
fn each_commented_key_of_the_example_says_its_default() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let (file, specs) = example(EXAMPLE);
    let mut tried = 0;
    for block in blocks(&lines).into_iter().filter(|block| block.len() == 1) {
        let key = commented_key(lines[block.start]).expect("a key");
        let (with, specs_with) = example(&switched_on(&lines, &block));
        let same = (with.state == file.state)
            && (with.work == file.work)
            && (with.aws == file.aws)
            && (with.limits == file.limits)
            && (specs_with == specs);
        assert_eq!(same, !WITHOUT_DEFAULT.contains(&key), "{key}");
        tried += 1;
    }
    assert_eq!(tried, 29, "the way in which keys are commented out has changed");
}

#[test]
fn each_commented_job_of_the_example_is_right() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let names: Vec<String> = blocks(&lines)
        .into_iter()
        .filter(|block| lines[block.start] == "#[[job]]")
        .map(|block| {
            let (_, specs) = example(&switched_on(&lines, &block));
            specs.last().expect("exports").job.clone()
        })
        .collect();
    assert_eq!(names, ["nightly", "latest", "weekend-nights", "february", "incidents"]);
}

#[test]
fn the_commented_notification_is_right() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let block = blocks(&lines).into_iter().find(|block| lines[block.start] == "#[notify]").expect("a block");
    let (file, _) = example(&switched_on(&lines, &block));
    assert_eq!(file.notify.as_deref(), Some(&["/srv/tell.sh".to_owned()][..]));
}

#[test]
fn every_key_stands_in_the_example() {
    let has = |key: &str| {
        EXAMPLE.lines().any(|line| {
            let line = line.trim_start_matches('#');
            line.starts_with(&format!("{key} = "))
                || line == format!("[{key}]")
                || line == format!("[[{key}]]")
        })
    };
    for keys in [&ROOT_KEYS, &AWS_KEYS, &LIMITS_KEYS, &NOTIFY_KEYS, &JOB_KEYS] {
        for key in keys.known {
            assert!(has(key), "{key} is missing");
        }
    }
}
