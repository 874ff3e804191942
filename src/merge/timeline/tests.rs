use super::*;

const SECOND: i64 = 1_000_000_000;

fn placer(timeline: Timeline, media_clock: TimestampKind) -> TimelinePlacer {
    let mut subject = TimelinePlacer::new(TimelineRules { timeline, media_clock, gap_tolerance_ms: 1_000 });
    subject.begin_part(PartReason::Start, [90_000].into_iter());
    subject
}

/// A fragment of 25 pictures a second that starts at `start_ms`, with as much media.
fn media(start_ms: i64, length_ms: i64) -> FragmentMedia {
    let video = TrackExtent { first: 0, last: (length_ms - 40) * MS, end: length_ms * MS };
    FragmentMedia { start: Some(UtcMillis::new(start_ms)), leads: 0, listed_ms: 0, tracks: vec![Some(video)] }
}

fn begins(timeline: Timeline, starts: &[(i64, i64)]) -> Vec<i64> {
    let mut subject = placer(timeline, TimestampKind::Producer);
    starts.iter().map(|(start, length)| subject.place(&media(*start, *length)).begins / MS).collect()
}

#[test]
fn a_tolerated_gap_is_kept_and_does_not_add_up() {
    // 900 ms missing after every 2 s fragment.
    let starts: Vec<(i64, i64)> = (0..1_000).map(|i| (i * 2_900, 2_000)).collect();
    let expected: Vec<i64> = (0..1_000).map(|i| i * 2_900).collect();
    assert_eq!(begins(Timeline::Compact, &starts), expected);
    assert_eq!(begins(Timeline::Wallclock, &starts), expected);
}

#[test]
fn compact_closes_a_gap_above_the_tolerance_and_keeps_distances_after_it() {
    let starts = [(0, 2_000), (2_050, 2_000), (5_051, 2_000), (7_101, 2_000)];
    assert_eq!(begins(Timeline::Compact, &starts), [0, 2_050, 4_050, 6_100]);
    assert_eq!(begins(Timeline::Wallclock, &starts), [0, 2_050, 5_051, 7_101]);
}

#[test]
fn jitter_moves_a_fragment_by_the_least_amount_and_not_those_after_it() {
    for timeline in [Timeline::Compact, Timeline::Wallclock] {
        let mut subject = placer(timeline, TimestampKind::Producer);
        subject.place(&media(0, 2_000));
        let moved = subject.place(&media(1_940, 2_000));
        assert_eq!((moved.begins, moved.moved), (1_960 * MS + TICK_NANOS, 20 * MS + TICK_NANOS));
        let next = subject.place(&media(4_000, 2_000));
        assert_eq!((next.begins, next.moved), (4_000 * MS, 0));
    }
}

#[test]
fn an_overlap_is_a_new_part_on_the_wall_clock_and_follows_in_compact() {
    let mut wallclock = placer(Timeline::Wallclock, TimestampKind::Producer);
    wallclock.place(&media(0, 2_000));
    let landed = wallclock.place(&media(1_800, 2_000));
    assert_eq!((landed.new_part, landed.begins), (Some(PartReason::Overlap), 0));
    assert_eq!(wallclock.place(&media(3_800, 2_000)).begins, 2 * SECOND);

    let mut compact = placer(Timeline::Compact, TimestampKind::Producer);
    compact.place(&media(10_000, 2_000));
    let landed = compact.place(&media(3_000, 2_000));
    assert_eq!((landed.begins, landed.join), (2 * SECOND, Join::FollowsOverlap));
    assert_eq!(compact.place(&media(5_010, 2_000)).begins, 4_010 * MS);
}

#[test]
fn sessions_of_few_pictures_overlap_by_their_lengths() {
    // One picture a fragment: the next session's comes later, and yet before the fragment is over.
    let media = |start: i64| FragmentMedia { listed_ms: 950, ..media(start, 40) };
    let mut wallclock = placer(Timeline::Wallclock, TimestampKind::Producer);
    wallclock.place(&media(0));
    assert_eq!(wallclock.place(&media(127)).new_part, Some(PartReason::Overlap));
    assert_eq!(wallclock.place(&media(677)).new_part, None, "lengths jitter");

    let mut compact = placer(Timeline::Compact, TimestampKind::Producer);
    compact.place(&media(0));
    assert_eq!(compact.place(&media(127)).join, Join::FollowsOverlap);
}

#[test]
fn a_repeated_start_is_never_jitter() {
    let mut compact = placer(Timeline::Compact, TimestampKind::Server);
    compact.place(&media(0, 80));
    let landed = compact.place(&media(0, 80));
    assert_eq!((landed.begins, landed.join), (80 * MS, Join::FollowsOverlap));
}

#[test]
fn hops_of_the_servers_clock_are_jitter_up_to_the_tolerance() {
    let mut subject = placer(Timeline::Wallclock, TimestampKind::Server);
    subject.place(&media(0, 2_000));
    let landed = subject.place(&media(1_200, 2_000));
    assert_eq!((landed.new_part, landed.begins), (None, 1_960 * MS + TICK_NANOS));
    assert_eq!(subject.place(&media(2_000, 2_000)).new_part, Some(PartReason::Overlap));
}

#[test]
fn a_track_that_is_silent_too_long_starts_a_part() {
    let limit = (1_i64 << 31) * 9 / 10 / 90_000;
    let mut wallclock = placer(Timeline::Wallclock, TimestampKind::Producer);
    wallclock.place(&media(0, 2_000));
    assert_eq!(wallclock.place(&media(limit * 1_000, 2_000)).new_part, None);
    let landed = wallclock.place(&media(2 * limit * 1_000 + 3_000, 2_000));
    assert_eq!(landed.new_part, Some(PartReason::LongGap));

    // The picture goes on, the sound does not.
    let mut compact = placer(Timeline::Compact, TimestampKind::Producer);
    let with_sound = |start_ms: i64, has_sound: bool| {
        let mut media = media(start_ms, 20_000);
        media.tracks.push(media.tracks[0].filter(|_| has_sound));
        media
    };
    compact.place(&with_sound(0, true));
    for i in 1..=limit / 20 + 1 {
        assert_eq!(compact.place(&with_sound(i * 20_000, false)).new_part, None);
    }
    let landed = compact.place(&with_sound((limit / 20 + 2) * 20_000, true));
    assert_eq!(landed.new_part, Some(PartReason::LongGap));
}

#[test]
fn sound_that_leads_the_picture_is_not_overtaken() {
    let mut subject = placer(Timeline::Compact, TimestampKind::Producer);
    let with_sound = |start_ms: i64| {
        let mut media = media(start_ms, 2_000);
        let sound = TrackExtent { first: -30 * MS, last: 1_990 * MS, end: 2_011 * MS };
        media.tracks.push(Some(sound));
        media
    };
    subject.place(&with_sound(0));
    let landed = subject.place(&with_sound(2_000));
    assert_eq!((landed.begins, landed.moved), (2_020 * MS + TICK_NANOS, 20 * MS + TICK_NANOS));
}

#[test]
fn media_of_unknown_start_follows_the_track_that_leads_and_adds_nothing_up() {
    let sound = TrackExtent { first: 5 * MS, last: 1_990 * MS, end: 2_013 * MS };
    let media = |leads| {
        let known = media(0, 2_000);
        FragmentMedia { start: None, leads, tracks: vec![known.tracks[0], Some(sound)], ..known }
    };
    for (leads, distance) in [(0, 2_000), (1, 2_008)] {
        let mut subject = placer(Timeline::Compact, TimestampKind::Server);
        for index in 0..1_000 {
            let placement = subject.place(&media(leads));
            assert_eq!((placement.begins, placement.moved), (index * distance * MS, 0));
        }
    }
}
