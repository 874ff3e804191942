//! Windows: the spans of one range that are exported one by one, as `split`, `daily` and `days` cut it.
//!
//! All of it goes by the clock on a wall in the job's zone. `daily` takes its hours out of every day, `split` cuts
//! where a local hour, day or ISO week begins; both are clipped to the range. A split loses no instant and has none
//! twice, whatever the clocks do: a day has 23 or 25 hours, a repeated hour is two windows.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};

use super::duration::Duration;
use super::errors::Refusal;
use super::time::{ResolvedTime, Side, Zone, moving, out_of_range, parse_time, whole_millis};
use crate::model::{TimeRange, UtcMillis};

const MILLIS_PER_HOUR: i64 = 3_600_000;
const MILLIS_PER_DAY: i64 = 24 * MILLIS_PER_HOUR;

/// The most windows of one range: more than eleven years by the hour, and a year mistyped is found before it fills the memory.
const MOST_WINDOWS: usize = 100_000;

/// Where `split` cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// At each full hour of the local clock, and where it is set.
    Hour,
    /// Where a local day begins.
    Day,
    /// Where a Monday begins.
    Week,
}

impl Split {
    /// All of them with the words of a job file.
    pub(super) const WORDS: [(&str, Self); 3] = [("1h", Self::Hour), ("1d", Self::Day), ("1w", Self::Week)];

    /// The word of a job file.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, split)| *split == self).map_or("", |(word, _)| *word)
    }

    /// How long a window is between days on which clocks are set.
    const fn length_ms(self) -> i64 {
        match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => MILLIS_PER_DAY,
            Self::Week => 7 * MILLIS_PER_DAY,
        }
    }

    /// The first cut after an instant.
    fn next(self, after: UtcMillis, zone: &Zone) -> Result<UtcMillis, Refusal> {
        match self {
            Self::Hour => next_hour(after, zone),
            Self::Day => next_day(after, zone, 1, 1),
            Self::Week => {
                let today = local_date(after, zone)?.weekday().to_monday_zero_offset();
                next_day(after, zone, 7 - i64::from(today), 7)
            }
        }
    }
}

/// The next full hour of the local clock, or the instant at which it is set, if that comes first: clocks are not only
/// set at full hours, and then what follows is no longer that hour.
fn next_hour(after: UtcMillis, zone: &Zone) -> Result<UtcMillis, Refusal> {
    let timestamp = after.to_jiff().ok_or_else(out_of_range)?;
    let offset = zone.rules().to_offset(timestamp);
    let local_ms = after.get() + i64::from(offset.seconds()) * 1000;
    let full = after + (MILLIS_PER_HOUR - local_ms.rem_euclid(MILLIS_PER_HOUR));
    // A change of the zone's name alone sets no clock.
    let set = zone
        .rules()
        .following(timestamp)
        .take_while(|change| UtcMillis::from(change.timestamp()) < full)
        .find(|change| change.offset() != offset);
    Ok(set.map_or(full, |change| change.timestamp().into()))
}

/// The first beginning of a local day after an instant, of those that come so many days after its own, and then in such
/// steps.
fn next_day(after: UtcMillis, zone: &Zone, first: i64, step: i64) -> Result<UtcMillis, Refusal> {
    let mut date = days_after(local_date(after, zone)?, first)?;
    loop {
        // A midnight that is repeated has begun its day when it came first.
        let begins = moving(date.to_datetime(Time::midnight()), Side::From, zone)?.instant;
        if begins > after {
            return Ok(begins);
        }
        // The day is not in this zone's calendar, or clocks were set back over its beginning.
        date = days_after(date, step)?;
    }
}

fn local_date(instant: UtcMillis, zone: &Zone) -> Result<Date, Refusal> {
    Ok(zone.rules().to_datetime(instant.to_jiff().ok_or_else(out_of_range)?).date())
}

fn days_after(date: Date, days: i64) -> Result<Date, Refusal> {
    date.checked_add(jiff::Span::new().days(days)).map_err(|_| out_of_range())
}

/// The hours of a daily window, `18:00-06:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: Time,
    /// On the next day, unless it is later than `from`.
    to: Time,
}

impl Hours {
    /// The accepted form, for messages.
    pub(super) const ACCEPTED: &str =
        "two local times such as \"18:00-06:00\" (over midnight), \"08:00-17:30\", \"18:00-24:00\"";

    /// Reads `18:00-06:00`. Two equal times are a whole day.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let compact: String = text.split_whitespace().collect();
        if compact != text {
            let near = Self::parse(&compact).is_ok().then(|| format!("{compact:?}"));
            return Err(Self::refused(text).suggests(near));
        }
        let (from, to) = text.split_once('-').ok_or_else(|| Self::refused(text))?;
        let from = parse_time(from).ok_or_else(|| Self::refused(text))?;
        let to = if to == "24:00" { Some(Time::midnight()) } else { parse_time(to) };
        let to = to.ok_or_else(|| Self::refused(text))?;
        whole_millis(text, from)?;
        whole_millis(text, to)?;
        Ok(Self { from, to })
    }

    fn refused(text: &str) -> Refusal {
        Refusal::new(format!("{text:?} is not the time of a daily window")).accepts(Self::ACCEPTED)
    }

    fn is_over_midnight(self) -> bool {
        self.to <= self.from
    }

    /// How long it is between days on which clocks are set.
    fn length_ms(self) -> i64 {
        let within_a_day = i64::try_from(self.from.duration_until(self.to).as_millis()).unwrap_or_default();
        if self.is_over_midnight() { within_a_day + MILLIS_PER_DAY } else { within_a_day }
    }
}

impl fmt::Display for Hours {
    /// The one canonical form: equal hours have equal texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |time: Time| {
            if time.second() == 0 && time.subsec_nanosecond() == 0 {
                format!("{:02}:{:02}", time.hour(), time.minute())
            } else {
                time.to_string()
            }
        };
        write!(f, "{}-{}", short(self.from), short(self.to))
    }
}

/// The days of the week on which a daily window begins, `["mon", "tue"]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days([bool; 7]);

impl Days {
    /// Every day.
    pub const ALL: Self = Self([true; 7]);

    /// The accepted form, for messages.
    pub(super) const ACCEPTED: &str =
        "a list of \"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\", each at most once";

    /// The days with the words of a job file.
    pub(super) const WORDS: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];

    /// These days, whatever their order.
    pub(super) fn of(days: &[Weekday]) -> Self {
        Self(Self::WORDS.map(|(_, day)| days.contains(&day)))
    }

    fn has(self, date: Date) -> bool {
        let chosen = self.0.iter().zip(Self::WORDS);
        chosen.into_iter().any(|(chosen, (_, day))| *chosen && day == date.weekday())
    }
}

impl fmt::Display for Days {
    /// In the order of the week.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = self.0.iter().zip(Self::WORDS).filter(|(chosen, _)| **chosen);
        f.write_str(&chosen.map(|(_, (word, _))| word).collect::<Vec<_>>().join(","))
    }
}

/// A window on each of some days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    /// From when to when.
    pub hours: Hours,
    /// The local days on which it begins.
    pub days: Days,
}

impl fmt::Display for Daily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hours.fmt(f)?;
        if self.days == Days::ALL { Ok(()) } else { write!(f, " on {}", self.days) }
    }
}

/// Refuses a split that would not cut the daily window.
pub(super) fn check_split(split: Split, hours: Hours) -> Result<(), Refusal> {
    if split.length_ms() < hours.length_ms() {
        return Ok(());
    }
    let length = Duration { days: 0, millis: hours.length_ms().unsigned_abs() };
    Err(Refusal::new(format!(
        "split = \"{}\" does not cut daily = \"{hours}\", a window of {length}",
        split.as_str()
    ))
    .accepts("a `split` shorter than the daily window, such as \"1h\", or no `split`"))
}

/// One end of a window, and what its reader should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) instant: UtcMillis,
    pub(super) warnings: Vec<String>,
}

impl From<ResolvedTime> for Bound {
    fn from(time: ResolvedTime) -> Self {
        Self { instant: time.instant, warnings: time.warning.into_iter().collect() }
    }
}

impl Bound {
    fn plain(instant: UtcMillis) -> Self {
        Self { instant, warnings: Vec::new() }
    }

    /// Whether its time does not exist, or exists twice.
    pub(super) fn is_moved(&self) -> bool {
        !self.warnings.is_empty()
    }

    /// This bound, unless `other` replaces it; of two that are one instant both have something to say.
    fn or(mut self, other: &Self, replaced_by: impl Fn(&UtcMillis, &UtcMillis) -> bool) -> Self {
        if replaced_by(&self.instant, &other.instant) {
            return other.clone();
        }
        if self.instant == other.instant {
            self.warnings.extend(
                other.warnings.iter().filter(|it| !self.warnings.contains(it)).cloned().collect::<Vec<_>>(),
            );
        }
        self
    }
}

/// A span that is exported by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) range: TimeRange,
    pub(super) warnings: Vec<String>,
}

impl Window {
    /// All between two bounds, if there is something between them.
    pub(super) fn between(start: Bound, end: Bound) -> Option<Self> {
        let range = TimeRange::new(start.instant, end.instant)?;
        let mut warnings = start.warnings;
        warnings.extend(end.warnings);
        Some(Self { range, warnings })
    }
}

/// The windows of a range, in their order.
#[derive(Debug, Default)]
pub(super) struct Windows {
    pub(super) windows: Vec<Window>,
    /// What was left out and no window is there to tell.
    pub(super) left_out: Vec<String>,
}

impl Windows {
    fn push(&mut self, start: Bound, end: Bound) -> Result<(), Refusal> {
        // One that ends before the range begins is none of its.
        let Some(mut window) = Window::between(start, end) else { return Ok(()) };
        if self.windows.len() == MOST_WINDOWS {
            return Err(Refusal::new(format!("the range is cut into more than {MOST_WINDOWS} windows"))
                .accepts("a shorter range, or a longer `split`"));
        }
        window.warnings.append(&mut self.left_out);
        self.windows.push(window);
        Ok(())
    }
}

/// Cuts ranges into windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutter<'z> {
    pub(super) split: Option<Split>,
    pub(super) daily: Option<Daily>,
    pub(super) zone: &'z Zone,
}

impl Cutter<'_> {
    /// Cuts the range between two bounds.
    pub(super) fn cut(self, start: &Bound, end: &Bound) -> Result<Windows, Refusal> {
        let mut windows = Windows::default();
        match self.daily {
            None => self.add(&mut windows, start.clone(), end.clone())?,
            Some(daily) => self.add_daily(&mut windows, daily, start, end)?,
        }
        if let Some(last) = windows.windows.last_mut() {
            last.warnings.append(&mut windows.left_out);
        }
        Ok(windows)
    }

    /// The first window that begins at `from` or later, which tells what a range without windows has left out.
    pub(super) fn next(self, without: Windows, from: UtcMillis) -> Result<Windows, Refusal> {
        // A week has one of every day, and two days more are enough where some are skipped. What began the day before
        // is not cut to look as if it began now.
        let (start, end) = (Bound::plain(from - MILLIS_PER_DAY), Bound::plain(from + 9 * MILLIS_PER_DAY));
        let mut windows = self.cut(&start, &end)?.windows;
        windows.retain(|window| window.range.start() >= from);
        windows.truncate(1);
        if let Some(next) = windows.first_mut() {
            next.warnings.splice(0..0, without.left_out);
        }
        Ok(Windows { windows, left_out: Vec::new() })
    }

    /// Makes the last of a range's windows whole where the range's `end` cuts it; tells where that one begins.
    pub(super) fn complete_last(
        self,
        windows: &mut [Window],
        end: UtcMillis,
    ) -> Result<Option<UtcMillis>, Refusal> {
        let Some(last) = windows.last_mut().filter(|last| last.range.end() == end) else { return Ok(None) };
        let begin = last.range.start();
        // As long as the longest window, and two days more.
        let whole = self.cut(&Bound::plain(begin), &Bound::plain(end + 9 * MILLIS_PER_DAY))?;
        let whole = whole.windows.into_iter().find(|window| window.range.start() == begin);
        let Some(whole) = whole.filter(|whole| whole.range.end() > end) else { return Ok(None) };
        *last = whole;
        Ok(Some(begin))
    }

    fn add_daily(
        self,
        windows: &mut Windows,
        Daily { hours, days }: Daily,
        start: &Bound,
        end: &Bound,
    ) -> Result<(), Refusal> {
        // The window of the day before may reach into the range; over a day that is not in the calendar, that of two.
        let mut date = days_after(local_date(start.instant, self.zone)?, -2)?;
        loop {
            let next_date = days_after(date, 1)?;
            if days.has(date) {
                let from = moving(date.to_datetime(hours.from), Side::From, self.zone)?;
                if from.instant >= end.instant {
                    return Ok(());
                }
                let last_date = if hours.is_over_midnight() { next_date } else { date };
                let to = moving(last_date.to_datetime(hours.to), Side::To, self.zone)?;
                if from.instant < to.instant {
                    let from = Bound::from(from).or(start, |own, start| own < start);
                    let to = Bound::from(to).or(end, |own, end| own > end);
                    self.add(windows, from, to)?;
                } else if start.instant <= from.instant {
                    windows.left_out.push(format!(
                        "the daily window of {date}, {hours}, is left out: the clocks of {} skip it",
                        self.zone.name()
                    ));
                }
            }
            date = next_date;
        }
    }

    /// Adds what lies between two bounds, cut where `split` cuts.
    fn add(self, windows: &mut Windows, mut start: Bound, end: Bound) -> Result<(), Refusal> {
        while let Some(split) = self.split.filter(|_| start.instant < end.instant) {
            let cut = split.next(start.instant, self.zone)?;
            if cut >= end.instant {
                break;
            }
            let rest = Bound::plain(cut);
            windows.push(start, rest.clone())?;
            start = rest;
        }
        windows.push(start, end)
    }
}
