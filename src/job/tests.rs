use std::path::Path;

use super::*;

mod broken;
mod broken_files;
mod example;
mod overlay;
mod prefixes;
mod resolving;
mod schema;
mod show;
mod windows;

/// 10:00:30.500 in Los Angeles, on a Wednesday in summer.
const NOW: &str = "2024-07-03T17:00:30.500Z";

fn utc(text: &str) -> UtcMillis {
    text.parse::<jiff::Timestamp>().expect("a timestamp").into()
}

fn source(text: &str) -> JobSource<'_> {
    JobSource { text, file: Path::new("/srv/cameras/jobs.toml"), display: "jobs.toml" }
}

/// A file with one right job, its lines 1 to 5, and `more` in that job.
fn with_job(more: &str) -> String {
    format!("version = 1\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\nlast = \"1h\"\n{more}")
}

/// A file with one job without a range, its lines 1 to 4, and `more` in that job.
fn without_range(more: &str) -> String {
    format!("version = 1\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\n{more}")
}

fn problems(text: &str) -> Vec<JobProblem> {
    match load(source(text), utc(NOW), &[]) {
        Err(errors) => errors.problems().to_vec(),
        Ok(_) => Vec::new(),
    }
}

/// The exports of a right file.
fn exports(text: &str) -> Vec<Resolved> {
    match load(source(text), utc(NOW), &[]) {
        Ok((_, resolved)) => resolved,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}
