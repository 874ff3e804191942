//! Standard error while bars are on it: what others write there appears above them and does not tear them.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// The bars that stand on the terminal now.
static BARS: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Says which bars stand on the terminal from now on, if any.
pub(super) fn set_bars(bars: Option<ProgressBar>) {
    *BARS.lock().unwrap_or_else(PoisonError::into_inner) = bars;
}

/// Standard error for logs; one write is one line or several.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match BARS.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(bars) => bars.suspend(|| io::stderr().write_all(text))?,
            None => io::stderr().write_all(text)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
