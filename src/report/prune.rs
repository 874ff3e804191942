//! The text of `prune`: a line an export, and what it comes to.

use super::table::Paint;
use super::units::{bytes, counted};
use crate::model::prune_report::{PruneReport, PrunedExport};

/// The answer as text.
pub fn prune_text(report: &PruneReport, color: bool) -> String {
    let paint = Paint(color);
    let mut text: String = report.exports.iter().map(line).collect();
    let totals = &report.totals;
    if !report.exports.is_empty() {
        text += "\n";
    }
    text += &format!(
        "{} {}: {} finished, whose videos stay, and {} superseded; {} of chunks freed\n",
        counted(totals.exports, "export"),
        if report.dry_run { "would be forgotten" } else { "forgotten" },
        totals.finished,
        totals.superseded,
        bytes(totals.freed_bytes),
    );
    if totals.asked_for > 0 {
        text += &format!(
            "{} as old, but asked for by the job file: not forgotten, so that nothing is fetched again\n",
            counted(totals.asked_for, "export")
        );
    }
    if let Some(error) = &report.error {
        text += &format!("{} {}\n", paint.red("error:"), error.trim_end());
    }
    text
}

fn line(export: &PrunedExport) -> String {
    let PrunedExport { id, job, stream, from, to, .. } = export;
    let status = if export.superseded { "superseded" } else { export.status.as_str() };
    let freed = match export.freed_bytes {
        0 => String::new(),
        freed => format!("  {}", bytes(freed)),
    };
    format!("{id}  {job}  {stream}  {from} to {to}  {status}{freed}\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{ExportId, ExportState, UtcMillis};

    /// A report in which every key has a value.
    pub(crate) fn everything() -> PruneReport {
        let from = UtcMillis::new(1_795_241_000_000);
        let done = PrunedExport {
            id: ExportId("9f86d081884c7d65".to_owned()),
            job: "nightly".to_owned(),
            stream: "yard".to_owned(),
            from,
            to: from + 43_200_000,
            status: ExportState::Done,
            superseded: false,
            changed_at: from + 44_000_000,
            output: vec!["/srv/yard.mp4".into()],
            freed_bytes: 0,
        };
        let superseded = PrunedExport {
            status: ExportState::Fetching,
            superseded: true,
            output: Vec::new(),
            freed_bytes: 1_200_000_000,
            ..done.clone()
        };
        let mut report = PruneReport::new(true, from + 90 * 86_400_000);
        report.add(done);
        report.add(superseded);
        report.totals.asked_for = 31;
        report
    }

    #[test]
    fn the_text_tells_what_is_forgotten_what_is_freed_and_what_is_kept() {
        insta::assert_snapshot!(prune_text(&everything(), false), @r"
        9f86d081884c7d65  nightly  yard  2026-11-21T06:03:20.000Z to 2026-11-21T18:03:20.000Z  done
        9f86d081884c7d65  nightly  yard  2026-11-21T06:03:20.000Z to 2026-11-21T18:03:20.000Z  superseded  1.2 GB

        2 exports would be forgotten: 1 finished, whose videos stay, and 1 superseded; 1.2 GB of chunks freed
        31 exports as old, but asked for by the job file: not forgotten, so that nothing is fetched again
        ");
    }
}
