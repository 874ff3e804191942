//! What the dispatcher does about room on the disks: reserves it, pauses fetching without it, and ends what cannot
//! be finished. The account itself is the [`super::disk::Ledger`]'s.

use std::time::Duration;

use super::disk::{Shortage, size};
use super::dispatcher::Dispatcher;
use super::finish::Names;
use super::stop::Stop;
use super::turn::Wake;
use super::window;
use crate::model::ChunkState;
use crate::model::event::RunEvent;
use crate::store::ChunkCounts;

/// How soon to look again whether somebody else has made room.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Dispatcher<'_> {
    /// Opens an export's account, with what earlier runs have planned and fetched of it.
    pub(super) fn claim(&mut self, index: usize, counts: &ChunkCounts) -> Result<(), Stop> {
        let export = &self.exports[index];
        let bytes = |state| counts.in_state(state).planned_bytes;
        let landed = bytes(ChunkState::Fetched);
        let names = Names::of(&export.spec.output);
        let folders = (self.request.work.as_path(), names.folder());
        let planned = bytes(ChunkState::Planned) + landed;
        self.ledger.open(index, folders, export.spec.keep_chunks, (planned, landed)).map_err(Stop::of_fs)?;
        if export.spec.chunk.is_fixed() {
            // How much comes of fixed windows is never known before the last is there.
            let waiting = counts.in_state(ChunkState::Planned).chunks;
            self.ledger.may_bring(index, waiting.saturating_mul(window::EXPECTED_BYTES));
        } else if export.is_listed() {
            self.ledger.listed(index);
        }
        Ok(())
    }

    /// Reserves room for one more fixed window of an export, if there is.
    pub(super) fn reserve_window(&mut self, index: usize, bytes: u64) -> bool {
        // Nobody is overtaken who waits for room.
        let is_behind = self.no_room.as_ref().is_some_and(|(waiting, _)| *waiting != index);
        if is_behind && !self.ledger.is_early(index) {
            return false;
        }
        match self.ledger.reserve_more(index, bytes) {
            Ok(reserved) => reserved,
            Err(shortage) => {
                self.no_room.get_or_insert((index, shortage));
                false
            }
        }
    }

    /// Reserves what fits, and gives up what never will.
    pub(super) fn reserve(&mut self) -> Result<(), Stop> {
        self.ledger.refresh().map_err(Stop::of_fs)?;
        let order: Vec<usize> = self.fetchable().collect();
        for &index in &order {
            if let Some(shortage) = self.ledger.never_fits(index) {
                self.exports[index].failed = Some(never_fits(&shortage));
            }
        }
        let order: Vec<usize> = self.fetchable().collect();
        self.no_room = self.ledger.grant(order.iter().copied());
        Ok(())
    }

    /// Why nothing is fetched though there is something to fetch.
    fn held_up(&self) -> Option<Shortage> {
        let low = self.fetchable().find_map(|index| self.ledger.low_for(index));
        let idle = || self.turns.fetching().0 == 0;
        low.or_else(|| self.no_room.as_ref().filter(|_| idle()).map(|(_, shortage)| shortage.clone()))
    }

    /// Tells of fetching that waits for room, and of room that is there again.
    pub(super) fn watch_disk(&mut self, wake: &mut Wake) {
        // With nothing under way there is nothing to wait for: the run ends, or the export.
        let under_way = !self.tasks.is_empty() || !self.merges.is_empty();
        let held_up = self.held_up().filter(|_| under_way);
        let is_told = std::mem::replace(&mut self.told_of_disk, held_up.is_some());
        match held_up {
            Some(Shortage { free, needed, .. }) => {
                if !is_told {
                    self.request.events.event(RunEvent::DiskLow { free, needed });
                }
                wake.within(LOOK_AGAIN);
            }
            None if is_told => self.request.events.event(RunEvent::DiskFreed),
            None => {}
        }
    }

    /// Nothing is under way, and something is still to be done: only a disk can be in its way.
    pub(super) fn nothing_goes_on(&mut self) -> Result<(), Stop> {
        // Nothing else is open for it to wait for. One whose disk is below `min_free` is no better off than the
        // others there: that ends the run, and the next one takes them all up.
        if let Some((index, shortage)) = self.no_room.take()
            && self.ledger.low_for(index).is_none()
        {
            self.exports[index].failed = Some(does_not_fit(&shortage));
            return Ok(());
        }
        let low = self.fetchable().find_map(|index| self.ledger.low_for(index));
        Err(match low {
            Some(Shortage { folder, free, needed }) => Stop::NoRoom { folder, free, min_free: needed },
            None => Stop::Panic("exports are open and nothing is under way".to_owned()),
        })
    }
}

fn never_fits(Shortage { folder, free, needed }: &Shortage) -> String {
    format!(
        "it needs {} on the disk of {}, for its chunks and the merged copy; that disk has {} in all without what \
         `min_free` keeps; put `work` and `output` on larger or different disks, or `split` the job",
        size(*needed),
        folder.display(),
        size(*free)
    )
}

fn does_not_fit(Shortage { folder, free, needed }: &Shortage) -> String {
    format!(
        "it needs {} more on the disk of {}, for its chunks and the merged copy; {} are free there without what \
         `min_free` keeps, and nothing else is under way that could make room; make room, put `work` and `output` \
         on different disks, or `split` the job, then run again",
        size(*needed),
        folder.display(),
        size(*free)
    )
}
