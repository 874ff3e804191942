//! The text that a run ends with on standard output.

use super::exports::{COLUMNS, ExportRow, produced, section};
use super::state::seconds;
use super::table::{Align, Paint, Table};
use super::units::{bytes, counted, millis, one_line};
use crate::model::TimeRange;
use crate::model::report::{ExportReport, ExportStatus, GapReport, Outcome, RunReport, RunTotals};

/// Gaps told one by one for each export; the manifest has them all.
const MAX_GAPS: usize = 10;

/// The run as text: a table of its exports, their files, gaps and errors, and how it ended in the last line.
pub fn summary(report: &RunReport, color: bool) -> String {
    let paint = Paint(color);
    let mut text = String::new();
    if !report.exports.is_empty() {
        text += &table(&report.exports).render(paint);
        text += &section("outputs", &outputs(&report.exports), paint);
        text += &section("gaps", &gaps(&report.exports), paint);
        text += &section("warnings", &warnings(&report.exports), paint);
        text += &section("errors", &errors(&report.exports), paint);
        text.push('\n');
    }
    // The last line says how it ended.
    if let Some(error) = report.error.as_ref().filter(|error| *error != report.outcome.as_str()) {
        text += &format!("{} {}\n", paint.red("error:"), error.trim_end());
    }
    text + &paint.status(report.outcome.as_str(), &last_line(report)) + "\n"
}

fn table(exports: &[ExportReport]) -> Table {
    let mut table = Table::new(&[COLUMNS.as_slice(), &[("gaps", Align::Left)]].concat());
    for export in exports {
        let already = if export.already { "already " } else { "" };
        let row = ExportRow {
            job: &export.job,
            stream: &export.stream,
            from: export.from,
            to: export.to,
            status: format!("{already}{}", export.status.as_str()),
            chunks: &export.chunks,
            media_ms: export.media_ms,
            bytes: export.bytes,
        };
        let gaps = gaps_in_short(&export.gaps);
        table.row(export.status.as_str(), row.cells().into_iter().chain([gaps]).collect());
    }
    table
}

fn gaps_in_short(gaps: &[GapReport]) -> String {
    if gaps.is_empty() {
        return "-".to_owned();
    }
    let sum = gaps.iter().map(|gap| u64::try_from(gap.ms).unwrap_or(0)).sum();
    format!("{} ({})", gaps.len(), millis(sum))
}

fn outputs(exports: &[ExportReport]) -> Vec<String> {
    let mut lines = Vec::new();
    for export in exports {
        lines.extend(produced(&export.output, export.manifest.as_ref()));
    }
    lines
}

fn gaps(exports: &[ExportReport]) -> Vec<String> {
    let mut lines = Vec::new();
    for export in exports {
        for gap in export.gaps.iter().take(MAX_GAPS) {
            let length = millis(u64::try_from(gap.ms).unwrap_or(0));
            lines.push(format!("{}: {} to {} ({length})", export.stream, gap.from, gap.to));
        }
        let more = export.gaps.len().saturating_sub(MAX_GAPS);
        if more > 0 {
            lines.push(format!("{}: {more} more in its manifest", export.stream));
        }
    }
    lines
}

fn warnings(exports: &[ExportReport]) -> Vec<String> {
    let of = |export: &ExportReport| -> Vec<String> {
        let name = format!("{} {}", export.job, named(export));
        export.warnings.iter().map(|warning| format!("{name}: {}", one_line(warning))).collect()
    };
    exports.iter().flat_map(of).collect()
}

fn errors(exports: &[ExportReport]) -> Vec<String> {
    let mut lines = Vec::new();
    for export in exports {
        if let Some(error) = &export.error {
            lines.push(format!("{} {}: {}", export.job, named(export), one_line(error)));
        } else if export.status == ExportStatus::Partial {
            let line = "some fragments are not in the video; the manifest names them and says why";
            lines.push(format!("{} {}: {line}", export.job, named(export)));
        }
    }
    lines
}

fn named(export: &ExportReport) -> String {
    match TimeRange::new(export.from, export.to) {
        Some(_) => format!("{} {}", export.stream, seconds(export.from)),
        None => export.stream.clone(),
    }
}

fn last_line(report: &RunReport) -> String {
    let totals = &report.totals;
    let already = report.exports.iter().filter(|export| export.already).count() as u64;
    let word = report.outcome.as_str();
    if report.exports.is_empty() {
        return match report.outcome {
            Outcome::Done => "done: nothing to export".to_owned(),
            _ => format!("{word}: nothing was done"),
        };
    }
    if report.outcome == Outcome::Done && already == totals.exports {
        return format!("already done: {}, nothing was fetched", counted(totals.exports, "export"));
    }
    let resume = if totals.failed + totals.pending > 0 || totals.partial == 0 {
        "; run the same command again to resume"
    } else {
        // What is missing is refused or past retention: it would be missing again.
        "; partial exports are final"
    };
    match report.outcome {
        Outcome::Done => format!("done: {}{}", counts(totals, already), amounts(report)),
        Outcome::Incomplete | Outcome::Interrupted => {
            format!("{word}: {}{}{resume}", counts(totals, already), amounts(report))
        }
        Outcome::Failed | Outcome::Locked | Outcome::Usage | Outcome::Auth => {
            format!(
                "{word}: {}{}; mend this, then run the same command again",
                counts(totals, already),
                amounts(report)
            )
        }
    }
}

fn counts(totals: &RunTotals, already: u64) -> String {
    let mut text = if totals.done == totals.exports {
        counted(totals.exports, "export")
    } else {
        format!("{} of {} exports done", totals.done, totals.exports)
    };
    if already > 0 {
        text += &format!(" ({already} already done)");
    }
    text += &format!(", {} failed", totals.failed);
    let others = [(totals.partial, "partial"), (totals.empty, "empty"), (totals.pending, "pending")];
    for (count, word) in others.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!(", {count} {word}");
    }
    text
}

fn amounts(report: &RunReport) -> String {
    let totals = &report.totals;
    let resumed: u64 = report.exports.iter().filter_map(|export| export.resumed_chunks).sum();
    // Of a run that was stopped, some exports may have been finished: their chunks are there as well.
    let already: u64 =
        report.exports.iter().filter(|export| export.already).map(|export| export.chunks.fetched).sum();
    let chunks: u64 = report.exports.iter().map(|export| export.chunks.total).sum();
    let resumed = match resumed {
        0 => String::new(),
        _ => format!(", resumed {} of {chunks} chunks", resumed + already),
    };
    format!(
        "{resumed}, {} of video, {} fetched in {}",
        millis(totals.media_ms),
        bytes(totals.bytes_received),
        millis(totals.elapsed_ms)
    )
}

#[cfg(test)]
#[path = "summary_tests.rs"]
pub(super) mod tests;
