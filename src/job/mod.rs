//! The job file: from its text to the exports it asks for.
//!
//! ```text
//! text ── reader, raw ──► RawFile ── spec ──► JobFile ── resolve(now) ──► Resolved (model::ExportSpec)
//!                                                    └── prefixes ─► (listed) ── expand(now, listings) ──► Expansion
//! ```
//!
//! Between `raw` and `spec` an [`Overlay`] puts what is set from outside into the place of what the file says. From the raw
//! types come the JSON [`schema()`] and the [`reference()`] of all keys; [`show()`] tells where each value was taken from.
//!
//! Pure: the caller reads the file, tells the time, and lists the streams that prefixes stand for. All problems of a file are
//! reported at once, each with its line, column, key and the accepted form; array elements are counted from 1 (`job[2].from`).

mod clip;
mod duration;
mod errors;
mod outputs;
mod overlay;
mod paths;
mod raw;
mod reader;
mod reference;
mod resolve;
mod schema;
mod show;
mod size;
mod spec;
mod streams;
pub mod template;
pub mod time;
mod windows;

use std::path::{Path, PathBuf};

pub use clip::{CLIP_JOB, ClipRange, ClipWords, clip};
pub use duration::Duration;
pub use errors::{Excerpt, JobErrors, JobProblem, Refusal, decode, nearest};
pub use overlay::Overlay;
pub use reference::reference;
pub use resolve::{Expansion, Resolved};
pub use schema::schema;
pub use show::show;
pub use spec::{AwsSettings, JobFile, JobSpec, Limits, RangeExpression, RangeSpec};
pub use streams::{ExpandedPrefix, JobStreams, KnownStreams, TakenStreams};
pub use windows::{Daily, Days, Hours, Split};

use crate::model::UtcMillis;
use errors::Context;

/// A job file's text and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct JobSource<'s> {
    /// The text.
    pub text: &'s str,
    /// The file's absolute path: its folder is what relative paths are taken from, its stem names the defaults of
    /// `state` and `work`.
    pub file: &'s Path,
    /// The path as the user gave it, for messages.
    pub display: &'s str,
}

/// Reads a job file, without resolving its times.
pub fn parse(source: JobSource<'_>) -> Result<JobFile, JobErrors> {
    parse_over(source, &Overlay::default())
}

/// The same, with what is set from outside.
pub fn parse_over(source: JobSource<'_>, overlay: &Overlay) -> Result<JobFile, JobErrors> {
    let parsed = parse_partly(source, overlay);
    match parsed.file {
        Some(file) if parsed.problems.is_empty() => Ok(file),
        _ => Err(JobErrors::in_text(source.display, source.text, parsed.problems)),
    }
}

/// Reads a job file and resolves the jobs called `only` (all, if it is empty) at `now`, apart from the streams that a
/// prefix takes.
///
/// Reports the problems of both steps together, where [`parse`] and [`JobFile::resolve`] would take two rounds.
pub fn load(
    source: JobSource<'_>,
    now: UtcMillis,
    only: &[String],
) -> Result<(JobFile, Vec<Resolved>), JobErrors> {
    load_over(source, &Overlay::default(), now, only)
}

/// The same, with what is set from outside.
pub fn load_over(
    source: JobSource<'_>,
    overlay: &Overlay,
    now: UtcMillis,
    only: &[String],
) -> Result<(JobFile, Vec<Resolved>), JobErrors> {
    let parsed = parse_partly(source, overlay);
    let mut problems = parsed.problems;
    let Some(file) = parsed.file else {
        return Err(JobErrors::in_text(source.display, source.text, problems));
    };
    let names: Vec<&str> = parsed.names.iter().map(String::as_str).collect();
    problems.extend(JobFile::check_names(only, &names));
    let resolution = file.resolve_partly(now, only);
    problems.extend(resolution.problems);
    if problems.is_empty() {
        Ok((file, resolution.expansion.exports))
    } else {
        Err(JobErrors::in_text(source.display, source.text, problems))
    }
}

/// The `[notify]` command and the state file, as far as they are sound, whatever is wrong with the rest: that a
/// job file is broken is what somebody wants to be told.
pub fn whom_to_notify(source: JobSource<'_>, overlay: &Overlay) -> Option<(Vec<String>, PathBuf)> {
    let file = parse_partly(source, overlay).file?;
    file.notify.map(|command| (command, file.state))
}

/// The sound part of a file, and what is wrong with the rest.
struct Parsed {
    /// `None` where the text is not TOML, or of another version.
    file: Option<JobFile>,
    /// The names of all jobs, of the broken ones too.
    names: Vec<String>,
    problems: Vec<JobProblem>,
}

fn parse_partly(source: JobSource<'_>, overlay: &Overlay) -> Parsed {
    let context = Context::of(source.text);
    let raw = raw::read(&context, source.text);
    let raw = raw.map(|raw| overlay.over(&context, raw));
    let names = raw.iter().flat_map(|raw| &raw.jobs).filter_map(|job| job.name.clone().value()).collect();
    let file = raw.map(|raw| spec::build(&context, raw, source));
    Parsed { file, names, problems: context.into_problems() }
}

#[cfg(test)]
mod tests;
