//! Walks the rows of a sample table through a small buffer.
//!
//! A merged night has millions of samples; its tables are tens of megabytes and are never held whole.

use std::io::{Read, Seek, SeekFrom};

use super::boxes::BoxSpan;
use super::error::Mp4Error;

/// Rows held at a time.
const ROWS_HELD: u64 = 512;

/// A table of rows of equal width, inside the bounds of its box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// Where its first row lies.
    pub(super) start: u64,
    /// How many rows it has.
    pub(super) rows: u32,
    /// Bytes a row.
    width: u32,
}

impl Table {
    /// Reads the head of a full box whose content is: `fixed` words, a row count, rows.
    ///
    /// Returns the fixed words too. A count that the box cannot hold is an error.
    pub(super) fn open<R: Read + Seek, const FIXED: usize>(
        reader: &mut R,
        span: BoxSpan,
        width: u32,
    ) -> Result<(Self, [u32; FIXED]), Mp4Error> {
        let head = 8 + 4 * FIXED;
        if span.len() < head as u64 {
            return Err(span.damaged("it is too short"));
        }
        let mut words = vec![0; head];
        reader.seek(SeekFrom::Start(span.start))?;
        reader.read_exact(&mut words)?;
        let word = |at: usize| u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
        let rows = word(head - 4);
        let fixed = std::array::from_fn(|i| word(4 + 4 * i));
        let start = span.start + head as u64;
        let table = Self { start, rows, width };
        if width > 0 && u64::from(rows) * u64::from(width) > span.end - start {
            return Err(span.damaged("it says more rows than it holds"));
        }
        Ok((table, fixed))
    }

    /// Begins at the first row.
    pub(super) fn walk(self) -> Rows {
        Rows { table: self, next: 0, buffer: Vec::new(), at: 0 }
    }
}

/// Where a walk through a table stands.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    table: Table,
    next: u32,
    buffer: Vec<u8>,
    at: usize,
}

impl Rows {
    /// Whether every row was taken.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.table.rows
    }

    /// Takes the next row, `None` after the last.
    pub(super) fn next<R: Read + Seek>(&mut self, reader: &mut R) -> Result<Option<&[u8]>, Mp4Error> {
        if self.is_done() {
            return Ok(None);
        }
        let width = self.table.width as usize;
        if self.at == self.buffer.len() {
            let rows = u64::from(self.table.rows - self.next).min(ROWS_HELD);
            let offset = u64::from(self.next) * u64::from(self.table.width);
            reader.seek(SeekFrom::Start(self.table.start + offset))?;
            self.buffer.resize(usize::try_from(rows).unwrap_or(0) * width, 0);
            reader.read_exact(&mut self.buffer)?;
            self.at = 0;
        }
        let row = self.at..self.at + width;
        self.at = row.end;
        self.next += 1;
        Ok(self.buffer.get(row))
    }

    /// Takes the next row as `N` words of four bytes.
    pub(super) fn words<R: Read + Seek, const N: usize>(
        &mut self,
        reader: &mut R,
    ) -> Result<Option<[u32; N]>, Mp4Error> {
        Ok(self.next(reader)?.map(|row| {
            let mut words = [0; N];
            for (word, bytes) in words.iter_mut().zip(row.chunks_exact(4)) {
                *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
            }
            words
        }))
    }
}
