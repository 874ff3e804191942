//! Room on the disks: what every export may still write, file system by file system.
//!
//! An export needs its planned bytes twice: as chunks in the work folder, and as the merged copy in the folder of
//! its output (a third time there, where `keep_chunks` has to copy them to another file system). They are reserved
//! before its chunks are fetched, beside `min_free`, so that **what has been reserved can always be finished**. A
//! chunk that has landed takes real space instead of reserved space; the end of the export gives back the rest.
//!
//! The size of an export is known only when all its windows are listed, and fetching must not wait for that. So the
//! rule has two halves. An export that is listed to its end gets everything at once, or waits. One export at a time,
//! the *early* one, is fetched while it is still being listed and reserves as its windows are planned. Several of
//! those could each hold what the others need, for ever; a single one only waits for exports that can be finished.
//!
//! Who does not fit now waits for them in order. A smaller one behind goes first only into space that the first one
//! will not need once everything that has its space now has ended: so nobody is overtaken for ever.
//!
//! Sizes are as listed. The containers of clips and outputs differ from that by less than a percent; this, the
//! state file and the sidecars are left to `min_free`. A disk that is full all the same ends the run resumably.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{FsError, failed_to};

/// What a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Tells file systems apart.
    pub device: u64,
    /// Bytes that this user can still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Who knows how much room there is.
pub trait Disks: Send + Sync {
    /// The file system on which a folder lies, or will lie once it is made.
    fn space(&self, folder: &Path) -> io::Result<Space>;
}

/// The disks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisks;

impl Disks for SystemDisks {
    fn space(&self, folder: &Path) -> io::Result<Space> {
        let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
        let space = rustix::fs::statvfs(there)?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        let (free, total) = match space.f_blocks {
            // Some network and user-space file systems do not tell: they cannot be planned with.
            0 => (u64::MAX, u64::MAX),
            blocks => (bytes(space.f_bavail), bytes(blocks)),
        };
        Ok(Space { device: std::fs::metadata(there)?.dev(), free, total })
    }
}

/// How the disks are to be used.
#[derive(Clone)]
pub struct DiskLimits {
    /// Bytes that stay free on every file system that is written to.
    pub min_free: u64,
    /// The most bytes that a run may plan to fetch.
    pub max_bytes: Option<u64>,
    /// Who knows how much room there is.
    pub disks: Arc<dyn Disks>,
}

/// Bytes as messages name them.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().si().to_string()
}

/// Too little room somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortage {
    /// A folder on that file system.
    pub(super) folder: PathBuf,
    /// Bytes that are there for it.
    pub(super) free: u64,
    /// Bytes that are needed.
    pub(super) needed: u64,
}

/// A file system that the run writes to.
struct Volume {
    folder: PathBuf,
    space: Space,
}

/// What one export has reserved. Bytes are as listed.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// The volume of its chunks.
    work: usize,
    /// The volume of its output.
    output: usize,
    /// Whether its chunks stay.
    keep_chunks: bool,
    /// Planned so far.
    planned: u64,
    /// Whether that is all.
    is_listed: bool,
    /// Of those, reserved.
    granted: u64,
    /// Of those, given to workers.
    handed: u64,
    /// Of those, on the disk.
    landed: u64,
    /// What chunks of unknown size may still bring, at most as a rule; not planned yet.
    unknown: u64,
}

impl Claim {
    /// How often the output's volume will hold the bytes.
    fn copies(&self) -> u64 {
        if self.keep_chunks && self.work != self.output { 2 } else { 1 }
    }

    /// What has to be reserved yet on a volume for everything that is planned.
    fn wanted(&self, volume: usize) -> u64 {
        let chunks = self.planned.saturating_sub(self.granted.max(self.landed));
        let merged = self.planned.saturating_sub(self.granted).saturating_mul(self.copies());
        self.on(volume, chunks, merged)
    }

    /// What is reserved on a volume and not written yet.
    fn outstanding(&self, volume: usize) -> u64 {
        let chunks = self.granted.saturating_sub(self.landed);
        self.on(volume, chunks, self.granted.saturating_mul(self.copies()))
    }

    /// What its end gives back on a volume, beside what it keeps.
    fn returned(&self, volume: usize) -> u64 {
        let stays = self.keep_chunks && self.work == self.output;
        self.on(volume, if stays { 0 } else { self.granted }, 0)
    }

    fn on(&self, volume: usize, chunks: u64, merged: u64) -> u64 {
        let of = |mine: usize, bytes: u64| if mine == volume { bytes } else { 0 };
        of(self.work, chunks).saturating_add(of(self.output, merged))
    }

    fn is_granted(&self) -> bool {
        self.granted >= self.planned
    }
}

/// The account of all open exports.
pub(super) struct Ledger {
    disks: Arc<dyn Disks>,
    min_free: u64,
    volumes: Vec<Volume>,
    claims: BTreeMap<usize, Claim>,
    /// The export that is fetched before it is listed to its end.
    early: Option<usize>,
}

impl Ledger {
    pub(super) fn new(limits: &DiskLimits) -> Self {
        Self {
            disks: Arc::clone(&limits.disks),
            min_free: limits.min_free,
            volumes: Vec::new(),
            claims: BTreeMap::new(),
            early: None,
        }
    }

    /// Takes up an export, of which `planned` bytes are known and `landed` of them on the disk.
    pub(super) fn open(
        &mut self,
        export: usize,
        (work, output): (&Path, &Path),
        keep_chunks: bool,
        (planned, landed): (u64, u64),
    ) -> Result<(), FsError> {
        let (work, output) = (self.volume(work)?, self.volume(output)?);
        let (granted, handed, unknown) = (0, 0, 0);
        let claim =
            Claim { work, output, keep_chunks, planned, is_listed: false, granted, handed, landed, unknown };
        self.claims.insert(export, claim);
        Ok(())
    }

    fn volume(&mut self, folder: &Path) -> Result<usize, FsError> {
        let space = self.disks.space(folder).map_err(failed_to("ask for the free space of", folder))?;
        if let Some(known) = self.volumes.iter().position(|volume| volume.space.device == space.device) {
            return Ok(known);
        }
        self.volumes.push(Volume { folder: folder.to_owned(), space });
        Ok(self.volumes.len() - 1)
    }

    /// Asks the disks anew.
    pub(super) fn refresh(&mut self) -> Result<(), FsError> {
        for volume in &mut self.volumes {
            let folder = &volume.folder;
            volume.space =
                self.disks.space(folder).map_err(failed_to("ask for the free space of", folder))?;
        }
        Ok(())
    }

    fn change(&mut self, export: usize, change: impl FnOnce(&mut Claim)) {
        if let Some(claim) = self.claims.get_mut(&export) {
            change(claim);
        }
    }

    /// More of an export is planned.
    pub(super) fn planned(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| claim.planned += bytes);
    }

    /// All of an export is planned.
    pub(super) fn listed(&mut self, export: usize) {
        self.change(export, |claim| claim.is_listed = true);
    }

    /// A worker gets a chunk.
    pub(super) fn hand_out(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| claim.handed += bytes);
    }

    /// A worker gives a chunk back; it will be asked for again, whole or in parts.
    pub(super) fn take_back(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| claim.handed = claim.handed.saturating_sub(bytes));
    }

    /// A worker's chunk lies on the disk.
    pub(super) fn land(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| {
            claim.handed = claim.handed.saturating_sub(bytes);
            claim.landed += bytes;
        });
    }

    /// A worker's chunk will never land.
    pub(super) fn forgo(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| {
            claim.handed = claim.handed.saturating_sub(bytes);
            claim.planned = claim.planned.saturating_sub(bytes);
            claim.granted = claim.granted.saturating_sub(bytes);
        });
    }

    /// A landed chunk is gone, and will be fetched again.
    pub(super) fn lose(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| claim.landed = claim.landed.saturating_sub(bytes));
    }

    /// Whether the export is the one that reserves as its size becomes known.
    pub(super) fn is_early(&self, export: usize) -> bool {
        self.early == Some(export)
    }

    /// Chunks of unknown size wait to be fetched, of so many bytes at most.
    pub(super) fn may_bring(&mut self, export: usize, bytes: u64) {
        self.change(export, |claim| claim.unknown += bytes);
    }

    /// Reserves for one more chunk of an export whose size is not known beforehand. Where all that is unknown fits, for any
    /// such export; else for one at a time, as for the one that is fetched while it is listed.
    ///
    /// `Ok(false)`: it is not its turn; the error is what the disk lacks.
    pub(super) fn reserve_more(&mut self, export: usize, bytes: u64) -> Result<bool, Shortage> {
        let Some(claim) = self.claims.get(&export).copied() else { return Ok(false) };
        let is_its_turn = self.early.is_none_or(|early| early == export) || self.unknown_fits();
        if !is_its_turn || !claim.is_granted() || self.low_for(export).is_some() {
            return Ok(false);
        }
        self.early.get_or_insert(export);
        let more = Claim { planned: claim.planned.saturating_add(bytes), ..claim };
        if let Some(shortage) = self.lacks(&more) {
            return Err(shortage);
        }
        self.change(export, |claim| {
            (claim.planned, claim.granted) = (more.planned, more.planned);
            claim.unknown = claim.unknown.saturating_sub(bytes);
        });
        Ok(true)
    }

    /// Whether there is room for everything whose size is not known, beside what is reserved.
    fn unknown_fits(&self) -> bool {
        (0..self.volumes.len()).all(|volume| {
            let unknown = self.claims.values().fold(0_u64, |sum, claim| {
                let merged = claim.unknown.saturating_mul(claim.copies());
                sum.saturating_add(claim.on(volume, claim.unknown, merged))
            });
            unknown <= self.room(volume)
        })
    }

    /// A chunk lies on the disk whose size was not known: it takes what it is, and gives back what was reserved.
    pub(super) fn land_as(&mut self, export: usize, expected: u64, size: u64) {
        self.forgo(export, expected);
        self.change(export, |claim| {
            claim.planned += size;
            claim.granted += size;
            claim.landed += size;
        });
    }

    /// An export is about to be merged: what that writes is counted, whether it fits or not.
    pub(super) fn commit(&mut self, export: usize) {
        self.change(export, |claim| (claim.granted, claim.is_listed) = (claim.planned, true));
    }

    /// An export has ended.
    pub(super) fn release(&mut self, export: usize) {
        self.claims.remove(&export);
        if self.early == Some(export) {
            self.early = None;
        }
    }

    /// Whether a chunk of so many bytes may be fetched now.
    pub(super) fn may_fetch(&self, export: usize, bytes: u64) -> bool {
        let Some(claim) = self.claims.get(&export) else { return false };
        let fits = claim.landed + claim.handed + bytes <= claim.granted;
        fits && self.low_for(export).is_none()
    }

    /// A file system of the export on which less than `min_free` is free.
    pub(super) fn low_for(&self, export: usize) -> Option<Shortage> {
        let claim = self.claims.get(&export)?;
        [claim.work, claim.output].into_iter().find_map(|volume| self.low(volume))
    }

    fn low(&self, volume: usize) -> Option<Shortage> {
        let Volume { folder, space } = &self.volumes[volume];
        let is_low = space.free < self.min_free;
        is_low.then(|| Shortage { folder: folder.clone(), free: space.free, needed: self.min_free })
    }

    /// Reserves for the exports, given in their order, what fits; returns the first that has to wait, with what
    /// it lacks.
    pub(super) fn grant(&mut self, order: impl Iterator<Item = usize> + Clone) -> Option<(usize, Shortage)> {
        // The early one holds something already: it comes first, or it could wait for who waits for it.
        let early = self.early.into_iter();
        let mut first: Option<(usize, Shortage)> = None;
        for export in early.chain(order) {
            let Some(claim) = self.claims.get(&export).copied() else { continue };
            if self.early == Some(export) && claim.is_listed && claim.is_granted() {
                self.early = None;
            }
            if claim.is_granted() || first.as_ref().is_some_and(|(waiting, _)| *waiting == export) {
                continue;
            }
            // Of an earlier run all that is known lies on the disk: what is still to come is reserved bit by bit.
            let all_landed = claim.unknown > 0 && claim.planned == claim.landed && self.unknown_fits();
            if !claim.is_listed && !all_landed && self.early != Some(export) {
                // Nor may one begin early before one that waits for its space.
                if self.early.is_some() || first.is_some() {
                    continue;
                }
                self.early = Some(export);
            }
            match (self.lacks(&claim), &first) {
                (None, None) => self.change(export, |claim| claim.granted = claim.planned),
                (None, Some((waiting, _))) if self.leaves_room_for(*waiting, &claim) => {
                    self.change(export, |claim| claim.granted = claim.planned);
                }
                (Some(shortage), None) => first = Some((export, shortage)),
                (_, Some(_)) => {}
            }
        }
        first
    }

    /// Bytes that are neither used nor reserved on a volume, without those that stay free.
    fn room(&self, volume: usize) -> u64 {
        let free = self.volumes[volume].space.free.saturating_sub(self.min_free);
        self.claims.values().fold(free, |free, claim| free.saturating_sub(claim.outstanding(volume)))
    }

    /// What a claim lacks now.
    fn lacks(&self, claim: &Claim) -> Option<Shortage> {
        [claim.work, claim.output].into_iter().find_map(|volume| {
            let (needed, free) = (claim.wanted(volume), self.room(volume));
            let folder = &self.volumes[volume].folder;
            (needed > free).then(|| Shortage { folder: folder.clone(), free, needed })
        })
    }

    /// Whether the export that waits will still fit when all that have their space have ended, though `claim` has
    /// got its own and keeps it.
    fn leaves_room_for(&self, waiting: usize, claim: &Claim) -> bool {
        let Some(first) = self.claims.get(&waiting).filter(|first| first.is_listed) else { return false };
        (0..self.volumes.len()).all(|volume| {
            let others = self.claims.iter().filter(|(export, _)| **export != waiting);
            let returned = others.fold(0_u64, |sum, (_, other)| sum.saturating_add(other.returned(volume)));
            let finally = self.room(volume).saturating_add(returned);
            claim.wanted(volume).saturating_add(first.wanted(volume)) <= finally
        })
    }

    /// Why an export could not be finished even on an empty disk.
    pub(super) fn never_fits(&self, export: usize) -> Option<Shortage> {
        let claim = self.claims.get(&export)?;
        let whole = Claim { granted: 0, landed: 0, ..*claim };
        [claim.work, claim.output].into_iter().find_map(|volume| {
            let Volume { folder, space } = &self.volumes[volume];
            let (needed, free) = (whole.wanted(volume), space.total.saturating_sub(self.min_free));
            (needed > free).then(|| Shortage { folder: folder.clone(), free, needed })
        })
    }
}

#[cfg(test)]
mod tests;
