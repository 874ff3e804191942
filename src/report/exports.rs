//! What the tables of exports have in common: one at the end of a run, one of `status`.

use std::path::PathBuf;

use super::state::seconds;
use super::table::{Align, Paint};
use super::units::{bytes, millis};
use crate::model::UtcMillis;
use crate::model::report::ChunkTally;

/// The headings of [`ExportRow::cells`].
pub(super) const COLUMNS: [(&str, Align); 8] = [
    ("job", Align::Left),
    ("stream", Align::Left),
    ("from", Align::Left),
    ("to", Align::Left),
    ("status", Align::Left),
    ("chunks", Align::Right),
    ("video", Align::Right),
    ("size", Align::Right),
];

/// An export as a table shows it.
pub(super) struct ExportRow<'a> {
    pub(super) job: &'a str,
    pub(super) stream: &'a str,
    pub(super) from: UtcMillis,
    pub(super) to: UtcMillis,
    pub(super) status: String,
    pub(super) chunks: &'a ChunkTally,
    pub(super) media_ms: u64,
    pub(super) bytes: u64,
}

impl ExportRow<'_> {
    /// Its cells, one for each of [`COLUMNS`].
    pub(super) fn cells(self) -> [String; COLUMNS.len()] {
        [
            self.job.to_owned(),
            self.stream.to_owned(),
            seconds(self.from),
            until(self.from, self.to),
            self.status,
            chunks(self.chunks),
            measured(self.media_ms, millis),
            measured(self.bytes, bytes),
        ]
    }
}

/// The files that an export has become: without a video, the proof that there was nothing to show.
pub(super) fn produced(output: &[PathBuf], manifest: Option<&PathBuf>) -> Vec<String> {
    let proof = manifest.filter(|_| output.is_empty());
    output.iter().chain(proof).map(|path| path.display().to_string()).collect()
}

/// The end of a range, without the date where it is the start's.
pub(super) fn until(from: UtcMillis, to: UtcMillis) -> String {
    let (from, to) = (seconds(from), seconds(to));
    match (from.split_once('T'), to.split_once('T')) {
        (Some((day, _)), Some((same, time))) if day == same => time.to_owned(),
        _ => to,
    }
}

/// How many chunks are there of how many, and what became of the others.
pub(super) fn chunks(tally: &ChunkTally) -> String {
    if tally.total == 0 {
        return "-".to_owned();
    }
    let mut text = format!("{} of {}", tally.fetched, tally.total);
    let others = [
        (tally.empty, "empty"),
        (tally.rejected, "rejected"),
        (tally.expired, "expired"),
        (tally.failed, "failed"),
    ];
    for (count, word) in others.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!(", {count} {word}");
    }
    text
}

/// A measure, or a dash where there is nothing.
fn measured(value: u64, show: impl Fn(u64) -> String) -> String {
    if value == 0 { "-".to_owned() } else { show(value) }
}

/// Lines under a heading; nothing without lines.
pub(super) fn section(heading: &str, lines: &[String], paint: Paint) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let heading = paint.bold(&format!("{heading}:"));
    format!("\n{heading}\n  {}\n", lines.join("\n  "))
}
