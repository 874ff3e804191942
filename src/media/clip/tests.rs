use super::*;
use crate::model::{FragmentNumber, UtcMillis};

/// Fragments by start and listed length, in milliseconds.
fn planned(fragments: &[(i64, u32)]) -> Vec<Fragment> {
    let numbered = fragments.iter().enumerate();
    numbered
        .map(|(number, (start, length_ms))| Fragment {
            number: FragmentNumber::parse(&(number + 1).to_string()).expect("number"),
            producer: UtcMillis::new(1_700_000_000_000 + start),
            server: UtcMillis::new(1_700_000_000_500 + start),
            length_ms: *length_ms,
            size_bytes: 1,
        })
        .collect()
}

/// Places fragments on key frames, all in milliseconds.
fn place(fragments: &[(i64, u32)], keys: &[i64], end: i64) -> Result<Placed, UnusableClip> {
    let keys: Vec<KeyFrame> = (0..).zip(keys).map(|(sample, ms)| KeyFrame { sample, pts: ms * MS }).collect();
    Expectations::new(&planned(fragments), 40 * MS).place(&keys, end * MS)
}

fn places(fragments: &[(i64, u32)], keys: &[i64], end: i64) -> Vec<i64> {
    match place(fragments, keys, end) {
        Ok(Placed::All(starts)) => starts.into_iter().map(|key| keys[key]).collect(),
        Ok(Placed::Short(present)) => panic!("short: {present}"),
        Err(reason) => panic!("{reason}"),
    }
}

fn present(fragments: &[(i64, u32)], keys: &[i64], end: i64) -> usize {
    match place(fragments, keys, end) {
        Ok(Placed::Short(present)) => present,
        Ok(Placed::All(_)) => panic!("complete"),
        Err(reason) => panic!("{reason}"),
    }
}

#[test]
fn kept_and_closed_gaps_are_both_understood() {
    let fragments = [(0, 1_960), (2_000, 1_960), (4_900, 1_960), (6_900, 1_960)];
    assert_eq!(places(&fragments, &[0, 2_000, 4_900, 6_900], 8_900), [0, 2_000, 4_900, 6_900]);
    assert_eq!(places(&fragments, &[0, 2_000, 4_000, 6_000], 8_000), [0, 2_000, 4_000, 6_000]);
}

#[test]
fn several_key_frames_a_fragment_are_told_from_its_start_under_both_timings() {
    let fragments = [(0, 3_960), (4_000, 3_960), (9_500, 3_960), (13_500, 3_960)];
    let kept = [0, 2_000, 4_000, 6_000, 9_500, 11_500, 13_500, 15_500];
    assert_eq!(places(&fragments, &kept, 17_500), [0, 4_000, 9_500, 13_500]);
    let closed = [0, 2_000, 4_000, 6_000, 8_000, 10_000, 12_000, 14_000];
    assert_eq!(places(&fragments, &closed, 16_000), [0, 4_000, 8_000, 12_000]);
}

#[test]
fn lengths_listed_as_zero_or_too_small_do_no_harm() {
    assert_eq!(places(&[(0, 0), (2_000, 0), (4_000, 0)], &[0, 2_000, 4_000], 6_000), [0, 2_000, 4_000]);
    // One picture a second, the last left out.
    assert_eq!(places(&[(0, 1_000), (2_000, 1_000)], &[0, 2_000], 4_000), [0, 2_000]);
    assert_eq!(places(&[(0, 0)], &[0], 1_000), [0]);
}

#[test]
fn a_clip_without_its_tail_says_how_many_fragments_are_whole() {
    let fragments: Vec<(i64, u32)> = (0..200).map(|i| (i * 2_000, 1_960)).collect();
    let keys: Vec<i64> = (0..150).map(|i| i * 2_000).collect();
    assert_eq!(present(&fragments, &keys, 300_000), 150);
    assert_eq!(present(&fragments, &keys, 299_000), 149, "the last one is cut");
    // Two key frames a fragment: more of them than fragments, and still too few.
    let keys: Vec<i64> = (0..260).map(|i| i * 1_000).collect();
    assert_eq!(present(&fragments, &keys, 260_000), 130);
    // As many key frames as fragments, but half of the media.
    let keys: Vec<i64> = (0..200).map(|i| i * 1_000).collect();
    assert_eq!(present(&fragments, &keys, 200_000), 100);
}

#[test]
fn a_last_fragment_that_ends_early_is_not_present() {
    assert_eq!(present(&[(0, 1_960), (2_000, 1_960)], &[0, 2_000], 3_000), 1);
    assert_eq!(present(&[(0, 1_960)], &[0], 1_000), 0);
}

#[test]
fn a_hole_or_more_media_than_planned_is_not_taken_for_the_plan() {
    let fragments: Vec<(i64, u32)> = (0..5).map(|i| (i * 2_000, 1_960)).collect();
    let hole = place(&fragments, &[0, 2_000, 6_000, 8_000], 10_000);
    assert!(matches!(hole, Err(UnusableClip::Mismatch(2))));
    let keys: Vec<i64> = (0..6).map(|i| i * 2_000).collect();
    assert!(matches!(place(&fragments, &keys, 12_000), Err(UnusableClip::MoreThanPlanned)));
}

#[test]
fn an_extent_takes_the_usual_distance_where_the_last_length_is_stretched() {
    let sample =
        |pts: i64, duration: i64| Sample { offset: 0, size: 1, dts: pts, pts, duration, is_sync: false };
    let mut measure = Measure::default();
    for (pts, duration) in [(0, 40), (80, 40), (40, 40), (120, 940)] {
        measure.add(&sample(pts * MS, duration * MS));
    }
    let extent = measure.finish(0, None).expect("samples");
    assert_eq!(extent, TrackExtent { first: 0, last: 120 * MS, end: 160 * MS });
}

#[test]
fn two_pictures_at_almost_the_same_time_do_not_tell_how_long_one_lasts() {
    let sample = |pts: i64, duration: i64| Sample {
        offset: 0,
        size: 1,
        dts: pts * MS,
        pts: pts * MS,
        duration: duration * MS,
        is_sync: true,
    };
    let measured = |samples: &[(i64, i64)]| {
        let mut measure = Measure::default();
        for (pts, duration) in samples {
            measure.add(&sample(*pts, *duration));
        }
        measure.finish(0, None).expect("samples").end / MS
    };
    assert_eq!(measured(&[(0, 2), (2, 500)]), 502);
    // A length that was stretched over a pause is not believed.
    assert_eq!(measured(&[(0, 100), (100, 900)]), 200);
}
