//! Archives as cameras really leave them: every scenario file under every combination of timestamps, edges and timeline,
//! judged by the oracle, in one table.
//!
//! `make recordings` prints the table, of every form of clip (`RECORDINGS=all`); the tests play each scenario in short, in
//! the form that its file has.

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod bisection;
mod judge;
mod refusals;
mod table;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvs_export::emulator::{EmulatorConfig, InnerTiming, MoviePosition};

use table::Row;

/// A scenario file.
#[derive(Debug, Clone)]
struct Recording {
    name: String,
    config: EmulatorConfig,
}

/// The scenario files, in order of their names.
fn recordings() -> Vec<Recording> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a scenario can be read");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let config = EmulatorConfig::from_scenario(&name, &text).unwrap_or_else(|error| panic!("{error}"));
        Recording { name, config }
    };
    files.iter().map(read).collect()
}

/// The same recording in every form of clip that the service is known to have, or may have.
fn in_every_form(recording: &Recording) -> Vec<Recording> {
    let mut forms = Vec::new();
    for (timing, inner_timing) in [("kept", InnerTiming::KeepStarts), ("closed", InnerTiming::CloseGaps)] {
        for (place, movie) in [("first", MoviePosition::First), ("last", MoviePosition::Last)] {
            let config = EmulatorConfig { inner_timing, movie, ..recording.config.clone() };
            forms.push(Recording { name: format!("{} ({timing}, {place})", recording.name), config });
        }
    }
    forms
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn every_recording_comes_out_exact_or_is_refused_with_the_reason() {
    let only = std::env::var("RECORDING").ok().filter(|name| !name.is_empty());
    let mut recordings: Vec<Recording> = recordings()
        .into_iter()
        .filter(|recording| only.as_ref().is_none_or(|only| recording.name.contains(only.as_str())))
        .collect();
    let in_short = std::env::var("RECORDINGS").is_err();
    if !in_short {
        recordings = recordings.iter().flat_map(in_every_form).collect();
    }
    let next = AtomicUsize::new(0);
    let rows: Vec<Mutex<Vec<Row>>> = recordings.iter().map(|_| Mutex::default()).collect();
    let play = || {
        while let Some((recording, rows)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            recordings.get(index).zip(rows.get(index))
        } {
            let judged = judge::play(&recording.name, &recording.config, in_short);
            *rows.lock().expect("no judge panicked") = judged;
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(play);
        }
    });
    let rows: Vec<Row> = rows.into_iter().flat_map(|rows| rows.into_inner().expect("a result")).collect();
    println!("{}", table::print(&rows));
    let wrong: Vec<String> = rows.iter().filter_map(Row::wrong).collect();
    assert!(!rows.is_empty(), "nothing was played");
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
