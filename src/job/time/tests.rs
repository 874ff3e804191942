use super::*;

const LOS_ANGELES: &str = "America/Los_Angeles";

fn utc(text: &str) -> UtcMillis {
    text.parse::<Timestamp>().expect("a timestamp").into()
}

fn zone(name: &str) -> Zone {
    Zone::parse(name).expect("a zone")
}

/// The instant and the warning of `text` in a zone.
fn resolved(text: &str, side: Side, now: &str, zone: &Zone) -> (String, Option<String>) {
    let expression = TimeExpression::parse(text).expect("a time");
    let time = expression.resolve(side, utc(now), Some(zone)).expect("resolves");
    (time.instant.to_string(), time.warning)
}

fn refused(text: &str, zone_name: &str) -> Refusal {
    let expression = TimeExpression::parse(text).expect("a time");
    expression
        .resolve(Side::From, utc("2025-01-01T00:00:00Z"), Some(&zone(zone_name)))
        .expect_err("is refused")
}

#[test]
fn every_form_of_a_time_means_its_instant() {
    let zone = zone(LOS_ANGELES);
    // 09:30:15.250 in Los Angeles.
    let now = "2024-07-04T16:30:15.250Z";
    for (text, instant) in [
        ("now", "2024-07-04T16:30:15.250Z"),
        ("today", "2024-07-04T07:00:00.000Z"),
        ("yesterday", "2024-07-03T07:00:00.000Z"),
        ("today 06:00", "2024-07-04T13:00:00.000Z"),
        ("yesterday 18:00", "2024-07-04T01:00:00.000Z"),
        ("yesterday 18:00:30.5", "2024-07-04T01:00:30.500Z"),
        ("2024-03-01 18:00", "2024-03-02T02:00:00.000Z"),
        ("2024-03-01T18:00", "2024-03-02T02:00:00.000Z"),
        ("2024-03-01T18:00:00", "2024-03-02T02:00:00.000Z"),
        ("2024-03-01", "2024-03-01T08:00:00.000Z"),
        ("2024-03-01T18:00:00Z", "2024-03-01T18:00:00.000Z"),
        ("2024-03-01T18:00:00.123+05:30", "2024-03-01T12:30:00.123Z"),
        ("2024-03-01 18:00:00-08:00", "2024-03-02T02:00:00.000Z"),
        ("-90m", "2024-07-04T15:00:15.250Z"),
        ("-1h30m", "2024-07-04T15:00:15.250Z"),
        ("-45s", "2024-07-04T16:29:30.250Z"),
        ("-2d", "2024-07-02T16:30:15.250Z"),
        ("-1w", "2024-06-27T16:30:15.250Z"),
        ("-1d12h", "2024-07-03T04:30:15.250Z"),
    ] {
        assert_eq!(resolved(text, Side::From, now, &zone), (instant.to_owned(), None), "{text}");
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "tomorrow",
        "noww",
        "Today",
        "today 6:00",
        "today 24:00",
        "today 06:00:60",
        "today  06:00",
        "today06:00",
        "now 06:00",
        "-",
        "-5",
        "- 5m",
        "2024-02-30",
        "2024-13-01",
        "2024-3-1",
        "2024-03-01T",
        "2024-03-01T25:00",
        "2024-03-01T18:00:00+0100",
        "2024-03-01T18:00:00+24:00",
        "2024-03-01T18:00:00Zz",
        "2024-03-01T18:00:00.Z",
        "2024-03-01T18:00:00[America/Los_Angeles]",
        "2024-03-01T18:00.5",
        "٢٠٢٤-03-01",
        "2024-03-01T18:00:00.0001",
    ] {
        assert!(TimeExpression::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_misspelt_day_is_recognised() {
    let refusal = TimeExpression::parse("yesterdy 18:00").expect_err("misspelt");
    assert_eq!(refusal.suggestion.as_deref(), Some("\"yesterday 18:00\""));
}

#[test]
fn a_fixed_local_time_that_exists_twice_is_refused_with_both_offsets() {
    let refusal = refused("2024-11-03T01:30:00", LOS_ANGELES);
    assert!(refusal.message.contains("exists twice"), "{refusal}");
    let accepted = refusal.accepted.expect("an accepted form");
    assert!(accepted.contains("2024-11-03T01:30:00-07:00 or 2024-11-03T01:30:00-08:00"), "{accepted}");
}

#[test]
fn a_fixed_local_time_that_does_not_exist_is_refused_with_times_that_do() {
    for (text, name, offers) in [
        ("2024-03-10 02:30", LOS_ANGELES, "2024-03-10T01:30:00-08:00 or 2024-03-10T03:30:00-07:00"),
        ("2024-03-10 02:00", LOS_ANGELES, "2024-03-10T01:00:00-08:00 or 2024-03-10T03:00:00-07:00"),
        // Lord Howe moves its clocks by half an hour.
        ("2024-10-06 02:15", "Australia/Lord_Howe", "2024-10-06T01:45:00+10:30 or 2024-10-06T02:45:00+11:00"),
    ] {
        let refusal = refused(text, name);
        assert!(refusal.message.contains("does not exist"), "{refusal}");
        let accepted = refusal.accepted.expect("an accepted form");
        assert!(accepted.contains(offers), "{accepted}");
    }
}

#[test]
fn the_offered_offsets_resolve_the_refused_time() {
    let zone = zone("Australia/Lord_Howe");
    let refusal = refused("2024-04-07 01:45", "Australia/Lord_Howe");
    let accepted = refusal.accepted.expect("an accepted form");
    let (_, offers) = accepted.split_once(": ").expect("offers");
    let offers: Vec<String> = offers
        .split(" or ")
        .map(|offer| resolved(offer, Side::From, "2025-01-01T00:00:00Z", &zone).0)
        .collect();
    assert_eq!(offers, ["2024-04-06T14:45:00.000Z", "2024-04-06T15:15:00.000Z"]);
}

#[test]
fn times_at_the_edges_of_a_change_of_clocks_are_unambiguous() {
    let zone = zone(LOS_ANGELES);
    let now = "2025-01-01T00:00:00Z";
    for (text, instant) in [
        ("2024-03-10 01:59:59.999", "2024-03-10T09:59:59.999Z"),
        ("2024-03-10 03:00", "2024-03-10T10:00:00.000Z"),
        ("2024-11-03 00:59:59.999", "2024-11-03T07:59:59.999Z"),
        ("2024-11-03 02:00", "2024-11-03T10:00:00.000Z"),
    ] {
        assert_eq!(resolved(text, Side::From, now, &zone), (instant.to_owned(), None), "{text}");
    }
}

#[test]
fn an_ambiguous_relative_time_is_the_earlier_as_from_and_the_later_as_to_with_a_warning() {
    let zone = zone(LOS_ANGELES);
    let now = "2024-11-04T02:00:00Z"; // still the 3rd there
    let (from, warning) = resolved("today 01:30", Side::From, now, &zone);
    assert_eq!(from, "2024-11-03T08:30:00.000Z");
    assert_eq!(
        warning.as_deref(),
        Some("2024-11-03T01:30:00 exists twice in America/Los_Angeles: taken as 2024-11-03T01:30:00-07:00")
    );
    let (to, warning) = resolved("today 01:30", Side::To, now, &zone);
    assert_eq!(to, "2024-11-03T09:30:00.000Z");
    assert!(warning.is_some_and(|warning| warning.ends_with("2024-11-03T01:30:00-08:00")));
}

#[test]
fn a_skipped_relative_time_is_the_next_valid_one_with_a_warning() {
    for side in [Side::From, Side::To] {
        for (text, now, name, instant) in [
            ("yesterday 02:30", "2024-03-11T12:00:00Z", LOS_ANGELES, "2024-03-10T10:00:00.000Z"),
            ("yesterday 02:00", "2024-03-11T12:00:00Z", LOS_ANGELES, "2024-03-10T10:00:00.000Z"),
            ("today 02:15", "2024-10-06T12:00:00Z", "Australia/Lord_Howe", "2024-10-05T15:30:00.000Z"),
            // Midnight itself is skipped in Cairo.
            ("today", "2024-04-26T12:00:00Z", "Africa/Cairo", "2024-04-25T22:00:00.000Z"),
            // Far beyond any table of transitions.
            ("yesterday 02:30", "2050-03-14T12:00:00Z", LOS_ANGELES, "2050-03-13T10:00:00.000Z"),
            // The clock showed 02:30 the day after; the same time a day before did not exist.
            ("-1d", "2024-03-11T09:30:00Z", LOS_ANGELES, "2024-03-10T10:00:00.000Z"),
        ] {
            let (found, warning) = resolved(text, side, now, &zone(name));
            assert_eq!(found, instant, "{text} {name}");
            assert!(warning.is_some_and(|warning| warning.contains("does not exist")), "{text} {name}");
        }
    }
}

#[test]
fn days_before_now_are_calendar_days_in_a_zone_and_24_hours_without_one() {
    let now = "2024-03-10T20:00:00Z"; // the day has 23 hours there
    assert_eq!(resolved("-1d", Side::From, now, &zone(LOS_ANGELES)).0, "2024-03-09T21:00:00.000Z");
    let without = TimeExpression::parse("-1d").expect("a time").resolve(Side::From, utc(now), None);
    assert_eq!(without.map(|time| time.instant.to_string()).as_deref(), Ok("2024-03-09T20:00:00.000Z"));
    assert_eq!(resolved("-24h", Side::From, now, &zone(LOS_ANGELES)).0, "2024-03-09T20:00:00.000Z");
}

#[test]
fn local_times_mean_nothing_without_a_zone() {
    for text in ["today", "yesterday 18:00", "2024-03-01 18:00"] {
        let expression = TimeExpression::parse(text).expect("a time");
        assert!(expression.resolve(Side::From, UtcMillis::new(0), None).is_err(), "{text}");
        assert!(expression.needs_zone(), "{text}");
    }
    assert!(!TimeExpression::parse("now").expect("a time").needs_zone());
}

#[test]
fn the_canonical_text_reads_back_as_the_same_expression() {
    for text in [
        "now",
        "today",
        "yesterday 18:00",
        "today 06:00:01.5",
        "-90m",
        "-2d",
        "-1w12h",
        "2024-03-01",
        "2024-03-01 18:00",
        "2024-03-01T18:00:00.250+01:00",
    ] {
        let expression = TimeExpression::parse(text).expect("a time");
        assert_eq!(TimeExpression::parse(&expression.to_string()), Ok(expression), "{text}");
    }
    let canonical = |text| TimeExpression::parse(text).expect("a time").to_string();
    assert_eq!(canonical("-90m"), canonical("-1h30m"));
    assert_eq!(canonical("-0s"), "now");
    assert_eq!(canonical("2024-03-01T18:00:00+01:00"), canonical("2024-03-01 17:00Z"));
}

#[test]
fn zones_are_found_by_name_and_misspelt_ones_recognised() {
    assert_eq!(zone("UTC").name(), "UTC");
    assert_eq!(zone("america/los_angeles").name(), LOS_ANGELES);
    let refusal = Zone::parse("America/Los_Angelos").expect_err("misspelt");
    assert_eq!(refusal.suggestion.as_deref(), Some("\"America/Los_Angeles\""));
    for name in ["", "PDTX", "Etc/Unknown", "-08:00"] {
        assert!(Zone::parse(name).is_err(), "{name:?}");
    }
}
