//! Tests of the lines that tell a run.

use super::*;
use crate::model::event::PauseReason;

fn id(n: u8) -> ExportId {
    ExportId(format!("{n:016x}"))
}

fn opened(n: u8, resumed: Option<(u64, u64)>) -> RunEvent {
    let start = UtcMillis::new(1_772_438_400_000);
    RunEvent::ExportOpened {
        export: id(n),
        job: "demo".to_owned(),
        stream: StreamSelector::parse(&format!("camera-{n}")).expect("a name"),
        range: TimeRange::new(start, start + 90_000).expect("not empty"),
        resumed,
    }
}

fn planned(n: u8, chunks: u64, last: bool) -> RunEvent {
    RunEvent::WindowPlanned {
        export: id(n),
        chunks,
        bytes: chunks * 1_000_000,
        media_ms: chunks * 15_000,
        last,
    }
}

fn fetched(n: u8) -> RunEvent {
    RunEvent::ChunkFetched { export: id(n), planned_bytes: 1_000_000, size_bytes: 990_000 }
}

fn finished(n: u8, state: ExportState, error: Option<&str>) -> RunEvent {
    RunEvent::ExportFinished { export: id(n), state, error: error.map(str::to_owned) }
}

/// The lines that these events are worth, and the state after them.
fn told(events: impl IntoIterator<Item = RunEvent>) -> (Vec<String>, RunState) {
    let mut state = RunState::default();
    let lines = events.into_iter().filter_map(|event| state.take(event, NOW)).map(|line| line.text).collect();
    (lines, state)
}

const NOW: Duration = Duration::from_secs(90);

#[test]
fn a_run_is_told_by_its_milestones() {
    let (lines, _) = told([
        opened(1, None),
        planned(1, 2, true),
        fetched(1),
        fetched(1),
        RunEvent::MergeStarted { export: id(1) },
        finished(1, ExportState::Done, None),
        opened(2, Some((7, 12))),
        RunEvent::Warning { message: "the camera's clock is\n26 h off".to_owned() },
        finished(2, ExportState::Failed, Some("cannot fetch: denied; allow kinesisvideo:GetClip")),
        opened(3, None),
        finished(3, ExportState::Empty, None),
        opened(4, None),
        finished(4, ExportState::Partial, None),
        RunEvent::Interrupted,
    ]);
    insta::assert_snapshot!(lines.join("\n"), @"
    demo camera-1 2026-03-02T08:00:00Z: started, up to 2026-03-02T08:01:30Z
    demo camera-1 2026-03-02T08:00:00Z: merging 2 chunks
    demo camera-1 2026-03-02T08:00:00Z: done
    demo camera-2 2026-03-02T08:00:00Z: resumed 7 of 12 chunks
    warning: the camera's clock is; 26 h off
    demo camera-2 2026-03-02T08:00:00Z: failed: cannot fetch: denied; allow kinesisvideo:GetClip
    demo camera-3 2026-03-02T08:00:00Z: started, up to 2026-03-02T08:01:30Z
    demo camera-3 2026-03-02T08:00:00Z: empty, no media in the range
    demo camera-4 2026-03-02T08:00:00Z: started, up to 2026-03-02T08:01:30Z
    demo camera-4 2026-03-02T08:00:00Z: partial, the manifest names what is missing
    interrupted: stopping; run the same command again to resume
    ");
}

#[test]
fn a_tick_tells_bytes_rate_time_left_and_trouble() {
    let (_, state) = told([
        opened(1, None),
        planned(1, 100, true),
        fetched(1),
        opened(2, None),
        planned(2, 20, true),
        RunEvent::Throttled { stream: "camera-1".to_owned() },
        RunEvent::Retrying {
            stream: "camera-1".to_owned(),
            api: "GetClip".to_owned(),
            attempt: 1,
            delay_ms: 200,
            error: "reset".to_owned(),
        },
        opened(3, None),
        finished(3, ExportState::Failed, None),
    ]);
    insta::assert_snapshot!(state.tick(Some(1_500_000), NOW), @"after 1 min 30 s: 1.0 MB of 120 MB, 1.5 MB/s, 1 min 20 s left, 1 of 120 chunks; 1 of 3 exports finished, 1 failed; throttled 1 time; 1 request sent again; camera-1 throttled, slowed down");
}

#[test]
fn totals_are_planned_so_far_while_anything_is_listed_or_not_yet_opened() {
    let (_, mut state) = told([RunEvent::RunStarted { exports: 2 }, opened(1, None), planned(1, 4, false)]);
    insta::assert_snapshot!(state.describe(None).join(", "), @"0 B of 4.0 MB planned so far, 0 of 4 chunks");
    assert_eq!(RunState::default().describe(None), ["looking at the streams"]);
    assert!(!RunState::default().sums().final_totals);
    state.take(planned(1, 4, true), NOW);
    insta::assert_snapshot!(state.tick(Some(1_000_000), NOW), @"after 1 min 30 s: 0 B of 8.0 MB planned so far, 1.0 MB/s, at least 8 s left, 0 of 8 chunks; 0 of 2 exports finished");
    state.take(opened(2, None), NOW);
    assert!(!state.sums().final_totals);
    state.take(planned(2, 2, true), NOW);
    insta::assert_snapshot!(state.describe(Some(1_000_000)).join(", "), @"0 B of 10.0 MB, 1.0 MB/s, 10 s left, 0 of 10 chunks");
}

#[test]
fn what_holds_the_run_up_is_in_every_tick_until_it_is_over() {
    let (lines, mut state) = told([
        opened(1, None),
        planned(1, 4, true),
        RunEvent::StreamPaused {
            stream: "camera-1".to_owned(),
            reason: PauseReason::Throttled,
            retry_ms: 15_000,
        },
        RunEvent::DiskLow { free: 3_200_000_000, needed: 5_000_000_000 },
    ]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    insta::assert_snapshot!(state.tick(None, NOW), @"after 1 min 30 s: 0 B of 4.0 MB, 0 of 4 chunks; 0 of 1 export finished; camera-1 throttled, next try in 15 s; disk: 3.2 GB free, 5.0 GB needed; fetching waits until merges make room");
    state.take(RunEvent::StreamResumed { stream: "camera-1".to_owned() }, NOW);
    state.take(RunEvent::DiskFreed, NOW);
    insta::assert_snapshot!(state.tick(None, NOW), @"after 1 min 30 s: 0 B of 4.0 MB, 0 of 4 chunks; 0 of 1 export finished");
}

#[test]
fn a_stream_of_which_no_export_is_open_holds_nothing_up() {
    let (_, state) = told([
        opened(1, None),
        RunEvent::StreamPaused { stream: "camera-1".to_owned(), reason: PauseReason::Away, retry_ms: 15_000 },
        finished(1, ExportState::Failed, Some("away for 30 min")),
    ]);
    assert_eq!(state.trouble.describe(NOW), [""; 0]);
}

#[test]
fn an_export_that_is_opened_again_is_one_export() {
    let (_, state) = told([RunEvent::RunStarted { exports: 1 }, opened(1, None), opened(1, Some((3, 4)))]);
    assert_eq!((state.exports().all, state.exports().opened), (1, 1));
}

#[test]
fn a_percentage_is_all_only_when_all_is_there() {
    assert_eq!((percent(0, 0), percent(999, 1000), percent(1000, 1000)), (100, 99, 100));
    assert_eq!(percent(u64::MAX, u64::MAX), 100);
}

#[test]
fn chunks_of_an_earlier_run_count_as_fetched() {
    let (_, mut state) = told([opened(1, Some((3, 4))), planned(1, 4, true)]);
    assert_eq!(state.sums().bytes_on_disk, 3_000_000);
    state.take(fetched(1), NOW);
    let sums = state.sums();
    assert_eq!((sums.chunks_on_disk, sums.chunks), (4, 4));
    assert_eq!((sums.bytes_on_disk, sums.bytes), (4_000_000, 4_000_000));
}

#[test]
fn a_split_chunk_counts_as_its_children() {
    let (_, mut state) = told([opened(1, None), planned(1, 1, true)]);
    state.take(RunEvent::ChunkSplit { export: id(1), into: 3 }, NOW);
    assert_eq!(state.sums().chunks, 3);
}

#[test]
fn a_failed_export_leaves_nothing_to_wait_for() {
    let (_, state) =
        told([opened(1, None), planned(1, 10, true), fetched(1), finished(1, ExportState::Failed, None)]);
    let sums = state.sums();
    assert_eq!(
        (sums.chunks_on_disk, sums.chunks, sums.bytes_on_disk, sums.bytes),
        (1, 1, 1_000_000, 1_000_000)
    );
}

#[test]
fn a_new_export_of_which_nothing_is_planned_has_no_chunks_and_no_division_by_zero() {
    let (_, state) = told([opened(1, None)]);
    assert_eq!(state.sums().bytes_on_disk, 0);
    assert_eq!(state.open[0].describe(), "demo camera-1 2026-03-02T08:00:00Z: listing");
}
