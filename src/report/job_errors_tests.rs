use std::path::Path;

use super::*;
use crate::job::{self, JobSource};
use crate::model::UtcMillis;

/// 2024-07-03T17:00:30.500Z.
const NOW: UtcMillis = UtcMillis::new(1_720_026_030_500);

fn errors_of(text: &str, only: &[&str]) -> JobErrors {
    let source = JobSource { text, file: Path::new("/srv/jobs.toml"), display: "jobs.toml" };
    let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
    job::load(source, NOW, &only).expect_err("broken")
}

fn shown(text: &str) -> String {
    job_errors(&errors_of(text, &[]), false, Some(100))
}

/// A file with one right job, its lines 1 to 5, and `more` in that job.
fn with_job(more: &str) -> String {
    format!("version = 1\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\nlast = \"1h\"\n{more}")
}

#[test]
fn a_word_that_is_near_is_offered_at_its_place() {
    insta::assert_snapshot!(shown(&with_job("timestamps = \"srever\"\n")), @r#"
    error: job[1].timestamps: "srever" is not one of its values
     --> jobs.toml:6:14
      |
    6 | timestamps = "srever"
      |              ^^^^^^^^ did you mean "server"?
      |
      = accepted: "server" or "producer"
    "#);
}

#[test]
fn all_problems_are_shown_in_order_and_counted() {
    insta::assert_snapshot!(shown(&with_job("settle = 60\n[aws]\nregoin = \"x\"\n[limit]\nmerges = 2\n")), @r#"
    error: job[1].settle: expected text, found a whole number
     --> jobs.toml:6:10
      |
    6 | settle = 60
      |          ^^
      |
      = accepted: a number with a unit, such as "500ms", "60s", "90m", "1h30m", "2d", "1w"

    error: aws.regoin: there is no key `regoin` here
     --> jobs.toml:8:1
      |
    8 | regoin = "x"
      | ^^^^^^ did you mean `region`?
      |
      = accepted: region, profile, endpoint_url

    error: limit: there is no key `limit` here
     --> jobs.toml:9:2
      |
    9 | [limit]
      |  ^^^^^ did you mean `limits`?
      |
      = accepted: version, state, work, aws, limits, notify, defaults, job

    error: 3 problems in jobs.toml
    "#);
}

#[test]
fn what_is_missing_marks_the_table_that_lacks_it() {
    insta::assert_snapshot!(shown("version = 1\n\n[[job]]\nname = \"a\"\nlast = \"1h\"\n"), @r#"
    error: job[1].streams: the job has no streams
     --> jobs.toml:3:1
      |
    3 | [[job]]
      | ^^^^^^^
      |
      = accepted: streams = ["…"]
    "#);
}

#[test]
fn broken_toml_has_the_parsers_place_also_at_the_end_of_the_file() {
    insta::assert_snapshot!(shown("version = 1\nstate = \"x\nwork = 1\n"), @r#"
    error: broken TOML: invalid basic string, expected `"`
     --> jobs.toml:2:11
      |
    2 | state = "x
      |           ^
    "#);
    insta::assert_snapshot!(shown("version = 1\nstreams = [\"x\",\n"), @r#"
    error: broken TOML: unclosed array, expected `]`
     --> jobs.toml:2:16
      |
    2 | streams = ["x",
      |                ^
    "#);
    insta::assert_snapshot!(shown("version ="), @r#"
    error: broken TOML: string values must be quoted, expected literal string
     --> jobs.toml:1:10
      |
    1 | version =
      |          ^
    "#);
}

#[test]
fn tabs_and_wide_characters_leave_the_mark_below_its_value() {
    insta::assert_snapshot!(shown(&with_job("\tnote = \"正門のカメラ\" # 夜\n\tcase =\t7 # é\n")), @r#"
    error: job[1].case: expected text, found a whole number
     --> jobs.toml:7:9
      |
    7 |     case =    7 # é
      |               ^
      |
      = accepted: text in quotes
    "#);
    insta::assert_snapshot!(shown(&with_job("[aws]\n\"正門\" = 1\n")), @r#"
    error: aws.正門: there is no key `正門` here
     --> jobs.toml:7:1
      |
    7 | "正門" = 1
      | ^^^^^^
      |
      = accepted: region, profile, endpoint_url
    "#);
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_are_not_seen() {
    let text = "\u{feff}verson = 1\r\n[[job]]\r\nname = \"a\"\r\nstreams = [\r\n  \"s\"\r\n]\r\nlast = 5\r\n";
    let shown = shown(text);
    assert!(!shown.contains('\r') && !shown.contains('\u{feff}'), "{shown:?}");
    insta::assert_snapshot!(shown, @r#"
    error: verson: there is no key `verson` here
     --> jobs.toml:1:1
      |
    1 | verson = 1
      | ^^^^^^ did you mean `version`?
      |
      = accepted: version, state, work, aws, limits, notify, defaults, job

    error: job[1].last: expected text, found a whole number
     --> jobs.toml:7:8
      |
    7 | last = 5
      |        ^
      |
      = accepted: a number with a unit, such as "500ms", "60s", "90m", "1h30m", "2d", "1w"

    error: 2 problems in jobs.toml
    "#);
}

#[test]
fn a_long_line_is_shown_around_its_mark() {
    let streams: Vec<String> = (1..200).map(|n| format!("\"camera-{n:03}\"")).collect();
    let streams = streams.join(", ").replace("\"camera-150\"", "\"camera 150\"");
    let text = format!("version = 1\n[[job]]\nname = \"a\"\nstreams = [{streams}]\nlast = \"1h\"\n");
    insta::assert_snapshot!(shown(&text), @r#"
    error: job[1].streams[150]: "camera 150" is not a stream name (1 to 256 of a-z, A-Z, 0-9, '_', '.', '-')
     --> jobs.toml:4:2098
      |
    4 | ...mera-147", "camera-148", "camera-149", "camera 150", "camera-151", "camera-152", "camera-1...
      |                                           ^^^^^^^^^^^^
      |
      = accepted: a list of stream names, ARNs, or prefixes with a * at the end: ["front-gate",
                  "yard-*"]
    "#);
}

#[test]
fn a_value_over_several_lines_is_marked_where_it_begins() {
    insta::assert_snapshot!(shown(&with_job("timeline = [\n  \"compact\",\n]\n")), @r#"
    error: job[1].timeline: expected text, found a list
     --> jobs.toml:6:12
      |
    6 | timeline = [
      |            ^
      |
      = accepted: "compact" or "wallclock"
    "#);
}

#[test]
fn a_problem_without_a_line_names_the_file() {
    insta::assert_snapshot!(job_errors(&errors_of(&with_job(""), &["b"]), false, None), @r#"
    error: --job: no job is called "b"
    --> jobs.toml
     = accepted: a
     = help: did you mean "a"?
    "#);
}

#[test]
fn bytes_that_are_not_utf_8_are_marked() {
    let errors = job::decode(b"version = 1\nnote = \"caf\xe9\"\n", "jobs.toml").expect_err("not UTF-8");
    insta::assert_snapshot!(job_errors(&errors, false, None), @r#"
    error: the file is not UTF-8 text
     --> jobs.toml:2:12
      |
    2 | note = "caf�"
      |            ^
      |
      = accepted: TOML in UTF-8
    "#);
}

#[test]
fn nothing_of_a_file_reaches_the_terminal_as_a_command() {
    let text = with_job("\"a\\u001b[31m\" = 1\n# \u{1b}\nedges = \"\\u001b[2J\" # \u{202e}\n");
    let shown = shown(&text);
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}

#[test]
fn colours_are_there_only_when_asked_for() {
    let errors = errors_of(&with_job("edges = \"covr\"\n"), &[]);
    assert!(!job_errors(&errors, false, None).contains('\u{1b}'));
    let colored = job_errors(&errors, true, None);
    assert!(colored.contains("\u{1b}[1m\u{1b}[91merror"), "{colored:?}");
    assert_eq!(console::strip_ansi_codes(&colored), job_errors(&errors, false, None));
}
