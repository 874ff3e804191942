//! `verify`, on exports that the real binary made: whatever is altered afterwards is found.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use kvs_export::emulator::{Camera, EmulatorConfig, Recording};
use kvs_export::evidence::hash_file;
use kvs_export::evidence::verify::{VerifyError, verify};
use kvs_export::model::verification::{ProblemKind, VerifiedExport};
use serde_json::Value;
use support::scene::{Job, Scene};
use support::{MIDNIGHT, after_midnight};
use tempfile::TempDir;

/// The exports: with gaps, without media, in two parts, with its chunks beside it.
const NAMES: [&str; 4] = ["gaps", "none", "parts", "kept"];

struct Exports {
    scene: Scene,
    report: Value,
}

static EXPORTS: LazyLock<Exports> = LazyLock::new(|| {
    let gate = Camera::steady("gate").gap(after_midnight(9_000, 20_000)).gap(after_midnight(60_000, 600_000));
    // Another picture size after a pause: another part.
    let recording = Recording::at(MIDNIGHT).fragments(4, 2_000).gap_ms(9_000).video(1).fragments(4, 2_000);
    let yard = Camera::with_script("yard", recording.into_script());
    let scene = Scene::new(EmulatorConfig::with_cameras([gate, yard]));
    let run = scene
        .run_jobs(&[
            Job::new("gaps", "gate", after_midnight(1_000, 35_000)),
            Job::new("none", "gate", after_midnight(100_000, 500_000)),
            Job::new("parts", "yard", after_midnight(0, 60_000)),
            Job::new("kept", "gate", after_midnight(0, 30_000)).with("keep_chunks = true"),
        ])
        .expect_code(0);
    Exports { report: run.report, scene }
});

/// A copy of all the outputs, to be spoilt.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().expect("a folder"));
        copy_folder(&EXPORTS.scene.outputs(), copy.folder());
        copy
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).expect("read");
        change(&mut bytes);
        fs::write(self.path(name), bytes).expect("written");
    }

    /// Replaces a text of a manifest and makes the checksum file fit it: what only the content can betray.
    fn forge(&self, name: &str, from: &str, to: &str) {
        let manifest = format!("{name}.manifest.json");
        let sum = || hash_file(&self.path(&manifest)).expect("read").1.to_string();
        let before = sum();
        self.edit(&manifest, |bytes| {
            let text = String::from_utf8(bytes.clone()).expect("UTF-8");
            assert!(text.contains(from), "{from} is not in {text}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        });
        let after = sum();
        self.edit(&format!("{name}.sha256"), |bytes| {
            *bytes = String::from_utf8(bytes.clone()).expect("UTF-8").replace(&before, &after).into_bytes();
        });
    }

    /// The verification of one export.
    fn verify(&self, name: &str) -> VerifiedExport {
        let manifest = self.path(&format!("{name}.manifest.json"));
        verify(&[manifest]).expect("it is there").exports.remove(0)
    }

    /// The kinds of what is wrong with one export.
    fn problems(&self, name: &str) -> Vec<ProblemKind> {
        let mut kinds: Vec<_> = self.verify(name).problems.iter().map(|problem| problem.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
        command.current_dir(self.folder()).args(arguments).output().expect("the binary starts")
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("listed").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to).expect("made");
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

#[test]
fn untouched_exports_are_verified_and_counted_as_the_run_told_them() {
    let copy = Copy::new();
    let output = copy.command(&["--format", "json", "verify", "."]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["schema"], &report["outcome"]), (&"kvs-export/verify/1".into(), &"verified".into()));
    assert_eq!((&report["totals"]["exports"], &report["totals"]["videos"]), (&4.into(), &4.into()));
    assert_eq!(report["not_covered"], serde_json::json!([]));
    for name in NAMES {
        let exports = report["exports"].as_array().expect("exports").iter();
        let export = exports.into_iter().find(|export| export["job"] == name).expect("the export");
        let told = EXPORTS.report["exports"].as_array().expect("exports").iter();
        let told = told.into_iter().find(|told| told["job"] == name).expect("the export");
        for key in ["id", "status", "stream", "from", "to"] {
            assert_eq!(export[key], told[key], "{name} {key}");
        }
        // 20 frames in each fragment of 2 s.
        let samples = told["fragments"].as_u64().expect("a number") * 20;
        assert_eq!(export["samples"], samples, "{name}");
        assert!(
            export["media_ms"].as_u64().expect("a number").abs_diff(samples * 100) <= 1_000,
            "{export:#}"
        );
        assert_eq!(export["problems"], serde_json::json!([]));
    }
    let kept = copy.verify("kept");
    assert!(kept.chunks >= 2 && kept.notes.is_empty(), "{kept:?}");
    assert_eq!(copy.verify("parts").output.len(), 2);
}

/// Flips one bit, looks whether that is found, and flips it back.
fn is_found(copy: &Copy, name: &str, file: &Path, random: &mut fastrand::Rng) -> bool {
    let before = fs::read(file).expect("read");
    let mut after = before.clone();
    let at = random.usize(..before.len());
    after[at] ^= 1 << random.u8(..8);
    fs::write(file, &after).expect("written");
    let export = copy.verify(name);
    fs::write(file, &before).expect("written back");
    !export.verified && !export.problems.is_empty()
}

#[test]
fn a_thousand_of_a_thousand_flipped_bits_are_found() {
    let copy = Copy::new();
    let mut random = fastrand::Rng::with_seed(7);
    let chunks: Vec<PathBuf> = fs::read_dir(copy.path("kept.chunks"))
        .expect("listed")
        .map(|entry| entry.expect("it").path())
        .collect();
    let mut found = [0; 4];
    let mut tried = [0; 4];
    for flip in 0..1_000 {
        let kind = match flip % 10 {
            0..=2 => 0,
            3..=5 => 1,
            6..=8 => 2,
            _ => 3,
        };
        let name = if kind == 3 { "kept" } else { NAMES[random.usize(..NAMES.len())] };
        let file = match (kind, name) {
            (0, "parts") => copy.path(&format!("parts-part{}.mp4", random.usize(1..=2))),
            // The export without a video has only the other two.
            (0, "none") | (1, _) => copy.path(&format!("{name}.manifest.json")),
            (0, _) => copy.path(&format!("{name}.mp4")),
            (2, _) => copy.path(&format!("{name}.sha256")),
            _ => chunks[random.usize(..chunks.len())].clone(),
        };
        tried[kind] += 1;
        found[kind] += usize::from(is_found(&copy, name, &file, &mut random));
    }
    assert_eq!(found, tried, "videos, manifests, checksum files, kept chunks");
    assert_eq!(found.iter().sum::<usize>(), 1_000);
    assert!(verify(&[copy.folder().to_owned()]).expect("there").exports.iter().all(|export| export.verified));
}

#[test]
fn the_program_ends_with_3_and_says_which_file_differs_and_how() {
    let copy = Copy::new();
    let mut random = fastrand::Rng::with_seed(11);
    for file in ["gaps.mp4", "gaps.manifest.json", "gaps.sha256", "none.manifest.json", "parts-part2.mp4"] {
        let whole = fs::read(copy.path(file)).expect("read");
        copy.edit(file, |bytes| {
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
        });
        let output = copy.command(&["verify", "."]);
        fs::write(copy.path(file), whole).expect("written back");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{file}: {said}");
        assert_eq!(said.matches("MISMATCH").count(), 1, "{said}");
        // An altered manifest shows in the checksum file, unless it cannot be read any more.
        let is_unreadable = said.contains("is not a manifest that can be understood");
        let is_manifest = file.ends_with("json") && !is_unreadable;
        let named = if is_manifest { file.replace("manifest.json", "sha256") } else { file.to_owned() };
        assert!(said.contains(&format!("  {named}: ")), "{file}: {said}");
        assert!(said.contains("mismatch: 4 exports, 1 of them"), "{said}");
    }
    // One without its last line end; one that is no manifest any more.
    let says = |file: &str, size: usize, words: &str| {
        let whole = fs::read(copy.path(file)).expect("read");
        copy.edit(file, |bytes| bytes.truncate(bytes.len() - size));
        let said = String::from_utf8_lossy(&copy.command(&["verify", "."]).stdout).into_owned();
        fs::write(copy.path(file), whole).expect("written back");
        assert!(said.contains(words), "{file}: {said}");
    };
    says("gaps.sha256", 1, " (and no line end)");
    says("gaps.manifest.json", 9, "its hash is not the one in its checksum file");
    let output = copy.command(&["verify", "."]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(copy.command(&["-q", "verify", "."]).stdout, b"");
}

#[test]
fn shortened_and_lengthened_files_are_found() {
    for file in ["gaps.mp4", "gaps.manifest.json", "gaps.sha256", "parts-part1.mp4"] {
        let name = file.split(['.', '-']).next().expect("a name");
        for change in [
            |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1),
            |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2),
            |bytes: &mut Vec<u8>| bytes.clear(),
            |bytes: &mut Vec<u8>| bytes.push(b'\n'),
            |bytes: &mut Vec<u8>| bytes.extend([0; 4096]),
            |bytes: &mut Vec<u8>| bytes.insert(0, b' '),
        ] {
            let copy = Copy::new();
            copy.edit(file, change);
            let export = copy.verify(name);
            assert!(!export.verified, "{file}");
        }
    }
    let copy = Copy::new();
    copy.edit("gaps.mp4", |bytes| bytes.truncate(bytes.len() - 9));
    assert!(copy.problems("gaps").starts_with(&[
        ProblemKind::Unreadable,
        ProblemKind::Size,
        ProblemKind::Hash
    ]));
}

#[test]
fn a_foreign_line_in_the_checksum_file_is_found() {
    let copy = Copy::new();
    copy.edit("gaps.sha256", |bytes| bytes.extend(format!("{}  other.mp4\n", "0".repeat(64)).bytes()));
    assert_eq!(copy.problems("gaps"), [ProblemKind::Checksums]);
    copy.edit("none.sha256", |bytes| *bytes = [b"# a note\n".as_slice(), bytes].concat());
    assert_eq!(copy.problems("none"), [ProblemKind::Checksums]);
}

#[test]
fn swapped_renamed_and_deleted_files_are_found() {
    let swap = |copy: &Copy, one: &str, other: &str| {
        fs::rename(copy.path(one), copy.path("x")).expect("renamed");
        fs::rename(copy.path(other), copy.path(one)).expect("renamed");
        fs::rename(copy.path("x"), copy.path(other)).expect("renamed");
    };
    let copy = Copy::new();
    swap(&copy, "parts-part1.mp4", "parts-part2.mp4");
    assert!(copy.problems("parts").contains(&ProblemKind::Hash));
    swap(&copy, "gaps.mp4", "kept.mp4");
    assert!(copy.problems("gaps").contains(&ProblemKind::Hash));
    assert!(copy.problems("kept").contains(&ProblemKind::Hash));

    for file in ["gaps.mp4", "gaps.sha256", "none.sha256", "parts-part1.mp4", "parts-part2.mp4"] {
        let copy = Copy::new();
        fs::remove_file(copy.path(file)).expect("removed");
        let name = file.split(['.', '-']).next().expect("a name");
        assert_eq!(copy.problems(name), [ProblemKind::Missing], "{file}");
    }
    let copy = Copy::new();
    fs::rename(copy.path("gaps.mp4"), copy.path("gates.mp4")).expect("renamed");
    let verified = verify(&[copy.folder().to_owned()]).expect("there");
    assert_eq!(verified.not_covered, [fs::canonicalize(copy.path("gates.mp4")).expect("there")]);
    assert_eq!(verified.exports.iter().filter(|export| !export.verified).count(), 1);

    // All three under another name: the manifest still says the old one.
    let copy = Copy::new();
    for end in ["mp4", "manifest.json", "sha256"] {
        fs::rename(copy.path(&format!("gaps.{end}")), copy.path(&format!("gates.{end}"))).expect("renamed");
    }
    assert!(!copy.verify("gates").verified);
}

#[test]
fn a_deleted_manifest_is_missed_where_its_checksum_file_or_video_speaks_of_it() {
    let copy = Copy::new();
    fs::remove_file(copy.path("gaps.manifest.json")).expect("removed");
    let output = copy.command(&["verify", "."]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("gaps.manifest.json: is missing"), "{said}");
    for path in ["gaps.mp4", "gaps.sha256"] {
        assert_eq!(copy.command(&["verify", path]).status.code(), Some(3), "{path}");
    }
    // A checksum file of somebody else's speaks of no manifest.
    fs::write(copy.path("all.sha256"), format!("{}  everything.tar\n", "0".repeat(64))).expect("written");
    assert!(!String::from_utf8_lossy(&copy.command(&["verify", "."]).stdout).contains("all.manifest"));
}

#[test]
fn altered_and_lost_chunks_are_found_and_moved_ones_are_told() {
    let chunk = |copy: &Copy| {
        let mut entries = fs::read_dir(copy.path("kept.chunks")).expect("listed");
        entries.next().expect("a chunk").expect("an entry").path()
    };
    let copy = Copy::new();
    fs::write(chunk(&copy), b"not what it was").expect("written");
    assert_eq!(copy.problems("kept"), [ProblemKind::Size, ProblemKind::Hash]);
    fs::remove_file(chunk(&copy)).expect("removed");
    assert!(!copy.verify("kept").verified);

    let copy = Copy::new();
    fs::write(copy.path("kept.chunks/foreign.mp4"), b"x").expect("written");
    let kept = copy.verify("kept");
    assert!(kept.verified && kept.notes[0].contains("1 files"), "{kept:?}");

    let copy = Copy::new();
    fs::remove_dir_all(copy.path("kept.chunks")).expect("removed");
    let kept = copy.verify("kept");
    assert!(kept.verified && kept.chunks == 0 && kept.notes[0].contains("not verified"), "{kept:?}");
}

#[test]
fn what_is_false_though_every_hash_fits_is_found_in_the_videos_own_tables() {
    for (name, from, to, kind) in [
        ("gaps", "\"samples\": ", "\"samples\": 1", ProblemKind::Samples),
        ("gaps", "\"duration_ms\": ", "\"duration_ms\": 1", ProblemKind::MediaTime),
        ("gaps", "\"codec\": \"h264\"", "\"codec\": \"h265\"", ProblemKind::Tracks),
        ("gaps", "\"status\": \"done\"", "\"status\": \"partial\"", ProblemKind::Manifest),
        ("gaps", "\"fragments\": ", "\"fragments\": 1", ProblemKind::Manifest),
        ("none", "\"missing\": []", "\"missing\": [{}]", ProblemKind::Manifest),
        ("gaps", "kvs-export/manifest/1", "kvs-export/manifest/9", ProblemKind::Manifest),
        ("parts", "\"part\": 2", "\"part\": 3", ProblemKind::Parts),
        ("gaps", "\"size_bytes\": ", "\"size_bytes\": 1", ProblemKind::Size),
    ] {
        let copy = Copy::new();
        copy.forge(name, from, to);
        let problems = copy.problems(name);
        assert!(
            problems.contains(&kind) && !problems.contains(&ProblemKind::Checksums),
            "{to}: {problems:?}"
        );
    }
}

#[test]
fn nothing_outside_the_folder_is_read_whatever_a_manifest_names() {
    let outside = tempfile::tempdir().expect("a folder");
    fs::copy(EXPORTS.scene.outputs().join("gaps.mp4"), outside.path().join("gaps.mp4")).expect("copied");
    let absolute = outside.path().join("gaps.mp4").display().to_string();
    for name in ["../gaps.mp4", "./gaps.mp4", "..", "", "/etc/passwd", "a/../gaps.mp4", absolute.as_str()] {
        let copy = Copy::new();
        copy.forge("gaps", "\"file\": \"gaps.mp4\"", &format!("\"file\": {name:?}"));
        let export = copy.verify("gaps");
        assert!(export.problems.iter().any(|problem| problem.kind == ProblemKind::UnsafeName), "{name}");
        assert!(export.bytes < 100_000 && export.output.is_empty(), "{name}: {} bytes read", export.bytes);
    }
    // Links below the folder are not followed, be it to the very same bytes.
    let copy = Copy::new();
    for (link, target) in [
        ("gaps.mp4", outside.path().join("gaps.mp4")),
        ("none.sha256", EXPORTS.scene.outputs().join("none.sha256")),
        ("parts.manifest.json", EXPORTS.scene.outputs().join("parts.manifest.json")),
    ] {
        fs::remove_file(copy.path(link)).expect("removed");
        std::os::unix::fs::symlink(target, copy.path(link)).expect("linked");
    }
    let verified = verify(&[copy.folder().to_owned()]).expect("there");
    let bad = verified.exports.iter().filter(|export| !export.verified);
    let kinds: Vec<_> = bad.flat_map(|export| &export.problems).map(|problem| problem.kind).collect();
    assert_eq!(kinds, [ProblemKind::Unreadable; 3], "{verified:#?}");
    // The user may name a link: what it leads to is verified where it lies.
    let link = copy.path("link.manifest.json");
    std::os::unix::fs::symlink(EXPORTS.scene.outputs().join("kept.manifest.json"), &link).expect("linked");
    assert!(verify(&[link]).expect("there").exports[0].verified);
    // A link to a folder above is no way round.
    std::os::unix::fs::symlink(copy.folder(), copy.path("again")).expect("linked");
    assert_eq!(verify(&[copy.folder().to_owned()]).expect("there").exports.len(), 5);
}

#[test]
fn manifests_that_are_none_are_told_without_harm() {
    let copy = Copy::new();
    let path = copy.path("gaps.manifest.json");
    let whole = fs::read_to_string(&path).expect("read");
    for text in [
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        "[".repeat(1_000_000),
        "{\"outputs\":".repeat(100_000),
        format!("{{\"x\": {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        whole.replacen("\"part\": 1", "\"part\": 1e999", 1),
        whole.replacen("\"part\": 1", "\"part\": -1", 1),
        whole.replacen("\"size_bytes\": ", "\"size_bytes\": 99999999999999999999999999", 1),
        whole.replacen("\"fragments\": ", "\"fragments\": 18446744073709551615, \"fragments\": ", 1),
        format!("{whole}{{}}"),
    ] {
        fs::write(&path, &text).expect("written");
        let export = copy.verify("gaps");
        assert!(
            export.problems.iter().any(|problem| problem.kind == ProblemKind::Manifest),
            "{}: {export:?}",
            text.chars().take(60).collect::<String>()
        );
    }
    // Sums that no number holds.
    fs::write(&path, whole.replace("\"fragments\": ", "\"fragments\": 1844674407370955161"))
        .expect("written");
    assert!(!copy.verify("gaps").verified);
    fs::write(&path, b"\xff\xfe").expect("written");
    assert!(!copy.verify("gaps").verified);
}

#[test]
fn a_video_or_a_checksum_file_leads_to_its_manifest_and_each_is_verified_once() {
    let copy = Copy::new();
    let paths =
        ["parts-part2.mp4", "parts.sha256", "parts.manifest.json", "parts-part1.mp4"].map(|p| copy.path(p));
    let verified = verify(&paths).expect("there");
    assert_eq!(verified.exports.len(), 1);
    assert!(verified.exports[0].verified);
    let mut all = paths.to_vec();
    all.push(copy.folder().to_owned());
    assert_eq!(verify(&all).expect("there").exports.len(), 4);
    // A third part that the manifest does not know.
    fs::copy(copy.path("parts-part1.mp4"), copy.path("parts-part3.mp4")).expect("copied");
    let verified = verify(&[copy.path("parts-part3.mp4")]).expect("there");
    assert_eq!(verified.exports[0].problems[0].kind, ProblemKind::Parts);
}

#[test]
fn where_there_is_nothing_to_verify_the_program_ends_with_2() {
    let copy = Copy::new();
    fs::create_dir(copy.path("empty")).expect("made");
    fs::write(copy.path("readme.txt"), b"x").expect("written");
    assert!(matches!(verify(&[copy.path("empty")]), Err(VerifyError::NoManifest(_))));
    assert!(matches!(verify(&[copy.path("readme.txt")]), Err(VerifyError::OtherFile(_))));
    for path in ["empty", "readme.txt", "nowhere", "nowhere.mp4"] {
        let output = copy.command(&["--format", "json", "verify", path]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
        assert_eq!((output.status.code(), &report["outcome"]), (Some(2), &"usage".into()), "{path}");
        assert!(report["error"].as_str().expect("an error").contains(path), "{report:#}");
    }
}

#[test]
fn files_that_a_run_has_not_named_yet_are_not_looked_at_and_its_interruption_is_told() {
    let copy = Copy::new();
    let id = copy.verify("gaps").id.expect("an id");
    let staging = copy.path(&format!(".kvs-export-{id}"));
    fs::create_dir(&staging).expect("made");
    for end in ["mp4", "manifest.json"] {
        fs::copy(copy.path(&format!("gaps.{end}")), staging.join(format!("new.{end}"))).expect("copied");
    }
    let verified = verify(&[copy.folder().to_owned()]).expect("there");
    assert!(verified.exports.len() == 4 && verified.not_covered.is_empty(), "{verified:?}");
    // The sidecars have their names already, the video has not.
    fs::rename(copy.path("gaps.mp4"), staging.join("gaps.mp4")).expect("renamed");
    let gaps = copy.verify("gaps");
    assert!(!gaps.verified && gaps.notes[0].contains("run it again"), "{gaps:?}");
}
