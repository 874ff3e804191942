//! The text of `verify`: a line an export, what is wrong with it below.

use std::path::Path;

use super::table::Paint;
use super::units::{bytes, counted, millis, one_line};
use crate::model::verification::{VerifiedExport, VerifyProblem, VerifyReport};

/// The answer as text.
pub fn verification(report: &VerifyReport, color: bool) -> String {
    let paint = Paint(color);
    let mut text = String::new();
    for export in &report.exports {
        text += &line(export, paint);
        for problem in &export.problems {
            text += &told(problem, export.manifest.parent());
        }
        for note in &export.notes {
            text += &format!("  note: {}\n", one_line(note));
        }
    }
    for video in &report.not_covered {
        text += &format!("not covered by a manifest: {}\n", shown(video));
    }
    let totals = &report.totals;
    let (word, wrong) = match totals.mismatched {
        0 => (paint.green("verified"), String::new()),
        wrong => (paint.red("mismatch"), format!(", {wrong} of them not as recorded")),
    };
    text + &format!(
        "\n{word}: {}{wrong}; {} in {}\n",
        counted(totals.exports, "export"),
        bytes(totals.bytes),
        millis(totals.elapsed_ms)
    )
}

fn line(export: &VerifiedExport, paint: Paint) -> String {
    let word = if export.verified { paint.green("ok") } else { paint.red("MISMATCH") };
    let mut facts = Vec::new();
    match &export.status {
        Some(status) if export.output.is_empty() => facts.push(one_line(status)),
        Some(status) => {
            facts.push(one_line(status));
            facts.push(counted(export.output.len() as u64, "video"));
            facts.push(millis(export.media_ms));
            facts.push(counted(export.samples, "sample"));
        }
        None => {}
    }
    if export.chunks > 0 {
        facts.push(counted(export.chunks, "kept chunk"));
    }
    facts.push(bytes(export.bytes));
    format!("{word} {}: {}\n", shown(&export.manifest), facts.join(", "))
}

fn told(problem: &VerifyProblem, folder: Option<&Path>) -> String {
    // Beside the manifest's own line a name is enough.
    let file = folder.and_then(|folder| problem.file.strip_prefix(folder).ok()).unwrap_or(&problem.file);
    let mut text = format!("  {}: {}\n", shown(file), one_line(&problem.message));
    if let (Some(expected), Some(found)) = (&problem.expected, &problem.found) {
        text += &format!("    expected: {}\n    found:    {}\n", one_line(expected), one_line(found));
    }
    text
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::verification::ProblemKind;

    /// A report with a value in every key.
    pub(in crate::report) fn everything() -> VerifyReport {
        let problem = |file: &str, kind, found: &str| VerifyProblem {
            file: file.into(),
            kind,
            message: "has another size than recorded".to_owned(),
            expected: Some("10 bytes".to_owned()),
            found: Some(found.to_owned()),
        };
        let whole = VerifiedExport {
            manifest: "/x/gate.manifest.json".into(),
            verified: true,
            status: Some("done".to_owned()),
            output: vec!["/x/gate.mp4".into()],
            samples: 600,
            media_ms: 60_000,
            chunks: 2,
            bytes: 1_500_000,
            ..VerifiedExport::default()
        };
        let altered = VerifiedExport {
            manifest: "/x/yard.manifest.json".into(),
            verified: false,
            problems: vec![problem("/x/yard.mp4", ProblemKind::Size, "9 bytes\n\u{1b}[2J")],
            notes: vec!["its kept chunks are not beside it".to_owned()],
            ..VerifiedExport::default()
        };
        VerifyReport::new(vec![whole, altered], vec!["/x/other.mp4".into()], 1_200)
    }

    #[test]
    fn each_export_has_its_line_and_its_problems_below() {
        let text = verification(&everything(), false);
        let expected = "\
ok /x/gate.manifest.json: done, 1 video, 1 min 0 s, 600 samples, 2 kept chunks, 1.5 MB
MISMATCH /x/yard.manifest.json: 0 B
  yard.mp4: has another size than recorded
    expected: 10 bytes
    found:    9 bytes;  [2J
  note: its kept chunks are not beside it
not covered by a manifest: /x/other.mp4

mismatch: 2 exports, 1 of them not as recorded; 1.5 MB in 1.2 s
";
        assert_eq!(text, expected);
    }
}
