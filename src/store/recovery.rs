//! What the start of a run does about the runs before it, and what starts an export again.

use rusqlite::{Transaction, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::exports::{ExportFacts, ExportStep};
use super::outputs::delete_outputs;
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

    /// Starts a finished export from nothing, with fresh windows; what was requested for it stays on record.
    pub fn redo_export(
        &mut self,
        export: &ExportId,
        from: ExportState,
        windows: &[TimeRange],
    ) -> Result<(), StoreError> {
        const CLEAR: [&str; 5] = [
            "update attempt set chunk_id = null where export_id = :export and chunk_id is not null",
            // Children first: a chunk refers to the one it was split from.
            "update chunk set parent_id = null where export_id = :export and parent_id is not null",
            "delete from chunk where export_id = :export",
            "delete from chunk_count where export_id = :export",
            "delete from window where export_id = :export",
        ];
        const RESET: &str = "
            update export set
              windows_total = :windows, windows_planned = 0, fragments = 0, planned_bytes = 0, media_ms = 0,
              warnings = '[]', superseded = 0
            where id = :export";
        let (now, run) = (self.clock.now(), self.run);
        self.write(|transaction| {
            let step = ExportStep { id: export, from, event: ExportEvent::Redone, now, run };
            step.apply(transaction, &ExportFacts::NONE)?;
            for delete in CLEAR {
                transaction.execute(delete, named_params! { ":export": export }).during("clear an export")?;
            }
            delete_outputs(transaction, export)?;
            let values = named_params! { ":export": export, ":windows": Unsigned(windows.len() as u64) };
            transaction.execute(RESET, values).during("clear an export")?;
            insert_windows(transaction, export, windows)
        })
    }
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
