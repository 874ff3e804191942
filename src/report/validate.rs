//! What `validate` found, one line a check.

use super::table::Paint;
use super::units::{counted, one_line};
use super::{job_errors, terminal_width};
use crate::job::JobErrors;
use crate::model::validate_report::{CheckStatus, SettingReport, ValidateReport};

/// The checks as text, their numbers in the last line; the problems of the job file, which are the first of the checks,
/// with their lines.
pub fn validate_text(report: &ValidateReport, errors: Option<&JobErrors>, color: bool) -> String {
    let paint = Paint(color);
    let shown = errors.map(|errors| job_errors(errors, color, terminal_width()) + "\n");
    let mut text = shown.unwrap_or_default();
    if let Some(settings) = &report.settings {
        text += &settings_text(settings);
        text.push('\n');
    }
    for check in report.checks.iter().skip(errors.map_or(0, |errors| errors.problems().len())) {
        let word = check.status.as_str();
        let padding = " ".repeat(CheckStatus::Untested.as_str().len().saturating_sub(word.len()));
        let word = match check.status {
            CheckStatus::Ok => paint.green(word),
            CheckStatus::Problem => paint.red(word),
            CheckStatus::Note | CheckStatus::Untested => paint.yellow(word),
        };
        text += &format!(
            "{word}{padding}  {}, {}: {}\n",
            check.subject,
            one_line(&check.check),
            one_line(&check.message)
        );
    }
    if let Some(error) = &report.error {
        text += &format!("{} {}\n", paint.red("error:"), error.trim_end());
    }
    let totals = &report.totals;
    let problems = match totals.problems {
        0 => "no problem".to_owned(),
        problems => counted(problems, "problem"),
    };
    text + &format!(
        "{problems}: {} ok, {}, {} not tested\n",
        totals.ok,
        counted(totals.notes, "note"),
        totals.untested
    )
}

/// The settings as a job file, each with a comment that tells where it was taken from.
fn settings_text(settings: &[SettingReport]) -> String {
    let mut text = String::new();
    let mut table = "";
    for SettingReport { key, value, from } in settings {
        let (of, name) = key.rsplit_once('.').unwrap_or(("", key));
        if of != table {
            table = of;
            // `job[2]` is the second of its kind.
            text += &match of.split_once('[') {
                Some((list, _)) => format!("\n[[{list}]]\n"),
                None => format!("\n[{of}]\n"),
            };
        }
        text += &format!("{name} = {value}  # {}\n", one_line(from));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::report::Outcome;
    use crate::model::validate_report::Check;

    /// A report in which everything occurs.
    pub(in crate::report) fn everything() -> ValidateReport {
        use CheckStatus::{Note, Ok, Problem, Untested};
        let setting = |key: &str, value: &str, from: &str| SettingReport {
            key: key.to_owned(),
            value: value.to_owned(),
            from: from.to_owned(),
        };
        let settings = vec![
            setting("version", "1", "jobs.toml:1"),
            setting("limits.merges", "2", "KVS_EXPORT_LIMITS_MERGES"),
            setting("job[1].name", "\"a\"", "jobs.toml:3"),
            setting("job[2].name", "\"b\"", "jobs.toml:6"),
        ];
        let report = ValidateReport::new(
            vec![
                Check::new("job file", "content", Ok, "2 jobs, 5 exports"),
                Check::new("stream gate", "kinesisvideo:GetClip", Problem, "grant it\n(denied)"),
                Check::new(
                    "stream gate",
                    "kinesisvideo:ListTagsForStream",
                    Note,
                    "manifests will be without",
                ),
                Check::new("stream yard", "kinesisvideo:GetClip", Untested, "nothing there"),
            ],
            Some((Outcome::Auth, "the credentials lack a permission on every stream".to_owned())),
        );
        ValidateReport { settings: Some(settings), ..report }
    }

    #[test]
    fn every_check_has_its_line_and_the_last_counts_them() {
        insta::assert_snapshot!(validate_text(&everything(), None, false), @r#"
        version = 1  # jobs.toml:1

        [limits]
        merges = 2  # KVS_EXPORT_LIMITS_MERGES

        [[job]]
        name = "a"  # jobs.toml:3

        [[job]]
        name = "b"  # jobs.toml:6

        ok          job file, content: 2 jobs, 5 exports
        problem     stream gate, kinesisvideo:GetClip: grant it; (denied)
        note        stream gate, kinesisvideo:ListTagsForStream: manifests will be without
        not tested  stream yard, kinesisvideo:GetClip: nothing there
        error: the credentials lack a permission on every stream
        1 problem: 1 ok, 1 note, 1 not tested
        "#);
    }

    #[test]
    fn one_problem_is_a_usage_error_and_none_is_none() {
        let of = |status| ValidateReport::new(vec![Check::new("ffmpeg", "version", status, "")], None);
        assert_eq!(of(CheckStatus::Problem).outcome, Outcome::Usage);
        for status in [CheckStatus::Ok, CheckStatus::Note, CheckStatus::Untested] {
            assert_eq!(of(status).outcome, Outcome::Done);
        }
    }
}
