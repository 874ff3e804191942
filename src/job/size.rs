//! Sizes and rates as a job file writes them: `5 GB`, `1.5 TiB`, `200 MB/s`.

use bytesize::ByteSize;

use super::errors::Refusal;

/// The accepted form of a size, for messages.
pub(super) const ACCEPTED: &str = "a size with its unit, such as \"500 MB\", \"5 GB\", \"1.5 TiB\"";

/// The accepted form of a rate, for messages.
pub(super) const RATE_ACCEPTED: &str = "a rate such as \"200 MB/s\" or \"1.5 MiB/s\"";

/// Parses a size in bytes; decimal units (`MB`) are powers of 1000, binary ones (`MiB`) of 1024.
pub(super) fn parse(text: &str) -> Result<u64, Refusal> {
    bytes(text).ok_or_else(|| Refusal::new(format!("{text:?} is not a size")).accepts(ACCEPTED))
}

/// Parses a rate in bytes per second, at least 1.
pub(super) fn parse_rate(text: &str) -> Result<u64, Refusal> {
    let size = text.trim_end().strip_suffix("/s");
    match size.and_then(bytes) {
        Some(0) => Err(Refusal::new(format!("{text:?} would fetch nothing")).accepts(RATE_ACCEPTED)),
        Some(rate) => Ok(rate),
        None => Err(Refusal::new(format!("{text:?} is not a rate")).accepts(RATE_ACCEPTED)),
    }
}

fn bytes(text: &str) -> Option<u64> {
    // `Mb` is a megabit to many: eight times less than what was meant is worse than an error. A bare number too.
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
    if !unit.ends_with('B') {
        return None;
    }
    text.parse::<ByteSize>().ok().map(|size| size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_are_told_apart() {
        let sizes = [
            ("0 B", 0),
            ("5 GB", 5_000_000_000),
            ("5GB", 5_000_000_000),
            ("1.5 TB", 1_500_000_000_000),
            ("2 MiB", 2 << 20),
            ("100 kB", 100_000),
        ];
        for (text, size) in sizes {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        assert_eq!(parse_rate("200 MB/s"), Ok(200_000_000));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        for text in ["", "5", "GB", "5 Gb", "5 gigabytes", "-1 GB", "5 GB/s", "1 XB"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["", "200", "200 MB", "200 Mb/s", "0 MB/s", "MB/s", "200 MB/m"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
