//! The checked-in JSON schema as editors use it: Taplo, which the TOML plugins of editors are made of, and Python's jsonschema
//! must accept what the program accepts, and refuse what the schema can tell.

#![expect(clippy::format_push_string, reason = "writing to a String has an error that never happens")]

#[path = "support/venv.rs"]
mod venv;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Made once, whichever test comes first.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| venv::programs("editors", "editors-requirements.txt"));

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The job files of a folder.
fn job_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(in_project(folder)).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files
}

/// What is said of each file, by its name.
fn verdicts(files: &[PathBuf]) -> BTreeMap<String, String> {
    let programs = &*PROGRAMS;
    let output = Command::new(programs.join("python"))
        .arg("-B")
        .arg(in_project("tests/foreign/editors.py"))
        .arg(in_project("jobs.schema.json"))
        .arg(programs.join("taplo"))
        .args(files)
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let verdicts = said.lines().filter_map(|line| line.split_once(' '));
    verdicts.map(|(file, verdict)| (file.to_owned(), verdict.to_owned())).collect()
}

#[test]
fn editors_accept_what_the_program_accepts() {
    let mut files = vec![in_project("jobs.example.toml")];
    files.extend(job_files("tests/accepted"));
    files.extend(job_files("examples"));
    assert!(files.len() >= 3, "{files:?}");
    for (file, verdict) in verdicts(&files) {
        assert_eq!(verdict, "accepted", "{file}");
    }
}

#[test]
fn editors_refuse_what_a_schema_can_tell() {
    let files = job_files("tests/broken");
    let verdicts = verdicts(&files);
    let mut wrong = String::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("read");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let expected = if text.contains("# schema: accepts it: ") {
            "accepted"
        } else {
            "refused by jsonschema and taplo"
        };
        let verdict = verdicts.get(&name).map_or("nothing", String::as_str);
        if verdict != expected {
            wrong += &format!("\n{name}: {verdict}, not {expected}");
        }
    }
    assert!(wrong.is_empty() && verdicts.len() >= 75, "{} files:{wrong}", verdicts.len());
}
