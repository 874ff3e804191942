//! Compares exports with their manifests and checksums, offline: every byte is read once, and hashed.
//!
//! What it reads may have been altered by anybody. A manifest is never trusted further than to name what is
//! compared: nothing outside its folder is read, no symbolic link below it is followed, and no count in it is
//! believed before the file is seen to hold that much.

mod find;
mod manifest;
mod video;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use self::find::{MAX_CHECKSUMS, Target};
use self::manifest::{ChunkFacts, ManifestFacts, OutputFacts};
use super::checksums::checksums;
use crate::error::chain;
use crate::fs::{FsError, open_plain};
use crate::model::Sha256Digest;
use crate::model::verification::{ProblemKind, VerifiedExport, VerifyProblem};

const MANIFEST_SUFFIX: &str = ".manifest.json";

/// A line of a checksum file is shown to this length.
const MAX_LINE_TOLD: usize = 400;

/// The fresh folder in which a run makes an export's files, beside their final names.
const STAGING_PREFIX: &str = ".kvs-export-";

/// A run renames an export's files one after the other: so often, and so far apart, a half-named one is looked at.
const LOOKS_AT_UNFINISHED: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// There is nothing to verify where a path points.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing there, or it cannot be looked at.
    #[error("cannot read {}", path.display())]
    Path {
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a file of another kind.
    #[error(
        "{} is neither a folder nor a file that can be verified: name a .manifest.json, a .sha256 or an .mp4",
        .0.display()
    )]
    OtherFile(PathBuf),
    /// A folder in which no export ever was.
    #[error("there is no manifest in {} or below", .0.display())]
    NoManifest(PathBuf),
    /// A folder cannot be listed.
    #[error(transparent)]
    Folder(#[from] FsError),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// The exports, in the order of the paths, those of a folder by path.
    pub exports: Vec<VerifiedExport>,
    /// Videos in the folders that no manifest names.
    pub not_covered: Vec<PathBuf>,
}

/// Verifies what the paths name: manifests, `.sha256` files, videos, or folders with all that is below them.
pub fn verify(paths: &[PathBuf]) -> Result<Verified, VerifyError> {
    let found = find::targets(paths)?;
    let mut verified = Verified::default();
    for target in found.targets {
        verified.exports.push(verify_one(&target));
    }
    let named: std::collections::HashSet<&PathBuf> =
        verified.exports.iter().flat_map(|export| &export.output).collect();
    verified.not_covered = found.videos.into_iter().filter(|video| !named.contains(video)).collect();
    Ok(verified)
}

/// What was found wrong with one export, and how much was read for it.
#[derive(Debug, Default)]
struct Findings {
    problems: Vec<VerifyProblem>,
    bytes: u64,
}

impl Findings {
    fn problem(&mut self, file: &Path, kind: ProblemKind, message: &str) {
        self.problems.push(VerifyProblem {
            file: file.to_owned(),
            kind,
            message: message.to_owned(),
            expected: None,
            found: None,
        });
    }

    fn differs(
        &mut self,
        file: &Path,
        kind: ProblemKind,
        message: &str,
        expected: &impl ToString,
        found: &impl ToString,
    ) {
        self.problem(file, kind, message);
        if let Some(problem) = self.problems.last_mut() {
            (problem.expected, problem.found) = (Some(expected.to_string()), Some(found.to_string()));
        }
    }
}

/// The names that belong to a manifest.
struct Beside<'m> {
    manifest: &'m Path,
    folder: &'m Path,
    stem: String,
}

impl<'m> Beside<'m> {
    fn of(manifest: &'m Path) -> Self {
        let name = manifest.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(MANIFEST_SUFFIX).unwrap_or(&name).to_owned();
        Self { manifest, folder: manifest.parent().unwrap_or(Path::new("/")), stem }
    }

    fn manifest_name(&self) -> String {
        format!("{}{MANIFEST_SUFFIX}", self.stem)
    }

    fn checksums(&self) -> PathBuf {
        self.folder.join(format!("{}.sha256", self.stem))
    }

    fn kept_chunks(&self) -> PathBuf {
        self.folder.join(format!("{}.chunks", self.stem))
    }

    /// The name of a part: the only one, or one of several.
    fn video_name(&self, part: usize, of: usize) -> String {
        if of == 1 { format!("{}.mp4", self.stem) } else { format!("{}-part{part}.mp4", self.stem) }
    }
}

fn verify_one(target: &Target) -> VerifiedExport {
    let mut looks = 0;
    loop {
        let export = look_at(target);
        let unfinished = export.problems.iter().any(|problem| problem.kind == ProblemKind::Missing)
            && is_being_finished(&export);
        looks += 1;
        if !unfinished || looks == LOOKS_AT_UNFINISHED {
            return if unfinished { tell_unfinished(export) } else { export };
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Whether the folder is there in which the export's files wait for their names.
fn is_being_finished(export: &VerifiedExport) -> bool {
    let is_id = |id: &&String| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let folder = export.manifest.parent();
    export.id.as_ref().filter(is_id).zip(folder).is_some_and(|(id, folder)| {
        folder.join(format!("{STAGING_PREFIX}{id}")).symlink_metadata().is_ok_and(|found| found.is_dir())
    })
}

fn tell_unfinished(mut export: VerifiedExport) -> VerifiedExport {
    let note = "a run was interrupted while it gave the files their names: run it again to finish the export";
    export.notes.push(note.to_owned());
    export
}

fn look_at(target: &Target) -> VerifiedExport {
    let beside = Beside::of(&target.manifest);
    let mut findings = Findings::default();
    let mut export = VerifiedExport { manifest: target.manifest.clone(), ..VerifiedExport::default() };
    match open_plain(beside.manifest) {
        Ok(file) => look_at_files(file, &beside, target, &mut export, &mut findings),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = "is missing: without it nothing can be verified";
            findings.problem(beside.manifest, ProblemKind::Missing, message);
        }
        Err(error) => unreadable(beside.manifest, &error, &mut findings),
    }
    export.bytes = findings.bytes;
    export.verified = findings.problems.is_empty();
    export.problems = findings.problems;
    export
}

fn unreadable(path: &Path, error: &io::Error, findings: &mut Findings) {
    findings.problem(path, ProblemKind::Unreadable, &format!("cannot be read: {}", chain(error)));
}

fn look_at_files(
    manifest: File,
    beside: &Beside<'_>,
    target: &Target,
    export: &mut VerifiedExport,
    findings: &mut Findings,
) {
    let mut chunks = Chunks::of(beside);
    let read = match manifest::read(manifest, |chunk| chunks.take(&chunk, findings)) {
        Ok(read) => read,
        Err(error) => return unreadable(beside.manifest, &error, findings),
    };
    findings.bytes += read.size;
    export.chunks = chunks.verified;
    let facts = match read.facts {
        Ok(facts) => facts,
        Err(error) => {
            let is = if is_in_checksums(beside, read.sha256) { "is" } else { "is not" };
            let message = format!(
                "is not a manifest that can be understood: {error}; its hash {is} the one in its checksum file"
            );
            findings.problem(beside.manifest, ProblemKind::Manifest, &message);
            return;
        }
    };
    chunks.note(export);
    contradictions(beside, &facts, &chunks, findings);
    for (index, output) in facts.outputs.iter().enumerate() {
        look_at_output(beside, (index + 1, facts.outputs.len()), output, export, findings);
    }
    for video in target.videos.iter().filter(|video| !export.output.contains(video)) {
        findings.problem(video, ProblemKind::Parts, "is not among the videos of the manifest beside it");
    }
    let videos = facts.outputs.iter().map(|output| (output.file.clone(), output.sha256));
    let lines: Vec<_> = videos.chain([(beside.manifest_name(), read.sha256)]).collect();
    export.checksums_sha256 = check_checksums(beside, &lines, findings);
    export.id = facts.export_id;
    export.status = Some(facts.status);
    export.job = facts.job;
    export.stream = facts.stream.map(|stream| stream.name);
    (export.from, export.to) = facts.requested.map(|asked| (asked.from, asked.to)).unzip();
}

/// What a manifest says against itself.
fn contradictions(beside: &Beside<'_>, facts: &ManifestFacts, chunks: &Chunks<'_>, findings: &mut Findings) {
    let mut contradiction = |message: String| {
        findings.problem(beside.manifest, ProblemKind::Manifest, &message);
    };
    // Where nothing was listed, no number of fragments is known, of nothing.
    let known = |of: &OutputFacts| of.fragments.is_some() == facts.fragments.is_some();
    let in_videos =
        facts.outputs.iter().filter_map(|output| output.fragments).fold(0_u64, u64::saturating_add);
    let said = facts.fragments.unwrap_or(0);
    let is_known = facts.outputs.iter().all(known) && (facts.fragments.is_none() || !chunks.is_unknown);
    if !is_known || in_videos != said || chunks.delivered != said {
        contradiction(format!(
            "contradicts itself: it says {} fragments, its videos {in_videos}, its chunks {}",
            facts.fragments.map_or("an unknown number of".to_owned(), |count| count.to_string()),
            chunks.delivered
        ));
    }
    if chunks.missing != facts.missing {
        contradiction(format!(
            "contradicts itself: it names {} missing fragments, its chunks say {}",
            facts.missing, chunks.missing
        ));
    }
    let fits = match facts.status.as_str() {
        "done" => !facts.outputs.is_empty() && facts.missing == 0,
        "partial" => facts.missing > 0,
        "empty" => facts.outputs.is_empty() && facts.missing == 0,
        _ => false,
    };
    if !fits {
        contradiction(format!(
            "contradicts itself: its status is {:?}, with {} videos and {} missing fragments",
            facts.status,
            facts.outputs.len(),
            facts.missing
        ));
    }
}

fn look_at_output(
    beside: &Beside<'_>,
    (part, of): (usize, usize),
    output: &OutputFacts,
    export: &mut VerifiedExport,
    findings: &mut Findings,
) {
    let expected = beside.video_name(part, of);
    if !is_plain_name(&output.file) {
        let message = format!("names a video outside its folder, which is not read: {:?}", output.file);
        return findings.problem(beside.manifest, ProblemKind::UnsafeName, &message);
    }
    if output.part != part as u64 || output.file != expected {
        let message =
            format!("does not number its parts in order, or they have other names: part {part} of {of}");
        let found = format!("part {}, {:?}", output.part, output.file);
        findings.differs(beside.manifest, ProblemKind::Parts, &message, &format!("{expected:?}"), &found);
    }
    let path = beside.folder.join(&output.file);
    let (samples, media_ms) = video::check(&path, output, findings);
    export.samples = export.samples.saturating_add(samples);
    export.media_ms = export.media_ms.saturating_add(media_ms);
    export.output.push(path);
}

/// Whether a name can only be that of a file in the folder itself.
fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// The chunks of a manifest, as they are read.
struct Chunks<'b> {
    beside: &'b Beside<'b>,
    folder: PathBuf,
    is_there: bool,
    /// How many masters the manifest says were kept.
    kept: u64,
    verified: u64,
    /// Fragments that were fetched, as far as their number is known.
    delivered: u64,
    /// Whether something was fetched whose fragments were not listed.
    is_unknown: bool,
    missing: u64,
}

impl<'b> Chunks<'b> {
    fn of(beside: &'b Beside<'b>) -> Self {
        let folder = beside.kept_chunks();
        let is_there = folder.symlink_metadata().is_ok_and(|found| found.is_dir());
        Self { beside, folder, is_there, kept: 0, verified: 0, delivered: 0, is_unknown: false, missing: 0 }
    }

    fn take(&mut self, chunk: &ChunkFacts, findings: &mut Findings) {
        match chunk.state.as_str() {
            "fetched" => {
                self.delivered = self.delivered.saturating_add(chunk.fragments.unwrap_or(0));
                self.is_unknown |= chunk.fragments.is_none();
            }
            // A window is missing as a whole.
            "rejected" | "expired" => {
                self.missing = self.missing.saturating_add(chunk.fragments.unwrap_or(1));
            }
            _ => {}
        }
        let Some(name) = &chunk.kept_as else { return };
        self.kept += 1;
        if !self.is_there {
            return;
        }
        if !is_plain_name(name) {
            let message = format!("names a chunk outside its folder, which is not read: {name:?}");
            return findings.problem(self.beside.manifest, ProblemKind::UnsafeName, &message);
        }
        if let (Some(size), Some(sha256)) = (chunk.size_bytes, chunk.sha256) {
            let read = video::check_bytes(&self.folder.join(name), (size, sha256), findings);
            self.verified += u64::from(read.is_some());
        } else {
            let message = format!("keeps the chunk {name:?} without its size and hash");
            findings.problem(self.beside.manifest, ProblemKind::Manifest, &message);
        }
    }

    /// Says what of the kept chunks was not compared.
    fn note(&self, export: &mut VerifiedExport) {
        let name = format!("{}.chunks", self.beside.stem);
        if self.kept > 0 && !self.is_there {
            export.notes.push(format!("its kept chunks are not beside it ({name}): they were not verified"));
        }
        let there = std::fs::read_dir(&self.folder).map_or(0, |entries| entries.flatten().count() as u64);
        if self.is_there && there > self.kept {
            let more = there - self.kept;
            export.notes.push(format!("{name} holds {more} files that the manifest does not name"));
        }
    }
}

/// Whether the checksum file gives the manifest that hash. Nothing else in it can be judged without a manifest.
fn is_in_checksums(beside: &Beside<'_>, sha256: Sha256Digest) -> bool {
    let line = checksums([(beside.manifest_name().as_str(), sha256)]);
    let mut text = Vec::new();
    let read =
        open_plain(&beside.checksums()).and_then(|file| file.take(MAX_CHECKSUMS).read_to_end(&mut text));
    read.is_ok() && text.ends_with(line.as_bytes())
}

/// Compares the checksum file byte for byte with what it must be; its hash.
fn check_checksums(
    beside: &Beside<'_>,
    lines: &[(String, Sha256Digest)],
    findings: &mut Findings,
) -> Option<Sha256Digest> {
    let path = beside.checksums();
    let expected = checksums(lines.iter().map(|(name, sha256)| (name.as_str(), *sha256)));
    let (found, sha256) = match open_plain(&path).and_then(|file| read_checksums(file, expected.len())) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.problem(&path, ProblemKind::Missing, "is missing");
            return None;
        }
        Err(error) => {
            unreadable(&path, &error, findings);
            return None;
        }
    };
    findings.bytes += found.len() as u64;
    if found == expected.as_bytes() {
        return Some(sha256);
    }
    let found = String::from_utf8_lossy(&found);
    // Split so that a missing line end is a difference too.
    let (mut wanted, mut there) = (expected.split_inclusive('\n'), found.split_inclusive('\n'));
    let mut number = 0;
    let (wanted, there) = loop {
        number += 1;
        match (wanted.next(), there.next()) {
            (Some(wanted), Some(there)) if wanted == there => {}
            (wanted, there) => break (wanted, there),
        }
    };
    let message = format!("is not what the manifest and the files give, first in line {number}");
    let told = |line: Option<&str>| match line.map(|line| line.strip_suffix('\n').ok_or(line)) {
        None => "nothing".to_owned(),
        Some(Ok(line)) => line.chars().take(MAX_LINE_TOLD).collect(),
        Some(Err(line)) => line.chars().take(MAX_LINE_TOLD).chain(" (and no line end)".chars()).collect(),
    };
    findings.differs(&path, ProblemKind::Checksums, &message, &told(wanted), &told(there));
    Some(sha256)
}

/// A little more of a checksum file than it should have, and the hash of all of it.
fn read_checksums(mut file: File, expected: usize) -> io::Result<(Vec<u8>, Sha256Digest)> {
    let mut beginning = Vec::new();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((beginning, Sha256Digest(hasher.finalize().into()))),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        let room = (expected + MAX_LINE_TOLD).saturating_sub(beginning.len());
        beginning.extend_from_slice(&buffer[..count.min(room)]);
    }
}
