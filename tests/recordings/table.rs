//! The table: a row for each scenario, clock, edges and timeline.

use std::fmt::Write as _;

use crate::support::truth::Difference;

/// What is counted of one kind of track.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    /// Frames that must be there.
    pub(crate) expected: usize,
    /// Frames that are there.
    pub(crate) found: usize,
    /// Frames that are not.
    pub(crate) missing: usize,
    /// Frames that are there more than once.
    pub(crate) doubled: usize,
    /// Frames that belong elsewhere.
    pub(crate) strange: usize,
    /// Frames that stand before one that belongs before them, and wrong key frames.
    pub(crate) disordered: usize,
    /// The worst error of a frame's time, in milliseconds.
    pub(crate) worst_ms: f64,
}

impl Count {
    /// Adds a part.
    pub(crate) fn add(&mut self, expected: usize, found: usize, difference: &Difference) {
        self.expected += expected;
        self.found += found;
        self.missing += difference.lost.len();
        self.doubled += difference.doubled.len();
        self.strange += difference.strange.len();
        self.disordered += difference.out_of_order + difference.wrong_keys;
        self.worst_ms = self.worst_ms.max(difference.worst_ms);
    }
}

/// One row: the exports of a scenario that share clock, edges and timeline.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// The scenario.
    pub(crate) recording: String,
    /// The clock, the edges, the timeline.
    pub(crate) combination: String,
    pub(crate) pictures: Count,
    pub(crate) sound: Count,
    pub(crate) parts: usize,
    /// Why nothing was exported, where that is right.
    pub(crate) refused: Option<String>,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
}

impl Row {
    /// What is wrong with it, if anything is.
    pub(crate) fn wrong(&self) -> Option<String> {
        let is_empty = self.refused.is_none() && self.pictures.expected == 0;
        let nothing = is_empty.then_some("nothing was compared");
        let problems: Vec<&str> = self.problems.iter().map(String::as_str).chain(nothing).collect();
        let told = || format!("  {} {}: {}", self.recording, self.combination, problems.join("\n    "));
        (!problems.is_empty()).then(told)
    }
}

/// The table with its head and its sums.
pub(crate) fn print(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.recording.len()).max().unwrap_or(0);
    let mut text = format!(
        "{:width$}  {:26} {:>7} {:>7} {:>5} {:>5} {:>5} {:>8} {:>8} {:>8} {:>8} {:>5}\n",
        "recording",
        "timestamps, edges, timeline",
        "frames",
        "found",
        "miss.",
        "doub.",
        "ord.",
        "worst ms",
        "sound",
        "found",
        "worst ms",
        "parts"
    );
    for row in rows {
        let (pictures, sound) = (&row.pictures, &row.sound);
        let head = format!("{:width$}  {:26}", row.recording, row.combination);
        let line = match &row.refused {
            Some(reason) => format!("{head} refused: {reason}"),
            None => format!(
                "{head} {:>8} {:>7} {:>5} {:>5} {:>5} {:>8.3} {:>8} {:>8} {:>8.3} {:>5}",
                pictures.expected,
                pictures.found,
                pictures.missing + sound.missing,
                pictures.doubled + sound.doubled,
                pictures.disordered + sound.disordered + pictures.strange + sound.strange,
                pictures.worst_ms,
                sound.expected,
                sound.found,
                sound.worst_ms,
                row.parts
            ),
        };
        let mark = if row.problems.is_empty() { "" } else { "  WRONG" };
        writeln!(text, "{line}{mark}").expect("text takes everything");
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    writeln!(
        text,
        "recordings: {} rows: {} frames and {} of sound expected, {} and {} found, {} missing, {} doubled, {} out of place, \
         worst time {:.3} ms off; {} refused with the reason",
        rows.len(),
        sum(|row| row.pictures.expected),
        sum(|row| row.sound.expected),
        sum(|row| row.pictures.found),
        sum(|row| row.sound.found),
        sum(|row| row.pictures.missing + row.sound.missing),
        sum(|row| row.pictures.doubled + row.sound.doubled),
        sum(|row| {
            let of = |count: &Count| count.disordered + count.strange;
            of(&row.pictures) + of(&row.sound)
        }),
        rows.iter().map(|row| row.pictures.worst_ms.max(row.sound.worst_ms)).fold(0.0, f64::max),
        rows.iter().filter(|row| row.refused.is_some()).count()
    )
    .expect("text takes everything");
    text
}
