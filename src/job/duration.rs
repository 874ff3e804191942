//! Lengths of time as a job file writes them: `500ms`, `90m`, `1h30m`, `2d`, `1w`.

use std::fmt;

use super::errors::Refusal;

const MILLIS_PER_DAY: u64 = 86_400_000;
/// A century: longer than any archive keeps, short enough for every sum to fit.
const MOST_DAYS: u64 = 36_525;
/// Name, milliseconds, and whether it is a calendar unit; in the order in which they may follow each other.
const UNITS: [(&str, u64, bool); 6] = [
    ("w", 7 * MILLIS_PER_DAY, true),
    ("d", MILLIS_PER_DAY, true),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// A length of time. Days are kept apart, since a local day may have 23 or 25 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Duration {
    /// Whole calendar days; weeks are seven.
    pub days: u32,
    /// Exact milliseconds on top.
    pub millis: u64,
}

impl Duration {
    /// The accepted form, for messages.
    pub const ACCEPTED: &str =
        "a number with a unit, such as \"500ms\", \"60s\", \"90m\", \"1h30m\", \"2d\", \"1w\"";

    /// Parses `1h30m` and its like: units at most once, the larger first.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refused = || Refusal::new(format!("{text:?} is not a length of time")).accepts(Self::ACCEPTED);
        let (mut days, mut millis) = (0_u64, 0_u64);
        let mut units = UNITS.iter();
        let mut rest = text;
        while !rest.is_empty() || text.is_empty() {
            let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
            let (unit, after) = split_where(after, |c| !c.is_ascii_lowercase());
            let number: u64 = number.parse().map_err(|_| refused())?;
            let (_, length, calendar) = units.find(|(name, ..)| *name == unit).ok_or_else(refused)?;
            let length = number.checked_mul(*length).ok_or_else(refused)?;
            if *calendar {
                days = days.saturating_add(length / MILLIS_PER_DAY);
            } else {
                millis = millis.saturating_add(length);
            }
            rest = after;
        }
        if days > MOST_DAYS || millis > MOST_DAYS * MILLIS_PER_DAY {
            return Err(Refusal::new(format!("{text:?} is longer than a century")).accepts(Self::ACCEPTED));
        }
        let days = u32::try_from(days).map_err(|_| refused())?;
        Ok(Self { days, millis })
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.days == 0 && self.millis == 0
    }

    /// All of it in milliseconds, a day taken as 24 hours.
    pub fn total_millis(self) -> u64 {
        u64::from(self.days) * MILLIS_PER_DAY + self.millis
    }
}

fn split_where(text: &str, at: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(at).unwrap_or(text.len()))
}

impl fmt::Display for Duration {
    /// The one canonical form: equal lengths have equal texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0s");
        }
        if self.days > 0 {
            write!(f, "{}d", self.days)?;
        }
        let mut rest = self.millis;
        for (name, length, _) in UNITS.iter().filter(|(.., calendar)| !calendar) {
            if rest >= *length {
                write!(f, "{}{name}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_and_sums_of_them_are_read() {
        for (text, days, millis) in [
            ("500ms", 0, 500),
            ("60s", 0, 60_000),
            ("90m", 0, 5_400_000),
            ("24h", 0, 86_400_000),
            ("1h30m", 0, 5_400_000),
            ("2d", 2, 0),
            ("1w", 7, 0),
            ("1w1d12h5ms", 8, 43_200_005),
            ("0s", 0, 0),
        ] {
            assert_eq!(Duration::parse(text), Ok(Duration { days, millis }), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5S",
            "1.5h",
            "5s1h",
            "5s5s",
            "5y",
            "99999999999999999999s",
            "200000w",
        ] {
            assert!(Duration::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn equal_lengths_have_one_text() {
        for (text, canonical) in [("90m", "1h30m"), ("1w", "7d"), ("3600s", "1h"), ("1500ms", "1s500ms")] {
            assert_eq!(Duration::parse(text).map(|d| d.to_string()), Ok(canonical.to_owned()));
        }
    }
}
