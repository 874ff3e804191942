//! Right files: what they ask for at a given time.

use std::path::PathBuf;

use super::*;
use crate::model::spec::RangeAnchor;
use crate::model::{
    Chunking, Edges, ExportSpec, GapPolicy, GapTolerance, OnCodecChange, RangeText, StreamSelector,
    TimeRange, Timeline, TimestampKind,
};

fn range(from: &str, to: &str) -> TimeRange {
    TimeRange::new(utc(from), utc(to)).expect("not empty")
}

/// The only export of a file whose only job has these lines.
fn only(lines: &str) -> Resolved {
    let mut exports = exports(&without_range(lines));
    assert_eq!(exports.len(), 1, "{lines}");
    exports.remove(0)
}

#[test]
fn a_job_that_says_nothing_has_the_documented_defaults() {
    let text = "version = 1\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\n\
                from = 2024-03-01T00:00:00Z\nto = 2024-03-01T01:00:00Z\n";
    let file = parse(source(text)).expect("right");
    assert_eq!(file.state, PathBuf::from("/srv/cameras/.kvs-export/jobs/state.db"));
    assert_eq!(file.work, PathBuf::from("/srv/cameras/.kvs-export/jobs/chunks"));
    assert_eq!(file.aws, AwsSettings::default());
    assert_eq!(
        file.limits,
        Limits {
            requests_in_flight: 8,
            stream_budget: 0.7,
            bandwidth: None,
            attempts: 8,
            outage_ms: 1_800_000,
            merges: 1,
            min_free: 5_000_000_000,
            max_bytes: None,
        }
    );
    let resolved = file.resolve(utc(NOW), &[]).expect("resolves");
    assert_eq!(
        resolved,
        [Resolved {
            spec: ExportSpec {
                job: "a".to_owned(),
                stream: StreamSelector::Name("s".to_owned()),
                range: range("2024-03-01T00:00:00Z", "2024-03-01T01:00:00Z"),
                range_text: RangeText {
                    text: "from 2024-03-01T00:00:00.000Z to 2024-03-01T01:00:00.000Z".to_owned(),
                    anchor: RangeAnchor::Absolute,
                },
                timestamps: TimestampKind::Server,
                edges: Edges::Cover,
                chunk: Chunking::Auto,
                timeline: Timeline::Compact,
                gaps: GapPolicy::Accept,
                gap_tolerance: GapTolerance::Auto,
                settle_ms: 60_000,
                on_codec_change: OnCodecChange::Split,
                keep_chunks: false,
                output: PathBuf::from(
                    "/srv/cameras/exports/a/s/2024-03-01/s_20240301T000000+0000_20240301T010000+0000.mp4"
                ),
                output_template: template::Template::DEFAULT.to_owned(),
                time_zone: None,
                case: None,
                operator: None,
                note: None,
                warnings: Vec::new(),
            },
            pending: false,
            line: 2,
        }]
    );
}

#[test]
fn every_value_that_is_said_arrives() {
    let text = "version = 1
state = \"../state/a.db\"
work = \"/var/chunks\"
[aws]
region = \"eu-central-1\"
profile = \"evidence\"
endpoint_url = \"http://127.0.0.1:8700\"
[limits]
requests_in_flight = 0x4_0
stream_budget = 1
attempts = 1
bandwidth = \"200 MB/s\"
outage = \"90s\"
min_free = \"0 B\"
max_bytes = \"5 TB\"
merges = 3
[[job]]
name = \"a\"
streams = [\"arn:aws:kinesisvideo:us-west-2:123456789012:stream/s/1511852108513\"]
last = \"90m\"
time_zone = \"europe/berlin\"
timestamps = \"producer\"
edges = \"inside\"
fetch = \"clip\"
chunk = \"auto\"
timeline = \"wallclock\"
gaps = \"fail\"
gap_tolerance = \"500ms\"
settle = \"2m\"
output = \"/out/{stream}-{from:%H%M}-{case}.mp4\"
on_codec_change = \"fail\"
keep_chunks = true
case = \"C/7\"
operator = \"A. Person\"
note = \"why\"
";
    let file = parse(source(text)).expect("right");
    assert_eq!(
        (file.state.as_path(), file.work.as_path()),
        (Path::new("/srv/state/a.db"), Path::new("/var/chunks"))
    );
    assert_eq!(
        file.aws,
        AwsSettings {
            region: Some("eu-central-1".to_owned()),
            profile: Some("evidence".to_owned()),
            endpoint_url: Some("http://127.0.0.1:8700".to_owned()),
        }
    );
    assert_eq!(
        file.limits,
        Limits {
            requests_in_flight: 64,
            stream_budget: 1.0,
            bandwidth: Some(200_000_000),
            attempts: 1,
            outage_ms: 90_000,
            merges: 3,
            min_free: 0,
            max_bytes: Some(5_000_000_000_000),
        }
    );
    let resolved = file.resolve(utc(NOW), &[]).expect("resolves");
    let spec = &resolved[0].spec;
    assert!(matches!(&spec.stream, StreamSelector::Arn(arn) if arn.region() == "us-west-2"));
    assert_eq!((spec.timestamps, spec.edges), (TimestampKind::Producer, Edges::Inside));
    assert_eq!((spec.timeline, spec.gaps), (Timeline::Wallclock, GapPolicy::Fail));
    assert_eq!((spec.gap_tolerance, spec.settle_ms), (GapTolerance::Fixed(500), 120_000));
    assert_eq!((spec.on_codec_change, spec.keep_chunks), (OnCodecChange::Fail, true));
    assert_eq!(spec.output, PathBuf::from("/out/s-1730-C-7.mp4"));
    assert_eq!(spec.output_template, "/out/{stream}-{from:%H%M}-{case}.mp4");
    assert_eq!(spec.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(spec.case.as_deref(), Some("C/7"));
    assert_eq!(spec.operator.as_deref(), Some("A. Person"));
    assert_eq!(spec.note.as_deref(), Some("why"));
}

#[test]
fn last_ends_at_the_start_of_the_current_minute() {
    assert_eq!(only("last = \"90m\"").spec.range, range("2024-07-03T15:30:00Z", "2024-07-03T17:00:00Z"));
    assert!(!only("last = \"90m\"").pending);
}

#[test]
fn a_job_beats_the_defaults_and_the_defaults_beat_what_is_built_in() {
    let text = "version = 1
[defaults]
edges = \"inside\"
timeline = \"wallclock\"
settle = \"5s\"
last = \"1h\"
streams = [\"x\", \"y\"]
time_zone = \"America/Los_Angeles\"
[[job]]
name = \"a\"
timeline = \"compact\"
[[job]]
name = \"b\"
streams = [\"z\"]
from = \"today 06:00\"
to = \"today 07:00\"
time_zone = \"UTC\"
";
    let exports = exports(text);
    let seen: Vec<_> = exports
        .iter()
        .map(|export| {
            let spec = &export.spec;
            (spec.job.as_str(), spec.stream.name(), spec.edges, spec.timeline, spec.gaps, spec.settle_ms)
        })
        .collect();
    let (inside, accept) = (Edges::Inside, GapPolicy::Accept);
    assert_eq!(
        seen,
        [
            ("a", "x", inside, Timeline::Compact, accept, 5000),
            ("a", "y", inside, Timeline::Compact, accept, 5000),
            ("b", "z", inside, Timeline::Wallclock, accept, 5000),
        ]
    );
    assert_eq!(exports[0].spec.range, range("2024-07-03T16:00:00Z", "2024-07-03T17:00:00Z"));
    assert_eq!(exports[2].spec.range, range("2024-07-03T06:00:00Z", "2024-07-03T07:00:00Z"));
}

#[test]
fn every_key_of_a_job_beats_its_default() {
    let spec = |defaults: &str, job: &str| {
        let text = format!("version = 1\n[defaults]\n{defaults}\n[[job]]\nname = \"a\"\n{job}\n");
        let complete = |key: &str, value: &str| {
            if text.contains(&format!("\n{key} = ")) { String::new() } else { format!("{key} = {value}\n") }
        };
        let range = if text.contains("ranges") || text.contains("from") { "" } else { "last = \"1h\"\n" };
        let range = if text.contains("last") { "" } else { range };
        let text = format!("{text}{}{range}", complete("streams", "[\"s\"]"));
        exports(&text).remove(0).spec
    };
    for (key, default, own) in [
        ("streams", "[\"x\"]", "[\"y\"]"),
        ("last", "\"2h\"", "\"3h\""),
        ("ranges", "[{ from = \"-2h\", to = \"now\" }]", "[{ from = \"-3h\", to = \"now\" }]"),
        ("time_zone", "\"Europe/Berlin\"", "\"UTC\""),
        ("timestamps", "\"producer\"", "\"server\""),
        ("edges", "\"inside\"", "\"cover\""),
        ("timeline", "\"wallclock\"", "\"compact\""),
        ("split", "\"1d\"\ntime_zone = \"UTC\"", "\"1h\"\ntime_zone = \"UTC\""),
        ("daily", "\"18:00-06:00\"\ntime_zone = \"UTC\"", "\"08:00-17:00\"\ntime_zone = \"UTC\""),
        (
            "days",
            "[\"mon\"]\ndaily = \"18:00-06:00\"\ntime_zone = \"UTC\"",
            "[\"tue\"]\ndaily = \"18:00-06:00\"\ntime_zone = \"UTC\"",
        ),
        ("gaps", "\"fail\"", "\"accept\""),
        ("gap_tolerance", "\"1s\"", "\"auto\""),
        ("settle", "\"1s\"", "\"2s\""),
        ("output", "\"x.mp4\"", "\"y.mp4\""),
        ("on_codec_change", "\"fail\"", "\"split\""),
        ("keep_chunks", "true", "false"),
        ("case", "\"x\"", "\"y\""),
        ("operator", "\"x\"", "\"y\""),
        ("note", "\"x\"", "\"y\""),
    ] {
        let (default, own) = (format!("{key} = {default}"), format!("{key} = {own}"));
        assert_ne!(spec("", &default), spec("", &own), "{key}");
        assert_eq!(spec(&default, ""), spec("", &default), "{key}");
        assert_eq!(spec(&default, &own), spec("", &own), "{key}");
    }
}

#[test]
fn fixed_windows_may_be_a_default_and_are_told_as_they_are_written() {
    let spec = |defaults: &str, job: &str| {
        let text = format!(
            "version = 1\n[defaults]\n{defaults}\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\nlast = \"1h\"\n{job}\n"
        );
        exports(&text).remove(0).spec
    };
    let inside = "chunk = \"90s\"\nedges = \"inside\"";
    assert_eq!(spec("", "").chunk, Chunking::Auto);
    assert_eq!(spec(inside, "").chunk, Chunking::Fixed(90_000));
    assert_eq!(spec(inside, "chunk = \"auto\"\nedges = \"cover\"").chunk, Chunking::Auto);
    for (written, told) in
        [("90s", "1m30s"), ("3m", "3m"), ("1d", "24h"), ("1s500ms", "1s500ms"), ("1s", "1s")]
    {
        let found = spec("", &format!("chunk = \"{written}\"\nedges = \"inside\"")).chunk;
        assert_eq!(found.to_string(), told);
    }
    assert_eq!(Chunking::Auto.to_string(), "auto");
}

#[test]
fn a_range_that_no_window_can_ask_for_is_refused() {
    let range = "from = 2024-03-01T00:00:00.000Z\nto = 2024-03-01T00:00:00.001Z";
    let text =
        |more: &str| format!("version = 1\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\n{range}\n{more}\n");
    assert_eq!(exports(&text("")).len(), 1);
    let found = problems(&text("chunk = \"3m\"\nedges = \"inside\""));
    assert_eq!((found.len(), found[0].line), (1, 6), "{found:?}");
    assert!(found[0].message.contains("1 ms"), "{found:?}");
}

#[test]
fn a_lone_end_of_a_range_is_completed_by_the_defaults() {
    let text = "version = 1\n[defaults]\nfrom = \"-3h\"\nto = \"-1h\"\n\
                [[job]]\nname = \"a\"\nstreams = [\"s\"]\nto = \"-2h\"\n";
    assert_eq!(exports(text)[0].spec.range, range("2024-07-03T14:00:30.5Z", "2024-07-03T15:00:30.5Z"));
}

#[test]
fn exports_come_by_job_then_range_then_stream() {
    let text = "version = 1
[[job]]
name = \"one\"
streams = [\"b\", \"a\"]
ranges = [{ from = \"-2h\", to = \"-1h\" }, { from = \"-4h\", to = \"-3h\" }]
[[job]]
name = \"two\"
streams = [\"a\"]
last = \"1m\"
";
    let seen: Vec<_> = exports(text)
        .iter()
        .map(|export| {
            format!(
                "{} {} {} {}",
                export.spec.job,
                export.spec.range.start(),
                export.spec.stream,
                export.line
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            "one 2024-07-03T15:00:30.500Z b 2",
            "one 2024-07-03T15:00:30.500Z a 2",
            "one 2024-07-03T13:00:30.500Z b 2",
            "one 2024-07-03T13:00:30.500Z a 2",
            "two 2024-07-03T16:59:00.000Z a 6",
        ]
    );
}

#[test]
fn tables_of_ranges_are_ranges_too() {
    let text = without_range(
        "[[job.ranges]]\nfrom = \"-2h\"\nto = \"-1h\"\n[[job.ranges]]\nfrom = \"-1h\"\nto = \"now\"\n",
    );
    assert_eq!(exports(&text).len(), 2);
}

#[test]
fn a_relative_window_that_is_not_over_is_pending() {
    let zone = "time_zone = \"America/Los_Angeles\"\n";
    // It is 10:00:30.5 there.
    for (to, pending) in [
        ("\"today 10:00:30.5\"", false),
        ("\"today 10:00:30.501\"", true),
        ("\"today 18:00\"", true),
        ("\"now\"", false),
    ] {
        assert_eq!(only(&format!("{zone}from = \"yesterday\"\nto = {to}")).pending, pending, "{to}");
    }
}

#[test]
fn a_fixed_end_may_be_this_very_instant() {
    assert!(!only("from = \"-1h\"\nto = 2024-07-03T17:00:30.500Z").pending);
}

#[test]
fn the_range_text_says_all_that_decides_the_range_in_one_form() {
    let zone = "time_zone = \"America/Los_Angeles\"\n";
    for (lines, text, anchor) in [
        ("last = \"90m\"", "last 1h30m", RangeAnchor::Now),
        ("last = \"2d\"", "last 2d in America/Los_Angeles", RangeAnchor::Now),
        ("from = \"-1h30m\"\nto = \"now\"", "from -1h30m to now", RangeAnchor::Now),
        ("from = \"-90m\"\nto = \"now\"", "from -1h30m to now", RangeAnchor::Now),
        (
            "from = \"yesterday 18:00\"\nto = \"today 06:00\"",
            "from yesterday 18:00:00 to today 06:00:00 in America/Los_Angeles",
            RangeAnchor::Day,
        ),
        (
            "from = \"yesterday\"\nto = \"now\"",
            "from yesterday 00:00:00 to now in America/Los_Angeles",
            RangeAnchor::Now,
        ),
        (
            "from = 2024-03-01T00:00:00Z\nto = \"today\"",
            "from 2024-03-01T00:00:00.000Z to today 00:00:00 in America/Los_Angeles",
            RangeAnchor::Day,
        ),
        (
            "from = 2024-03-01\nto = \"today\"",
            "from 2024-03-01T00:00:00 to today 00:00:00 in America/Los_Angeles",
            RangeAnchor::Day,
        ),
        (
            "from = \"2024-03-01 18:00\"\nto = 2024-03-02T06:00:00",
            "from 2024-03-01T18:00:00 to 2024-03-02T06:00:00 in America/Los_Angeles",
            RangeAnchor::Absolute,
        ),
        (
            "from = 2024-03-01T18:00:00-08:00\nto = \"2024-03-02T06:00:00Z\"",
            "from 2024-03-02T02:00:00.000Z to 2024-03-02T06:00:00.000Z",
            RangeAnchor::Absolute,
        ),
    ] {
        let found = only(&format!("{zone}{lines}")).spec.range_text;
        assert_eq!(found, RangeText { text: text.to_owned(), anchor }, "{lines}");
    }
}

#[test]
fn an_ambiguous_relative_time_leaves_a_warning_in_the_spec() {
    let text =
        without_range("time_zone = \"America/Los_Angeles\"\nfrom = \"yesterday 01:30\"\nto = \"today\"\n");
    let (_, resolved) = load(source(&text), utc("2024-11-04T12:00:00Z"), &[]).expect("resolves");
    let spec = &resolved[0].spec;
    assert_eq!(spec.range, range("2024-11-03T08:30:00Z", "2024-11-04T08:00:00Z"));
    assert_eq!(spec.warnings.len(), 1);
    assert!(spec.warnings[0].contains("exists twice"), "{:?}", spec.warnings);
}

#[test]
fn only_the_named_jobs_are_resolved() {
    let text = format!(
        "{}[[job]]\nname = \"b\"\nstreams = [\"s\"]\nfrom = \"-1h\"\nto = 2030-01-01T00:00:00Z",
        with_job("")
    );
    let file = parse(source(&text)).expect("right but for the time of day");
    assert!(file.resolve(utc(NOW), &[]).is_err());
    let resolved = file.resolve(utc(NOW), &["a".to_owned()]).expect("the other is not looked at");
    assert_eq!(resolved.len(), 1);
    assert_eq!(resolved[0].spec.job, "a");
}

/// The collision that two jobs with these outputs have.
fn collision(first: &str, second: &str) -> Vec<JobProblem> {
    let text = format!(
        "{}[[job]]\nname = \"b\"\nstreams = [\"t\"]\nlast = \"1h\"\noutput = \"{second}\"",
        with_job(&format!("output = \"{first}\"\n"))
    );
    problems(&text)
}

#[test]
fn two_exports_with_one_output_are_refused_by_both_names() {
    for (first, second) in [
        ("x/out.mp4", "x/out.mp4"),
        ("x/out.mp4", "x/y/../out.mp4"),
        ("x/out.mp4", "/srv/cameras/x/out.mp4"),
        ("x/out.mp4", "X/OUT.mp4"),
        ("x/\u{e9}.mp4", "x/e\u{301}.mp4"),
        ("x/straße.mp4", "x/STRASSE.mp4"),
    ] {
        let found = collision(first, second);
        assert_eq!(found.len(), 1, "{first} {second}");
        assert_eq!((found[0].line, found[0].column, found[0].key.as_str()), (11, 10, "job[2].output"));
        for name in ["job \"a\"", "job \"b\"", "(s, ", "(t, "] {
            assert!(found[0].message.contains(name), "{}", found[0].message);
        }
    }
    assert_eq!(collision("x/{stream}.mp4", "x/{stream}.mp4"), []);
}

#[test]
fn streams_and_ranges_of_one_job_must_not_share_an_output_either() {
    let found = problems(
        &without_range("last = \"1h\"\noutput = \"x.mp4\"").replace("[\"s\"]", "[\"s\", \"t\", \"u\"]"),
    );
    assert_eq!(found.len(), 1, "one template, one problem: {found:#?}");
    let ranges = "ranges = [{ from = \"-4h\", to = \"-3h\" }, { from = \"-2h\", to = \"-1h\" }]\noutput = \"{stream}.mp4\"";
    assert_eq!(problems(&without_range(ranges)).len(), 1);
}

#[test]
fn values_that_would_leave_the_folder_are_refused_where_the_template_stands() {
    let found = problems(&with_job("output = \"x/{case}/y.mp4\"\ncase = \"..\""));
    assert_eq!((found[0].line, found[0].key.as_str()), (6, "job[1].output"));
    assert!(found[0].message.contains("leaves the folder"), "{}", found[0].message);
}
