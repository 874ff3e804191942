//! Chunks: taken, recorded, split and lost by compare-and-set; and the requests behind them.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::exports::{ExportFacts, ExportStep, conflict, find_state};
use super::values::Unsigned;
use crate::model::{
    Attempt, AttemptOutcome, ChunkEvent, ChunkId, ChunkState, ExportEvent, ExportId, ExportState,
    RequestBounds, Sha256Digest,
};

/// A chunk to be stored, part of a window's plan or of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewChunk {
    /// Index of its first fragment among its window's kept fragments; of a fixed window its place, which only orders.
    pub first_fragment: u32,
    /// How many fragments, at least 1; 0 of a fixed window, where they are not known.
    pub fragment_count: u32,
    /// What to ask for.
    pub bounds: RequestBounds,
    /// Bytes as listed; of a fixed window the size of its file, once it is fetched.
    pub planned_bytes: u64,
}

impl NewChunk {
    /// Whether its fragments are not known.
    pub const fn is_fixed(&self) -> bool {
        self.fragment_count == 0
    }
}

/// A chunk as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Its id.
    pub id: ChunkId,
    /// Its export.
    pub export: ExportId,
    /// Its window's number.
    pub window_seq: u32,
    /// Its fragments, what to ask for, and bytes as listed.
    pub planned: NewChunk,
    /// Where it stands.
    pub state: ChunkState,
    /// Size and hash of its file; there exactly when it is fetched.
    pub file: Option<(u64, Sha256Digest)>,
    /// The chunk that it was split from.
    pub parent: Option<ChunkId>,
    /// Why it was rejected, expired or failed.
    pub error: Option<ChunkError>,
    /// Requests that counted as attempts, over all runs.
    pub attempts: u32,
    /// The id of the last answer.
    pub request_id: Option<String>,
}

/// Why a chunk has no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkError {
    /// The service's or this program's word for it.
    pub code: String,
    /// In a sentence.
    pub detail: String,
}

/// A request to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The export it served.
    pub export: ExportId,
    /// The chunk it asked for; `None` for a listing.
    pub chunk: Option<ChunkId>,
    /// What happened.
    pub attempt: Attempt,
}

/// What a chunk's row says besides its state.
#[derive(Default)]
struct ChunkFacts<'a> {
    file: Option<(u64, &'a Sha256Digest)>,
    error: Option<&'a ChunkError>,
}

impl ChunkRecord {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let size: Option<Unsigned> = row.get("size_bytes")?;
        let code: Option<String> = row.get("error_code")?;
        let detail: Option<String> = row.get("error_detail")?;
        Ok(Self {
            id: row.get("id")?,
            export: row.get("export_id")?,
            window_seq: row.get("window_seq")?,
            planned: NewChunk {
                first_fragment: row.get("first_fragment")?,
                fragment_count: row.get("fragment_count")?,
                bounds: RequestBounds {
                    start: row.get("request_start_ms")?,
                    end: row.get("request_end_ms")?,
                },
                planned_bytes: row.get::<_, Unsigned>("planned_bytes")?.0,
            },
            state: row.get("state")?,
            file: size.map(|size| size.0).zip(row.get("sha256")?),
            parent: row.get("parent_id")?,
            error: code.map(|code| ChunkError { code, detail: detail.unwrap_or_default() }),
            attempts: row.get("attempts")?,
            request_id: row.get("request_id")?,
        })
    }
}

impl Store {
    /// The chunk of that id.
    pub fn chunk(&self, id: ChunkId) -> Result<ChunkRecord, StoreError> {
        const SELECT: &str = "select * from chunk where id = :id";
        let chunks = self.select_chunks(SELECT, named_params! { ":id": id })?;
        chunks.into_iter().next().ok_or(StoreError::NoChunk(id))
    }

    /// Up to `limit` chunks of an export that wait to be fetched, in the order of the output.
    pub fn chunks_to_fetch(&self, export: &ExportId, limit: u32) -> Result<Vec<ChunkRecord>, StoreError> {
        const SELECT: &str = "
            select * from chunk where export_id = :export and state = 'planned'
            order by window_seq, first_fragment limit :limit";
        Ok(self.select_chunks(SELECT, named_params! { ":export": export, ":limit": limit })?.into())
    }

    /// A chunk of an export that waits to be fetched: the first half of `divided`, or the largest there is.
    pub fn chunk_to_probe(
        &self,
        export: &ExportId,
        divided: Option<ChunkId>,
    ) -> Result<Option<ChunkRecord>, StoreError> {
        const HALF: &str = "
            select * from chunk where parent_id = :divided and export_id = :export and state = 'planned'
            order by first_fragment limit 1";
        // Of fixed windows only the length is known.
        const LARGEST: &str = "
            select * from chunk where export_id = :export and state = 'planned'
            order by case fragment_count when 0 then request_end_ms - request_start_ms else fragment_count end desc,
                window_seq, first_fragment limit 1";
        if let Some(divided) = divided {
            let halves =
                self.select_chunks(HALF, named_params! { ":export": export, ":divided": divided })?;
            if let Some(half) = halves.into_iter().next() {
                return Ok(Some(half));
            }
        }
        Ok(self.select_chunks(LARGEST, named_params! { ":export": export })?.into_iter().next())
    }

    /// An export's chunks that were not split, in the order of the output, read a page at a time.
    pub fn leaf_chunks<'a>(&'a self, export: &'a ExportId) -> LeafChunks<'a> {
        LeafChunks { store: self, export, after: (-1, -1), page: VecDeque::new(), finished: false }
    }

    /// The chunks of an export that have a file, with its size, in the order of the output, a page at a time.
    pub fn fetched_files<'a>(&'a self, export: &'a ExportId) -> FetchedFiles<'a> {
        FetchedFiles { store: self, export, after: (-1, -1), page: VecDeque::new(), finished: false }
    }

    fn select_chunks(
        &self,
        query: &str,
        values: &[(&str, &dyn ToSql)],
    ) -> Result<VecDeque<ChunkRecord>, StoreError> {
        let mut select = self.connection.prepare_cached(query).during("read chunks")?;
        let rows = select.query_map(values, ChunkRecord::from_row).during("read chunks")?;
        rows.collect::<rusqlite::Result<_>>().during("read chunks")
    }

    /// Moves a chunk, believed to be in `from`, by an event that carries nothing else; returns its new state.
    ///
    /// For `Fetched`, `Refused`, `Expired`, `GaveUp`, `Split` and `Lost` there are functions of their own.
    pub fn move_chunk(
        &mut self,
        id: ChunkId,
        from: ChunkState,
        event: ChunkEvent,
    ) -> Result<ChunkState, StoreError> {
        use ChunkEvent as E;
        from.after(event).ok_or(StoreError::IllegalChunkEvent { state: from, event })?;
        match event {
            E::Started | E::FoundEmpty | E::Interrupted | E::Reopened => {
                self.write(|transaction| move_chunk(transaction, id, from, event, &ChunkFacts::default()))
            }
            E::Fetched | E::Refused | E::Expired | E::GaveUp | E::Split | E::Lost => {
                Err(StoreError::NeedsFacts { event })
            }
        }
    }

    /// Records that a chunk's file stands whole and synced under its final name (I1, I2; fetching → fetched).
    ///
    /// Of a fixed window the bytes were not known before: they are added to what is planned.
    pub fn record_fetched(
        &mut self,
        id: ChunkId,
        size: u64,
        sha256: &Sha256Digest,
    ) -> Result<(), StoreError> {
        let facts = ChunkFacts { file: Some((size, sha256)), error: None };
        self.write(|transaction| {
            move_chunk(transaction, id, ChunkState::Fetching, ChunkEvent::Fetched, &facts)?;
            learn_size(transaction, id, size)
        })
    }

    /// Records that a chunk will have no file, by `Refused`, `Expired` or `GaveUp` (fetching → its state).
    pub fn record_failure(
        &mut self,
        id: ChunkId,
        event: ChunkEvent,
        error: &ChunkError,
    ) -> Result<ChunkState, StoreError> {
        if !matches!(event, ChunkEvent::Refused | ChunkEvent::Expired | ChunkEvent::GaveUp) {
            return Err(StoreError::IllegalChunkEvent { state: ChunkState::Fetching, event });
        }
        let facts = ChunkFacts { file: None, error: Some(error) };
        self.write(|transaction| move_chunk(transaction, id, ChunkState::Fetching, event, &facts))
    }

    /// Replaces a chunk in hand by `children`, which cover its fragments exactly (fetching → split).
    ///
    /// One transaction, before any child is requested (I7); returns the children's ids in their order.
    pub fn split_chunk(&mut self, id: ChunkId, children: &[NewChunk]) -> Result<Vec<ChunkId>, StoreError> {
        let parent = self.chunk(id)?;
        let first = parent.planned.first_fragment;
        let end = first + parent.planned.fragment_count;
        if children.len() < 2 {
            return Err(StoreError::DoesNotTile { count: children.len(), first, end, at: first });
        }
        if parent.planned.is_fixed() {
            refuse_bad_tiling_in_time(children, parent.planned.bounds)?;
        } else {
            refuse_bad_tiling(children, first, end)?;
        }
        self.write(|transaction| {
            move_chunk(transaction, id, ChunkState::Fetching, ChunkEvent::Split, &ChunkFacts::default())?;
            let children = children.iter();
            children
                .map(|child| insert_chunk(transaction, &parent.export, parent.window_seq, Some(id), child))
                .collect()
        })
    }

    /// Records that a fetched chunk's file is gone or altered (fetched → planned, its export merging → fetching).
    pub fn lose_chunk(&mut self, id: ChunkId) -> Result<(), StoreError> {
        let export = self.chunk(id)?.export;
        let (now, run) = (self.clock.now(), self.run);
        self.write(|transaction| {
            move_chunk(transaction, id, ChunkState::Fetched, ChunkEvent::Lost, &ChunkFacts::default())?;
            learn_size(transaction, id, 0)?;
            match find_state(transaction, &export)? {
                Some(ExportState::Merging) => {
                    let (from, event) = (ExportState::Merging, ExportEvent::Interrupted);
                    let step = ExportStep { id: &export, from, event, now, run };
                    step.apply(transaction, &ExportFacts::NONE).map(|_| ())
                }
                Some(state) if state.is_final() => Err(conflict(transaction, &export, "unfinished")),
                _ => Ok(()),
            }
        })
    }

    /// Adds requests to the audit trail, and to their chunks' counts where they count as attempts.
    pub fn record_attempts(&mut self, attempts: &[AttemptRecord]) -> Result<(), StoreError> {
        const INSERT: &str = "
            insert into attempt (run_id, export_id, chunk_id, api, started_ms, duration_ms, outcome, request_id,
                                 error, bytes)
            values (:run, :export, :chunk, :api, :started, :duration, :outcome, :request_id, :error, :bytes)";
        const COUNT: &str = "
            update chunk set attempts = attempts + :counts, request_id = coalesce(:request_id, request_id)
            where id = :chunk";
        let run = self.run.ok_or(StoreError::NoRun)?;
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(INSERT).during("record requests")?;
            let mut count = transaction.prepare_cached(COUNT).during("record requests")?;
            for AttemptRecord { export, chunk, attempt } in attempts {
                let values = named_params! {
                    ":run": run,
                    ":export": export,
                    ":chunk": chunk,
                    ":api": attempt.api,
                    ":started": attempt.started,
                    ":duration": Unsigned(attempt.duration_ms),
                    ":outcome": attempt.outcome,
                    ":request_id": attempt.request_id,
                    ":error": attempt.error,
                    ":bytes": Unsigned(attempt.bytes),
                };
                insert.execute(values).during("record requests")?;
                // A listing or an endpoint that was asked for on its behalf is not an attempt at the chunk.
                if chunk.is_some() && attempt.api == "GetClip" {
                    let counts =
                        !matches!(attempt.outcome, AttemptOutcome::Throttled | AttemptOutcome::Cancelled);
                    let values = named_params! {
                        ":chunk": chunk, ":counts": counts, ":request_id": attempt.request_id,
                    };
                    count.execute(values).during("record requests")?;
                }
            }
            Ok(())
        })
    }

    /// The requests that were made for a chunk, in their order.
    pub fn attempts(&self, chunk: ChunkId) -> Result<Vec<Attempt>, StoreError> {
        const SELECT: &str = "select * from attempt where chunk_id = :chunk order by id";
        let read = |row: &Row<'_>| {
            Ok(Attempt {
                api: row.get("api")?,
                started: row.get("started_ms")?,
                duration_ms: row.get::<_, Unsigned>("duration_ms")?.0,
                outcome: row.get("outcome")?,
                request_id: row.get("request_id")?,
                error: row.get("error")?,
                bytes: row.get::<_, Unsigned>("bytes")?.0,
            })
        };
        let mut select = self.connection.prepare_cached(SELECT).during("read requests")?;
        let rows = select.query_map(named_params! { ":chunk": chunk }, read).during("read requests")?;
        rows.collect::<rusqlite::Result<_>>().during("read requests")
    }
}

/// An export's chunks in order, a page in memory at a time.
///
/// Chunks that change meanwhile are seen as they are when their page is read.
#[derive(Debug)]
pub struct LeafChunks<'a> {
    store: &'a Store,
    export: &'a ExportId,
    after: (i64, i64),
    page: VecDeque<ChunkRecord>,
    finished: bool,
}

impl Iterator for LeafChunks<'_> {
    type Item = Result<ChunkRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        const PAGE: u32 = 512;
        const SELECT: &str = "
            select * from chunk
            where export_id = :export and (window_seq, first_fragment) > (:window, :fragment) and state <> 'split'
            order by window_seq, first_fragment limit :limit";
        if self.page.is_empty() && !self.finished {
            let values = named_params! {
                ":export": self.export, ":window": self.after.0, ":fragment": self.after.1, ":limit": PAGE,
            };
            match self.store.select_chunks(SELECT, values) {
                Ok(page) => self.page = page,
                Err(error) => {
                    self.finished = true;
                    return Some(Err(error));
                }
            }
            self.finished = self.page.is_empty();
        }
        let chunk = self.page.pop_front()?;
        self.after = (chunk.window_seq.into(), chunk.planned.first_fragment.into());
        Some(Ok(chunk))
    }
}

/// An export's chunks with files, a page in memory at a time.
#[derive(Debug)]
pub struct FetchedFiles<'a> {
    store: &'a Store,
    export: &'a ExportId,
    after: (i64, i64),
    page: VecDeque<(ChunkId, u64)>,
    finished: bool,
}

impl FetchedFiles<'_> {
    /// Reads the next page; one that is not full is the last.
    fn read(&mut self) -> Result<(), StoreError> {
        const PAGE: usize = 4_096;
        const SELECT: &str = "
            select id, size_bytes, window_seq, first_fragment from chunk
            where export_id = :export and (window_seq, first_fragment) > (:window, :fragment) and state = 'fetched'
            order by window_seq, first_fragment limit :limit";
        // Where the counters know of none, a million planned chunks need not be passed over.
        if self.store.chunk_counts(self.export)?.in_state(ChunkState::Fetched).chunks == 0 {
            self.finished = true;
            return Ok(());
        }
        let values = named_params! {
            ":export": self.export, ":window": self.after.0, ":fragment": self.after.1,
            ":limit": Unsigned(PAGE as u64),
        };
        let mut select = self.store.connection.prepare_cached(SELECT).during("read fetched chunks")?;
        let mut rows = select.query(values).during("read fetched chunks")?;
        while let Some(row) = rows.next().during("read fetched chunks")? {
            let file = || Ok((row.get(0)?, row.get::<_, Unsigned>(1)?.0));
            self.page.push_back(file().during("read fetched chunks")?);
            let place = || Ok((row.get(2)?, row.get(3)?));
            self.after = place().during("read fetched chunks")?;
        }
        self.finished = self.page.len() < PAGE;
        Ok(())
    }
}

impl Iterator for FetchedFiles<'_> {
    type Item = Result<(ChunkId, u64), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && !self.finished
            && let Err(error) = self.read()
        {
            self.finished = true;
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}

/// The only place that changes a single chunk's state.
fn move_chunk(
    transaction: &Transaction<'_>,
    id: ChunkId,
    from: ChunkState,
    event: ChunkEvent,
    facts: &ChunkFacts<'_>,
) -> Result<ChunkState, StoreError> {
    const UPDATE: &str = "
        update chunk set
          state = :to, size_bytes = :size, sha256 = :sha256, error_code = :code, error_detail = :detail
        where id = :id and state = :from";
    let to = from.after(event).ok_or(StoreError::IllegalChunkEvent { state: from, event })?;
    let values = named_params! {
        ":id": id,
        ":from": from,
        ":to": to,
        ":size": facts.file.map(|(size, _)| Unsigned(size)),
        ":sha256": facts.file.map(|(_, sha256)| sha256),
        ":code": facts.error.map(|error| &error.code),
        ":detail": facts.error.map(|error| &error.detail),
    };
    let mut update = transaction.prepare_cached(UPDATE).during("change a chunk's state")?;
    match update.execute(values).during("change a chunk's state")? {
        1 => Ok(to),
        _ => Err(match find_chunk_state(transaction, id)? {
            None => StoreError::NoChunk(id),
            Some(found) => StoreError::Conflict {
                row: format!("chunk {id}"),
                expected: from.as_str(),
                found: found.as_str().into(),
            },
        }),
    }
}

/// Sets the planned bytes of a fixed window, and its export's with them; those of other chunks were listed.
fn learn_size(transaction: &Transaction<'_>, id: ChunkId, size: u64) -> Result<(), StoreError> {
    const UPDATE_EXPORT: &str = "
        update export set planned_bytes = export.planned_bytes + :size - chunk.planned_bytes
        from chunk where chunk.id = :id and chunk.fragment_count = 0 and export.id = chunk.export_id";
    const UPDATE_CHUNK: &str = "update chunk set planned_bytes = :size where id = :id and fragment_count = 0";
    for statement in [UPDATE_EXPORT, UPDATE_CHUNK] {
        let mut update = transaction.prepare_cached(statement).during("note the size of a window")?;
        let values = named_params! { ":id": id, ":size": Unsigned(size) };
        update.execute(values).during("note the size of a window")?;
    }
    Ok(())
}

fn find_chunk_state(connection: &Connection, id: ChunkId) -> Result<Option<ChunkState>, StoreError> {
    const SELECT: &str = "select state from chunk where id = :id";
    let state = connection.query_row(SELECT, named_params! { ":id": id }, |row| row.get(0));
    state.optional().during("read a chunk's state")
}

/// Stores a chunk to be fetched.
pub(super) fn insert_chunk(
    transaction: &Transaction<'_>,
    export: &ExportId,
    window_seq: u32,
    parent: Option<ChunkId>,
    chunk: &NewChunk,
) -> Result<ChunkId, StoreError> {
    const INSERT: &str = "
        insert into chunk (export_id, window_seq, first_fragment, fragment_count, request_start_ms, request_end_ms,
                           planned_bytes, state, parent_id)
        values (:export, :window, :first, :count, :start, :end, :bytes, :state, :parent)";
    let values = named_params! {
        ":export": export,
        ":window": window_seq,
        ":first": chunk.first_fragment,
        ":count": chunk.fragment_count,
        ":start": chunk.bounds.start,
        ":end": chunk.bounds.end,
        ":bytes": Unsigned(chunk.planned_bytes),
        ":state": ChunkState::Planned,
        ":parent": parent,
    };
    let mut insert = transaction.prepare_cached(INSERT).during("store a chunk")?;
    insert.execute(values).during("store a chunk")?;
    Ok(ChunkId(transaction.last_insert_rowid()))
}

/// Refuses chunks that do not cover the fragments `first..end` exactly once and in order.
pub(super) fn refuse_bad_tiling(chunks: &[NewChunk], first: u32, end: u32) -> Result<(), StoreError> {
    let mut at = first;
    for chunk in chunks {
        let next = chunk.first_fragment.checked_add(chunk.fragment_count);
        match next {
            Some(next) if chunk.first_fragment == at && next > at && next <= end => at = next,
            _ => return Err(StoreError::DoesNotTile { count: chunks.len(), first, end, at }),
        }
    }
    if at == end { Ok(()) } else { Err(StoreError::DoesNotTile { count: chunks.len(), first, end, at }) }
}

/// Refuses fixed windows that do not cover the time between inclusive bounds exactly once, with places in that order.
pub(super) fn refuse_bad_tiling_in_time(chunks: &[NewChunk], whole: RequestBounds) -> Result<(), StoreError> {
    let (mut at, mut place) = (whole.start, None);
    for chunk in chunks {
        let is_next = chunk.is_fixed() && chunk.bounds.start == at && place < Some(chunk.first_fragment);
        if !is_next || chunk.bounds.end < at {
            break;
        }
        (at, place) = (chunk.bounds.end + 1, Some(chunk.first_fragment));
    }
    if at == whole.end + 1 && chunks.last().is_some_and(|last| last.bounds.end == whole.end) {
        return Ok(());
    }
    Err(StoreError::DoesNotTileTime { count: chunks.len(), start: whole.start, end: whole.end, at })
}
