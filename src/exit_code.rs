//! The exit codes, a documented contract with scripts.

use crate::model::report::Outcome;

/// Everything asked for is done, empty, pending or was done before.
pub const DONE: u8 = 0;
/// Something unexpected happened.
pub const UNEXPECTED: u8 = 1;
/// The command line, the job file or this machine must be mended first: ffmpeg missing, folder not writable.
pub const USAGE: u8 = 2;
/// Finished, but some exports failed or came out partial in this run, or the disk is full; run again to resume.
pub const INCOMPLETE: u8 = 3;
/// Another run holds the state file.
pub const LOCKED: u8 = 4;
/// The credentials stop the run, or every stream is denied.
pub const AUTH: u8 = 5;
/// INT, TERM or HUP stopped the run; run again to resume.
pub const INTERRUPTED: u8 = 130;

/// The exit code of a run's outcome.
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
