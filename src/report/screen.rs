//! Standard error while a block of lines stands at the end of it: the block is drawn anew in place, and what others
//! write there appears above it.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use console::Term;

/// The size of a terminal that does not tell it.
const USUAL: Size = Size { width: 80, height: 24 };

/// The lines that stand on the terminal now.
static BLOCK: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Columns and rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// The size of the terminal now; its user may change it at any time.
pub(super) fn size() -> Size {
    Term::stderr()
        .size_checked()
        .map_or(USUAL, |(height, width)| Size { width: usize::from(width), height: usize::from(height) })
}

/// The width of the terminal that is standard error, if it is one.
pub fn terminal_width() -> Option<usize> {
    Term::stderr().size_checked().map(|(_, width)| usize::from(width))
}

/// Puts these lines in the place of those that stand there; without lines it takes them away.
pub(super) fn draw(lines: Vec<String>) {
    let mut block = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // Nothing can be done when the terminal is gone.
    drop(io::stderr().write_all(&replacing(&block, &[], &lines, size().width)));
    *block = lines;
}

/// Writes a text of whole lines above the block.
pub(super) fn write_above(text: &[u8]) -> io::Result<()> {
    let block = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if block.is_empty() {
        return io::stderr().write_all(text);
    }
    io::stderr().write_all(&replacing(&block, text, &block, size().width))
}

/// What makes a terminal show a text and then a block in the place of the block before. One write, so that it does
/// not flicker.
fn replacing(before: &[String], text: &[u8], after: &[String], width: usize) -> Vec<u8> {
    // A terminal that became narrower has wrapped the lines.
    let rows: usize = before.iter().map(|line| line.chars().count().div_ceil(width.max(1)).max(1)).sum();
    let mut bytes = Vec::new();
    if rows > 0 {
        bytes.extend_from_slice(format!("\u{1b}[{rows}A\r").as_bytes());
    }
    if !text.is_empty() {
        bytes.extend_from_slice(b"\x1b[J");
        bytes.extend_from_slice(text);
    }
    for line in after {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\x1b[K\n");
    }
    bytes.extend_from_slice(b"\x1b[J");
    bytes
}

/// Standard error for logs; one write is one line or several.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        write_above(text)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn replaced(before: &[&str], text: &str, after: &[&str], width: usize) -> String {
        let bytes = replacing(&lines(before), text.as_bytes(), &lines(after), width);
        String::from_utf8(bytes).expect("UTF-8").replace('\u{1b}', "^").replace('\r', "<")
    }

    #[test]
    fn a_block_is_drawn_over_the_one_before_and_what_is_left_of_that_is_cleared() {
        assert_eq!(replaced(&[], "", &["a", "b"], 10), "a^[K\nb^[K\n^[J");
        assert_eq!(replaced(&["a", "b"], "", &["c"], 10), "^[2A<c^[K\n^[J");
        assert_eq!(replaced(&["c"], "", &[], 10), "^[1A<^[J");
    }

    #[test]
    fn a_text_goes_above_the_block() {
        assert_eq!(replaced(&["a"], "told\n", &["a"], 10), "^[1A<^[Jtold\na^[K\n^[J");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_counted_as_it_shows_them() {
        assert_eq!(replaced(&["123456789", ""], "", &[], 4), "^[4A<^[J");
    }
}
