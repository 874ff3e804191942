//! Sums for `status`, from the counters beside the chunks: their cost does not grow with the chunks.

use std::ops::AddAssign;

use rusqlite::{Row, ToSql, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::values::Unsigned;
use crate::model::report::ChunkTally;
use crate::model::{ChunkState, ExportId};

/// The chunks of one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCount {
    /// How many.
    pub chunks: u64,
    /// Their fragments.
    pub fragments: u64,
    /// Their bytes, as listed.
    pub planned_bytes: u64,
    /// Their files' bytes.
    pub size_bytes: u64,
}

impl AddAssign for StateCount {
    fn add_assign(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.fragments += other.fragments;
        self.planned_bytes += other.planned_bytes;
        self.size_bytes += other.size_bytes;
    }
}

/// Chunks by their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkCounts([StateCount; ChunkState::ALL.len()]);

impl ChunkCounts {
    /// Those in `state`.
    pub fn in_state(&self, state: ChunkState) -> StateCount {
        ChunkState::ALL
            .iter()
            .zip(self.0)
            .find(|(of, _)| **of == state)
            .map_or_else(Default::default, |(_, n)| n)
    }

    /// All that count: not those replaced by smaller ones.
    pub fn leaves(&self) -> StateCount {
        let mut sum = StateCount::default();
        for (state, count) in ChunkState::ALL.into_iter().zip(self.0) {
            if state != ChunkState::Split {
                sum += count;
            }
        }
        sum
    }

    /// Whether there is a chunk that is no window without media.
    pub fn anything_but_empty(&self) -> bool {
        self.leaves().chunks > self.in_state(ChunkState::Empty).chunks
    }

    /// As reports show them.
    pub fn tally(&self) -> ChunkTally {
        let count = |state| self.in_state(state).chunks;
        ChunkTally {
            total: self.leaves().chunks,
            fetched: count(ChunkState::Fetched),
            empty: count(ChunkState::Empty),
            rejected: count(ChunkState::Rejected),
            expired: count(ChunkState::Expired),
            failed: count(ChunkState::Failed),
        }
    }
}

impl Store {
    /// The chunks of an export by state.
    pub fn chunk_counts(&self, export: &ExportId) -> Result<ChunkCounts, StoreError> {
        const SELECT: &str = "
            select state, chunks, fragments, planned_bytes, size_bytes from chunk_count where export_id = :export";
        self.select_counts(SELECT, named_params! { ":export": export })
    }

    fn select_counts(&self, query: &str, values: &[(&str, &dyn ToSql)]) -> Result<ChunkCounts, StoreError> {
        let read = |row: &Row<'_>| {
            let unsigned = |column: usize| row.get::<_, Unsigned>(column).map(|value| value.0);
            let count = StateCount {
                chunks: unsigned(1)?,
                fragments: unsigned(2)?,
                planned_bytes: unsigned(3)?,
                size_bytes: unsigned(4)?,
            };
            Ok((row.get::<_, ChunkState>(0)?, count))
        };
        let mut counts = ChunkCounts::default();
        let mut select = self.connection.prepare_cached(query).during("count chunks")?;
        for row in select.query_map(values, read).during("count chunks")? {
            let (state, count) = row.during("count chunks")?;
            for (of, slot) in ChunkState::ALL.iter().zip(&mut counts.0) {
                if *of == state {
                    *slot = count;
                }
            }
        }
        Ok(counts)
    }
}
