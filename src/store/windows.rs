//! Windows: an hour of listing each, planned once and never changed after.

use rusqlite::{OptionalExtension, Row, Transaction, named_params};

use super::Store;
use super::chunks::{NewChunk, insert_chunk, refuse_bad_tiling, refuse_bad_tiling_in_time};
use super::codec::{self, CodecError, Dropped};
use super::error::{During, StoreError};
use super::exports;
use super::values::Unsigned;
use crate::model::{ChunkId, ExportId, ExportState, Fragment, RequestBounds, TimeRange, UtcMillis};

/// A window's row, without its fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRecord {
    /// Its place in time, from 0.
    pub seq: u32,
    /// Its range.
    pub range: TimeRange,
    /// When it was listed; `None` while it is not planned.
    pub listed_at: Option<UtcMillis>,
    /// Fragments to fetch.
    pub fragments: u64,
    /// Fragments that were listed but left out.
    pub dropped: u64,
    /// Chunks as planned, before any split.
    pub chunks: u64,
    /// Bytes to fetch, as listed.
    pub planned_bytes: u64,
    /// Milliseconds of media.
    pub media_ms: u64,
}

/// A planned window: what was listed in it and the chunks that fetch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPlan {
    /// When it was listed.
    pub listed_at: UtcMillis,
    /// The fragments to fetch, in the order of the output.
    pub fragments: Vec<Fragment>,
    /// The fragments that were left out, each with the rule that says why.
    pub dropped: Vec<Dropped>,
    /// The chunks, which cover `fragments` exactly once and in order; fixed windows cover the window's time.
    pub chunks: Vec<NewChunk>,
    /// Milliseconds of media in `fragments`.
    pub media_ms: u64,
}

impl Store {
    /// The windows of an export, in order.
    pub fn windows(&self, export: &ExportId) -> Result<Vec<WindowRecord>, StoreError> {
        const SELECT: &str = "
            select seq, start_ms, end_ms, listed_at_ms, fragment_count, dropped_count, chunk_count, planned_bytes,
                   media_ms
            from window where export_id = :export order by seq";
        let read = |row: &Row<'_>| {
            let unsigned = |column| row.get::<_, Unsigned>(column).map(|value| value.0);
            let range = TimeRange::new(row.get("start_ms")?, row.get("end_ms")?);
            Ok(WindowRecord {
                seq: row.get("seq")?,
                range: range.ok_or(rusqlite::Error::IntegralValueOutOfRange(1, row.get("start_ms")?))?,
                listed_at: row.get("listed_at_ms")?,
                fragments: unsigned("fragment_count")?,
                dropped: unsigned("dropped_count")?,
                chunks: unsigned("chunk_count")?,
                planned_bytes: unsigned("planned_bytes")?,
                media_ms: unsigned("media_ms")?,
            })
        };
        let mut select = self.connection.prepare_cached(SELECT).during("read windows")?;
        let rows = select.query_map(named_params! { ":export": export }, read).during("read windows")?;
        rows.collect::<rusqlite::Result<_>>().during("read windows")
    }

    /// Stores a window's plan and chunks in one transaction (I6); returns the chunks' ids in their order.
    ///
    /// The export must be in `planning`. A window is planned once: a second plan is an error.
    pub fn store_window_plan(
        &mut self,
        export: &ExportId,
        seq: u32,
        plan: &WindowPlan,
    ) -> Result<Vec<ChunkId>, StoreError> {
        let fragments = u32::try_from(plan.fragments.len()).unwrap_or(u32::MAX);
        if plan.fragments.is_empty() && plan.chunks.iter().any(NewChunk::is_fixed) {
            let range = self.window_range(export, seq)?;
            let whole = RequestBounds { start: range.start(), end: range.end() - 1 };
            refuse_bad_tiling_in_time(&plan.chunks, whole)?;
        } else {
            refuse_bad_tiling(&plan.chunks, 0, fragments)?;
        }
        let blob = codec::encode(&plan.fragments, &plan.dropped).map_err(|source| StoreError::Fragments {
            export: export.clone(),
            window: seq,
            source: CodecError::Damaged(source),
        })?;
        self.write(|transaction| {
            if exports::find_state(transaction, export)? != Some(ExportState::Planning) {
                return Err(exports::conflict(transaction, export, ExportState::Planning.as_str()));
            }
            record_plan(transaction, export, seq, plan, &blob)?;
            let chunks = plan.chunks.iter();
            chunks.map(|chunk| insert_chunk(transaction, export, seq, None, chunk)).collect()
        })
    }

    fn window_range(&self, export: &ExportId, seq: u32) -> Result<TimeRange, StoreError> {
        const SELECT: &str = "select start_ms, end_ms from window where export_id = :export and seq = :seq";
        let mut select = self.connection.prepare_cached(SELECT).during("read a window's range")?;
        let range = select
            .query_row(named_params! { ":export": export, ":seq": seq }, |row| {
                Ok(TimeRange::new(row.get(0)?, row.get(1)?))
            })
            .optional()
            .during("read a window's range")?;
        range.flatten().ok_or(StoreError::NoWindow { export: export.clone(), window: seq })
    }

    /// A planned window's fragments: those to fetch, and those left out with the rule that says why.
    pub fn window_fragments(
        &self,
        export: &ExportId,
        seq: u32,
    ) -> Result<(Vec<Fragment>, Vec<Dropped>), StoreError> {
        const SELECT: &str = "select fragments from window where export_id = :export and seq = :seq";
        let mut select = self.connection.prepare_cached(SELECT).during("read a window's fragments")?;
        let blob: Option<Option<Vec<u8>>> = select
            .query_row(named_params! { ":export": export, ":seq": seq }, |row| row.get(0))
            .optional()
            .during("read a window's fragments")?;
        let blob = blob.flatten().ok_or(StoreError::NoWindow { export: export.clone(), window: seq })?;
        codec::decode(&blob).map_err(|source| StoreError::Fragments {
            export: export.clone(),
            window: seq,
            source,
        })
    }
}

fn record_plan(
    transaction: &Transaction<'_>,
    export: &ExportId,
    seq: u32,
    plan: &WindowPlan,
    blob: &[u8],
) -> Result<(), StoreError> {
    const UPDATE_WINDOW: &str = "
        update window set
          listed_at_ms = :listed_at, fragment_count = :fragments, dropped_count = :dropped, chunk_count = :chunks,
          planned_bytes = :bytes, media_ms = :media_ms, fragments = :blob
        where export_id = :export and seq = :seq and listed_at_ms is null";
    const UPDATE_EXPORT: &str = "
        update export set
          windows_planned = windows_planned + 1, fragments = fragments + :fragments,
          planned_bytes = planned_bytes + :bytes, media_ms = media_ms + :media_ms
        where id = :export";
    const EXISTS: &str = "select 1 from window where export_id = :export and seq = :seq";
    let fragments = Unsigned(plan.fragments.len() as u64);
    let bytes = Unsigned(plan.chunks.iter().map(|chunk| chunk.planned_bytes).sum());
    let media_ms = Unsigned(plan.media_ms);
    let values = named_params! {
        ":export": export,
        ":seq": seq,
        ":listed_at": plan.listed_at,
        ":fragments": fragments,
        ":dropped": Unsigned(plan.dropped.len() as u64),
        ":chunks": Unsigned(plan.chunks.len() as u64),
        ":bytes": bytes,
        ":media_ms": media_ms,
        ":blob": blob,
    };
    let mut update = transaction.prepare_cached(UPDATE_WINDOW).during("store a window's plan")?;
    if update.execute(values).during("store a window's plan")? == 0 {
        let mut exists = transaction.prepare_cached(EXISTS).during("find a window")?;
        let planned =
            exists.exists(named_params! { ":export": export, ":seq": seq }).during("find a window")?;
        let (export, window) = (export.clone(), seq);
        return Err(if planned {
            StoreError::AlreadyPlanned { export, window }
        } else {
            StoreError::NoWindow { export, window }
        });
    }
    let values = named_params! {
        ":export": export, ":fragments": fragments, ":bytes": bytes, ":media_ms": media_ms,
    };
    let mut update = transaction.prepare_cached(UPDATE_EXPORT).during("add a window to its export")?;
    update.execute(values).during("add a window to its export")?;
    Ok(())
}

/// Stores the windows of a new export, not planned yet.
pub(super) fn insert_windows(
    transaction: &Transaction<'_>,
    export: &ExportId,
    windows: &[TimeRange],
) -> Result<(), StoreError> {
    const INSERT: &str = "
        insert into window (export_id, seq, start_ms, end_ms) values (:export, :seq, :start, :end)";
    let mut insert = transaction.prepare_cached(INSERT).during("store windows")?;
    for (seq, range) in (0_u32..).zip(windows) {
        let values = named_params! {
            ":export": export, ":seq": seq, ":start": range.start(), ":end": range.end(),
        };
        insert.execute(values).during("store windows")?;
    }
    Ok(())
}
