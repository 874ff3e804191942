//! A plan as text that two runs of `plan` can be compared by: nothing in it depends on the time of day but what
//! retention threatens, and no line on the length of another.

use std::path::Path;

use super::table::Paint;
use super::units::{bytes, counted, millis, one_line};
use crate::model::plan_report::{Outstanding, PlanAction, PlanReport, PlannedCalls, PlannedExport};

/// Gaps told one by one for each export; the JSON document has them all.
const MAX_GAPS: usize = 10;

/// One export of a plan as text. An output below `folder`, the job file's, is told relative to it.
pub(super) fn described(export: &PlannedExport, folder: &Path, paint: Paint) -> String {
    let (mark, word) = mark(export);
    let painted = match mark {
        "+" => paint.green(mark),
        "!" => paint.red(mark),
        "~" | "-" => paint.yellow(mark),
        _ => mark.to_owned(),
    };
    let mut text =
        format!("{painted} {word}  {}  {}  {} to {}\n", export.job, export.stream, export.from, export.to);
    let mut line = |line: String| text += &format!("    {line}\n");
    let output = export.output.strip_prefix(folder).unwrap_or(&export.output);
    line(format!("output: {}", output.display()));
    if export.chunks.total > 0 {
        let windows = format!("{} of {}", counted(export.chunks.total, "window"), export.chunk);
        line(match (export.fragments, export.media_ms, export.bytes) {
            (Some(count), Some(media_ms), Some(size)) => {
                format!("video: {} in {}, {}", millis(media_ms), fragments(count), bytes(size))
            }
            (_, Some(media_ms), Some(size)) => {
                format!("video: {} in {windows}, {}", millis(media_ms), bytes(size))
            }
            _ => format!("video: {windows}; what is in them is known when they are fetched"),
        });
    }
    if export.outstanding.chunks > 0 && export.fragments.is_none() {
        line(format!("fetch: {} at least", counted(export.outstanding.chunks, "clip")));
    } else if export.outstanding.chunks > 0 {
        let time = millis(export.time_ms.unwrap_or(0));
        line(format!(
            "fetch: {}, {}, {time} at the quotas",
            clips(&export.outstanding),
            cost(&export.outstanding)
        ));
    } else if export.calls.list_fragments > 0 && export.chunks.total == 0 {
        line("fetch: nothing, the range is empty".to_owned());
    }
    for gap in export.gaps.iter().take(MAX_GAPS) {
        let length = millis(u64::try_from(gap.ms).unwrap_or(0));
        line(format!("gap: {} to {} ({length})", gap.from, gap.to));
    }
    let more = export.gaps.len().saturating_sub(MAX_GAPS);
    if more > 0 {
        line(format!("gap: {more} more"));
    }
    if let Some(expires_at) = export.expires_at {
        line(format!("kept by the stream until: {expires_at}"));
    }
    for warning in &export.warnings {
        line(format!("warning: {}", one_line(warning)));
    }
    if let Some(error) = &export.error {
        line(format!("error: {}", one_line(error)));
    }
    text
}

/// An export whose turn comes too late.
pub(super) fn late(export: &PlannedExport, paint: Paint) -> String {
    let warning = paint.yellow("warning:");
    let PlannedExport { job, stream, from, to, .. } = export;
    format!("{warning} this footage expires before its turn: {job}  {stream}  {from} to {to}\n")
}

/// What follows the exports.
pub(super) fn end(report: &PlanReport, paint: Paint) -> String {
    let mut text = String::new();
    if report.totals.exports > 0 {
        text += &format!("\n{}", totals(report));
    }
    if let Some(error) = &report.error {
        text += &format!("{} {}\n", paint.red("error:"), error.trim_end());
    }
    if report.totals.exports == 0 && report.error.is_none() {
        text += "nothing to export\n";
    }
    text
}

fn mark(export: &PlannedExport) -> (&'static str, String) {
    let word = match export.action {
        PlanAction::New => "new".to_owned(),
        PlanAction::Resume => format!("resume {} of {}", export.chunks.fetched, export.chunks.total),
        PlanAction::Redo => "redo".to_owned(),
        PlanAction::Done => "done".to_owned(),
        PlanAction::Superseded => "superseded".to_owned(),
        PlanAction::Pending => "pending".to_owned(),
    };
    let mark = match export.action {
        _ if export.error.is_some() => "!",
        PlanAction::New | PlanAction::Redo => "+",
        PlanAction::Resume => "~",
        PlanAction::Done => "=",
        PlanAction::Superseded => "-",
        PlanAction::Pending => ".",
    };
    (mark, word)
}

fn totals(report: &PlanReport) -> String {
    let totals = &report.totals;
    let counts = [
        (totals.new, "new"),
        (totals.resume, "to resume"),
        (totals.redo, "to make again"),
        (totals.done, "done"),
        (totals.superseded, "superseded"),
        (totals.pending, "pending"),
        (totals.failed, "with an error"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let mut text = format!("{}: {}\n", counted(totals.exports, "export"), counts.join(", "));
    if totals.calls.get_clip + totals.calls.list_fragments == 0 {
        return text;
    }
    let listed = totals.outstanding.chunks > totals.fixed_windows || totals.fixed_windows == 0;
    if listed {
        let of_listings = Outstanding {
            chunks: totals.outstanding.chunks.saturating_sub(totals.fixed_windows),
            ..totals.outstanding
        };
        text += &format!("fetch: {}, {}\n", clips(&of_listings), millis(totals.time_ms) + " at the quotas");
    }
    if totals.fixed_windows > 0 {
        text += &format!(
            "fetch: {} of fixed windows, at least; bytes, time and cost are known when they are fetched\n",
            counted(totals.fixed_windows, "clip")
        );
    }
    text += &format!("requests: {}\n", requests(&totals.calls));
    if !listed {
        return text;
    }
    text += &format!(
        "cost: {} for consumed media, an estimate for us-east-1; egress is extra\n",
        cost(&totals.outstanding)
    );
    text
}

fn requests(calls: &PlannedCalls) -> String {
    let calls = [
        (calls.list_streams, "ListStreams"),
        (calls.describe_stream, "DescribeStream"),
        (calls.get_data_endpoint, "GetDataEndpoint"),
        (calls.list_fragments, "ListFragments"),
        (calls.get_clip, "GetClip"),
        (calls.list_tags_for_stream, "ListTagsForStream"),
    ];
    // Only prefixes need the first.
    let calls = calls.into_iter().filter(|(count, api)| *count > 0 || *api != "ListStreams");
    calls.map(|(count, api)| format!("{count} {api}")).collect::<Vec<_>>().join(", ")
}

fn clips(outstanding: &Outstanding) -> String {
    let Outstanding { chunks, fragments: count, bytes: size } = *outstanding;
    format!("{}, {}, {}", counted(chunks, "clip"), fragments(count), bytes(size))
}

fn fragments(count: u64) -> String {
    counted(count, "fragment")
}

/// What is so little that it is rounded to nothing is still paid for.
fn cost(outstanding: &Outstanding) -> String {
    match outstanding.cost_usd() {
        usd if usd < 0.01 && outstanding.bytes > 0 => "under $0.01".to_owned(),
        usd => format!("about ${usd:.2}"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
