//! Progress on a terminal: a block of lines that is drawn anew in place. The run as a whole, a line for every
//! open export as far as the terminal is high enough, and what holds the run up.

use std::time::Duration;

use console::truncate_str;

use super::screen::{self, Size};
use super::state::{OpenExport, Phase, RunState, percent};

/// A part of the terminal, one in so many lines, is left to what was told before.
const KEPT_FREE: usize = 4;

/// The run as it stands, in lines for the terminal.
pub(super) fn lines(state: &RunState, rate: Option<u64>, now: Duration) -> Vec<String> {
    block(state, rate, now, screen::size())
}

/// The lines of the block; none is wider than the terminal, and they leave some of its height free.
fn block(state: &RunState, rate: Option<u64>, now: Duration, size: Size) -> Vec<String> {
    // A line that reaches the last column makes some terminals begin a new one.
    let width = size.width.saturating_sub(1).max(1);
    let trouble = state.trouble.describe(now);
    let mut lines = vec![total(state, rate, width)];
    let room = size
        .height
        .saturating_sub((size.height / KEPT_FREE).max(2))
        .saturating_sub(lines.len() + trouble.len())
        .max(1);
    let shown = if state.open.len() > room { room - 1 } else { state.open.len() };
    let (told, summed) = state.open.split_at(shown);
    lines.extend(told.iter().map(export));
    lines.extend(sum(summed, shown > 0));
    lines.extend(trouble);
    lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
}

/// The run as a whole, with as much of its description as there is room for.
fn total(state: &RunState, rate: Option<u64>, width: usize) -> String {
    let sums = state.sums();
    let mut line = String::new();
    if sums.final_totals && sums.bytes > 0 {
        let share = percent(sums.bytes_on_disk, sums.bytes);
        line = format!("{}{share:>3}%  ", bar(share, width));
    }
    let mut parts = state.describe(rate);
    if state.exports().all > 1 {
        parts.push(state.describe_exports());
    }
    let mut parts = parts.into_iter();
    line += &parts.next().unwrap_or_default();
    for part in parts {
        if line.chars().count() + 2 + part.chars().count() > width {
            break;
        }
        line += &format!(", {part}");
    }
    line
}

/// A bar where there is room for one.
fn bar(share: u64, width: usize) -> String {
    let cells: usize = match width {
        0..50 => return String::new(),
        50..79 => 10,
        _ => 20,
    };
    let full = usize::try_from(share).unwrap_or(100).min(100) * cells / 100;
    let head = usize::from(full < cells);
    format!("[{}{}{}] ", "=".repeat(full), ">".repeat(head), " ".repeat(cells - full - head))
}

fn export(open: &OpenExport) -> String {
    let at = match (open.phase, open.percent()) {
        (Phase::Merging, _) => "merge".to_owned(),
        (_, Some(share)) => format!("{share:>4}%"),
        (_, None) => " list".to_owned(),
    };
    format!("{at}  {}", open.describe())
}

/// The exports that have no line of their own.
fn sum(summed: &[OpenExport], after_others: bool) -> Option<String> {
    if summed.is_empty() {
        return None;
    }
    let phases = [(Phase::Merging, "merging"), (Phase::Fetching, "fetching"), (Phase::Listing, "listing")];
    let counts: Vec<String> = phases
        .into_iter()
        .map(|(phase, word)| (summed.iter().filter(|open| open.phase == phase).count(), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let more = if after_others { " more" } else { "" };
    Some(format!("       {}{more}: {}", summed.len(), counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{PauseReason, RunEvent};
    use crate::model::{ExportId, ExportState, StreamSelector, TimeRange, UtcMillis};

    const NOW: Duration = Duration::from_secs(130);
    const RATE: Option<u64> = Some(12_300_000);

    fn id(n: u64) -> ExportId {
        ExportId(format!("{n:016x}"))
    }

    fn state(exports: u64) -> RunState {
        let mut state = RunState::default();
        state.take(RunEvent::RunStarted { exports }, Duration::ZERO);
        for n in 1..=exports {
            let start = UtcMillis::new(1_772_438_400_000);
            let events = [
                RunEvent::ExportOpened {
                    export: id(n),
                    job: "nightly".to_owned(),
                    stream: StreamSelector::Name(format!("yard-{n}")),
                    range: TimeRange::new(start, start + 43_200_000).expect("not empty"),
                    resumed: (n == 1).then_some((7, 12)),
                },
                RunEvent::WindowPlanned {
                    export: id(n),
                    chunks: 12,
                    bytes: 1_200_000_000,
                    media_ms: 1,
                    last: true,
                },
            ];
            for event in events {
                state.take(event, Duration::ZERO);
            }
        }
        state
    }

    fn drawn(state: &RunState, width: usize, height: usize) -> String {
        let lines = block(state, RATE, NOW, Size { width, height });
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest < width && lines.len() < height, "{lines:#?}");
        lines.join("\n")
    }

    #[test]
    fn the_run_an_export_each_and_the_trouble_have_a_line() {
        let mut state = state(2);
        state.take(RunEvent::MergeStarted { export: id(2) }, NOW);
        let (reason, retry_ms) = (PauseReason::Throttled, 15_000);
        state.take(RunEvent::StreamPaused { stream: "yard-1".to_owned(), reason, retry_ms }, NOW);
        insta::assert_snapshot!(drawn(&state, 120, 30), @"
        [===============>    ]  79%  1.9 GB of 2.4 GB, 12.3 MB/s, 41 s left, 7 of 24 chunks, 0 of 2 exports finished, 1 merging
          58%  nightly yard-1 2026-03-02T08:00:00Z: 7 of 12 chunks
        merge  nightly yard-2 2026-03-02T08:00:00Z: merging 12 chunks
        yard-1 throttled, next try in 15 s
        ");
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters_most() {
        let mut state = state(2);
        let (reason, retry_ms) = (PauseReason::Away, 15_000);
        state.take(RunEvent::StreamPaused { stream: "yard-1".to_owned(), reason, retry_ms }, NOW);
        insta::assert_snapshot!(drawn(&state, 40, 30), @"
         29%  700 MB of 2.4 GB, 12.3 MB/s
          58%  nightly yard-1 2026-03-02T08:00…
           0%  nightly yard-2 2026-03-02T08:00…
        service away for 0 s (yard-1), next tr…
        ");
        insta::assert_snapshot!(drawn(&state, 60, 30), @"
        [==>       ]  29%  700 MB of 2.4 GB, 12.3 MB/s
          58%  nightly yard-1 2026-03-02T08:00:00Z: 7 of 12 chunks
           0%  nightly yard-2 2026-03-02T08:00:00Z: 0 of 12 chunks
        service away for 0 s (yard-1), next try in 15 s
        ");
    }

    #[test]
    fn thirty_exports_fit_a_low_terminal() {
        let mut state = state(30);
        state.take(RunEvent::MergeStarted { export: id(9) }, NOW);
        state.take(RunEvent::DiskLow { free: 1, needed: 2 }, NOW);
        insta::assert_snapshot!(drawn(&state, 100, 8), @"
        [=>                  ]   5%  1.9 GB of 36.0 GB, 12.3 MB/s, 46 min 13 s left, 7 of 360 chunks
          58%  nightly yard-1 2026-03-02T08:00:00Z: 7 of 12 chunks
           0%  nightly yard-2 2026-03-02T08:00:00Z: 0 of 12 chunks
           0%  nightly yard-3 2026-03-02T08:00:00Z: 0 of 12 chunks
               27 more: 1 merging, 26 fetching
        disk: 1 B free, 2 B needed; fetching waits until merges make room
        ");
        assert_eq!(block(&state, RATE, NOW, Size { width: 100, height: 44 }).len(), 32);
    }

    #[test]
    fn while_the_plan_grows_there_is_no_percentage_of_it() {
        let mut state = state(1);
        state.take(RunEvent::RunStarted { exports: 500 }, NOW);
        insta::assert_snapshot!(drawn(&state, 120, 30), @"
        700 MB of 1.2 GB planned so far, 12.3 MB/s, at least 41 s left, 7 of 12 chunks, 0 of 500 exports finished
          58%  nightly yard-1 2026-03-02T08:00:00Z: 7 of 12 chunks
        ");
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(0, 0), (1, 1), (3, 2)] {
            let lines = block(&state(5), RATE, NOW, Size { width, height });
            assert!(lines.iter().all(|line| line.chars().count() <= width.max(2)), "{lines:?}");
            assert!(lines.len() <= 2, "{lines:?}");
        }
    }

    #[test]
    fn an_open_export_has_a_line_until_it_is_finished() {
        let mut state = state(1);
        assert!(drawn(&state, 100, 30).contains("yard-1 2026-03-02T08:00:00Z: 7 of 12 chunks"));
        state.take(RunEvent::ExportFinished { export: id(1), state: ExportState::Done, error: None }, NOW);
        assert!(!drawn(&state, 100, 30).contains("yard-1"));
    }
}
