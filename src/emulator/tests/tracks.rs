//! Clips of every codec and with sound, read by ffmpeg and ffprobe.

use super::*;

const AAC: TestSound = TestSound { codec: SoundCodec::Aac, sample_rate: 48_000 };
const A_LAW: TestSound = TestSound { codec: SoundCodec::ALaw, sample_rate: 8_000 };

/// A camera whose pictures are coded like that, with these sounds.
fn camera(recording: Recording, codec: PictureCodec, reordered: bool, sounds: &[TestSound]) -> Camera {
    let mut camera = recorded(recording);
    for video in &mut camera.videos {
        if let VideoSource::TestPictures(pictures) = video {
            (pictures.codec, pictures.reordered) = (codec, reordered);
        }
    }
    camera.sounds = sounds.to_vec();
    camera
}

/// When each packet of a kind is shown, in microseconds, in decode order.
fn times(clip: &[u8], kind: &str) -> Vec<i64> {
    let entries = ["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time"];
    let text = tool("ffprobe", &[&entries[..], &["-of", "csv=p=0", "FILE"]].concat(), clip);
    let micros = |line: &str| {
        let seconds: f64 = line.trim_end_matches(',').parse().expect("a time");
        format!("{:.0}", seconds * 1e6).parse().expect("a number")
    };
    text.lines().map(micros).collect()
}

async fn clip_of(camera: Camera, inner_timing: InnerTiming) -> Vec<u8> {
    let config = EmulatorConfig::with_cameras([camera]);
    let (_emulator, client) = start(EmulatorConfig { inner_timing, ..config }).await;
    client.clip("gate", TimestampKind::Producer, 0, 60_000).await.expect("a clip")
}

#[tokio::test]
async fn pictures_of_every_coding_decode_and_are_shown_in_order() {
    for codec in [PictureCodec::H264, PictureCodec::H265] {
        for reordered in [false, true] {
            let recording = Recording::at(START).fragments(2, 2_000).fragments(1, 1_100).fragments(1, 2_000);
            let clip = clip_of(camera(recording, codec, reordered, &[]), InnerTiming::KeepStarts).await;
            let mut shown = times(&clip, "v");
            assert_eq!(shown.is_sorted(), !reordered, "{codec:?}");
            assert_eq!(decoded(&clip).len(), 71);
            shown.sort_unstable();
            assert_eq!(shown, (0..71).map(|frame| frame * 100_000).collect::<Vec<_>>(), "{codec:?}");
            let types = ["-v", "error", "-show_entries", "frame=pict_type", "-of", "csv=p=0", "FILE"];
            let types: String =
                tool("ffprobe", &types, &clip).lines().filter_map(|line| line.get(..1)).collect();
            let group = if reordered { "IBBPBBPBBPBBPBBPBBPP" } else { "IPPPPPPPPPPPPPPPPPPP" };
            // The encoder may call a B picture's references differently at the end of a group, never the order.
            assert_eq!(types[..18], group[..18], "{codec:?}");
        }
    }
}

#[tokio::test]
async fn sound_stands_beside_the_pictures_that_it_was_recorded_with() {
    for (kind, frame_us) in [(AAC, 1_024_000_000 / 48_000), (A_LAW, 50_000)] {
        let recording =
            Recording::at(START).sound((0, kind)).fragments(3, 2_000).gap_ms(700).fragments(2, 2_000);
        let camera = camera(recording, PictureCodec::H264, true, &[kind]);
        let truth = camera
            .fragments(TimeRange::new(START, START + 60_000).expect("a range"), TimestampKind::Producer);
        let frames: u32 = truth.iter().filter_map(|of| of.sound).map(|span| span.frames).sum();
        let clip = clip_of(camera, InnerTiming::KeepStarts).await;
        let second = 6_700_000;
        let heard = times(&clip, "a");
        let in_first = (6_000_000 + frame_us - 1) / frame_us;
        if kind.codec == SoundCodec::Aac {
            assert_eq!(heard.len(), frames as usize);
            let first_session = usize::try_from(in_first).expect("a count");
            for (index, at) in (0..).zip(&heard[..first_session]) {
                assert!((at - index * 1_024_000_000 / 48_000).abs() <= 21, "{index}: {at}");
            }
            assert!((heard[first_session] - second).abs() <= 21);
        }
        assert!(heard.contains(&second) || heard.iter().any(|at| (at - second).abs() <= 21), "{kind:?}");
        // Both tracks decode.
        assert_eq!(decoded(&clip).len(), 100);
        let marked = marks(&clip, "gate");
        assert_eq!(marked.len(), 100 + frames as usize, "pictures and sound");
    }
}

#[tokio::test]
async fn closed_gaps_leave_room_for_sound_that_outlasts_the_pictures() {
    // 18 pictures of 100 ms in 1 856 ms, which sound fills.
    let recording = Recording::at(START).sound((0, A_LAW)).fragments(3, 1_856);
    let clip = clip_of(camera(recording, PictureCodec::H264, false, &[A_LAW]), InnerTiming::CloseGaps).await;
    assert_eq!(key_times(&clip), [0, 1_856, 3_712]);
}

#[tokio::test]
async fn media_that_the_service_does_not_serve_is_refused_and_listed() {
    let mu_law = TestSound { codec: SoundCodec::MuLaw, sample_rate: 8_000 };
    let with = |sound| Recording::at(START).sound((0, sound)).fragments(3, 2_000);
    let mut without = recorded(Recording::at(START).fragments(3, 2_000));
    without.videos = vec![VideoSource::Refused(MediaProblem::MissingCodecPrivateData)];
    let unsupported = "UnsupportedStreamMediaTypeException";
    for (camera, code) in [
        (camera(with(mu_law), PictureCodec::H264, false, &[mu_law]), unsupported),
        (camera(with(A_LAW), PictureCodec::H265, false, &[A_LAW]), unsupported),
        (without, "MissingCodecPrivateDataException"),
    ] {
        let (_emulator, client) = start(EmulatorConfig::with_cameras([camera])).await;
        let refused =
            client.clip("gate", TimestampKind::Producer, 0, 60_000).await.expect_err(code).summary();
        assert_eq!(refused, (400, code.to_owned()));
        let listed = client.list("gate", TimestampKind::Producer, 0, 60_000, 100).await.expect("a listing");
        assert_eq!(listed.concat().len(), 3);
    }
}

#[tokio::test]
async fn sound_that_begins_or_ends_inside_a_clip_is_a_change_of_tracks() {
    let recording = Recording::at(START).fragments(2, 2_000).sound((0, AAC)).fragments(2, 2_000).sound(None);
    let camera = camera(recording.fragments(2, 2_000), PictureCodec::H264, false, &[AAC]);
    let (_emulator, client) = start(EmulatorConfig::with_cameras([camera])).await;
    for (start, end, served) in
        [(0, 3_999, true), (0, 4_000, false), (4_000, 7_999, true), (4_000, 9_000, false)]
    {
        let clip = client.clip("gate", TimestampKind::Producer, start, end).await;
        assert_eq!(clip.is_ok(), served, "{start} to {end}");
    }
}
