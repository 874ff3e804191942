//! Numbers as people read them: decimal bytes, lengths of time, counted nouns.

use std::time::Duration;

/// Bytes in decimal units with about three digits: `950 B`, `12.3 MB`, `123 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        // What would be shown as 1000 is shown in the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$} {unit}")
}

/// A length of time in its two largest units: `0.4 s`, `1.5 s`, `4 s`, `3 min 0 s`, `2 h 5 min`, `3 d 4 h`.
pub fn millis(ms: u64) -> String {
    let seconds = ms.saturating_add(500) / 1000;
    let tenths = ms.saturating_add(50) / 100;
    match seconds {
        _ if ms == 0 => "0 s".to_owned(),
        _ if ms < 50 => format!("{ms} ms"),
        // Tenths matter in a gap, and only where they are not zero.
        0..10 if !tenths.is_multiple_of(10) => format!("{}.{} s", tenths / 10, tenths % 10),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A length of time in its two largest units.
pub fn duration(length: Duration) -> String {
    millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

/// A count with its noun: `1 export`, `2 exports`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The text on one line, without control characters: it may come from a server and goes to a terminal.
pub fn one_line(text: &str) -> String {
    let parts: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    parts.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_decimal_and_never_show_a_thousand_of_a_unit() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_960, "100 kB"),
            (999_600, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000_000, "5.0 TB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_show_their_two_largest_units() {
        let cases = [
            (0, "0 s"),
            (7, "7 ms"),
            (420, "0.4 s"),
            (949, "0.9 s"),
            (950, "1 s"),
            (4_000, "4 s"),
            (4_234, "4.2 s"),
            (9_970, "10 s"),
            (42_300, "42 s"),
            (59_700, "1 min 0 s"),
            (180_000, "3 min 0 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(millis(ms), text);
        }
    }

    #[test]
    fn a_text_from_elsewhere_cannot_move_the_cursor() {
        assert_eq!(one_line("denied\n  by \u{1b}[31mthe service\r\n"), "denied; by  [31mthe service");
    }
}
