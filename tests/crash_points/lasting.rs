//! What a kill does not show, for the kernel keeps what was written: whether it would outlast a power cut.

use std::fs;
use std::path::Path;

use crate::cases::Kind;
use crate::stage::{Stage, is_video, named};

/// The steps of a run, and what it made durable, in their order.
struct Steps(Vec<String>);

impl Steps {
    /// Runs to the end.
    fn of(stage: &Stage) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let output =
            stage.scene.command().env("KVS_EXPORT_STEP_LOG", log.path()).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The program names things by what its folder really is.
        let folder = fs::canonicalize(stage.scene.folder()).expect("it is there");
        let text = fs::read_to_string(log.path()).expect("read");
        let text = text.replace(&format!("{}/", folder.display()), "");
        Self(
            text.replace(&format!("{}/", stage.scene.folder().display()), "")
                .lines()
                .map(Into::into)
                .collect(),
        )
    }

    /// Where a line stands that comes after `after`.
    #[track_caller]
    fn next(&self, after: usize, line: &str) -> usize {
        let found = self.0[after..].iter().position(|found| found == line);
        after + found.unwrap_or_else(|| panic!("no {line:?} after line {after} of:\n{}", self.0.join("\n")))
    }

    #[track_caller]
    fn first(&self, line: &str) -> usize {
        self.next(0, line)
    }

    /// What was done to paths, in the order in which it was.
    fn paths<'a>(&'a self, what: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let path = move |line: &'a String| line.strip_prefix(what)?.strip_prefix(' ');
        self.0.iter().enumerate().filter_map(move |(at, line)| Some((at, path(line)?)))
    }
}

/// The folder that a path lies in.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Every file has been synced after it was created and before it was named, and its folder after.
#[track_caller]
fn assert_lasting_files(steps: &Steps) {
    let mut recorded: Vec<usize> = Vec::new();
    for (named, path) in steps.paths("Named").filter(|(_, path)| path.starts_with("chunks/")) {
        let part = format!("{path}.part");
        let synced = steps.next(steps.first(&format!("Created {part}")), &format!("Synced {part}"));
        assert!(synced < named, "{path} was named before it was synced");
        recorded.push(steps.next(named, &format!("FolderSynced {}", folder_of(path))));
    }
    assert!(recorded.len() >= 4, "{} chunks", recorded.len());
    recorded.sort_unstable();
    let rows = steps.0.iter().enumerate().filter(|(_, line)| *line == "reached I1.recorded");
    let rows: Vec<usize> = rows.map(|(at, _)| at).collect();
    assert_eq!(rows.len(), recorded.len());
    for (row, folder_synced) in rows.iter().zip(&recorded) {
        assert!(folder_synced < row, "a row before its file lasts");
    }
}

/// The end of an export, from the merge or taken up by recovery, is made in the order of F1 to F9.
#[track_caller]
fn assert_lasting_end(steps: &Steps, from: usize) {
    let last_name = steps.paths("Named").filter(|(_, path)| path.starts_with("out/")).map(|(at, _)| at).max();
    let last_name = last_name.unwrap_or(from);
    let folder = steps.next(last_name, "FolderSynced out");
    let committed = steps.next(folder, "Committed ");
    let ended = steps.next(last_name, "reached F7");
    assert!(committed < ended, "F7 before F6");
    for (removed, path) in steps.paths("Removed").filter(|(at, _)| *at > from) {
        let of_the_end = path.starts_with("chunks/") || path.starts_with("out/");
        assert!(!of_the_end || removed > ended || path.contains(".mp4."), "{path} is removed before F7");
    }
}

#[test]
fn everything_lasts_before_anything_relies_on_it() {
    for kind in [Kind::Plain, Kind::Masters, Kind::Parts] {
        let stage = Stage::new(kind);
        let steps = Steps::of(&stage);
        assert_lasting_files(&steps);
        let (begun, proven, stored) =
            (steps.first("reached M1"), steps.first("reached F2"), steps.first("reached F3"));
        assert!(steps.next(proven, "Committed ") < stored, "F3 is not on the disk");
        let mut names = Vec::new();
        for (named, path) in steps.paths("Named").filter(|(_, path)| folder_of(path) == "out") {
            assert!(named > stored, "{path} has its name before F3");
            names.push(path.strip_prefix("out/").expect("in it"));
        }
        let of_video = names.iter().position(|name| is_video(Path::new(name))).expect("a video");
        assert!(names[of_video..].iter().all(|name| is_video(Path::new(name))), "videos last: {names:?}");
        assert_eq!(names.len(), stage.output_names().len() + usize::from(kind == Kind::Masters));
        let staging = steps.paths("FolderSynced").filter(|(at, _)| (begun..proven).contains(at));
        let staging = staging.map(|(_, path)| path).find(|path| path.starts_with("out/.kvs-export-"));
        let staging = staging.expect("the fresh folder is synced");
        for name in names.iter().filter(|name| **name != named(".chunks")) {
            let made = |what: &str, name: &str| {
                let line = format!("{what} {staging}/{name}");
                (begun..proven).any(|at| steps.0[at] == line)
            };
            // Of several videos the first is begun under the name of an only one.
            let synced = made("Synced", name)
                || made("Synced", &format!("{name}.part"))
                || made("Named", name) && made("Synced", &named(".mp4"));
            assert!(synced, "{name} is not synced before F2:\n{}", steps.0.join("\n"));
        }
        assert_lasting_end(&steps, stored);
    }
}

#[test]
fn an_end_that_recovery_completes_lasts_as_well() {
    for at in ["F3", "F4", "F5", "F6"] {
        let stage = Stage::new(Kind::Plain);
        stage.crash(at);
        assert_lasting_end(&Steps::of(&stage), 0);
    }
}
