//! From the paths of a command line to the manifests they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{MANIFEST_SUFFIX, VerifyError};
use crate::fs::{FsError, failed_to, open_plain};

/// Folders whose names begin so are a run's own: state, chunks, files that have no final name yet.
const OWN_FOLDERS: &str = ".kvs-export";

/// How much of a foreign `.sha256` file is looked at.
pub(super) const MAX_CHECKSUMS: u64 = 4 << 20;

/// A manifest to verify; it may be missing where something else speaks of it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) manifest: PathBuf,
    /// Videos of it that were named by themselves.
    pub(super) videos: Vec<PathBuf>,
}

/// What the paths mean.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) targets: Vec<Target>,
    /// Every video in the folders.
    pub(super) videos: BTreeSet<PathBuf>,
    /// Where in `targets` a manifest stands.
    places: BTreeMap<PathBuf, usize>,
}

impl Found {
    /// Adds a manifest once, whatever names it.
    fn add(&mut self, manifest: PathBuf, video: Option<PathBuf>) {
        let at = *self.places.entry(manifest.clone()).or_insert(self.targets.len());
        if at == self.targets.len() {
            self.targets.push(Target { manifest, videos: Vec::new() });
        }
        self.targets[at].videos.extend(video);
    }
}

/// Finds the manifests that the paths mean.
pub(super) fn targets(paths: &[PathBuf]) -> Result<Found, VerifyError> {
    let mut found = Found::default();
    for path in paths {
        // The user may name a link; what a manifest names, and what lies below a folder, is never followed.
        let real =
            std::fs::canonicalize(path).map_err(|source| VerifyError::Path { path: path.clone(), source })?;
        if real.is_dir() {
            let before = found.targets.len();
            let known = found.places.len();
            walk(&real, &mut found)?;
            let nothing_new = found.targets.len() == before && found.places.len() == known;
            if nothing_new && !found.targets.iter().any(|target| target.manifest.starts_with(&real)) {
                return Err(VerifyError::NoManifest(path.clone()));
            }
            continue;
        }
        let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(MANIFEST_SUFFIX) {
            found.add(real, None);
        } else if let Some(stem) = name.strip_suffix(".sha256") {
            found.add(real.with_file_name(format!("{stem}{MANIFEST_SUFFIX}")), None);
        } else if let Some(stem) = name.strip_suffix(".mp4") {
            found.add(manifest_of_video(&real, stem), Some(real));
        } else {
            return Err(VerifyError::OtherFile(path.clone()));
        }
    }
    Ok(found)
}

/// The manifest beside a video; that of all parts where it is a part.
fn manifest_of_video(video: &Path, stem: &str) -> PathBuf {
    let named = |stem: &str| video.with_file_name(format!("{stem}{MANIFEST_SUFFIX}"));
    let whole =
        stem.rsplit_once("-part").filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    match whole.map(|(whole, _)| named(whole)) {
        Some(manifest) if !named(stem).exists() && manifest.exists() => manifest,
        _ => named(stem),
    }
}

/// Finds everything below a folder, without following links.
fn walk(root: &Path, found: &mut Found) -> Result<(), FsError> {
    let mut manifests = BTreeSet::new();
    let mut checksums = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed_to("list the folder", &folder))? {
            let entry = entry.map_err(failed_to("list the folder", &folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed_to("look at", &path))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() {
                if !name.starts_with(OWN_FOLDERS) && !is_of_kept_chunks(&path, &name) {
                    folders.push(path);
                }
            } else if name.ends_with(MANIFEST_SUFFIX) {
                manifests.insert(path);
            } else if name.ends_with(".mp4") {
                found.videos.insert(path);
            } else if let Some(stem) = name.strip_suffix(".sha256") {
                let manifest = format!("{stem}{MANIFEST_SUFFIX}");
                checksums.push((path.with_file_name(&manifest), manifest, path));
            }
        }
    }
    // A manifest that was taken away is still spoken of.
    let bereft = checksums
        .into_iter()
        .filter(|(manifest, name, path)| !manifests.contains(manifest) && speaks_of(path, name));
    let bereft: Vec<_> = bereft.map(|(manifest, ..)| manifest).collect();
    manifests.extend(bereft);
    for manifest in manifests {
        found.add(manifest, None);
    }
    Ok(())
}

/// Whether a folder is `NAME.chunks` beside `NAME.manifest.json`: its files are compared with that.
fn is_of_kept_chunks(folder: &Path, name: &str) -> bool {
    name.strip_suffix(".chunks")
        .is_some_and(|stem| folder.with_file_name(format!("{stem}{MANIFEST_SUFFIX}")).exists())
}

/// Whether a checksum file has a line for that name.
fn speaks_of(checksums: &Path, name: &str) -> bool {
    let mut text = Vec::new();
    let read = open_plain(checksums).and_then(|file| file.take(MAX_CHECKSUMS).read_to_end(&mut text));
    let ending = format!("  {name}");
    read.is_ok() && String::from_utf8_lossy(&text).lines().any(|line| line.ends_with(&ending))
}
