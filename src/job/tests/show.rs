//! What `validate --show` prints.

#![expect(clippy::format_push_string, reason = "writing to a String has an error that never happens")]

use super::*;

/// The settings as one text, without the places.
fn as_file(settings: &[crate::model::validate_report::SettingReport]) -> String {
    let mut text = String::new();
    let mut table = "";
    for setting in settings {
        let (of, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if of != table {
            table = of;
            text += &if of.starts_with("job[") { "[[job]]\n".to_owned() } else { format!("[{of}]\n") };
        }
        text += &format!("{name} = {}\n", setting.value);
    }
    text
}

#[test]
fn what_is_shown_is_a_job_file_that_asks_for_the_same() {
    let files = [
        include_str!("../../../tests/accepted/every-key.toml"),
        include_str!("../../../tests/accepted/times.toml"),
        include_str!("../../../jobs.example.toml"),
    ];
    let overlay = Overlay::of([("KVS_EXPORT_SETTLE".to_owned(), Some("7s".to_owned()))], ["limits.merges=3"]);
    for text in files {
        let now = utc("2025-06-04T17:00:30.500Z");
        let (asked, mut exports) = load_over(source(text), &overlay, now, &[]).expect(text);
        let shown = as_file(&show(source(text), &overlay));
        let (again, mut exports_again) =
            load(source(&shown), now, &[]).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        for export in exports.iter_mut().chain(&mut exports_again) {
            export.line = 0;
        }
        assert_eq!(exports_again, exports, "{shown}");
        assert_eq!((again.limits, again.aws, again.notify), (asked.limits, asked.aws, asked.notify));
        assert_eq!((again.state, again.work), (asked.state, asked.work));
    }
}

#[test]
fn each_value_says_where_it_was_taken_from() {
    let text = format!("{}\n[defaults]\nfrom = \"-2h\"\noperator = \"x\"\n", with_job("edges = \"inside\""));
    let overlay = Overlay::of([("KVS_EXPORT_CASE".to_owned(), Some("7".to_owned()))], ["note=said"]);
    let shown = show(source(&text), &overlay);
    let from =
        |key: &str| shown.iter().find(|setting| setting.key == key).map(|setting| setting.from.as_str());
    for (key, expected) in [
        ("state", Some("built-in")),
        ("limits.merges", Some("built-in")),
        ("job[1].edges", Some("jobs.toml:6")),
        ("job[1].operator", Some("[defaults], line 9")),
        ("job[1].case", Some("KVS_EXPORT_CASE")),
        ("job[1].note", Some("--set note")),
        ("job[1].last", Some("jobs.toml:5")),
        // The job has its range in another form.
        ("job[1].from", None),
        ("aws.region", None),
    ] {
        assert_eq!(from(key), expected, "{key}");
    }
}
