//! Merges made with the real ffmpeg, judged by ffprobe.

mod support;

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use self::support::*;
use super::*;

/// Merges `chunks` and demands that every packet of every clip is in the outputs, once and in order, at the place
/// that `begins` gives each of the fragments: part, and milliseconds of the part.
fn assert_exact(request: &MergeRequest, chunks: &[MergeChunk], begins: &[(usize, i64)]) -> MergeReport {
    assert_packets(request, chunks, &expected_packets(chunks, begins))
}

fn assert_packets(request: &MergeRequest, chunks: &[MergeChunk], expected: &[Vec<Packet>]) -> MergeReport {
    let report = run(request, chunks).expect("merged");
    assert_eq!(report.parts.len(), expected.len(), "parts");
    for (part, expected) in report.parts.iter().zip(expected) {
        let found = packets(&part.path);
        for stream in 0..2 {
            let of = |all: &[Packet]| all.iter().filter(|p| p.stream == stream).cloned().collect::<Vec<_>>();
            let (found, expected) = (of(&found), of(expected));
            assert_eq!(found.len(), expected.len(), "packets of stream {stream}");
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found.hash, expected.hash, "payload {at} of stream {stream}");
                let off = (found.micros - expected.micros).abs();
                assert!(off <= 200, "packet {at} of stream {stream}: {found:?} {expected:?}");
            }
        }
        assert_eq!(part.tracks[0].samples, expected.iter().filter(|p| p.stream == 0).map(|_| 1).sum::<u64>());
        assert_eq!(part.size_bytes, std::fs::metadata(&part.path).expect("stat").len());
        assert_eq!(part.sha256, sha256_of(&part.path));
    }
    let mut left: Vec<_> = std::fs::read_dir(&request.folder).expect("list").collect();
    left.retain(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension() != Some("mp4".as_ref())));
    assert!(left.is_empty(), "stray files: {left:?}");
    report
}

#[test]
fn clips_that_follow_each_other_are_joined_without_a_seam() {
    for base in [Base::Plain, Base::BFrames, Base::H265] {
        let (_folder, request) = fresh_request(Timeline::Compact);
        let chunks = chunks_of(base, &[0, 4_000, 10_000], 12_000, |ms| ms);
        let begins: Vec<_> = (0..6).map(|i| (0, i * 2_000)).collect();
        let report = assert_exact(&request, &chunks, &begins);
        assert_eq!(report.join_count, 0, "{base:?}");
    }
}

#[test]
fn a_gap_between_clips_is_closed_or_kept() {
    // Ten minutes are missing after the second clip.
    let wall = |ms: i64| if ms >= 10_000 { ms + 600_000 } else { ms };
    for base in [Base::Plain, Base::BFrames] {
        let chunks = chunks_of(base, &[0, 4_000, 10_000], 12_000, wall);
        let (_folder, request) = fresh_request(Timeline::Wallclock);
        let begins: Vec<_> = (0..6).map(|i| (0, wall(i * 2_000))).collect();
        assert_exact(&request, &chunks, &begins);
    }
}

#[test]
fn a_gap_soon_after_the_beginning_is_kept_with_sound_too() {
    // A thousand times the length of an AAC frame are 21 s.
    let wall = |ms: i64| if ms >= 2_000 { ms + 60_000 } else { ms };
    let chunks = chunks_of(Base::Plain, &[0, 2_000, 8_000], 12_000, wall);
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let begins: Vec<_> = (0..6).map(|i| (0, wall(i * 2_000))).collect();
    assert_exact(&request, &chunks, &begins);
}

/// The two ways the service may time a gap of 900 ms before the third fragment of a clip.
fn clip_with_inner_gap(base: Base, keeps_starts: bool) -> Vec<MergeChunk> {
    let wall = |ms: i64| if ms >= 4_000 { ms + 900 } else { ms };
    let mut chunks = chunks_of(base, &[0, 8_000], 12_000, wall);
    if keeps_starts {
        let path = delayed_inside(&chunks[0].path, 100, 4_000, 900);
        chunks[0] = chunk(path, chunks[0].fragments.clone());
    }
    chunks
}

#[test]
fn a_small_gap_inside_a_clip_comes_out_right_however_the_service_times_it() {
    for base in [Base::Plain, Base::BFrames] {
        for keeps_starts in [false, true] {
            for timeline in [Timeline::Compact, Timeline::Wallclock] {
                let (_folder, request) = fresh_request(timeline);
                let chunks = clip_with_inner_gap(base, keeps_starts);
                let begins = [0, 2_000, 4_900, 6_900, 8_900, 10_900].map(|ms| (0, ms));
                assert_exact(&request, &chunks, &begins);
            }
        }
    }
}

#[test]
fn compact_closes_a_gap_at_the_end_of_the_media_before_it() {
    let wall = |ms: i64| if ms >= 8_000 { ms + 3_600_000 } else { ms };
    let (_folder, request) = fresh_request(Timeline::Compact);
    let chunks = chunks_of(Base::Silent, &[0, 8_000], 12_000, wall);
    let report = run(&request, &chunks).expect("merged");
    let begins = [0, 2_000, 4_000, 6_000, 8_000, 10_000].map(|ms| (0, ms));
    let found: Vec<i64> = packets(&report.parts[0].path).iter().map(|packet| packet.micros).collect();
    let expected: Vec<i64> = expected_packets(&chunks, &begins)[0].iter().map(|p| p.micros).collect();
    assert_eq!(found, expected);
    assert_eq!(report.joins.len(), 1);
    assert_eq!((report.joins[0].join, report.joins[0].at_ms), (Join::ClosesGap, 8_000));
}

#[test]
fn an_overlap_starts_a_new_part_on_the_wall_clock_and_follows_in_compact() {
    // The camera restarted and its clock went back by three seconds.
    let wall = |ms: i64| if ms >= 8_000 { ms - 3_000 } else { ms };
    let chunks = chunks_of(Base::Silent, &[0, 8_000], 12_000, wall);
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let report = run(&request, &chunks).expect("merged");
    let names: Vec<_> = report.parts.iter().map(|part| part.path.file_name().expect("name")).collect();
    assert_eq!(names, ["front-gate-part1.mp4", "front-gate-part2.mp4"]);
    assert_eq!(report.parts[1].reason, PartReason::Overlap);
    assert_eq!(report.parts[1].start, UtcMillis::new(EPOCH + 5_000));
    let second = packets(&report.parts[1].path);
    assert_eq!((second.len(), second[0].micros), (100, 0));

    let (_folder, request) = fresh_request(Timeline::Compact);
    let report = run(&request, &chunks).expect("merged");
    let micros: Vec<i64> = packets(&report.parts[0].path).iter().map(|packet| packet.micros).collect();
    assert_eq!(micros, (0..300).map(|i| i * 40_000).collect::<Vec<_>>());
    assert_eq!(report.joins[0].join, Join::FollowsOverlap);
}

#[test]
fn a_gap_that_no_file_can_hold_starts_a_new_part() {
    let wall = |ms: i64| if ms >= 8_000 { ms + 7 * 3_600_000 } else { ms };
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let chunks = chunks_of(Base::Plain, &[0, 8_000], 12_000, wall);
    let begins = [(0, 0), (0, 2_000), (0, 4_000), (0, 6_000), (1, 0), (1, 2_000)];
    let report = assert_exact(&request, &chunks, &begins);
    assert_eq!(report.parts[1].reason, PartReason::LongGap);
}

#[test]
fn a_gap_just_short_of_that_stays_in_one_file() {
    let wall = |ms: i64| if ms >= 8_000 { ms + 21_000_000 } else { ms };
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let chunks = chunks_of(Base::BFrames, &[0, 8_000], 12_000, wall);
    let begins: Vec<_> = (0..6).map(|i| (0, wall(i * 2_000))).collect();
    assert_exact(&request, &chunks, &begins);
}

#[test]
fn a_change_of_resolution_starts_a_new_part_or_fails() {
    let mut chunks = chunks_of(Base::Plain, &[0], 12_000, |ms| ms);
    chunks.extend(chunks_of(Base::Larger, &[0], 12_000, |ms| ms + 12_000));
    let (_folder, mut request) = fresh_request(Timeline::Compact);
    let begins: Vec<_> = [0, 1].iter().flat_map(|part| (0..6).map(|i| (*part, i * 2_000))).collect();
    let report = assert_exact(&request, &chunks, &begins);
    assert_eq!(report.parts[1].reason, PartReason::CodecChange);
    assert!(report.parts[0].changes.is_empty());
    let [change] = &report.parts[1].changes[..] else { panic!("{:?}", report.parts[1].changes) };
    assert_eq!(change.from.as_ref().map(|form| form.width), Some(320));
    assert_eq!(change.to.as_ref().map(|form| form.width), Some(640));
    assert_eq!((report.parts[0].tracks[0].width, report.parts[1].tracks[0].width), (320, 640));

    let (_folder, fresh) = fresh_request(Timeline::Compact);
    request = MergeRequest { on_codec_change: OnCodecChange::Fail, ..fresh };
    let error = run(&request, &chunks).expect_err("refused");
    let told = error.to_string();
    assert!(matches!(error, MergeError::CodecChange { .. }), "{error:?}");
    let new = &chunks[1].fragments[0];
    for words in [
        new.number.as_str(),
        &new.producer.to_string(),
        &new.server.to_string(),
        "h264 320x180 to h264 640x360",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

/// One clip of two sessions that began 2 ms apart, its fragments in turn of the one and the other; told as two chunks,
/// or as one whose selection goes back.
fn two_sessions_in_a_clip(at_once: bool) -> Vec<MergeChunk> {
    let mut both = chunks_of(Base::Silent, &[0], 12_000, |ms| ms).remove(0);
    let start = |index: i64| UtcMillis::new(EPOCH + index / 2 * 2_000 + index % 2 * 2);
    for (index, fragment) in (0..).zip(&mut both.fragments) {
        fragment.producer = start(index);
    }
    let selected = |first: usize| {
        let places = (first..6).step_by(2);
        places.map(|index| Selected { index, start: both.fragments[index].producer }).collect::<Vec<_>>()
    };
    let of = |selection| MergeChunk { selection, ..both.clone() };
    if at_once {
        vec![of([selected(0), selected(1)].concat())]
    } else {
        vec![of(selected(0)), of(selected(1))]
    }
}

#[test]
fn two_sessions_in_one_clip_follow_each_other_or_are_two_parts() {
    for at_once in [false, true] {
        let chunks = two_sessions_in_a_clip(at_once);
        for (timeline, second) in [(Timeline::Compact, (0, 6_000)), (Timeline::Wallclock, (1, 0))] {
            let (_folder, request) = fresh_request(timeline);
            let report = run(&request, &chunks).expect("merged");
            let begins: Vec<(usize, i64)> = (0..6)
                .map(|index| match (index % 2, index / 2 * 2_000) {
                    (0, ms) => (0, ms),
                    (_, ms) => (second.0, second.1 + ms),
                })
                .collect();
            let mut expected = expected_packets(&chunks[..1], &begins);
            for (part, expected) in report.parts.iter().zip(&mut expected) {
                expected.sort_by_key(|packet| packet.micros);
                assert_eq!(packets(&part.path), *expected, "{timeline:?}");
            }
            assert_eq!(report.parts.len(), expected.len());
        }
    }
}

#[test]
fn sound_that_begins_or_ends_is_told_as_that() {
    for (first, second, words) in [
        (Base::Silent, Base::Plain, "sound begins (aac 48000 Hz, "),
        (Base::Plain, Base::Silent, "sound ends (aac 48000 Hz, "),
    ] {
        let mut chunks = chunks_of(first, &[0], 12_000, |ms| ms);
        chunks.extend(chunks_of(second, &[0], 12_000, |ms| ms + 12_000));
        let (_folder, fresh) = fresh_request(Timeline::Compact);
        let request = MergeRequest { on_codec_change: OnCodecChange::Fail, ..fresh };
        let told = run(&request, &chunks).expect_err("refused").to_string();
        assert!(told.contains(words) && !told.contains("video"), "{told}");
        let (_folder, request) = fresh_request(Timeline::Compact);
        let report = run(&request, &chunks).expect("merged");
        assert_eq!((report.parts.len(), report.parts[1].changes.len()), (2, 1));
    }
}

/// How far the first sound of each fragment of a file is from its key frame, in microseconds, as ffprobe sees it;
/// sound before the first key frame belongs to the first fragment, and what begins within a millisecond before another to
/// that one.
fn offsets(path: &Path) -> Vec<i64> {
    let all = packets(path);
    let keys: Vec<i64> =
        all.iter().filter(|packet| packet.stream == 0 && packet.is_key).map(|packet| packet.micros).collect();
    let sound = || all.iter().filter(|packet| packet.stream == 1).map(|packet| packet.micros);
    let begun = |at: &i64| keys.iter().rposition(|key| *key <= at + 1_000).unwrap_or(0);
    let of = |place: usize| sound().find(|at| begun(at) == place).map(|at| at - keys[place]);
    (0..keys.len()).filter_map(of).collect()
}

#[test]
fn the_offset_of_sound_from_pictures_is_kept_and_measured() {
    let near = |a: i64, b: i64| (a - b).abs() <= 100;
    for base in [Base::Plain, Base::BFrames, Base::ALaw] {
        // Each clip after the first begins a minute late: a join with an offset of its own.
        let chunks = chunks_of(base, &[0, 4_000, 10_000], 12_000, |ms| ms + (ms + 2_000) / 6_000 * 60_000);
        let recorded: Vec<i64> = chunks.iter().flat_map(|chunk| offsets(&chunk.path)).collect();
        let (_folder, request) = fresh_request(Timeline::Compact);
        let report = run(&request, &chunks).expect("merged");
        let told = report.av_offset_us.expect("there is sound");
        assert!(
            told.min <= told.median && told.median <= told.max && told.largest_change < 1_000,
            "{told:?}"
        );
        for join in &report.joins {
            let offset = join.av_offset_us.expect("measured");
            assert!(near(offset.recorded, offset.output), "{base:?}: {offset:?}");
        }
        if base == Base::ALaw {
            // ffprobe shows where a packet of G.711 begins, which is nothing that was recorded.
            continue;
        }
        assert_eq!((told.fragments, recorded.len()), (6, 6));
        let (least, most) = (recorded.iter().min().expect("six"), recorded.iter().max().expect("six"));
        assert!(near(told.min, *least) && near(told.max, *most), "{base:?}: {told:?} {recorded:?}");
        for (join, first) in report.joins.iter().zip([2, 5]) {
            let offset = join.av_offset_us.expect("measured");
            assert!(near(offset.output, recorded[first]), "{base:?}: {offset:?} {recorded:?}");
        }
        // Where no clip begins, the output alone tells which fragment its sound is of.
        let found = offsets(&report.parts[0].path);
        for place in [1, 3, 4] {
            assert!(near(found[place], recorded[place]), "{base:?}: {found:?} {recorded:?}");
        }
    }
    let (_folder, request) = fresh_request(Timeline::Compact);
    let silent = run(&request, &chunks_of(Base::Silent, &[0], 12_000, |ms| ms)).expect("merged");
    assert_eq!(silent.av_offset_us, None);
}

/// A thousand clips of one fragment each, a minute apart, in which the sound ends before or after the pictures; and how
/// long each lasts, in 48000ths of a second.
fn a_thousand_clips() -> (Vec<MergeChunk>, Vec<i64>) {
    let clips = &cut(Base::Small, &[0, 2_000, 4_000, 6_000, 8_000, 10_000])[1..5];
    let ticks = |nanos: i64| (nanos * 48 + 500_000).div_euclid(1_000_000);
    let lengths: Vec<i64> = clips
        .iter()
        .map(|clip| {
            let [pictures, sound] = times(clip);
            assert_eq!(pictures.len(), 10);
            let sound_end = sound.last().map(|last| ticks(*last) + 1_024).expect("sound");
            (sound_end - ticks(pictures[0])).max(2 * 48_000)
        })
        .collect();
    assert!(
        lengths.iter().any(|length| *length > 2 * 48_000),
        "no sound ends after the pictures: {lengths:?}"
    );
    let of = |at: usize| {
        let at_ms = 2_000 * i64::try_from(at).expect("small");
        let listed = fragment(at_ms, |ms| ms / 2_000 * 61_877);
        (chunk(clips[at % 4].clone(), vec![listed]), lengths[at % 4])
    };
    (0..1_000).map(of).unzip()
}

#[test]
fn a_thousand_joins_add_up_no_error() {
    let (chunks, lengths) = a_thousand_clips();
    let clips: Vec<[Vec<i64>; 2]> = chunks[..4].iter().map(|chunk| times(&chunk.path)).collect();
    let off_by = |timeline, begins: &dyn Fn(usize) -> i64| -> [i64; 2] {
        let (_folder, request) = fresh_request(timeline);
        let report = run(&request, &chunks).expect("merged");
        assert_eq!(report.parts.len(), 1);
        let found = times(&report.parts[0].path);
        let mut worst = [0; 2];
        for stream in 0..2 {
            let key = |at: usize| clips[at % 4][0][0];
            let expected = (0..chunks.len())
                .flat_map(|at| clips[at % 4][stream].iter().map(move |time| time - key(at) + begins(at)));
            let expected: Vec<i64> = expected.collect();
            assert_eq!(found[stream].len(), expected.len());
            let off = found[stream].iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
            worst[stream] = off.max().expect("samples");
        }
        worst
    };
    let mut ends = vec![0];
    ends.extend(lengths.iter().scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    }));
    let worst = off_by(Timeline::Compact, &|at| ends[at] * 1_000_000 / 48);
    assert!(worst.iter().all(|off| *off <= 1_000_000), "{worst:?} ns off the sum before");
    let worst = off_by(Timeline::Wallclock, &|at| i64::try_from(at).expect("small") * 61_877_000_000);
    assert!(worst.iter().all(|off| *off <= 1_000_000), "{worst:?} ns off the wall time");
}

#[test]
fn a_part_is_private_to_owner_and_group() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, request) = fresh_request(Timeline::Compact);
    let report = run(&request, &chunks_of(Base::Silent, &[0], 12_000, |ms| ms)).expect("merged");
    let mode = std::fs::metadata(&report.parts[0].path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_chunk_that_is_gone_altered_or_short_is_named() {
    let good = chunks_of(Base::Silent, &[0, 8_000], 12_000, |ms| ms);
    let copy = |bytes: &[u8]| {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("chunk.mp4");
        std::fs::write(&path, bytes).expect("written");
        (folder, path)
    };
    let bytes = std::fs::read(&good[1].path).expect("read");
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    let (_f1, altered) = copy(&altered);
    let (_f2, cut_off) = copy(&bytes[..bytes.len() - 1]);
    let bad = |path: PathBuf, sha256| MergeChunk { path, sha256, ..good[1].clone() };
    let mut more = good[1].clone();
    more.fragments.push(fragment(12_000, |ms| ms));
    let cases: [(MergeChunk, IsExpected); 5] = [
        (bad("/nonexistent.mp4".into(), good[1].sha256), |loss| matches!(loss, ChunkLoss::Gone(_))),
        (bad(altered, good[1].sha256), |loss| matches!(loss, ChunkLoss::Altered { .. })),
        (bad(cut_off.clone(), good[1].sha256), |loss| matches!(loss, ChunkLoss::Altered { .. })),
        (bad(cut_off.clone(), sha256_of(&cut_off)), |loss| matches!(loss, ChunkLoss::Unusable(_))),
        (more, |loss| matches!(loss, ChunkLoss::Short { present: 2, planned: 3 })),
    ];
    for (chunk, expected) in cases {
        let (_folder, request) = fresh_request(Timeline::Compact);
        let wanted = chunk.path.clone();
        match run(&request, &[good[0].clone(), chunk]) {
            Err(MergeError::ChunkLost { path, reason }) => {
                assert_eq!(path, wanted);
                assert!(expected(&reason), "{reason:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_chunk_that_cannot_be_read_now_is_not_lost() {
    let good = chunks_of(Base::Silent, &[0], 12_000, |ms| ms).remove(0);
    let folder = tempfile::tempdir().expect("folder");
    // A folder opens and cannot be read; a link to itself cannot be opened, whoever runs this.
    let knot = folder.path().join("knot");
    std::os::unix::fs::symlink(&knot, &knot).expect("linked");
    for unreadable in [folder.path().to_owned(), knot] {
        let (_out, request) = fresh_request(Timeline::Compact);
        let chunk = MergeChunk { path: unreadable.clone(), ..good.clone() };
        match run(&request, &[chunk]) {
            Err(MergeError::ReadChunk { path, .. }) => assert_eq!(path, unreadable),
            other => panic!("{other:?}"),
        }
    }
    let gone = |kind: io::ErrorKind| {
        let error = MergeError::of_mp4(&good.path, Mp4Error::Read(kind.into()), ChunkLoss::Sample);
        matches!(error, MergeError::ChunkLost { .. })
    };
    assert!(gone(io::ErrorKind::UnexpectedEof) && !gone(io::ErrorKind::Other));
}

type IsExpected = fn(&ChunkLoss) -> bool;

/// A program that stands in for ffmpeg.
fn fake(folder: &Path, script: &str) -> Ffmpeg {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("fake");
    std::fs::write(&path, format!("#!/bin/sh\nREAL='{}'\n{script}\n", ffmpeg().path.display()))
        .expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Ffmpeg { path, version: "5.1".to_owned() }
}

fn merge_with(script: &str) -> MergeError {
    let folder = tempfile::tempdir().expect("folder");
    let (_out, request) = fresh_request(Timeline::Compact);
    let request = MergeRequest { ffmpeg: fake(folder.path(), script), ..request };
    run(&request, &chunks_of(Base::Plain, &[0], 12_000, |ms| ms)).expect_err("must fail")
}

/// A script whose last line runs ffmpeg on what `change` makes of the output, decoding left alone.
fn after_copying(change: &str) -> String {
    format!(
        "for out in \"$@\"; do :; done; case \"$out\" in file:*) ;; *) exec \"$REAL\" \"$@\";; esac\n\
         out=${{out#file:}}; \"$REAL\" \"$@\" || exit 1\n{change}"
    )
}

#[test]
fn an_ffmpeg_that_fails_is_told_with_what_it_said() {
    match merge_with("echo 'No space left on device' >&2; exit 3") {
        error @ MergeError::Ffmpeg { .. } => {
            assert!(error.to_string().contains("exit code 3"), "{error}");
            assert!(error.is_disk_full());
        }
        other => panic!("{other:?}"),
    }
    match merge_with("cat > /dev/null; kill -KILL $$") {
        MergeError::Ffmpeg { how, .. } => assert_eq!(how, "signal 9"),
        other => panic!("{other:?}"),
    }
    let error = merge_with("head -c 5000 > /dev/null; echo enough >&2; exit 0");
    assert!(matches!(&error, MergeError::Ffmpeg { messages, .. } if messages == "enough"), "{error:?}");
}

#[test]
fn a_changed_time_on_stderr_fails_the_merge() {
    let error = merge_with(&after_copying("echo 'Non-monotonous DTS in output stream 0:1' >&2"));
    assert!(matches!(error, MergeError::TimesChanged { .. }), "{error:?}");
}

#[test]
fn the_gate_refuses_whatever_differs() {
    let remux = |args: &str| {
        after_copying(&format!(
            "mv \"$out\" \"$out.mov\"; \"$REAL\" -nostdin -v error -i \"$out.mov\" -map 0 -c copy {args} \"$out\"; rm \"$out.mov\""
        ))
    };
    let reason = |script: &str| match merge_with(script) {
        MergeError::Gate { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let late = "-bsf:v \"setts=pts=PTS+gte(N\\,200)*0.002/TB:dts=DTS+gte(N\\,200)*0.002/TB\"";
    let found = reason(&remux(late));
    assert!(matches!(found, GateError::Time { track: 1, sample: 200, .. }), "{found:?}");
    // Either is within a millisecond of its place, but not of the other.
    let apart = "-bsf:v \"setts=pts=PTS+gte(N\\,200)*0.0007/TB:dts=DTS+gte(N\\,200)*0.0007/TB\" \
                 -bsf:a \"setts=pts=PTS-gte(N\\,200)*0.0007/TB:dts=DTS-gte(N\\,200)*0.0007/TB\"";
    let found = reason(&remux(apart));
    assert!(matches!(found, GateError::AvOffset { fragment: 5, .. }), "{found:?}");
    let found = reason(&remux("-t 9"));
    assert!(matches!(found, GateError::Count { track: 1, expected: 300, .. }), "{found:?}");
    let found = reason(&remux("-bsf:v noise=amount=-1:drop=0"));
    assert!(matches!(found, GateError::Payload { .. } | GateError::Decode { .. }), "{found:?}");
    let found = reason(&remux("-an"));
    assert!(matches!(found, GateError::Tracks { .. }), "{found:?}");
    let found = reason(&after_copying("head -c 20000 \"$out\" > \"$out.2\"; mv \"$out.2\" \"$out\""));
    assert!(matches!(found, GateError::Unreadable(_)), "{found:?}");
    // One bit in the middle of the payloads.
    let found =
        reason(&after_copying("printf '\\252' | dd of=\"$out\" bs=1 seek=30000 conv=notrunc 2>/dev/null"));
    assert!(matches!(found, GateError::Payload { .. }), "{found:?}");
    let found = reason(
        "for out in \"$@\"; do :; done; case \"$out\" in file:*) exec \"$REAL\" \"$@\";; esac; echo 'error while decoding MB 3 4' >&2",
    );
    assert!(matches!(found, GateError::Decode { .. }), "{found:?}");
}

#[test]
fn a_cancelled_merge_ends_ffmpeg_and_says_so() {
    // It never reads: only a kill ends it.
    let folder = tempfile::tempdir().expect("folder");
    let (_out, request) = fresh_request(Timeline::Compact);
    let ready = folder.path().join("ready");
    let script = format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec tail -f /dev/null", ready.display());
    let request = MergeRequest { ffmpeg: fake(folder.path(), &script), ..request };
    let cancel = Arc::clone(&request.cancel);
    let seen = ready.clone();
    let canceller = std::thread::spawn(move || {
        while !seen.exists() {
            std::thread::yield_now();
        }
        cancel.store(true, Ordering::SeqCst);
    });
    let error = run(&request, &chunks_of(Base::Plain, &[0], 12_000, |ms| ms)).expect_err("cancelled");
    canceller.join().expect("joined");
    assert!(matches!(error, MergeError::Cancelled), "{error:?}");
    let pid = std::fs::read_to_string(ready).expect("pid");
    assert!(!Path::new("/proc").exists() || !Path::new("/proc").join(pid.trim()).exists(), "it still runs");
}

#[test]
fn nothing_to_merge_is_an_error_and_an_error_of_the_iterator_is_passed_on() {
    let (_folder, request) = fresh_request(Timeline::Compact);
    assert!(matches!(run(&request, &[]), Err(MergeError::Nothing)));
    let mut broken = std::iter::once(Err("the state file is gone".into()));
    assert!(matches!(merge(&request, &mut broken), Err(MergeError::Chunks(_))));
}

#[test]
fn any_damage_to_a_clip_is_told_without_panic_or_delay() {
    use crate::media::clip::{ClipVerdict, check_clip};
    for base in [Base::BFrames, Base::Plain] {
        let chunk = chunks_of(base, &[0, 4_000], 4_000, |ms| ms).swap_remove(0);
        let whole = std::fs::read(&chunk.path).expect("read");
        let fragmented = chunk.path.with_extension("frag.mp4");
        run_ffmpeg(&[
            "-i",
            chunk.path.to_str().expect("UTF-8"),
            "-c",
            "copy",
            "-movflags",
            "frag_keyframe+empty_moov+default_base_moof",
            fragmented.to_str().expect("UTF-8"),
        ]);
        for whole in [whole, std::fs::read(fragmented).expect("read")] {
            let verdict = |bytes: &[u8]| check_clip(std::io::Cursor::new(bytes), &chunk.fragments);
            assert!(matches!(verdict(&whole), ClipVerdict::Complete(_)), "{:?}", verdict(&whole));
            let mut random = fastrand::Rng::with_seed(7);
            let boxes: Vec<usize> = [b"moov", b"moof", b"stbl"]
                .iter()
                .flat_map(|kind| whole.windows(4).enumerate().filter(move |(_, at)| at == *kind))
                .map(|(at, _)| at)
                .collect();
            let begun = std::time::Instant::now();
            for _ in 0..3_000 {
                let mut bytes = whole.clone();
                let near = boxes[random.usize(..boxes.len())];
                for _ in 0..random.usize(1..4) {
                    let at = (near + random.usize(..2_500)).min(bytes.len() - 1);
                    bytes[at] = if random.bool() { random.u8(..) } else { 0xff };
                }
                drop(verdict(&bytes));
            }
            for _ in 0..300 {
                let length = random.usize(..whole.len());
                assert!(!matches!(verdict(&whole[..length]), ClipVerdict::Complete(_)), "cut at {length}");
            }
            assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
        }
    }
}

#[test]
fn a_law_sound_is_carried_byte_for_byte_and_a_pause_in_it_starts_a_part() {
    let sound = |path: &Path| {
        let raw = path.with_extension("alaw");
        let args = ["-i", path.to_str().expect("UTF-8"), "-map", "0:a", "-c", "copy", "-f", "alaw"];
        run_ffmpeg(&[&args[..], &[raw.to_str().expect("UTF-8")]].concat());
        std::fs::read(raw).expect("read")
    };
    for (gap, parts) in [(0, 1), (60_000, 2)] {
        let chunks = chunks_of(Base::ALaw, &[0, 8_000], 12_000, |ms| ms + ms / 8_000 * gap);
        let whole: Vec<u8> = chunks.iter().flat_map(|chunk| sound(&chunk.path)).collect();
        let (_folder, request) = fresh_request(Timeline::Wallclock);
        let report = run(&request, &chunks).expect("merged");
        assert_eq!(report.parts.len(), parts, "gap of {gap} ms");
        let found: Vec<u8> = report.parts.iter().flat_map(|part| sound(&part.path)).collect();
        assert!(found == whole, "{} of {} bytes", found.len(), whole.len());
        assert_eq!(report.parts[parts - 1].reason, [PartReason::Start, PartReason::PcmPause][parts - 1]);
    }
}

#[test]
fn fragments_with_two_key_frames_each_keep_their_places() {
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let chunks = chunks_of(Base::Silent, &[0, 8_000], 12_000, |ms| ms + ms / 8_000 * 30_000);
    // 4 s fragments over key frames that come every 2 s.
    let halved = |of: MergeChunk| {
        let fragments = of.fragments.into_iter().step_by(2);
        chunk(of.path, fragments.map(|fragment| Fragment { length_ms: 3_960, ..fragment }).collect())
    };
    let chunks: Vec<MergeChunk> = chunks.into_iter().map(halved).collect();
    let report = run(&request, &chunks).expect("merged");
    let found: Vec<i64> = packets(&report.parts[0].path).iter().map(|packet| packet.micros).collect();
    let expected: Vec<i64> = (0..300).map(|i| i * 40_000 + i / 200 * 30_000_000).collect();
    assert_eq!(found, expected);
}

#[test]
fn sound_that_stops_is_no_change_of_tracks() {
    let chunks = chunks_of(Base::SoundEnds, &[0, 4_000, 8_000], 12_000, |ms| ms);
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let begins: Vec<_> = (0..6).map(|i| (0, i * 2_000)).collect();
    assert_exact(&request, &chunks, &begins);
    let (_folder, request) = fresh_request(Timeline::Wallclock);
    let report = assert_exact(&request, &chunks[2..], &[(0, 0), (0, 2_000)]);
    assert_eq!(report.parts[0].tracks[1].samples, 0);
}

/// The same chunks as windows of time, without their fragments.
fn as_windows(chunks: &[MergeChunk]) -> Vec<MergeChunk> {
    let window = |chunk: &MergeChunk| {
        let start = chunk.fragments[0].producer;
        let window =
            TimeRange::new(start, start + 2_000 * i64::try_from(chunk.fragments.len()).expect("few"));
        MergeChunk { fragments: Vec::new(), selection: Vec::new(), window, ..chunk.clone() }
    };
    chunks.iter().map(window).collect()
}

#[test]
fn chunks_of_unknown_fragments_are_joined_as_those_of_known_ones() {
    for base in [Base::Plain, Base::BFrames, Base::H265, Base::Silent] {
        let (_folder, request) = fresh_request(Timeline::Compact);
        let chunks = chunks_of(base, &[0, 4_000, 10_000], 12_000, |ms| ms);
        let begins = [0, 2_000, 4_000, 6_000, 8_000, 10_000].map(|ms| (0, ms));
        let report = assert_packets(&request, &as_windows(&chunks), &expected_packets(&chunks, &begins));
        let [part] = &report.parts[..] else { panic!("{base:?}: {:?}", report.parts) };
        assert_eq!((part.fragments, &part.first_fragment, &part.last_fragment), (None, &None, &None));
        assert_eq!((part.start, part.end), (UtcMillis::new(EPOCH), UtcMillis::new(EPOCH + 12_000)));
    }
}

#[test]
fn sound_without_times_goes_on_from_window_to_window_and_the_pictures_with_it() {
    let (_folder, request) = fresh_request(Timeline::Compact);
    let chunks = chunks_of(Base::ALaw, &[0, 4_000, 10_000], 12_000, |ms| ms);
    let report = run(&request, &as_windows(&chunks)).expect("merged");
    let [part] = &report.parts[..] else { panic!("{:?}", report.parts) };
    let found = packets(&part.path);
    let pictures: Vec<i64> =
        found.iter().filter(|packet| packet.stream == 0).map(|packet| packet.micros).collect();
    assert_eq!(pictures.len(), 300);
    // Each join is off by less than the G.711 of these clips is from their pictures.
    assert!(pictures.windows(2).all(|pair| (pair[1] - pair[0] - 40_000).abs() < 1_000), "{pictures:?}");
}

#[test]
fn a_codec_change_between_windows_makes_a_part_or_is_told_with_its_window() {
    let chunks = [
        chunks_of(Base::Silent, &[0], 4_000, |ms| ms),
        chunks_of(Base::Larger, &[0], 4_000, |ms| ms + 4_000),
    ]
    .concat();
    let windows = as_windows(&chunks);
    let (_folder, request) = fresh_request(Timeline::Compact);
    let report = run(&request, &windows).expect("merged");
    let told: Vec<_> =
        report.parts.iter().map(|part| (part.reason, part.start - UtcMillis::new(EPOCH))).collect();
    assert_eq!(told, [(PartReason::Start, 0), (PartReason::CodecChange, 4_000)]);
    let (_folder, mut request) = fresh_request(Timeline::Compact);
    request.on_codec_change = OnCodecChange::Fail;
    let error = run(&request, &windows).expect_err("the codec changes").to_string();
    assert!(error.contains(&windows[1].window.expect("a window").to_string()), "{error}");
}
