//! Holds what came out against the emulator's scripts, with the oracle's eyes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use kvs_export::model::Sha256Digest;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::scenario::{Export, Scenario};
use crate::support::expected::Content;
use crate::support::oracle::{self, Frame};
use crate::support::scene::{Run, Scene};
use crate::support::truth::Difference;
use crate::tally::Tally;

/// Whether every export of a run is final.
pub(crate) fn is_final(run: &Run) -> bool {
    let exports = run.report["exports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_final = |export: &Value| matches!(export["status"].as_str(), Some("done" | "partial" | "empty"));
    !exports.is_empty() && exports.iter().all(is_final)
}

/// Judges every export and the files that are left; `Err`: all that is wrong.
pub(crate) fn judge(scene: &Scene, scenario: &Scenario, run: &Run, tally: &mut Tally) -> Result<(), String> {
    let mut wrong = Vec::new();
    let exports = run.report["exports"].as_array().expect("exports");
    if exports.len() != scenario.exports.len() {
        wrong.push(format!("{} exports, not {}", exports.len(), scenario.exports.len()));
    }
    for export in &scenario.exports {
        let judged = judge_export(scene, scenario, run, export, tally);
        if let Err(what) = judged {
            let (job, from, to) = (&export.job, export.job.range.start(), export.job.range.end());
            wrong.push(format!("{} of {} [{from}, {to}): {what}", job.name, job.stream));
        }
    }
    if let Err(what) = no_stray_file(scene, exports) {
        wrong.push(what);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
}

fn judge_export(
    scene: &Scene,
    scenario: &Scenario,
    run: &Run,
    export: &Export,
    tally: &mut Tally,
) -> Result<(), String> {
    let job = &export.job;
    let is_it = |found: &&Value| {
        found["job"] == job.name.as_str()
            && found["stream"].as_str().is_some_and(|name| name == job.stream)
            && found["from"] == job.range.start().to_string()
            && found["to"] == job.range.end().to_string()
    };
    let mut found = run.report["exports"].as_array().expect("exports").iter().filter(is_it);
    let (Some(found), None) = (found.next(), found.next()) else {
        return Err("not exactly once in the report".to_owned());
    };
    let content = Content::of(&scenario.cameras[export.camera], job);
    tally.exports += 1;
    tally.fragments += content.kept.len() as u64;

    let path = found["manifest"].as_str().ok_or("no manifest")?;
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let missing = missing(&manifest, &content, scenario, export, tally)?;
    let parts: Vec<_> = content.parts(job, &missing).into_iter().map(|part| part.pictures).collect();
    let status = match (content.kept.is_empty(), missing.is_empty()) {
        (true, _) => "empty",
        (false, true) => "done",
        (false, false) => "partial",
    };
    if found["status"] != status || manifest["status"] != status {
        return Err(format!("{}, in the manifest {}, not {status}", found["status"], manifest["status"]));
    }
    content.compare_manifest(&manifest, job)?;

    let videos: Vec<&str> =
        found["output"].as_array().expect("outputs").iter().filter_map(Value::as_str).collect();
    let frames: Vec<Vec<Frame>> = videos.iter().map(|video| oracle::frames(Path::new(video))).collect();
    let (all, wanted) = (frames.concat(), parts.concat());
    let whole = Difference::between(&all, &wanted, &job.stream);
    let fragments =
        |frames: &[(String, u32)]| frames.iter().map(|(of, _)| of).collect::<BTreeSet<_>>().len() as u64;
    tally.lost += fragments(&whole.lost);
    tally.doubled += fragments(&whole.doubled);
    if frames.len() != parts.len() {
        return Err(format!("{} parts, not {}; over all of them {whole}", frames.len(), parts.len()));
    }
    for (part, (frames, expected)) in frames.iter().zip(&parts).enumerate() {
        let difference = Difference::between(frames, expected, &job.stream);
        if !difference.is_none() {
            return Err(format!("part {}: {difference}", part + 1));
        }
    }
    check_sums(scene, path)
}

/// What the manifest names as missing; the service must have refused each of them, or one that no request tells apart
/// from it.
fn missing(
    manifest: &Value,
    content: &Content<'_>,
    scenario: &Scenario,
    export: &Export,
    tally: &mut Tally,
) -> Result<BTreeSet<String>, String> {
    let refused: BTreeSet<String> = scenario.refused(&export.job.stream).collect();
    let refused = content.inseparable_from(&refused, &export.job);
    let mut missing = BTreeSet::new();
    for entry in manifest["missing"].as_array().ok_or("no list of what is missing")? {
        let number = entry["number"].as_str().ok_or("a missing fragment without a number")?.to_owned();
        if entry["state"] != "rejected" || !refused.contains(&number) {
            return Err(format!("named as missing, though the service gives it: {entry}"));
        }
        missing.insert(number);
    }
    tally.missing += missing.len() as u64;
    Ok(missing)
}

fn check_sums(scene: &Scene, manifest: &str) -> Result<(), String> {
    let sums = manifest.replace(".manifest.json", ".sha256");
    let output = Command::new("sha256sum")
        .args(["--strict", "--quiet", "-c", &sums])
        .current_dir(scene.outputs())
        .output()
        .map_err(|error| format!("sha256sum: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
}

/// Nothing is left but what belongs to an output: no chunk, no temporary file.
fn no_stray_file(scene: &Scene, exports: &[Value]) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for export in exports {
        let manifest = export["manifest"].as_str().unwrap_or_default();
        known.insert(PathBuf::from(manifest));
        known.insert(PathBuf::from(manifest.replace(".manifest.json", ".sha256")));
        for video in export["output"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            known.insert(PathBuf::from(video));
            known.insert(PathBuf::from(manifest.replace(".manifest.json", ".chunks")));
        }
    }
    let in_kept =
        |path: &Path| path.ancestors().any(|above| above.extension().is_some_and(|end| end == "chunks"));
    let stray = below(&scene.outputs()).into_iter().filter(|path| !known.contains(path) && !in_kept(path));
    let stray: Vec<PathBuf> = stray.chain(below(&scene.work())).collect();
    if stray.is_empty() { Ok(()) } else { Err(format!("left over: {stray:?}")) }
}

/// Every file and folder below a folder that may not be there.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// The hashes of all files below a folder.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Sha256Digest> {
    let files = below(folder).into_iter().filter(|path| path.is_file());
    files
        .map(|path| {
            let bytes = std::fs::read(&path).expect("an output can be read");
            (path, Sha256Digest(Sha256::digest(bytes).into()))
        })
        .collect()
}
