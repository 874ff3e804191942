//! Time expressions: what `from` and `to` may say, and which instant that is.
//!
//! Fixed local times must exist exactly once in their zone; times that hang on the current day are moved to
//! what exists, with a warning, since nobody is there to correct a nightly job in March.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::duration::Duration;
use super::errors::{Refusal, nearest};
use crate::model::UtcMillis;
use crate::model::spec::RangeAnchor;

/// A time zone with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    pub(super) const ACCEPTED: &str = "an IANA time zone such as \"America/Los_Angeles\", or \"UTC\"";
    /// The key with which a job has one, for messages.
    pub(super) const ACCEPTED_KEY: &str =
        "time_zone = \"America/Los_Angeles\" (or another) in the job or in [defaults]";

    /// Finds the zone of an IANA name.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        match TimeZone::get(name) {
            Ok(rules) if !rules.is_unknown() => {
                let name = rules.iana_name().unwrap_or(name).to_owned();
                Ok(Self { name, rules })
            }
            _ => {
                let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
                let near = nearest(name, known.iter().map(String::as_str));
                Err(Refusal::new(format!("there is no time zone {name:?}"))
                    .accepts(Self::ACCEPTED)
                    .suggests(near.map(|near| format!("{near:?}"))))
            }
        }
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules.
    pub const fn rules(&self) -> &TimeZone {
        &self.rules
    }
}

/// Which end of a range a time is; decides between the two instants of an ambiguous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The earlier end: an ambiguous time means its first instant.
    From,
    /// The later end: an ambiguous time means its second instant.
    To,
}

/// What `from` or `to` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeExpression {
    /// A date-time with an offset: one instant, whatever the zone.
    Instant(UtcMillis),
    /// A local date-time, in the job's zone.
    Local(DateTime),
    /// `today`, `yesterday`, with or without a time of day, in the job's zone.
    Day {
        /// 0 for today, 1 for yesterday.
        days_back: u8,
        /// The time of day, midnight unless said.
        time: Time,
    },
    /// So long before now: `-90m`, `-2d`; `now` itself is zero.
    Ago(Duration),
}

/// An instant and what its reader should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedTime {
    /// The instant.
    pub instant: UtcMillis,
    /// How a time that does not exist, or exists twice, was taken.
    pub warning: Option<String>,
}

impl TimeExpression {
    /// The accepted forms, for messages.
    pub const ACCEPTED: &str = "a date-time such as 2024-03-01T18:00:00-08:00 or 2024-03-01T18:00:00, or \"now\", \
         \"today\", \"yesterday 18:00\", \"today 06:00\", \"2024-03-01 18:00\", \"-90m\", \"-2d\"";

    /// Parses any of the text forms.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text == "now" {
            return Ok(Self::Ago(Duration::default()));
        }
        if let Some(duration) = text.strip_prefix('-') {
            return Duration::parse(duration).map(Self::Ago).map_err(|_| Self::refused(text));
        }
        let (first, rest) = text.split_once(' ').map_or((text, None), |(a, b)| (a, Some(b)));
        let days_back = match first {
            "today" => 0,
            "yesterday" => 1,
            _ => return Self::parse_absolute(text),
        };
        let time = rest.map_or(Some(Time::midnight()), parse_time).ok_or_else(|| Self::refused(text))?;
        whole_millis(text, time)?;
        Ok(Self::Day { days_back, time })
    }

    /// Parses a date, a local date-time or a date-time with an offset; what TOML date-times print as.
    pub fn parse_absolute(text: &str) -> Result<Self, Refusal> {
        let refused = || Self::refused(text);
        let Some((date, rest)) = text.split_at_checked(10) else {
            return Err(refused());
        };
        let date = parse_date(date).ok_or_else(refused)?;
        if rest.is_empty() {
            return Ok(Self::Local(date.to_datetime(Time::midnight())));
        }
        let rest = rest.strip_prefix(['T', 't', ' ']).ok_or_else(refused)?;
        let (time, offset) = match rest.find(['Z', 'z', '+', '-']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let time = parse_time(time).ok_or_else(refused)?;
        whole_millis(text, time)?;
        let local = date.to_datetime(time);
        if offset.is_empty() {
            return Ok(Self::Local(local));
        }
        let offset = parse_offset(offset).ok_or_else(refused)?;
        let instant = offset.to_timestamp(local).map_err(|_| refused())?;
        Ok(Self::Instant(instant.into()))
    }

    fn refused(text: &str) -> Refusal {
        let words = ["now", "today", "yesterday"];
        let near = nearest(text.split(' ').next().unwrap_or(text), words).filter(|_| text.is_ascii());
        let rest = text.split_once(' ').map_or(String::new(), |(_, rest)| format!(" {rest}"));
        let near = near.map(|word| format!("\"{word}{rest}\"")).filter(|near| *near != format!("{text:?}"));
        Refusal::new(format!("{text:?} is not a time")).accepts(Self::ACCEPTED).suggests(near)
    }

    /// What the expression hangs on.
    pub const fn anchor(&self) -> RangeAnchor {
        match self {
            Self::Instant(_) | Self::Local(_) => RangeAnchor::Absolute,
            Self::Day { .. } => RangeAnchor::Day,
            Self::Ago(_) => RangeAnchor::Now,
        }
    }

    /// Whether every run resolves it to the same instant.
    pub const fn is_absolute(&self) -> bool {
        matches!(self, Self::Instant(_) | Self::Local(_))
    }

    /// Whether it means nothing without a zone. (Days before now are 24 hours then.)
    pub const fn needs_zone(&self) -> bool {
        matches!(self, Self::Local(_) | Self::Day { .. })
    }

    /// Whether the zone decides which instant it is.
    pub const fn depends_on_zone(&self) -> bool {
        match self {
            Self::Instant(_) => false,
            Self::Local(_) | Self::Day { .. } => true,
            Self::Ago(duration) => duration.days > 0,
        }
    }

    /// The instant it means at `now`.
    pub fn resolve(&self, side: Side, now: UtcMillis, zone: Option<&Zone>) -> Result<ResolvedTime, Refusal> {
        let plain = |instant| ResolvedTime { instant, warning: None };
        match (*self, zone) {
            (Self::Instant(instant), _) => Ok(plain(instant)),
            (Self::Local(local), Some(zone)) => fixed(local, zone).map(plain),
            (Self::Day { days_back, time }, Some(zone)) => {
                let today = local_now(now, zone)?.date();
                let day = days_before(today, u32::from(days_back))?;
                moving(day.to_datetime(time), side, zone)
            }
            (Self::Local(_) | Self::Day { .. }, None) => Err(Self::zone_needed()),
            (Self::Ago(ago), Some(zone)) if ago.days > 0 => {
                let local = local_now(now, zone)?;
                let day = days_before(local.date(), ago.days)?;
                let mut time = moving(day.to_datetime(local.time()), side, zone)?;
                time.instant = earlier(time.instant, ago.millis)?;
                Ok(time)
            }
            (Self::Ago(ago), _) => earlier(now, ago.total_millis()).map(plain),
        }
    }

    /// The refusal of a local time in a job without `time_zone`.
    pub(super) fn zone_needed() -> Refusal {
        Refusal::new("a local time needs a time_zone")
            .accepts(format!("{}, or a date-time with its offset", Zone::ACCEPTED_KEY))
    }
}

impl fmt::Display for TimeExpression {
    /// The one canonical text: equal expressions have equal texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant(instant) => instant.fmt(f),
            Self::Local(local) => local.fmt(f),
            Self::Day { days_back, time } => {
                write!(f, "{} {time}", if *days_back == 0 { "today" } else { "yesterday" })
            }
            Self::Ago(ago) if ago.is_zero() => f.write_str("now"),
            Self::Ago(ago) => write!(f, "-{ago}"),
        }
    }
}

pub(super) fn out_of_range() -> Refusal {
    Refusal::new("the time is outside the calendar")
}

fn earlier(instant: UtcMillis, millis: u64) -> Result<UtcMillis, Refusal> {
    i64::try_from(millis).map(|millis| instant - millis).map_err(|_| out_of_range())
}

fn local_now(now: UtcMillis, zone: &Zone) -> Result<DateTime, Refusal> {
    let now = now.to_jiff().ok_or_else(out_of_range)?;
    Ok(zone.rules.to_datetime(now))
}

fn days_before(date: Date, days: u32) -> Result<Date, Refusal> {
    date.checked_sub(jiff::Span::new().days(i64::from(days))).map_err(|_| out_of_range())
}

/// The instant of a local time that must exist exactly once.
fn fixed(local: DateTime, zone: &Zone) -> Result<UtcMillis, Refusal> {
    let name = &zone.name;
    let at = |offset: Offset| offset.to_timestamp(local).map_err(|_| out_of_range());
    match zone.rules.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset).map(UtcMillis::from),
        AmbiguousOffset::Gap { before, after } => {
            // Shown as clocks on the wall show them: the same reading by the other offset would not exist either.
            let (earlier, later) =
                (at(after)?.display_with_offset(before), at(before)?.display_with_offset(after));
            Err(Refusal::new(format!("{local} does not exist in {name}: the clocks skip it"))
                .accepts(format!("a time that exists, with its offset: {earlier} or {later}")))
        }
        AmbiguousOffset::Fold { before, after } => {
            let (first, second) =
                (at(before)?.display_with_offset(before), at(after)?.display_with_offset(after));
            Err(Refusal::new(format!("{local} exists twice in {name}: the clocks are set back"))
                .accepts(format!("the time with its offset: {first} or {second}")))
        }
    }
}

/// The instant of a local time that hangs on the current day; a time that is not unique is settled by its side.
pub(super) fn moving(local: DateTime, side: Side, zone: &Zone) -> Result<ResolvedTime, Refusal> {
    let name = &zone.name;
    let at = |offset: Offset| offset.to_timestamp(local).map_err(|_| out_of_range());
    let (timestamp, why) = match zone.rules.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            return Ok(ResolvedTime { instant: at(offset)?.into(), warning: None });
        }
        AmbiguousOffset::Gap { before, .. } => (first_after_gap(at(before)?, zone), "does not exist"),
        AmbiguousOffset::Fold { before, after } => (
            at(match side {
                Side::From => before,
                Side::To => after,
            })?,
            "exists twice",
        ),
    };
    let shown = timestamp.display_with_offset(zone.rules.to_offset(timestamp));
    Ok(ResolvedTime {
        instant: timestamp.into(),
        warning: Some(format!("{local} {why} in {name}: taken as {shown}")),
    })
}

/// The end of the gap in which a local time lies, given that time read with the offset from before the gap.
fn first_after_gap(read_with_offset_before: Timestamp, zone: &Zone) -> Timestamp {
    // `preceding` is strict, and the first skipped reading is the transition itself.
    let just_after = read_with_offset_before + jiff::SignedDuration::from_nanos(1);
    zone.rules
        .preceding(just_after)
        .next()
        .map_or(read_with_offset_before, |transition| transition.timestamp())
}

pub(super) fn whole_millis(text: &str, time: Time) -> Result<(), Refusal> {
    if time.subsec_nanosecond() % 1_000_000 == 0 {
        return Ok(());
    }
    Err(Refusal::new(format!("{text:?} is finer than a millisecond")).accepts("at most three decimals"))
}

/// Exactly `count` digits.
fn digits<T: std::str::FromStr>(text: &str, count: usize) -> Option<T> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// `2024-03-01`.
fn parse_date(text: &str) -> Option<Date> {
    let [year, month, day] = parts(text, '-')?;
    Date::new(digits(year, 4)?, digits(month, 2)?, digits(day, 2)?).ok()
}

/// `06:00`, `06:00:00`, `06:00:00.000`.
pub(super) fn parse_time(text: &str) -> Option<Time> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
    let (hour, minute, second) = match (parts(clock, ':'), parts(clock, ':')) {
        (Some([hour, minute, second]), _) => (hour, minute, second),
        (_, Some([hour, minute])) if fraction.is_none() => (hour, minute, "00"),
        _ => return None,
    };
    let nanos: i32 = match fraction {
        None => 0,
        Some(fraction) if (1..=9).contains(&fraction.len()) => digits(&format!("{fraction:0<9}"), 9)?,
        Some(_) => return None,
    };
    Time::new(digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?, nanos).ok()
}

/// `Z`, `+01:00`, `-08:00`.
fn parse_offset(text: &str) -> Option<Offset> {
    if matches!(text, "Z" | "z") {
        return Some(Offset::UTC);
    }
    let (sign, text) = text.strip_prefix('-').map_or((1, text.strip_prefix('+')), |rest| (-1, Some(rest)));
    let [hours, minutes] = parts(text?, ':')?;
    let (hours, minutes): (i32, i32) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn parts<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    text.split(separator).collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests;
