//! What the start of a run does about the runs before it, and what starts an export again.

use rusqlite::{Transaction, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::exports::{ExportFacts, ExportStep, conflict, find_state};
use super::outputs::keep_as_former;
use super::values::Unsigned;
use super::windows::insert_windows;
use crate::crash_point::{Point, reached};
use crate::model::{ChunkEvent, ChunkState, ExportEvent, ExportId, ExportState, TimeRange};

/// What an earlier run left open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Runs that were killed; closed as `interrupted`.
    pub interrupted_runs: u64,
    /// Chunks that were in a worker's hands; planned again.
    pub interrupted_chunks: u64,
    /// Exports whose output was being written, oldest first; still `merging`.
    ///
    /// The caller compares the files with [`Store::outputs`] and finishes them or moves them by `Interrupted` (R3).
    pub merging: Vec<ExportId>,
}

impl Store {
    /// Brings what killed runs left back to where work can go on (R1, R2); needs the lock, before [`Store::begin_run`].
    ///
    /// Done twice it changes nothing.
    pub fn recover(&mut self) -> Result<Recovery, StoreError> {
        const CLOSE_RUNS: &str = "
            update run set ended_ms = :now, outcome = 'interrupted' where ended_ms is null";
        const MERGING: &str = "select id from export where state = 'merging' order by seq";
        let now = self.clock.now();
        self.write(|transaction| {
            let runs = transaction.execute(CLOSE_RUNS, named_params! { ":now": now });
            let interrupted_runs = runs.during("close interrupted runs")? as u64;
            reached(Point::RunsClosed);
            let interrupted_chunks = return_chunks(transaction)?;
            let mut merging = transaction.prepare(MERGING).during("find interrupted merges")?;
            let merging = merging.query_map([], |row| row.get(0)).during("find interrupted merges")?;
            let merging = merging.collect::<rusqlite::Result<_>>().during("find interrupted merges")?;
            Ok(Recovery { interrupted_runs, interrupted_chunks, merging })
        })
    }

    /// Starts a failed export again, with its failed chunks, in one transaction (R7); returns its new state.
    ///
    /// `planning` if windows are still to be planned, else `fetching`.
    pub fn reopen_failed(&mut self, export: &ExportId) -> Result<ExportState, StoreError> {
        const UNPLANNED: &str = "select windows_total > windows_planned from export where id = :export";
        const REOPEN_CHUNKS: &str = "
            update chunk set state = :to, error_code = null, error_detail = null
            where export_id = :export and state = 'failed'";
        let (now, run) = (self.clock.now(), self.run);
        let to = after(ChunkState::Failed, ChunkEvent::Reopened)?;
        self.write(|transaction| {
            let unplanned =
                transaction.query_row(UNPLANNED, named_params! { ":export": export }, |row| row.get(0));
            let unplanned: bool = match unplanned {
                Err(rusqlite::Error::QueryReturnedNoRows) => {
                    return Err(StoreError::NoExport(export.clone()));
                }
                found => found.during("read a failed export")?,
            };
            let event = if unplanned { ExportEvent::ReopenedToPlan } else { ExportEvent::Reopened };
            let step = ExportStep { id: export, from: ExportState::Failed, event, now, run };
            let state = step.apply(transaction, &ExportFacts::NONE)?;
            let values = named_params! { ":export": export, ":to": to };
            transaction.execute(REOPEN_CHUNKS, values).during("reopen failed chunks")?;
            Ok(state)
        })
    }

    /// Starts a finished export from nothing, with fresh windows (A1); what was requested for it stays on record, and
    /// what it was stays known until it is finished anew ([`Store::former`]).
    pub fn redo_export(&mut self, redo: &Redo<'_>) -> Result<(), StoreError> {
        const RESET: &str = "
            update export set
              windows_total = :windows, windows_planned = 0, fragments = 0, planned_bytes = 0, media_ms = 0,
              warnings = '[]', superseded = 0, former_amount = :amount
            where id = :export";
        let Redo { export, from, amount, windows } = *redo;
        let (now, run) = (self.clock.now(), self.run);
        self.write_durably(|transaction| {
            let step = ExportStep { id: export, from, event: ExportEvent::Redone, now, run };
            step.apply(transaction, &ExportFacts::NONE)?;
            delete_plan(transaction, export)?;
            keep_as_former(transaction, export)?;
            let values = named_params! {
                ":export": export, ":windows": Unsigned(windows.len() as u64), ":amount": Unsigned(amount),
            };
            transaction.execute(RESET, values).during("clear an export")?;
            insert_windows(transaction, export, windows)
        })
    }
}

impl Store {
    /// Plans all fetched chunks of an unfinished export again (P1): their files are about to be deleted.
    pub fn lose_fetched(&mut self, export: &ExportId) -> Result<(), StoreError> {
        const LOSE: &str = "
            update chunk set state = :to, size_bytes = null, sha256 = null
            where export_id = :export and state = 'fetched'";
        let to = after(ChunkState::Fetched, ChunkEvent::Lost)?;
        self.write(|transaction| {
            match find_state(transaction, export)? {
                Some(ExportState::Planning | ExportState::Fetching | ExportState::Failed) => {}
                _ => return Err(conflict(transaction, export, "planning, fetching or failed")),
            }
            let values = named_params! { ":export": export, ":to": to };
            transaction.execute(LOSE, values).during("give up chunks").map(drop)
        })
    }

    /// Deletes all rows of an export that is finished or superseded, in one transaction (P3).
    pub fn forget_export(&mut self, export: &ExportId) -> Result<(), StoreError> {
        const BEFORE: [&str; 3] = [
            "delete from attempt where export_id = :export",
            "delete from output where export_id = :export",
            "delete from former_output where export_id = :export",
        ];
        const FORGET: &str = "
            delete from export
            where id = :export and (superseded = 1 or state in ('done', 'partial', 'empty'))";
        self.write(|transaction| {
            for delete in BEFORE {
                transaction
                    .execute(delete, named_params! { ":export": export })
                    .during("forget an export")?;
            }
            delete_plan(transaction, export)?;
            match transaction.execute(FORGET, named_params! { ":export": export }) {
                Ok(0) => Err(conflict(transaction, export, "finished or superseded")),
                forgotten => forgotten.during("forget an export").map(drop),
            }
        })
    }
}

/// A finished export that is to be made again.
#[derive(Debug, Clone, Copy)]
pub struct Redo<'a> {
    /// The export.
    pub export: &'a ExportId,
    /// The state that it is believed to be in.
    pub from: ExportState,
    /// How much it holds now: fragments, or with fixed windows milliseconds of its videos.
    pub amount: u64,
    /// Its windows, in order of time.
    pub windows: &'a [TimeRange],
}

/// Deletes what was planned for an export: chunks, their counters, windows.
pub(super) fn delete_plan(transaction: &Transaction<'_>, export: &ExportId) -> Result<(), StoreError> {
    const CLEAR: [&str; 5] = [
        "update attempt set chunk_id = null where export_id = :export and chunk_id is not null",
        // Children first: a chunk refers to the one it was split from.
        "update chunk set parent_id = null where export_id = :export and parent_id is not null",
        "delete from chunk where export_id = :export",
        "delete from chunk_count where export_id = :export",
        "delete from window where export_id = :export",
    ];
    for delete in CLEAR {
        transaction.execute(delete, named_params! { ":export": export }).during("clear an export")?;
    }
    Ok(())
}

/// Puts every chunk in a worker's hands back.
fn return_chunks(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    const UPDATE: &str = "update chunk set state = :to where state = 'fetching'";
    let to = after(ChunkState::Fetching, ChunkEvent::Interrupted)?;
    let returned = transaction.execute(UPDATE, named_params! { ":to": to });
    Ok(returned.during("return interrupted chunks")? as u64)
}

fn after(state: ChunkState, event: ChunkEvent) -> Result<ChunkState, StoreError> {
    state.after(event).ok_or(StoreError::IllegalChunkEvent { state, event })
}
