//! An export that the dispatcher has taken up: what of it is waiting, under way, settled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::finish::WindowCache;
use super::stop::Stop;
use super::window;
use crate::archive::StreamDescription;
use crate::model::{ChunkId, ExportId, ExportSpec, Fragment, TimeRange, UtcMillis};
use crate::plan;
use crate::store::{ChunkRecord, NewChunk, Store};

/// Chunks read from the state file at a time.
const QUEUE: u32 = 64;

/// Where an export stands in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its turn has not come.
    Waiting,
    /// It is being listed and fetched.
    Open,
    /// All its chunks are settled; a merge has it, or will.
    Merging,
    /// Nothing more is to be done for it in this run.
    Finished,
}

/// What came of an export's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// Nothing yet, or something of it was given.
    Usual,
    /// The service has refused of it and given nothing: one request at a time finds out whether it is all like that.
    OnlyRefusals,
}

/// An export of this run.
pub(super) struct OpenExport {
    pub(super) id: ExportId,
    pub(super) spec: ExportSpec,
    pub(super) stream: Arc<StreamDescription>,
    pub(super) phase: Phase,
    /// Windows that are neither planned nor being listed.
    pub(super) unplanned: VecDeque<(u32, TimeRange)>,
    /// Windows being listed.
    pub(super) listing: usize,
    /// Chunks being fetched.
    pub(super) fetching: usize,
    /// Whether its last window is planned and its gaps are known.
    pub(super) planned: bool,
    /// Whether the user knows that it is waiting for its last fragments.
    pub(super) told_to_settle: bool,
    /// Why it is given up in this run, once its tasks have ended.
    pub(super) failed: Option<String>,
    /// How often its merge found each chunk's file gone or altered.
    pub(super) losses: BTreeMap<ChunkId, u32>,
    /// What came of its requests so far.
    pub(super) answers: Answers,
    /// The chunk that was refused and divided last, while there are only refusals.
    divided: Option<ChunkId>,
    queue: VecDeque<ChunkRecord>,
    /// Whether the state file may have planned chunks that are not in `queue`.
    more: bool,
    windows: WindowCache,
}

impl OpenExport {
    pub(super) fn new(id: ExportId, spec: ExportSpec, stream: Arc<StreamDescription>) -> Self {
        Self {
            id,
            spec,
            stream,
            phase: Phase::Waiting,
            unplanned: VecDeque::new(),
            listing: 0,
            fetching: 0,
            planned: false,
            told_to_settle: false,
            failed: None,
            losses: BTreeMap::new(),
            answers: Answers::Usual,
            divided: None,
            queue: VecDeque::new(),
            more: true,
            windows: WindowCache::default(),
        }
    }

    /// When it may be listed: fragments of its end are still on their way before.
    pub(super) fn not_before(&self) -> UtcMillis {
        self.spec.range.end() + i64::try_from(self.spec.settle_ms).unwrap_or(i64::MAX)
    }

    /// When retention takes its first fragment.
    pub(super) fn expires(&self) -> UtcMillis {
        expires(&self.spec, &self.stream)
    }

    /// Says that the state file has chunks to fetch which were not there before.
    pub(super) fn has_more(&mut self) {
        self.more = true;
    }

    /// Asks for one chunk at a time from now on, until something is given: of the halves of the one that was `divided`, the
    /// first, else the largest there is. So refusals come from all over the export before it is given up.
    pub(super) fn probe(&mut self, divided: Option<ChunkId>) {
        self.answers = Answers::OnlyRefusals;
        self.divided = divided;
        self.queue.clear();
        self.more = true;
    }

    /// Something was given.
    pub(super) fn is_given(&mut self) {
        if self.answers == Answers::OnlyRefusals {
            self.answers = Answers::Usual;
            self.queue.clear();
            self.more = true;
        }
    }

    /// How many points the next chunk costs, and how many bytes it needs on the disk, as far as that is known.
    pub(super) fn next_size(&mut self, store: &Store) -> Result<Option<(u32, u64)>, Stop> {
        self.fill(store)?;
        Ok(self.queue.front().map(|chunk| (points(&chunk.planned), expected_bytes(&chunk.planned))))
    }

    fn fill(&mut self, store: &Store) -> Result<(), Stop> {
        if self.queue.is_empty() && self.more {
            self.queue = match self.answers {
                Answers::Usual => store.chunks_to_fetch(&self.id, QUEUE)?.into(),
                Answers::OnlyRefusals => {
                    store.chunk_to_probe(&self.id, self.divided.take())?.into_iter().collect()
                }
            };
            self.more = !self.queue.is_empty();
        }
        Ok(())
    }

    /// Drops what can be read again from the state file.
    pub(super) fn shed(&mut self) {
        self.more |= !self.queue.is_empty();
        self.queue = VecDeque::new();
        self.windows = WindowCache::default();
    }

    /// The next chunk to fetch, with its fragments.
    pub(super) fn next_chunk(&mut self, store: &Store) -> Result<Option<(ChunkRecord, Vec<Fragment>)>, Stop> {
        self.fill(store)?;
        let Some(chunk) = self.queue.pop_front() else { return Ok(None) };
        let fragments = self.windows.fragments(store, &self.id, &chunk)?;
        Ok(Some((chunk, fragments)))
    }

    /// Whether no task of it is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.listing == 0 && self.fetching == 0
    }

    /// Whether every window is planned.
    pub(super) fn is_listed(&self) -> bool {
        self.listing == 0 && self.unplanned.is_empty()
    }

    /// Whether everything is listed and no chunk waits or is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.is_quiet() && self.is_listed() && self.queue.is_empty() && !self.more
    }
}

/// How many points a chunk costs, or is taken to cost.
pub(super) fn points(chunk: &NewChunk) -> u32 {
    if chunk.is_fixed() { plan::fixed_points(chunk.bounds) } else { chunk.fragment_count }
}

/// How many bytes on the disk are reserved for a chunk while it is fetched.
pub(super) fn expected_bytes(chunk: &NewChunk) -> u64 {
    if chunk.is_fixed() { window::EXPECTED_BYTES } else { chunk.planned_bytes }
}

/// When retention takes the first fragment of an export.
pub(super) fn expires(spec: &ExportSpec, stream: &StreamDescription) -> UtcMillis {
    spec.range.start() + i64::from(stream.retention_hours) * 3_600_000
}
