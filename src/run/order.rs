//! Tells the merge an export's chunks in the order of the output.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::Facts;
use super::fetch::chunk_path;
use super::finish::WindowCache;
use crate::merge::{MergeChunk, Selected};
use crate::model::{ExportId, Fragment, RequestBounds, Sha256Digest, TimeRange, TimestampKind, UtcMillis};
use crate::plan::{ChunkSpan, IngestionOrder, MediaClock, MergeOrder, follows};
use crate::store::{ChunkRecord, Store, StoreError};

/// Fetched chunks with their fragments, in the order of the output, one at a time.
///
/// A chunk that holds fragments of several sessions is told once for each of them.
pub(super) struct OutputOrder<'a> {
    store: &'a Store,
    export: &'a ExportId,
    work: &'a Path,
    clock: MediaClock,
    leaves: Option<crate::store::LeafChunks<'a>>,
    /// Chunks without a file have a place too: they are part of their sessions.
    order: Order,
    /// The last pieces so far, as long as they are told together.
    stretch: Option<Stretch>,
    ready: VecDeque<Stretch>,
    /// A chunk whose fragments are not known.
    fixed: Option<MergeChunk>,
    windows: WindowCache,
}

/// What orders an output: the clock that selects.
enum Order {
    Server(IngestionOrder<Piece>),
    Producer(MergeOrder<Stretch>),
}

/// A fragment in its chunk.
struct Piece {
    of: Arc<LeafChunk>,
    selected: Selected,
}

/// Fragments of one session in one chunk.
struct Stretch {
    of: Arc<LeafChunk>,
    selection: Vec<Selected>,
}

struct LeafChunk {
    path: PathBuf,
    /// `None` without a file.
    sha256: Option<Sha256Digest>,
    fragments: Vec<Fragment>,
}

impl Piece {
    fn fragment(&self) -> (&Fragment, UtcMillis) {
        (&self.of.fragments[self.selected.index], self.selected.start)
    }
}

impl Stretch {
    /// Whether a piece is of the same chunk and, where sessions are still to be put in order, of the same session.
    fn is_followed_by(&self, piece: &Piece, is_ordered: bool) -> bool {
        let goes_on =
            |last: &Selected| follows((&self.of.fragments[last.index], last.start), piece.fragment());
        Arc::ptr_eq(&self.of, &piece.of) && (is_ordered || self.selection.last().is_none_or(goes_on))
    }

    fn span(&self) -> Option<ChunkSpan> {
        let place = |selected: &Selected| (&self.of.fragments[selected.index], selected.start);
        Some(ChunkSpan::of(place(self.selection.first()?), place(self.selection.last()?)))
    }
}

impl<'a> OutputOrder<'a> {
    pub(super) fn new(
        store: &'a Store,
        export: &'a ExportId,
        work: &'a Path,
        selector: TimestampKind,
        facts: &Facts,
    ) -> Self {
        Self {
            store,
            export,
            work,
            clock: facts.clock(),
            leaves: Some(store.leaf_chunks(export)),
            order: match selector {
                TimestampKind::Server => Order::Server(IngestionOrder::new(facts.tolerance_ms)),
                TimestampKind::Producer => Order::Producer(MergeOrder::new(facts.tolerance_ms)),
            },
            stretch: None,
            ready: VecDeque::new(),
            fixed: None,
            windows: WindowCache::default(),
        }
    }

    fn take(&mut self, chunk: &ChunkRecord) -> Result<(), StoreError> {
        let path = chunk_path(self.work, self.export, chunk.id);
        let sha256 = chunk.file.map(|(_, sha256)| sha256);
        if chunk.planned.is_fixed() {
            // Nothing is known that could put windows in another order than that of their time.
            let RequestBounds { start, end } = chunk.planned.bounds;
            self.fixed = sha256.zip(TimeRange::new(start, end + 1)).map(|(sha256, window)| {
                let (fragments, selection) = (Vec::new(), Vec::new());
                MergeChunk { path, sha256, fragments, selection, window: Some(window) }
            });
            return Ok(());
        }
        let fragments = self.windows.fragments(self.store, self.export, chunk)?;
        let leaf = Arc::new(LeafChunk { path, sha256, fragments });
        for (index, fragment) in leaf.fragments.iter().enumerate() {
            let selected = Selected { index, start: self.clock.start(fragment) };
            let piece = Piece { of: Arc::clone(&leaf), selected };
            let ready = match &mut self.order {
                Order::Server(order) => order.push(fragment, piece),
                Order::Producer(_) => vec![piece],
            };
            for piece in ready {
                self.add(piece);
            }
        }
        Ok(())
    }

    fn add(&mut self, piece: Piece) {
        let is_ordered = matches!(self.order, Order::Server(_));
        match &mut self.stretch {
            Some(stretch) if stretch.is_followed_by(&piece, is_ordered) => {
                stretch.selection.push(piece.selected);
            }
            _ => {
                self.end_stretch();
                self.stretch = Some(Stretch { of: piece.of, selection: vec![piece.selected] });
            }
        }
    }

    fn end_stretch(&mut self) {
        let Some(stretch) = self.stretch.take() else { return };
        match (&mut self.order, stretch.span()) {
            (Order::Producer(order), Some(span)) => self.ready.extend(order.push(span, stretch)),
            _ => self.ready.push_back(stretch),
        }
    }

    fn finish(&mut self) {
        let rest = match &mut self.order {
            Order::Server(order) => order.finish(),
            Order::Producer(_) => Vec::new(),
        };
        for piece in rest {
            self.add(piece);
        }
        self.end_stretch();
        if let Order::Producer(order) = &mut self.order {
            self.ready.extend(order.finish());
        }
    }

    /// The next stretch that has a file, and with it those that follow it from the same one.
    fn pop(&mut self) -> Option<MergeChunk> {
        while let Some(Stretch { of, mut selection }) = self.ready.pop_front() {
            let Some(sha256) = of.sha256 else { continue };
            while let Some(next) = self.ready.pop_front_if(|next| Arc::ptr_eq(&next.of, &of)) {
                selection.extend(next.selection);
            }
            let (path, fragments) = (of.path.clone(), of.fragments.clone());
            return Some(MergeChunk { path, sha256, fragments, selection, window: None });
        }
        None
    }
}

impl Iterator for OutputOrder<'_> {
    type Item = Result<MergeChunk, Box<dyn std::error::Error + Send + Sync>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(chunk) = self.fixed.take().or_else(|| self.pop()) {
                return Some(Ok(chunk));
            }
            match self.leaves.as_mut()?.next() {
                Some(Ok(chunk)) => {
                    if let Err(error) = self.take(&chunk) {
                        return Some(Err(error.into()));
                    }
                }
                Some(Err(error)) => return Some(Err(error.into())),
                None => {
                    self.leaves = None;
                    self.finish();
                }
            }
        }
    }
}
