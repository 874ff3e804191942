//! Files with mistakes: each is found where it stands.

use super::*;

/// The places of all problems, `line:column:key`.
fn places(text: &str) -> Vec<String> {
    problems(text).iter().map(|p| format!("{}:{}:{}", p.line, p.column, p.key)).collect()
}

fn assert_one(text: &str, place: &str, message: &str) {
    let found = problems(text);
    assert_eq!(places(text), [place], "{found:#?}\n{text}");
    assert!(found[0].message.contains(message), "{:?} does not say {message:?}", found[0].message);
}

#[test]
fn a_right_file_has_no_problems() {
    assert_eq!(problems(&with_job("")), []);
}

#[test]
fn each_mistake_in_a_job_is_told_with_its_place() {
    for (line, place, message) in [
        ("colour = 1", "6:1:job[1].colour", "no key `colour`"),
        ("  \"notes\" = 1", "6:3:job[1].notes", "no key `notes`"),
        ("timestamps = \"srever\"", "6:14:job[1].timestamps", "\"srever\" is not one of"),
        ("timestamps = 1", "6:14:job[1].timestamps", "expected text, found a whole number"),
        ("edges = \"Cover\"", "6:9:job[1].edges", "\"Cover\""),
        ("timeline = [\"compact\"]", "6:12:job[1].timeline", "found a list"),
        ("gaps = false", "6:8:job[1].gaps", "found true or false"),
        ("gap_tolerance = \"half a second\"", "6:17:job[1].gap_tolerance", "not a tolerance"),
        ("gap_tolerance = 500", "6:17:job[1].gap_tolerance", "found a whole number"),
        ("settle = 60", "6:10:job[1].settle", "found a whole number"),
        ("settle = \"60\"", "6:10:job[1].settle", "not a length of time"),
        ("keep_chunks = \"yes\"", "6:15:job[1].keep_chunks", "found text"),
        ("on_codec_change = \"ignore\"", "6:19:job[1].on_codec_change", "not one of its values"),
        ("case = 2024-03-01", "6:8:job[1].case", "found a date-time"),
        ("operator = {}", "6:12:job[1].operator", "found a table"),
        ("note = 1.5", "6:8:job[1].note", "found a number"),
        ("time_zone = \"Mars/Olympus\"", "6:13:job[1].time_zone", "no time zone"),
        ("output = \"../{job}/../x.mp4\"", "6:10:job[1].output", "leaves the folder"),
        ("output = \"{job}.avi\"", "6:10:job[1].output", "does not end in .mp4"),
        ("output = \"{case}.mp4\"", "6:10:job[1].output", "no case"),
        ("output = \"{name}.mp4\"", "6:10:job[1].output", "no field {name}"),
        ("output = \"{from:%!}.mp4\"", "6:10:job[1].output", "not a strftime format"),
        ("fetch = \"fragments\"", "6:9:job[1].fetch", "known, but not supported by this version yet"),
        ("fetch = \"clips\"", "6:9:job[1].fetch", "not one of its values"),
        ("chunk = \"3m\"", "6:9:job[1].chunk", "edges = \"cover\", the default"),
        ("chunk = \"3m\"\nedges = \"cover\"", "7:9:job[1].edges", "(`chunk` on line 6) cannot be had with"),
        (
            "chunk = \"3m\"\nedges = \"inside\"\ntimeline = \"wallclock\"",
            "8:12:job[1].timeline",
            "timeline = \"wallclock\"",
        ),
        ("chunk = \"999ms\"\nedges = \"inside\"", "6:9:job[1].chunk", "cannot be \"999ms\" long"),
        ("chunk = \"24h1ms\"\nedges = \"inside\"", "6:9:job[1].chunk", "cannot be \"24h1ms\" long"),
        ("chunk = \"big\"", "6:9:job[1].chunk", "not a length of time"),
        ("chunk = 180", "6:9:job[1].chunk", "found a whole number"),
        ("split = \"1d\"", "6:9:job[1].split", "`split` needs a time_zone"),
        ("split = \"2h\"", "6:9:job[1].split", "\"2h\" is not one of its values"),
        ("split = 1", "6:9:job[1].split", "expected text, found a whole number"),
        ("daily = \"18:00-06:00\"", "6:9:job[1].daily", "`daily` needs a time_zone"),
        ("daily = \"18:00\"", "6:9:job[1].daily", "\"18:00\" is not the time of a daily window"),
        ("daily = [\"18:00-06:00\"]", "6:9:job[1].daily", "expected text, found a list"),
        ("days = [\"mon\"]", "6:8:job[1].days", "`days` stands without `daily`"),
        ("days = \"mon\"", "6:8:job[1].days", "expected a list, found text"),
        ("days = []", "6:8:job[1].days", "the list is empty"),
        ("days = [\"mon\", \"Tue\"]", "6:16:job[1].days[2]", "\"Tue\" is not one of its values"),
        ("days = [\"mon\", \"mon\"]", "6:16:job[1].days[2]", "a day stands twice"),
        (
            "time_zone = \"UTC\"\nsplit = \"1d\"\ndaily = \"18:00-06:00\"",
            "7:9:job[1].split",
            "split = \"1d\" does not cut daily = \"18:00-06:00\", a window of 12h",
        ),
        (
            "time_zone = \"UTC\"\nsplit = \"1h\"\ndaily = \"18:00-19:00\"",
            "7:9:job[1].split",
            "does not cut daily = \"18:00-19:00\", a window of 1h",
        ),
        (
            "time_zone = \"UTC\"\nsplit = \"1d\"\ndaily = \"06:00-06:00\"",
            "7:9:job[1].split",
            "a window of 24h",
        ),
        ("except = \"s\"", "6:10:job[1].except", "expected a list"),
        ("allow_empty = 0", "6:15:job[1].allow_empty", "expected true or false"),
        ("from = \"today\"\nto = \"now\"", "6:8:job[1].from", "stands beside `last`"),
        ("ranges = [{ from = \"-2h\", to = \"-1h\" }]", "6:10:job[1].ranges", "stands beside `last`"),
    ] {
        assert_one(&with_job(line), place, message);
    }
}

#[test]
fn each_mistake_in_a_range_is_told_with_its_place() {
    for (lines, place, message) in [
        ("", "2:1:job[1].from", "no range"),
        ("from = \"-2h\"", "5:8:job[1].from", "stands without `to`"),
        ("to = \"-2h\"", "5:6:job[1].to", "stands without `from`"),
        ("last = \"0s\"", "5:8:job[1].last", "no time at all"),
        ("last = 24", "5:8:job[1].last", "found a whole number"),
        ("last = \"yesterday\"", "5:8:job[1].last", "not a length of time"),
        ("ranges = []", "5:10:job[1].ranges", "empty"),
        ("ranges = { from = \"-2h\", to = \"-1h\" }", "5:10:job[1].ranges", "expected a list"),
        ("ranges = [{ from = \"-2h\" }]", "5:11:job[1].ranges[1].to", "no `to`"),
        (
            "ranges = [\n  { from = \"-2h\", to = \"-1h\" },\n  \"now\",\n]",
            "7:3:job[1].ranges[2]",
            "expected a table",
        ),
        (
            "ranges = [{ from = \"-2h\", to = \"-1h\", last = 1 }]",
            "5:39:job[1].ranges[1].last",
            "no key `last`",
        ),
        ("from = \"-2h\"\nto = \"soon\"", "6:6:job[1].to", "not a time"),
        ("from = 5\nto = \"now\"", "5:8:job[1].from", "expected a date-time or text"),
        ("from = 06:00:00\nto = \"now\"", "5:8:job[1].from", "not a time"),
        ("from = 2024-03-01T00:00:00\nto = \"now\"", "5:8:job[1].from", "needs a time_zone"),
        ("from = \"yesterday 18:00\"\nto = \"now\"", "5:8:job[1].from", "needs a time_zone"),
        ("from = 2024-03-01\nto = \"now\"", "5:8:job[1].from", "needs a time_zone"),
        ("from = \"-1h\"\nto = \"-2h\"", "6:6:job[1].to", "is not after"),
        ("from = \"-1h\"\nto = \"-60m\"", "6:6:job[1].to", "is not after"),
        ("from = 2024-03-02T00:00:00Z\nto = 2024-03-01T00:00:00Z", "6:6:job[1].to", "is not after"),
        ("from = 2024-03-01T00:00:00Z\nto = 2024-07-03T17:00:30.501Z", "6:6:job[1].to", "lies in the future"),
        ("from = \"-1h\"\nto = \"2099-01-01T00:00:00Z\"", "6:6:job[1].to", "lies in the future"),
        ("from = 2024-03-01T00:00:00.0001Z\nto = \"now\"", "5:8:job[1].from", "finer than a millisecond"),
        (
            "time_zone = \"UTC\"\nfrom = 2024-06-04\nto = 2024-06-06\ndaily = \"18:00-20:00\"\ndays = [\"mon\"]",
            "7:6:job[1].to",
            "no daily window (18:00-20:00 on mon) lies in the range",
        ),
        (
            "time_zone = \"Europe/Berlin\"\nfrom = 2024-03-31\nto = 2024-04-01\ndaily = \"02:00-03:00\"",
            "7:6:job[1].to",
            "the clocks of Europe/Berlin skip it",
        ),
        (
            "time_zone = \"America/Los_Angeles\"\nfrom = 2024-03-10T02:30:00\nto = \"now\"",
            "6:8:job[1].from",
            "does not exist",
        ),
        (
            "time_zone = \"America/Los_Angeles\"\nfrom = 2023-11-05T00:00:00\nto = 2023-11-05T01:30:00",
            "7:6:job[1].to",
            "exists twice",
        ),
    ] {
        assert_one(&without_range(lines), place, message);
    }
}

#[test]
fn each_mistake_outside_of_the_jobs_is_told_with_its_place() {
    let file = |head: &str| format!("{head}\n[[job]]\nname = \"a\"\nstreams = [\"s\"]\nlast = \"1h\"\n");
    for (head, place, message) in [
        ("", "1:1:version", "does not say its version"),
        ("version = 2\ncolour = 1", "1:11:version", "version 2"),
        ("version = \"1\"", "1:11:version", "found text"),
        ("version = -1", "1:11:version", "out of range"),
        ("version = 1\nstatus = \"x\"", "2:1:status", "no key `status`"),
        ("version = 1\nstate = \"\"", "2:9:state", "empty"),
        ("version = 1\nwork = 7", "2:8:work", "found a whole number"),
        ("version = 1\nwork = \"~/chunks\"", "2:8:work", "not expanded"),
        ("version = 1\nstate = \"s.db\"\nwork = \"s.db/chunks\"", "3:8:work", "cannot lie in it"),
        ("version = 1\naws = \"us-west-2\"", "2:7:aws", "expected a table"),
        ("version = 1\n[aws]\nregion = \"us west\"", "3:10:aws.region", "not a region"),
        ("version = 1\n[aws]\nprofile = \"\"", "3:11:aws.profile", "not the name"),
        ("version = 1\n[aws]\nendpoint_url = \"localhost:8700\"", "3:16:aws.endpoint_url", "not http://"),
        ("version = 1\naws.regoin = \"us-west-2\"", "2:5:aws.regoin", "no key `regoin`"),
        ("version = 1\n[limits]\nrequests_in_flight = 0", "3:22:limits.requests_in_flight", "out of range"),
        ("version = 1\n[limits]\nrequests_in_flight = 65", "3:22:limits.requests_in_flight", "out of range"),
        (
            "version = 1\n[limits]\nrequests_in_flight = 8.0",
            "3:22:limits.requests_in_flight",
            "found a number",
        ),
        ("version = 1\n[limits]\nstream_budget = 0", "3:17:limits.stream_budget", "out of range"),
        ("version = 1\n[limits]\nstream_budget = 1.01", "3:17:limits.stream_budget", "out of range"),
        ("version = 1\n[limits]\nstream_budget = nan", "3:17:limits.stream_budget", "out of range"),
        ("version = 1\n[limits]\nattempts = 0", "3:12:limits.attempts", "out of range"),
        ("version = 1\n[limits]\nattempts = 4294967296", "3:12:limits.attempts", "out of range"),
        ("version = 1\n[limits]\nmerges = -1", "3:10:limits.merges", "out of range"),
        ("version = 1\n[limits]\nbandwidth = \"1 MB\"", "3:13:limits.bandwidth", "not a rate"),
        ("version = 1\n[limits]\nmin_free = 5", "3:12:limits.min_free", "found a whole number"),
        ("version = 1\n[limits]\nmax_bytes = \"5 Gb\"", "3:13:limits.max_bytes", "not a size"),
        ("version = 1\n[limits]\noutage = \"30\"", "3:10:limits.outage", "not a length of time"),
        ("version = 1\n[notify]\n", "2:1:notify.command", "no command"),
        ("version = 1\n[notify]\ncommand = []", "3:11:notify.command", "empty"),
        ("version = 1\n[notify]\ncommand = [\"\"]", "3:11:notify.command", "names no program"),
        ("version = 1\n[defaults]\nname = \"x\"", "3:8:defaults.name", "cannot be a default"),
        ("version = 1\n[defaults]\ntimline = \"compact\"", "3:1:defaults.timline", "no key `timline`"),
        (
            "version = 1\n[defaults]\nfrom = \"-2h\"\nlast = \"1h\"",
            "4:8:defaults.last",
            "stands beside `from`",
        ),
        ("version = 1\n[defaults]\noutput = \"{case}.mp4\"", "3:10:defaults.output", "no case"),
    ] {
        assert_one(&file(head), place, message);
    }
}

#[test]
fn each_mistake_in_the_list_of_jobs_is_told_with_its_place() {
    for (text, place, message) in [
        ("version = 1\n", "1:1:job", "no job"),
        ("version = 1\njob = []", "2:7:job", "empty"),
        ("version = 1\n[job]\nname = \"a\"", "2:1:job", "expected a list"),
        ("version = 1\n[[job]]\nstreams = [\"s\"]\nlast = \"1h\"", "2:1:job[1].name", "no name"),
        (
            "version = 1\n[[job]]\nname = \"\"\nstreams = [\"s\"]\nlast = \"1h\"",
            "3:8:job[1].name",
            "not a job's name",
        ),
        (
            "version = 1\n[[job]]\nname = \"..\"\nstreams = [\"s\"]\nlast = \"1h\"",
            "3:8:job[1].name",
            "not a job's",
        ),
        (
            "version = 1\n[[job]]\nname = \"a/b\"\nstreams = [\"s\"]\nlast = \"1h\"",
            "3:8:job[1].name",
            "not a job's",
        ),
        ("version = 1\n[[job]]\nname = \"a\"\nlast = \"1h\"", "2:1:job[1].streams", "no streams"),
        ("version = 1\n[[job]]\nname = \"a\"\nstreams = []\nlast = \"1h\"", "4:11:job[1].streams", "empty"),
        (
            "version = 1\n[[job]]\nname = \"a\"\nstreams = \"s\"\nlast = \"1h\"",
            "4:11:job[1].streams",
            "expected a list",
        ),
        (
            "version = 1\n[[job]]\nname = \"a\"\nstreams = [\"ä\", \"a b\"]\nlast = \"1h\"",
            "4:12:job[1].streams[1]|4:17:job[1].streams[2]",
            "not a stream name",
        ),
        (
            "version = 1\n[[job]]\nname = \"a\"\nstreams = [\"s\", \"*-yard\"]\nlast = \"1h\"",
            "4:17:job[1].streams[2]",
            "not a prefix of stream names",
        ),
        (
            "version = 1\n[[job]]\nname = \"a\"\nstreams = [\n  \"s\",\n  \"s\",\n]\nlast = \"1h\"",
            "6:3:job[1].streams[2]",
            "stands twice",
        ),
        (
            "version = 1\n[[job]]\nname = \"a\"\nstreams = [\"arn:aws:s3:::x\"]\nlast = \"1h\"",
            "4:12:job[1].streams[1]",
            "not a stream ARN",
        ),
        (
            &format!("{}[[job]]\nname = \"a\"\nstreams = [\"t\"]\nlast = \"1h\"", with_job("")),
            "7:8:job[2].name",
            "the job on line 2",
        ),
    ] {
        assert_eq!(places(text).join("|"), place, "{text}");
        let found = problems(text);
        assert!(found[0].message.contains(message), "{:?}", found[0].message);
    }
}

#[test]
fn broken_toml_is_told_with_its_place() {
    for (text, place) in [
        ("version = ", "1:11"),
        ("version = 1\nstate = \"x", "2:11"),
        ("version = 1\n[aws\nregion = \"x\"", "2:5"),
        ("version = 1\nversion = 1", "2:1"),
        ("version = 1\nä = 1", "2:1"),
        ("version = 1\nwork = \"ä\" x", "2:12"),
    ] {
        let found = problems(text);
        let first = found.first().expect("a problem");
        assert_eq!(format!("{}:{}", first.line, first.column), place, "{found:#?}");
        assert!(first.message.starts_with("broken TOML: "), "{first:?}");
    }
}

#[test]
fn what_follows_from_one_break_on_a_line_is_not_told_as_well() {
    let text = "version = 1\n[[job]]\nname = \"a\nstreams = [\"b\"\nlast = 1\n[[job]]\nname = \n";
    let mut lines: Vec<usize> = problems(text).iter().map(|problem| problem.line).collect();
    assert_eq!(lines.first(), Some(&3));
    let told = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), told);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "version = 1
statte = \"x\"
[limits]
attempts = 0
[defaults]
edges = \"outside\"
[[job]]
name = \"one\"
streams = [\"s\", \"s\"]
from = \"today 06:00\"
to = 2030-01-01T00:00:00Z
[[job]]
name = \"two\"
streams = [\"s\"]
last = \"1 hour\"
settle = 1
";
    assert_eq!(
        places(text),
        [
            "2:1:statte",
            "4:12:limits.attempts",
            "6:9:defaults.edges",
            "9:17:job[1].streams[2]",
            "10:8:job[1].from",
            "15:8:job[2].last",
            "16:10:job[2].settle",
        ]
    );
}

#[test]
fn problems_of_the_file_and_of_the_time_of_day_come_together() {
    let text = format!(
        "{}[[job]]\nname = \"b\"\nstreams = [\"s\"]\nfrom = \"-1h\"\nto = 2030-01-01T00:00:00Z",
        with_job("edges = \"x\"\n")
    );
    assert_eq!(places(&text), ["6:9:job[1].edges", "11:6:job[2].to"]);
    let only_the_file = parse(source(&text)).expect_err("broken");
    assert_eq!(only_the_file.problems().len(), 1);
}

#[test]
fn a_mistake_in_the_defaults_is_told_once() {
    let text = "version = 1
[defaults]
from = \"yesterday 18:00\"
to = \"now\"
[[job]]
name = \"a\"
streams = [\"s\"]
[[job]]
name = \"b\"
streams = [\"s\"]
";
    assert_eq!(places(text), ["3:8:defaults.from"]);
}

#[test]
fn windows_of_the_defaults_are_told_where_they_stand() {
    let text = "version = 1
[defaults]
split = \"1d\"
days = [\"mon\"]
[[job]]
name = \"a\"
streams = [\"s\"]
last = \"1h\"
[[job]]
name = \"b\"
streams = [\"s\"]
last = \"1h\"
daily = \"18:00-06:00\"
time_zone = \"UTC\"
";
    assert_eq!(places(text), ["3:9:defaults.split", "3:9:defaults.split", "4:8:defaults.days"]);
}

#[test]
fn a_wrong_value_is_not_also_told_as_missing() {
    let text = "version = 1\n[[job]]\nname = 1\nstreams = 2\nfrom = 3\nto = \"now\"\n";
    assert_eq!(places(text), ["3:8:job[1].name", "4:11:job[1].streams", "5:8:job[1].from"]);
    // Nor are local times said to lack a zone that is only misspelt.
    let text = without_range(
        "time_zone = \"UCT1\"\nfrom = \"today\"\nto = \"now\"\nsplit = \"1h\"\ndaily = \"08:00-18:00\"\n",
    );
    assert_eq!(places(&text), ["5:13:job[1].time_zone"]);
}

#[test]
fn near_misses_are_recognised() {
    for (line, suggestion) in [
        ("timestmaps = \"server\"", "`timestamps`"),
        ("setle = \"60s\"", "`settle`"),
        ("timestamps = \"sever\"", "\"server\""),
        ("edges = \"Inside\"", "\"inside\""),
        ("fetch = \"clips\"", "\"clip\""),
        ("split = \"1D\"", "\"1d\""),
        ("dayly = \"18:00-06:00\"", "`daily`"),
        ("time_zone = \"Europe/Berln\"", "\"Europe/Berlin\""),
        ("output = \"{sream}.mp4\"", "{stream}"),
    ] {
        let found = problems(&with_job(line));
        assert_eq!(found[0].suggestion.as_deref(), Some(suggestion), "{line}");
        assert!(found[0].accepted.is_some(), "{line}");
    }
}

#[test]
fn every_problem_says_what_would_be_accepted() {
    for line in ["colour = 1", "case = 1", "output = \"x\"", "note = 1", "keep_chunks = 1", "time_zone = 1"] {
        for problem in problems(&with_job(line)) {
            assert!(problem.accepted.is_some(), "{problem:?}");
        }
    }
}

#[test]
fn a_problem_reads_as_file_place_key_message_and_the_way_out() {
    let errors = parse(source(&with_job("edges = \"covr\"\nsetle = 1"))).expect_err("broken");
    assert_eq!(
        errors.to_string().lines().take(4).collect::<Vec<_>>(),
        [
            "jobs.toml:6:9: job[1].edges: \"covr\" is not one of its values",
            "  accepted: \"cover\" or \"inside\"",
            "  did you mean \"cover\"?",
            "jobs.toml:7:1: job[1].setle: there is no key `setle` here",
        ]
    );
}

#[test]
fn an_unknown_name_on_the_command_line_is_told_with_what_was_probably_meant() {
    let text = with_job("").replace("\"a\"", "\"nightly\"");
    let file = parse(source(&text)).expect("right");
    let errors = file.resolve(utc(NOW), &["nigthly".to_owned()]).expect_err("unknown");
    assert_eq!(
        errors.to_string(),
        "jobs.toml: --job: no job is called \"nigthly\"\n  accepted: nightly\n  did you mean \"nightly\"?"
    );
    assert!(load(source(&text), utc(NOW), &["x".to_owned()]).is_err());
}
