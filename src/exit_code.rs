//! The exit codes, a documented contract with scripts: the one table of them, which `--help`, the README and the
//! pages under `docs/` are made from.

use std::fmt::Write as _;

use crate::model::report::Outcome;

/// The exit code of [`Outcome::Done`].
pub const DONE: u8 = 0;
/// The exit code of [`Outcome::Failed`].
pub const UNEXPECTED: u8 = 1;
/// The exit code of [`Outcome::Usage`].
pub const USAGE: u8 = 2;
/// The exit code of [`Outcome::Incomplete`].
pub const INCOMPLETE: u8 = 3;
/// The exit code of [`Outcome::Locked`].
pub const LOCKED: u8 = 4;
/// The exit code of [`Outcome::Auth`].
pub const AUTH: u8 = 5;
/// The exit code of [`Outcome::Interrupted`], as shells give it for Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// What an exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// How the command ended; its word stands in every document.
    pub outcome: Outcome,
    /// In a few words.
    pub meaning: &'static str,
    /// What else it covers; may be empty.
    pub more: &'static str,
}

/// Every exit code with its meaning, ascending.
pub const TABLE: [Meaning; 7] = [
    Meaning {
        outcome: Outcome::Done,
        meaning: "everything asked for is done, empty, pending or was already done",
        more: "pending: its time is not over yet",
    },
    Meaning { outcome: Outcome::Failed, meaning: "something unexpected happened", more: "" },
    Meaning {
        outcome: Outcome::Usage,
        meaning: "the command line, the job file or this machine must be mended first",
        more: "ffmpeg missing, folder not writable, run larger than `max_bytes`",
    },
    Meaning {
        outcome: Outcome::Incomplete,
        meaning: "finished, but some exports failed or came out partial in this run, or a disk is full; run again to \
                  resume",
        more: "also a disk below `min_free`; `verify`: something is not as recorded",
    },
    Meaning { outcome: Outcome::Locked, meaning: "another run holds the state file", more: "" },
    Meaning {
        outcome: Outcome::Auth,
        meaning: "the credentials stop the run, or every stream is denied",
        more: "",
    },
    Meaning {
        outcome: Outcome::Interrupted,
        meaning: "interrupted by INT, TERM or HUP; run again to resume",
        more: "",
    },
];

impl Meaning {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        of(self.outcome)
    }
}

/// The exit code of an outcome.
pub const fn of(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => DONE,
        Outcome::Failed => UNEXPECTED,
        Outcome::Usage => USAGE,
        Outcome::Incomplete => INCOMPLETE,
        Outcome::Locked => LOCKED,
        Outcome::Auth => AUTH,
        Outcome::Interrupted => INTERRUPTED,
    }
}

/// The table for `--help`, wrapped for the narrowest terminals.
pub fn help() -> String {
    /// The usual width of a terminal.
    const WIDTH: usize = 80;
    let mut text = "Exit codes:".to_owned();
    for row in &TABLE {
        let start = format!("  {:>3}  ", row.code());
        let mut column = start.len();
        let indent = column;
        // Writing to a text cannot fail.
        let _ = write!(text, "\n{start}");
        for word in row.meaning.split(' ') {
            if column > indent && column + 1 + word.len() > WIDTH {
                let _ = write!(text, "\n{:indent$}", "");
                column = indent;
            } else if column > indent {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += word.len();
        }
    }
    text
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut text = "| code | outcome | meaning |\n|---|---|---|\n".to_owned();
    for row in &TABLE {
        let more = if row.more.is_empty() { String::new() } else { format!(" ({})", row.more) };
        let _ = writeln!(text, "| {} | `{}` | {}{more} |", row.code(), row.outcome.as_str(), row.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_code_once_in_order() {
        let codes: Vec<u8> = TABLE.iter().map(Meaning::code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 130]);
    }

    #[test]
    fn the_help_fits_a_narrow_terminal_and_says_every_word() {
        let help = help();
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(TABLE.iter().all(|row| words.contains(&format!("{} {}", row.code(), row.meaning))), "{help}");
    }
}
