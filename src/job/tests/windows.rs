//! Jobs that are cut into windows: a table of them, and what holds for all.

use jiff::civil::Weekday;
use proptest::prelude::*;

use super::*;
use crate::job::template::format_time;
use crate::job::time::{Side, TimeExpression, Zone};
use crate::job::windows::{Bound, Cutter, Window};
use crate::model::spec::RangeAnchor;
use crate::model::{RangeText, TimeRange};

/// One block a job; see the file's head.
const TABLE: &str = include_str!("windows.txt");
/// What a result is indented by.
const INDENT: &str = "    ";

/// A job of the table, and what stands under it.
struct Case<'t> {
    head: Vec<&'t str>,
    expected: Vec<&'t str>,
}

impl Case<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
    }

    /// The job file.
    fn text(&self) -> String {
        let lines = self.head.iter().filter(|line| !line.starts_with("now = "));
        without_range(&lines.copied().collect::<Vec<_>>().join("\n"))
    }

    /// What the job asks for, as the table writes it.
    fn found(&self) -> Vec<String> {
        let now = utc(self.value("now").expect("a time of day"));
        let zone = self.value("time_zone").expect("a zone").trim_matches('"');
        let zone = Zone::parse(zone).expect("a zone");
        let exports = match load(source(&self.text()), now, &[]) {
            Ok((_, exports)) => exports,
            Err(errors) => return vec![format!("{INDENT}refused: {errors}")],
        };
        let mut rows = Vec::new();
        for Resolved { spec, pending, .. } in exports {
            let shown =
                |instant| format_time(instant, "%a %Y-%m-%dT%H:%M:%S%z", Some(&zone)).expect("a time");
            let (from, to) = (shown(spec.range.start()), shown(spec.range.end()));
            let length = Duration { days: 0, millis: spec.range.length_ms().unsigned_abs() };
            let pending = if pending { "  pending" } else { "" };
            rows.push(format!("{INDENT}{from}  {to}  {length}{pending}"));
            rows.extend(spec.warnings.iter().map(|warning| format!("{INDENT}! {warning}")));
        }
        rows
    }
}

fn cases() -> Vec<Case<'static>> {
    let blocks = TABLE.trim_end().split("\n\n").filter(|block| block.contains("now = "));
    blocks
        .map(|block| {
            let (expected, head) = block.lines().partition(|line| line.starts_with(INDENT));
            Case { head, expected }
        })
        .collect()
}

#[test]
fn every_job_of_the_table_asks_for_its_windows() {
    let cases = cases();
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, case.found()))
        .filter(|(case, found)| *found != case.expected)
        .map(|(case, found)| format!("{}\n{}\n", case.head.join("\n"), found.join("\n")))
        .collect();
    assert!(wrong.is_empty(), "these should read:\n\n{}", wrong.join("\n"));
    assert!(cases.len() >= 50, "the way in which the table is written has changed");
}

#[test]
fn all_windows_of_a_range_have_one_text_that_says_all_that_decides_them() {
    let zone = "time_zone = \"America/Los_Angeles\"\n";
    for (lines, text, anchor) in [
        ("last = \"24h\"\nsplit = \"1h\"", "last 24h split 1h in America/Los_Angeles", RangeAnchor::Now),
        (
            "from = \"-2d\"\nto = \"today\"\ndaily = \"18:00-06:00\"",
            "from -2d to today 00:00:00 daily 18:00-06:00 in America/Los_Angeles",
            RangeAnchor::Now,
        ),
        (
            "from = \"yesterday\"\nto = \"today\"\ndaily = \"18:00:00-24:00\"\nsplit = \"1h\"",
            "from yesterday 00:00:00 to today 00:00:00 daily 18:00-00:00 split 1h in America/Los_Angeles",
            RangeAnchor::Day,
        ),
        (
            "from = 2024-03-01T00:00:00Z\nto = 2024-03-08T00:00:00Z\ndaily = \"06:30:15-07:00\"\ndays = [\"sun\", \"mon\"]",
            "from 2024-03-01T00:00:00.000Z to 2024-03-08T00:00:00.000Z daily 06:30:15-07:00 on mon,sun in \
             America/Los_Angeles",
            RangeAnchor::Absolute,
        ),
        (
            "from = \"-1d\"\nto = \"now\"\ndaily = \"06:00-07:00\"\n\
             days = [\"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\", \"mon\"]",
            "from -1d to now daily 06:00-07:00 in America/Los_Angeles",
            RangeAnchor::Now,
        ),
    ] {
        let texts: Vec<RangeText> = exports(&without_range(&format!("{zone}{lines}")))
            .into_iter()
            .map(|it| it.spec.range_text)
            .collect();
        assert!(!texts.is_empty());
        for found in texts {
            assert_eq!(found, RangeText { text: text.to_owned(), anchor }, "{lines}");
        }
    }
}

#[test]
fn windows_come_by_job_range_window_and_stream() {
    let text = "version = 1
[defaults]
time_zone = \"UTC\"
split = \"1d\"
[[job]]
name = \"one\"
streams = [\"b\", \"a\"]
ranges = [{ from = 2024-03-03, to = 2024-03-05 }, { from = 2024-03-01, to = 2024-03-02 }]
";
    let seen: Vec<String> =
        exports(text).iter().map(|it| format!("{} {}", it.spec.range.start(), it.spec.stream)).collect();
    let at = |day: u32, stream: &str| format!("2024-03-{day:02}T00:00:00.000Z {stream}");
    assert_eq!(seen, [at(3, "b"), at(3, "a"), at(4, "b"), at(4, "a"), at(1, "b"), at(1, "a")]);
}

#[test]
fn the_next_window_of_a_range_without_one_takes_nobodys_name() {
    let lines = "time_zone = \"UTC\"\ndaily = \"08:00-09:00\"\ndays = [\"mon\"]\noutput = \"{stream}.mp4\"\n";
    let ranges = "[{ from = \"-2d\", to = \"-1d\" }, { from = \"-1d\", to = \"now\" }]";
    // A Wednesday: neither range has a window now, and both have the same one next.
    let found = exports(&without_range(&format!("{lines}ranges = {ranges}\n")));
    assert_eq!(found.len(), 2);
    for export in found {
        assert!(export.pending);
        assert_eq!(export.spec.range.start(), utc("2024-07-08T08:00:00Z"));
    }
}

/// What tells two windows apart, by the hint.
fn hint(output: &str, lines: &str) -> String {
    let zone = "time_zone = \"America/Los_Angeles\"";
    let found = problems(&without_range(&format!("{zone}\noutput = \"{output}\"\n{lines}\n")));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].line, found[0].key.as_str()), (6, "job[1].output"));
    assert!(found[0].message.contains("two exports have one output"), "{}", found[0].message);
    found[0].accepted.clone().expect("a hint")
}

#[test]
fn windows_with_one_name_are_refused_with_what_tells_them_apart() {
    let hours = "from = 2023-11-05T00:00:00\nto = 2023-11-05T03:00:00\nsplit = \"1h\"";
    let days = "from = 2024-03-01\nto = 2024-03-04\nsplit = \"1d\"";
    let nights = "from = 2024-03-01\nto = 2024-03-04\ndaily = \"18:00-06:00\"";
    let hidden = hint("{stream}_{from:%Y%m%dT%H%M}.mp4", hours);
    assert!(hidden.contains("{from:%Y%m%dT%H%M%S%z}") && hidden.contains("is repeated"), "{hidden}");
    let hidden = hint("{stream}_{from:%Y-%m-%d}.mp4", hours);
    assert!(hidden.contains("{from:%Y%m%dT%H%M%S}") && hidden.contains("of one day"), "{hidden}");
    let hidden = hint("{stream}.mp4", days);
    assert!(hidden.contains("{from:%Y-%m-%d}") && hidden.contains("different days"), "{hidden}");
    // The end of the night before, and the night that begins that day.
    let hidden = hint("{stream}_{from:%Y-%m-%d}.mp4", nights);
    assert!(hidden.contains("{from:%Y%m%dT%H%M%S}"), "{hidden}");
    let ends = "ranges = [{ from = \"-3h\", to = \"-2h\" }, { from = \"-3h\", to = \"-1h\" }]";
    assert!(hint("{stream}_{from}.mp4", ends).contains("{to:%Y%m%dT%H%M%S}"));
    let close = "ranges = [{ from = 2024-03-01T00:00:00.5Z, to = 2024-03-01T01:00:00Z }, { from = \
                 2024-03-01T00:00:00.7Z, to = 2024-03-01T01:00:00Z }]";
    assert!(hint("{stream}_{from}.mp4", close).contains("{from:%Y%m%dT%H%M%S.%3f%z}"));
}

#[test]
fn the_default_names_of_all_windows_of_the_table_differ_and_name_their_begin() {
    for case in cases() {
        let now = utc(case.value("now").expect("a time of day"));
        // Two that do not would be refused.
        for Resolved { spec, .. } in load(source(&case.text()), now, &[]).expect("right").1 {
            let zone = spec.time_zone.as_deref().map(|name| Zone::parse(name).expect("a zone"));
            let begin = format_time(spec.range.start(), "%Y%m%dT%H%M%S%z", zone.as_ref()).expect("a time");
            let name = spec.output.to_string_lossy().into_owned();
            assert!(name.contains(&format!("/s_{begin}_")), "{name} {begin}");
        }
    }
}

const ZONES: [&str; 12] = [
    "UTC",
    "America/Los_Angeles",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Cairo",
    "Pacific/Apia",
    "America/St_Johns",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Asia/Kathmandu",
];
const DAY_MS: i64 = 86_400_000;

/// A zone, and a range of a few weeks between 2005 and 2045.
fn zone_and_range() -> impl Strategy<Value = (Zone, TimeRange)> {
    let begin = 1_104_537_600_000_i64..2_366_841_600_000;
    (0..ZONES.len(), begin, 1..30 * DAY_MS).prop_map(|(zone, begin, length)| {
        let range = TimeRange::new(UtcMillis::new(begin), UtcMillis::new(begin + length)).expect("not empty");
        (Zone::parse(ZONES[zone]).expect("a zone"), range)
    })
}

fn cut(range: TimeRange, split: Option<Split>, daily: Option<Daily>, zone: &Zone) -> Vec<TimeRange> {
    let bound = |instant| Bound { instant, warnings: Vec::new() };
    let windows = Cutter { split, daily, zone }.cut(&bound(range.start()), &bound(range.end()));
    windows.expect("windows").windows.into_iter().map(|window| window.range).collect()
}

/// A local time in a form that can be compared.
fn shown(instant: UtcMillis, zone: &Zone) -> jiff::civil::DateTime {
    zone.rules().to_datetime(instant.to_jiff().expect("in the calendar"))
}

proptest! {
    #[test]
    fn the_windows_of_a_split_cover_the_range_once_and_in_order((zone, range) in zone_and_range()) {
        // 25 hours, or two more where clocks are set by that.
        let longest = [DAY_MS / 24, 27 * DAY_MS / 24, 7 * DAY_MS + 3 * DAY_MS / 24];
        for ((_, split), longest) in Split::WORDS.into_iter().zip(longest) {
            let windows = cut(range, Some(split), None, &zone);
            prop_assert_eq!(windows[0].start(), range.start());
            prop_assert_eq!(windows[windows.len() - 1].end(), range.end());
            prop_assert!(windows.windows(2).all(|pair| pair[0].end() == pair[1].start()));
            prop_assert!(windows.iter().all(|window| window.length_ms() <= longest), "{:?}", windows);
            for window in &windows[1..] {
                let (before, at) = (shown(window.start() - 1, &zone), shown(window.start(), &zone));
                let begins = match split {
                    Split::Hour => at.hour() != before.hour() || at < before,
                    Split::Day => at.date() != before.date(),
                    Split::Week => at.date() != before.date() && at.date().weekday() == Weekday::Monday,
                };
                prop_assert!(begins, "{before} {at}");
            }
        }
    }

    #[test]
    fn daily_windows_lie_in_the_range_apart_from_each_other_and_show_their_hours(
        (zone, range) in zone_and_range(),
        from in 0..24_u32,
        hours in 1..21_u32,
        split in proptest::bool::ANY,
    ) {
        let to = (from + hours) % 24;
        let text = format!("{from:02}:20-{to:02}:20");
        let daily = Daily { hours: Hours::parse(&text).expect("hours"), days: Days::ALL };
        let split = split.then_some(Split::Hour);
        let windows = cut(range, split, Some(daily), &zone);
        for window in &windows {
            prop_assert!(range.start() <= window.start() && window.end() <= range.end());
            // Ends are clipped, cut or moved over what is skipped; within, the wall shows the window's hours.
            let middle = shown(window.start() + window.length_ms() / 2, &zone).time();
            let begin = jiff::civil::time(i8::try_from(from).expect("an hour"), 20, 0, 0);
            let end = jiff::civil::time(i8::try_from(to).expect("an hour"), 20, 0, 0);
            let within = if begin < end { begin <= middle && middle < end } else { begin <= middle || middle < end };
            let set = shown(window.start(), &zone).duration_until(shown(window.end(), &zone)).as_millis()
                != i128::from(window.length_ms());
            prop_assert!(within || set, "{text} {middle} {window}");
        }
        for pair in windows.windows(2) {
            prop_assert!(pair[0].end() <= pair[1].start(), "{} {}", pair[0], pair[1]);
        }
        // A night for each day of the range, but for one that its ends may miss.
        let days = usize::try_from(range.length_ms() / DAY_MS).expect("days");
        prop_assert!(split.is_some() || windows.len() + 1 >= days, "{} {days}", windows.len());
    }
}

#[test]
fn what_is_no_daily_window_is_refused() {
    for text in [
        "",
        "-",
        "18:00",
        "18:00-",
        "-06:00",
        "18-06",
        "18:00-6:00",
        "18:00-25:00",
        "24:00-06:00",
        "18:00-24:01",
        "18:00–06:00",
        "18:00-06:00-07:00",
        "18:00 to 06:00",
        "06:00:00.0001-07:00",
        "18:00+06:00",
    ] {
        assert!(Hours::parse(text).is_err(), "{text:?}");
    }
    let refusal = Hours::parse("18:00 - 06:00").expect_err("spaces");
    assert_eq!(refusal.suggestion.as_deref(), Some("\"18:00-06:00\""));
    for (text, canonical) in [
        ("18:00-06:00", "18:00-06:00"),
        ("18:00:00-24:00", "18:00-00:00"),
        ("18:00:30.5-19:00", "18:00:30.5-19:00"),
    ] {
        assert_eq!(Hours::parse(text).map(|hours| hours.to_string()), Ok(canonical.to_owned()));
    }
}

#[test]
fn a_range_is_not_cut_into_more_windows_than_anybody_means() {
    let text = |to: &str| {
        without_range(&format!(
            "time_zone = \"UTC\"\nfrom = 2024-01-01\nto = {to}\nsplit = \"1h\"\noutput = \"{{from}}.mp4\""
        ))
    };
    let found = problems(&text("9999-12-30"));
    assert_eq!((found.len(), found[0].line, found[0].key.as_str()), (1, 7, "job[1].to"));
    assert!(found[0].message.contains("more than 100000 windows"), "{}", found[0].message);
    assert_eq!(exports(&text("2034-01-01")).len(), 10 * 365 * 24 + 3 * 24);
}

#[test]
fn times_read_alike_in_daily_windows_and_in_ranges() {
    // A window whose ends are the range's own is the range, warnings included.
    let zone = Zone::parse("America/Los_Angeles").expect("a zone");
    let now = utc("2024-11-04T12:00:00Z");
    let time = |text: &str, side| {
        Bound::from(
            TimeExpression::parse(text).expect("a time").resolve(side, now, Some(&zone)).expect("one"),
        )
    };
    let (start, end) = (time("yesterday 01:10", Side::From), time("yesterday 01:50", Side::To));
    let daily = Daily { hours: Hours::parse("01:10-01:50").expect("hours"), days: Days::ALL };
    let cutter = Cutter { split: None, daily: Some(daily), zone: &zone };
    let windows = cutter.cut(&start, &end).expect("windows").windows;
    assert_eq!(windows, [Window::between(start, end).expect("not empty")]);
    assert_eq!(windows[0].warnings.len(), 2);
}
