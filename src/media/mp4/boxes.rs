//! Finds boxes and reads small ones; never more of a file than a box's bounds allow.

use std::io::{Read, Seek, SeekFrom};

use mp4_atom::{Atom, Header, ReadFrom};

use super::error::Mp4Error;

/// More boxes side by side than any real file has.
const MAX_SIBLINGS: u32 = 4_000_000;

/// Where a box lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxSpan {
    /// Its four-character code.
    pub(super) kind: [u8; 4],
    /// Where its header begins.
    pub(super) header: u64,
    /// Where its content begins.
    pub(super) start: u64,
    /// Where it ends.
    pub(super) end: u64,
}

impl BoxSpan {
    /// Its code as text.
    pub(super) fn name(&self) -> String {
        self.kind.escape_ascii().to_string()
    }

    /// Says what is wrong with it.
    pub(super) fn damaged(&self, what: &(impl ToString + ?Sized)) -> Mp4Error {
        Mp4Error::Damaged { kind: self.name(), what: what.to_string() }
    }

    /// Bytes of content.
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Reads the whole content, refusing more than `limit` bytes.
    pub(super) fn read<R: Read + Seek>(&self, reader: &mut R, limit: u64) -> Result<Vec<u8>, Mp4Error> {
        if self.len() > limit {
            return Err(self.damaged("it is larger than any real one"));
        }
        reader.seek(SeekFrom::Start(self.start))?;
        let mut content = Vec::new();
        reader.take(self.len()).read_to_end(&mut content)?;
        if content.len() as u64 != self.len() {
            return Err(Mp4Error::Truncated {
                kind: self.name(),
                missing: self.len() - content.len() as u64,
            });
        }
        Ok(content)
    }

    /// Reads and decodes a small box.
    pub(super) fn decode<T: Atom, R: Read + Seek>(&self, reader: &mut R) -> Result<T, Mp4Error> {
        let content = self.read(reader, 1 << 20)?;
        T::decode_body(&mut &content[..]).map_err(|error| self.damaged(&error))
    }
}

/// Reads the header at `at` of a box that lies inside `[at, end)`.
///
/// `None` where fewer bytes are left than a header has: some writers pad with zeros.
pub(super) fn box_at<R: Read + Seek>(reader: &mut R, at: u64, end: u64) -> Result<Option<BoxSpan>, Mp4Error> {
    if end.saturating_sub(at) < 8 {
        return Ok(None);
    }
    reader.seek(SeekFrom::Start(at))?;
    let header = Header::read_from(reader).map_err(|error| match error {
        mp4_atom::Error::Io(error) => Mp4Error::Read(error),
        other => Mp4Error::Damaged { kind: "box header".to_owned(), what: other.to_string() },
    })?;
    let start = reader.stream_position()?;
    let kind: [u8; 4] = header.kind.into();
    let span = match header.size {
        None => BoxSpan { kind, header: at, start, end },
        Some(size) => {
            let box_end = start.checked_add(size as u64).ok_or(Mp4Error::Absurd("box size"))?;
            BoxSpan { kind, header: at, start, end: box_end }
        }
    };
    if span.end > end || span.start > end {
        return Err(Mp4Error::Truncated { kind: span.name(), missing: span.end.max(span.start) - end });
    }
    Ok(Some(span))
}

/// Visits the boxes that lie side by side in `[start, end)`.
pub(super) fn each_box<R: Read + Seek>(
    reader: &mut R,
    (start, end): (u64, u64),
    mut visit: impl FnMut(&mut R, BoxSpan) -> Result<(), Mp4Error>,
) -> Result<(), Mp4Error> {
    let mut at = start;
    let mut seen = 0;
    while let Some(span) = box_at(reader, at, end)? {
        at = span.end;
        seen += 1;
        if seen > MAX_SIBLINGS {
            return Err(Mp4Error::Absurd("number of boxes"));
        }
        visit(reader, span)?;
    }
    Ok(())
}

/// Finds the boxes of the given kinds among the children of `parent`; of equal ones the first.
pub(super) fn find<R: Read + Seek, const N: usize>(
    reader: &mut R,
    parent: BoxSpan,
    kinds: [&[u8; 4]; N],
) -> Result<[Option<BoxSpan>; N], Mp4Error> {
    let mut found = [None; N];
    each_box(reader, (parent.start, parent.end), |_, span| {
        if let Some(slot) = kinds.iter().position(|kind| **kind == span.kind) {
            found[slot].get_or_insert(span);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Takes big-endian numbers and slices off the front of a box's content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// Takes `count` bytes, or `None` when fewer are left.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes one byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Takes two bytes.
    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Takes four bytes.
    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Takes the next box: its code and its content.
    pub(super) fn next_box(&mut self) -> Option<([u8; 4], Bytes<'a>)> {
        let size = usize::try_from(self.u32()?).ok()?;
        let kind = self.take(4)?.try_into().ok()?;
        Some((kind, Bytes(self.take(size.checked_sub(8)?)?)))
    }

    /// Looks for a box by its code.
    pub(super) fn find(mut self, wanted: [u8; 4]) -> Option<Bytes<'a>> {
        while let Some((kind, content)) = self.next_box() {
            if kind == wanted {
                return Some(content);
            }
        }
        None
    }
}
