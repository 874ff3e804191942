//! Tells the merge an export's chunks in the order of the output.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::Facts;
use super::fetch::chunk_path;
use super::finish::WindowCache;
use crate::merge::{MergeChunk, Selected};
use crate::model::{ExportId, Fragment, Sha256Digest, TimestampKind, UtcMillis};
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
    ingested: IngestionOrder<Piece>,
    /// The last pieces so far, as long as they follow each other in one chunk.
    stretch: Option<Stretch>,
    /// Chunks without a file have a place too: they are part of their sessions.
    order: MergeOrder<Stretch>,
    ready: VecDeque<Stretch>,
    windows: WindowCache,
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
    fn is_followed_by(&self, piece: &Piece) -> bool {
        Arc::ptr_eq(&self.of, &piece.of)
            && self
                .selection
                .last()
                .is_none_or(|last| follows((&self.of.fragments[last.index], last.start), piece.fragment()))
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
            ingested: IngestionOrder::new(selector),
            stretch: None,
            order: MergeOrder::new(facts.tolerance_ms),
            ready: VecDeque::new(),
            windows: WindowCache::default(),
        }
    }

    fn take(&mut self, chunk: &ChunkRecord) -> Result<(), StoreError> {
        let fragments = self.windows.fragments(self.store, self.export, chunk)?;
        let path = chunk_path(self.work, self.export, chunk.id);
        let sha256 = chunk.file.map(|(_, sha256)| sha256);
        let leaf = Arc::new(LeafChunk { path, sha256, fragments });
        for (index, fragment) in leaf.fragments.iter().enumerate() {
            let selected = Selected { index, start: self.clock.start(fragment) };
            for piece in self.ingested.push(fragment, Piece { of: Arc::clone(&leaf), selected }) {
                self.add(piece);
            }
        }
        Ok(())
    }

    fn add(&mut self, piece: Piece) {
        match &mut self.stretch {
            Some(stretch) if stretch.is_followed_by(&piece) => stretch.selection.push(piece.selected),
            _ => {
                self.end_stretch();
                self.stretch = Some(Stretch { of: piece.of, selection: vec![piece.selected] });
            }
        }
    }

    fn end_stretch(&mut self) {
        let ended = self.stretch.take();
        if let Some((stretch, span)) = ended.and_then(|stretch| stretch.span().map(|span| (stretch, span))) {
            self.ready.extend(self.order.push(span, stretch));
        }
    }

    fn finish(&mut self) {
        for piece in self.ingested.finish() {
            self.add(piece);
        }
        self.end_stretch();
        self.ready.extend(self.order.finish());
    }

    /// The next stretch that has a file, and with it those that follow it from the same one.
    fn pop(&mut self) -> Option<MergeChunk> {
        while let Some(Stretch { of, mut selection }) = self.ready.pop_front() {
            let Some(sha256) = of.sha256 else { continue };
            while let Some(next) = self.ready.pop_front_if(|next| Arc::ptr_eq(&next.of, &of)) {
                selection.extend(next.selection);
            }
            let (path, fragments) = (of.path.clone(), of.fragments.clone());
            return Some(MergeChunk { path, sha256, fragments, selection });
        }
        None
    }
}

impl Iterator for OutputOrder<'_> {
    type Item = Result<MergeChunk, Box<dyn std::error::Error + Send + Sync>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(chunk) = self.pop() {
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
