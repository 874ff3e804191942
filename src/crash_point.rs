//! Places where a test build can be made to die: after each numbered step of `design/lifecycle.md`.
//!
//! Only with the cargo feature `crash-points` does any of this do something. Then `KVS_EXPORT_CRASH_AT=NAME`, or
//! `NAME:nth` for a step that is taken more than once, kills the process with SIGKILL when the step is done, and
//! `KVS_EXPORT_STEP_LOG=FILE` keeps the order of the steps and of what was made durable. A program that is built
//! without the feature holds neither name, and an optimised one cannot be built with it.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("a release must not be able to die on request: build it without the feature crash-points");

macro_rules! points {
    ($($point:ident = $name:literal: $what:literal,)*) => {
        /// A step after which the program can be made to die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $(#[doc = $what] $point,)*
        }

        impl Point {
            /// Every point, in the order of the document.
            pub const ALL: &'static [Self] = &[$(Self::$point,)*];

            /// Its name in `design/lifecycle.md`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    StateMade = "I4.made": "The schema of a new state file is complete, under its temporary name.",
    StateNamed = "I4.named": "A new state file has its name.",
    RunBegun = "run.begun": "A run's row is there.",
    RunEnded = "run.ended": "A run's row says how it ended.",
    ExportStored = "I5": "The new exports and their windows are stored.",
    WindowStored = "I6": "A window's fragments and chunks are stored.",
    SplitStored = "I7": "A split is stored.",
    ChunkCreated = "I1.created": "A chunk's temporary file is created.",
    ChunkWritten = "I1.written": "A chunk's temporary file is written and checked.",
    ChunkSynced = "I1.synced": "A chunk's temporary file is synced.",
    ChunkNamed = "I1.named": "A chunk's file has its name.",
    ChunkFolderSynced = "I1.folder": "The folder of a chunk is synced.",
    ChunkRecorded = "I1.recorded": "A chunk is recorded as fetched.",
    ExportPlanned = "I8.planned": "An export has left `planning`.",
    MergeBegun = "I8.merging": "An export is `merging`.",
    FolderMade = "M1": "The fresh folder is made.",
    ChunkCompared = "M2": "A chunk's file is read again and is as recorded.",
    VideoWritten = "M3": "ffmpeg has written a video.",
    VideoProven = "M4": "The gate has accepted a video.",
    MastersKept = "F1.masters": "The masters lie in the fresh folder.",
    ManifestWritten = "F1.manifest": "The manifest lies in the fresh folder.",
    SidecarsWritten = "F1": "All sidecars lie in the fresh folder.",
    FolderSynced = "F2": "The fresh folder is synced.",
    HashesStored = "F3": "The hashes are stored.",
    SidecarNamed = "F4": "A sidecar, or the folder of masters, has its name.",
    VideoNamed = "F5": "A video has its name.",
    OutputFolderSynced = "F6": "The output's folder is synced.",
    ExportEnded = "F7": "The row says how the export ended.",
    FolderRemoved = "F8": "The fresh folder is deleted.",
    ChunksRemoved = "F9": "The chunks are deleted.",
    FormerKept = "A1": "A finished export is to be made again, and what it was is kept.",
    FormerRemoved = "A2": "What a new output has not replaced of the old one is deleted.",
    ChunksGivenUp = "P1": "The chunks of a superseded export count as not fetched.",
    GivenUpRemoved = "P2": "The files of its chunks are deleted.",
    ExportForgotten = "P3": "An export's rows are deleted.",
    RunsClosed = "R1": "Runs without an end are closed, not committed yet.",
    ChunksReturned = "R2": "Chunks that were in hand are planned again, committed with R1.",
    OutputUndone = "R3.output": "A file under a final name is removed.",
    MastersUndone = "R3.masters": "The kept masters are removed.",
    FolderUndone = "R3.folder": "The fresh folder of an end that is undone is deleted.",
    NothingStored = "R3.unstored": "A merge without hashes is undone.",
    EndStood = "R3.standing": "An end whose outputs all stood is complete.",
    EndStaged = "R3.staged": "An end whose outputs stood or lay ready is complete.",
    EndUndone = "R3.undone": "An end that could not be completed is undone.",
    FinalSwept = "R4": "A final export has lost its chunks and its fresh folder.",
    StraySwept = "R5": "A file without a row is deleted.",
    Reopened = "R7": "A failed export is open again.",
    LossRecorded = "R8": "A chunk whose file is gone is planned again.",
}

/// What is made to last, for the log of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// A file is created under that name.
    Created,
    /// A file's content is synced.
    Synced,
    /// A file or folder has got that name.
    Named,
    /// A folder's entries are synced.
    FolderSynced,
    /// A file or folder is removed.
    Removed,
    /// Rows are committed with full sync.
    Committed,
}

/// Says that a step is done: with the feature, and if it was asked for, the last thing that the process does.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn reached(_point: Point) {}

/// Says that something was made to last.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn lasts(_what: Durable, _path: &std::path::Path) {}

#[cfg(feature = "crash-points")]
pub use armed::{lasts, reached};

#[cfg(feature = "crash-points")]
mod armed {
    #![expect(clippy::disallowed_methods, reason = "the log is for tests, and made nowhere else")]

    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::path::Path;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Durable, Point};

    /// Where to die, and at which time of coming there.
    static CRASH_AT: LazyLock<Option<(Point, u32)>> = LazyLock::new(|| {
        let asked = std::env::var("KVS_EXPORT_CRASH_AT").ok()?;
        Some(parse(&asked).unwrap_or_else(|| panic!("KVS_EXPORT_CRASH_AT={asked} is no crash point")))
    });

    static REACHED: AtomicU32 = AtomicU32::new(0);

    static STEP_LOG: LazyLock<Option<File>> = LazyLock::new(|| {
        let path = std::env::var_os("KVS_EXPORT_STEP_LOG")?;
        let opened = OpenOptions::new().append(true).create(true).open(path);
        Some(opened.expect("the log of steps can be opened"))
    });

    /// `NAME` or `NAME:nth`, from 1.
    pub(super) fn parse(asked: &str) -> Option<(Point, u32)> {
        let (name, nth) = asked.split_once(':').unwrap_or((asked, "1"));
        let point = Point::ALL.iter().find(|point| point.name() == name)?;
        Some((*point, nth.parse().ok().filter(|nth| *nth > 0)?))
    }

    /// Says that a step is done: the last thing that the process does, if it was asked for.
    ///
    /// # Panics
    ///
    /// If `KVS_EXPORT_CRASH_AT` names no point.
    pub fn reached(point: Point) {
        log(format_args!("reached {}\n", point.name()));
        let Some((_, nth)) = CRASH_AT.filter(|(at, _)| *at == point) else { return };
        if REACHED.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
            loop {
                std::thread::park();
            }
        }
    }

    /// Says that something was made to last.
    pub fn lasts(what: Durable, path: &Path) {
        log(format_args!("{what:?} {}\n", path.display()));
    }

    fn log(line: std::fmt::Arguments<'_>) {
        if let Some(mut file) = STEP_LOG.as_ref() {
            // One write a line: several threads say what they do.
            file.write_all(line.to_string().as_bytes()).expect("the log of steps can be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Point;

    const DOCUMENT: &str = include_str!("../design/lifecycle.md");

    /// The names in the first column of the document's table of crash points.
    fn documented() -> BTreeSet<&'static str> {
        let (_, section) = DOCUMENT.split_once("## Crash points").expect("the document has them");
        let row = |line: &'static str| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name);
        section.lines().filter_map(row).collect()
    }

    #[test]
    fn every_point_is_in_the_document_and_the_document_has_no_other() {
        let points: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(points.len(), Point::ALL.len(), "no name twice");
        assert_eq!(documented(), points);
    }

    #[test]
    fn every_numbered_step_of_the_document_has_a_point() {
        let mut steps = Vec::new();
        for line in DOCUMENT.lines() {
            let Some((step, _)) = line.strip_prefix("- **").and_then(|rest| rest.split_once(".**")) else {
                continue;
            };
            // What an invariant says of state is a step; what it says of the order of steps, or of time, is none.
            let is_step = !step.starts_with('I') || ["I1", "I4", "I5", "I6", "I7", "I8"].contains(&step);
            if is_step {
                steps.push(step);
            }
        }
        assert!(steps.len() >= 6 + 4 + 9 + 8, "{steps:?}");
        for step in steps {
            // Taken by the same code as I8: one place, one point.
            let step = if step == "R6" { "I8.planned" } else { step };
            let has_point = |point: &Point| {
                point.name().strip_prefix(step).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            assert!(Point::ALL.iter().any(has_point), "{step} has no point");
        }
    }

    #[cfg(feature = "crash-points")]
    #[test]
    fn a_point_is_asked_for_by_its_name_and_how_often_it_is_passed() {
        use super::armed::parse;
        assert_eq!(parse("F3"), Some((Point::HashesStored, 1)));
        assert_eq!(parse("I1.named:2"), Some((Point::ChunkNamed, 2)));
        for wrong in ["", "F10", "F3:", "F3:0", "F3:x", "f3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
