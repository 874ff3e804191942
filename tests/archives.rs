//! Archives as cameras really leave them: sessions that overlap, codecs that change, clocks that are lost, streams
//! that are made again. Each comes out exact, or is refused with the reason.
//!
//! The real binary runs against the emulator; the oracle reads what came out, the truth comes from the script.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use kvs_export::emulator::{
    Api, Camera, Disturbance, EmulatorConfig, InnerTiming, MediaProblem, Recording, Script, ScriptedFragment,
    VideoSource,
};
use kvs_export::model::{Edges, Timeline, TimestampKind, UtcMillis};

use support::scene::{Job, Run, Scene};
use support::truth::{self, Difference, ExpectedFrame};
use support::{MIDNIGHT, after_midnight, expect_fragments, oracle};

/// The frames of sessions that follow each other without a pause in one file.
fn one_after_the_other(sessions: &[Vec<ScriptedFragment>]) -> Vec<ExpectedFrame> {
    let mut frames: Vec<ExpectedFrame> = Vec::new();
    let mut end_ms = 0.0;
    for session in sessions {
        let of_session = truth::frames(session, Timeline::Compact).into_iter();
        frames.extend(of_session.map(|frame| ExpectedFrame { at_ms: frame.at_ms + end_ms, ..frame }));
        let last = session.last().expect("a fragment");
        end_ms = frames.last().expect("a frame").at_ms + 1000.0 / f64::from(last.frame_rate);
    }
    frames
}

/// Panics unless a job's parts hold exactly these frames.
fn expect_parts(run: &Run, job: &Job, parts: &[Vec<ExpectedFrame>]) {
    assert_eq!(run.status(&job.name), "done", "{:#}\n{}", run.report, run.stderr);
    let outputs = run.export(&job.name)["output"].as_array().expect("paths");
    assert_eq!(outputs.len(), parts.len(), "{}: {outputs:?}", job.name);
    for (output, expected) in outputs.iter().zip(parts) {
        let path = output.as_str().expect("a path");
        let difference = Difference::between(&oracle::frames(path.as_ref()), expected, &job.stream);
        assert!(difference.is_none(), "{path}: {difference}");
    }
}

/// Panics unless the sessions follow each other in `compact`, and are a part each in `wallclock`.
fn expect_sessions(run: &Run, job: &Job, sessions: &[Vec<ScriptedFragment>]) {
    match job.timeline {
        Timeline::Compact => expect_parts(run, job, &[one_after_the_other(sessions)]),
        Timeline::Wallclock => {
            let parts = sessions.iter().map(|session| truth::frames(session, Timeline::Wallclock));
            expect_parts(run, job, &parts.collect::<Vec<_>>());
        }
    }
}

/// A job for each clock and timeline.
fn jobs(name: &str, range: kvs_export::model::TimeRange) -> Vec<Job> {
    let all = Job::matrix(name, range, |_| "gate".to_owned()).into_iter();
    all.filter(|job| job.edges == Edges::Inside).collect()
}

#[test]
fn sessions_that_begin_fragments_two_milliseconds_apart_follow_each_other() {
    // Up to 3 ms apart they come in one clip; two sessions 4 ms apart are requested fragment by fragment.
    for (inner_timing, apart_ms) in
        [(InnerTiming::KeepStarts, 1), (InnerTiming::CloseGaps, 3), (InnerTiming::KeepStarts, 4)]
    {
        let first = Recording::at(MIDNIGHT).fragments(10, 2_000);
        let both = first.restart_at(MIDNIGHT + 4_000 + apart_ms).fragments(12, 2_000).into_fragments();
        let sessions = [both[..10].to_vec(), both[10..].to_vec()];
        let camera = Camera::with_script("gate", Script::Fragments(both));
        let config = EmulatorConfig { inner_timing, ..EmulatorConfig::with_cameras([camera]) };
        let scene = Scene::new(config);
        let jobs = jobs("replay", after_midnight(-1_000, 60_000));
        let run = scene.run_jobs(&jobs).expect_code(0);
        for job in &jobs {
            expect_sessions(&run, job, &sessions);
            scene.check_sums(&job.name);
        }
    }
}

/// Twenty fragments of which ten are held back by the network, and the server's clock at each of those, in
/// milliseconds after they arrive.
fn burst(ingested_ms: impl Fn(i64) -> i64) -> Vec<ScriptedFragment> {
    let mut fragments = Recording::at(MIDNIGHT).server_delay_ms(250).fragments(20, 2_000).into_fragments();
    for (index, fragment) in (0..).zip(&mut fragments[5..15]) {
        fragment.server = MIDNIGHT + 29_500 + ingested_ms(index);
    }
    fragments
}

#[test]
fn a_burst_whose_server_timestamps_are_out_of_order_keeps_the_order_of_its_numbers() {
    // In pairs and all over, none 4 ms from the next, so that all come in one clip; and in pairs that are requested
    // one by one.
    for order in [|index: i64| index ^ 1, |index: i64| index * 3 % 10, |index: i64| 100 * (index ^ 1)] {
        let fragments = burst(order);
        let camera = Camera::with_script("gate", Script::Fragments(fragments.clone()));
        let scene = Scene::new(EmulatorConfig::with_cameras([camera]));
        let jobs = jobs("burst", after_midnight(-1_000, 60_000));
        let run = scene.run_jobs(&jobs).expect_code(0);
        for job in &jobs {
            expect_parts(&run, job, &[truth::frames(&fragments, job.timeline)]);
            assert_eq!(run.manifest(&job.name)["merge"]["join_count"], 0, "{}", job.name);
        }
    }
}

#[test]
fn a_buffer_that_is_sent_newest_first_is_in_order_of_the_clock_that_selects() {
    // The camera numbers nothing: what was recorded last comes first, within a few milliseconds.
    let mut fragments = burst(|index| 2 * index);
    for index in 0..5 {
        let (a, b) = (5 + index, 14 - index);
        let (later, earlier) = (fragments[b].producer, fragments[a].producer);
        (fragments[a].producer, fragments[b].producer) = (later, earlier);
    }
    let camera = Camera::with_script("gate", Script::Fragments(fragments.clone()));
    let scene = Scene::new(EmulatorConfig::with_cameras([camera]));
    let jobs = jobs("newest-first", after_midnight(-1_000, 60_000));
    let run = scene.run_jobs(&jobs).expect_code(0);
    let mut by_camera = fragments.clone();
    by_camera.sort_by_key(|fragment| fragment.producer);
    for job in jobs {
        match job.timestamps {
            TimestampKind::Producer => expect_parts(&run, &job, &[truth::frames(&by_camera, job.timeline)]),
            TimestampKind::Server => {
                // A part where the camera's clock goes back, and none where it goes on after a pause.
                let forward = fragments.chunk_by(|a, b| a.producer < b.producer).map(<[_]>::to_vec);
                expect_sessions(&run, &job, &forward.collect::<Vec<_>>());
            }
        }
    }
}

/// Fifteen fragments of 2 s: the picture is larger from the sixth to the tenth.
fn larger_midway() -> Vec<ScriptedFragment> {
    let recording = Recording::at(MIDNIGHT).server_delay_ms(250).fragments(5, 2_000);
    recording.video(1).fragments(5, 2_000).video(0).fragments(5, 2_000).into_fragments()
}

#[test]
fn parts_are_named_ordered_and_explained_in_every_document() {
    let fragments = larger_midway();
    let camera = Camera::with_script("gate", Script::Fragments(fragments.clone()));
    let scene = Scene::new(EmulatorConfig::with_cameras([camera]));
    let job = Job::new("larger", "gate", after_midnight(-1_000, 60_000));
    let reason = "where the picture changes is found by requests that no plan foresees";
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), reason).expect_code(0);
    let parts: Vec<_> = fragments.chunks(5).map(|part| truth::frames(part, job.timeline)).collect();
    expect_parts(&run, &job, &parts);

    let manifest = run.manifest("larger");
    let outputs = manifest["outputs"].as_array().expect("outputs");
    let names = ["larger-part1.mp4", "larger-part2.mp4", "larger-part3.mp4"];
    for (index, (output, of_part)) in outputs.iter().zip(fragments.chunks(5)).enumerate() {
        assert_eq!((&output["file"], &output["part"]), (&names[index].into(), &(index + 1).into()));
        assert_eq!(output["first_fragment"], of_part[0].number.as_str());
        assert_eq!(output["last_fragment"], of_part[4].number.as_str());
        assert_eq!(output["start"], of_part[0].producer.to_string());
        assert_eq!(output["end"], (of_part[4].producer + 2_000).to_string());
        assert_eq!(output["reason"], ["start", "codec-change", "codec-change"][index]);
        let changes = output["changes"].as_array().expect("changes");
        assert_eq!(changes.len(), usize::from(index > 0));
        for change in changes {
            assert_eq!(change["kind"], "video");
            assert_eq!(change["from"]["width"], outputs[index - 1]["tracks"][0]["width"]);
            assert_eq!(change["to"]["width"], output["tracks"][0]["width"]);
            assert_ne!(change["from"]["width"], change["to"]["width"]);
        }
    }
    let paths: Vec<_> = names.iter().map(|name| scene.outputs().join(name).display().to_string()).collect();
    assert_eq!(run.export("larger")["output"], serde_json::json!(paths));
    let status = Run::of(&mut scene.command_of("status"));
    assert_eq!(status.export("larger")["output"], serde_json::json!(paths));
    scene.check_sums("larger");
}

#[test]
fn a_change_that_the_job_forbids_fails_it_and_says_where_and_what() {
    let fragments = larger_midway();
    let camera = Camera::with_script("gate", Script::Fragments(fragments.clone()));
    let scene = Scene::new(EmulatorConfig::with_cameras([camera]));
    let job =
        Job::new("one-picture", "gate", after_midnight(-1_000, 60_000)).with("on_codec_change = \"fail\"");
    let reason = "where the picture changes is found by requests that no plan foresees";
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), reason).expect_code(3);
    let error = run.export("one-picture")["error"].as_str().expect("an error");
    let (number, producer) = (fragments[5].number.as_str(), fragments[5].producer.to_string());
    let server = fragments[5].server.to_string();
    for words in [number, &producer, &server, "video changes from h264 ", "on_codec_change = \"split\""] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!scene.outputs().join("one-picture.mp4").exists());
}

#[test]
fn a_stream_that_is_refused_throughout_is_given_up_after_a_few_requests() {
    let fault = "error:code=MissingCodecPrivateDataException,status=400,api=GetClip";
    let config = EmulatorConfig::with_cameras([Camera::steady("gate")]);
    let Ok(Disturbance::Fault(fault)) = Disturbance::parse(fault) else { panic!("{fault} is no fault") };
    let scene = Scene::new(EmulatorConfig { faults: vec![fault], ..config });
    let job = Job::new("hour", "gate", after_midnight(0, 3_600_000));
    let reason = "refusals cost requests that no plan foresees";
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), reason).expect_code(3);
    assert_eq!(run.status("hour"), "failed");
    let error = run.export("hour")["error"].as_str().expect("an error");
    for words in
        ["8 fragments were asked for one by one", "MissingCodecPrivateData", "its producer must send"]
    {
        assert!(error.contains(words), "{words}: {error}");
    }
    let asked = scene.requests(Api::GetClip).len();
    assert!(asked < 90, "{asked} clips were asked for");
    assert!(std::fs::read_dir(scene.outputs()).is_ok_and(|files| files.count() == 0));

    // What was found out is known to the next run.
    let again = scene.run().expect_code(3);
    assert_eq!(again.export("hour")["error"], error);
    assert_eq!(scene.requests(Api::GetClip).len(), asked, "it was asked again");
}

#[test]
fn refusals_at_the_beginning_alone_leave_the_rest_in_the_output() {
    let start = Recording::at(MIDNIGHT).server_delay_ms(250);
    let recording = start.video(1).fragments(9, 2_000).video(0).fragments(51, 2_000);
    let mut camera = Camera::with_script("gate", recording.into_script());
    camera.videos[1] = VideoSource::Refused(MediaProblem::MissingCodecPrivateData);
    let job = Job::new("gate", "gate", after_midnight(-400, 120_400));
    let scene = Scene::new(EmulatorConfig::with_cameras([camera.clone()]));
    // One request at a time: the refused ones come first.
    scene.write_jobs("requests_in_flight = 1", std::slice::from_ref(&job));
    let run = scene.run().expect_code(3);
    assert_eq!(run.status("gate"), "partial", "{:#}", run.report);
    expect_fragments(&run, &job, &truth::fragments(&camera, &job)[9..]);
    let missing = run.manifest("gate")["missing"].as_array().expect("a list").len();
    assert_eq!(missing, 9);
}

#[test]
fn a_stream_that_keeps_nothing_is_refused_before_it_is_listed() {
    let camera = Camera::steady("gate").retention_hours(0);
    let scene = Scene::new(EmulatorConfig::with_cameras([camera, Camera::steady("yard")]));
    let range = after_midnight(0, 20_000);
    let jobs = [Job::new("nothing", "gate", range), Job::new("whole", "yard", range)];
    scene.write_jobs("", &jobs);
    let run = scene.run().expect_code(3);
    assert_eq!((run.status("nothing"), run.status("whole")), ("failed", "done"));
    let error = run.export("nothing")["error"].as_str().expect("an error");
    assert!(error.contains("stream gate keeps nothing: its retention is 0 hours"), "{error}");
    assert!(scene.requests(Api::ListFragments).iter().all(|request| request.stream == "yard"));
}

/// The camera before and after its stream was deleted and made again; the pictures go on at the same times.
fn made_again() -> [Camera; 2] {
    let before = Camera::steady("gate").created(MIDNIGHT - 86_400_000);
    let after = Camera::steady("gate").created(MIDNIGHT - 3_600_000).bytes_per_second(20_000);
    [before, after]
}

#[test]
fn an_unfinished_export_of_a_stream_that_was_made_again_is_not_gone_on_with() {
    let [before, after] = made_again();
    // The second of its clips is never given: what the first run has fetched is of the old stream.
    let fault = "error:code=InvalidArgumentException,status=400,api=GetClip,skip=1";
    let Ok(Disturbance::Fault(fault)) = Disturbance::parse(fault) else { panic!("{fault} is no fault") };
    let config = EmulatorConfig::with_cameras([before]);
    let mut scene = Scene::new(EmulatorConfig { faults: vec![fault], ..config });
    let job = Job::new("gate", "gate", after_midnight(0, 400_000)).of(
        TimestampKind::Server,
        Edges::Inside,
        Timeline::Compact,
    );
    scene.write_jobs("requests_in_flight = 1\nattempts = 1", std::slice::from_ref(&job));
    let first = scene.run().expect_code(3);
    assert_eq!((first.status("gate"), &first.export("gate")["chunks"]["fetched"]), ("failed", &1.into()));

    scene.restart_emulator(EmulatorConfig::with_cameras([after.clone()]));
    let second = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), "it is another export");
    let second = second.expect_code(0);
    support::expect_exact(&second, &job, &after);
    assert_ne!(first.export("gate")["id"], second.export("gate")["id"]);
    let manifest = second.manifest("gate");
    assert_eq!(
        manifest["stream"]["arn"].as_str().and_then(|arn| arn.rsplit('/').next()),
        Some("1709247600000")
    );
    let warnings = manifest["warnings"].to_string();
    let old = first.export("gate")["id"].as_str().expect("an id");
    assert!(warnings.contains("gate was deleted and made again") && warnings.contains(old), "{warnings}");
    let fetched: usize = scene.requests(Api::GetClip).iter().map(|clip| clip.fragments.len()).sum();
    assert_eq!(manifest["fragments"], fetched, "all of it was asked of the new stream");
}

#[test]
fn a_finished_export_of_a_stream_that_was_made_again_stays_and_keeps_its_output() {
    let [before, after] = made_again();
    let mut scene = Scene::new(EmulatorConfig::with_cameras([before.clone()]));
    let job = Job::new("gate", "gate", after_midnight(0, 60_000));
    let first = scene.run_jobs(std::slice::from_ref(&job)).expect_code(0);
    support::expect_exact(&first, &job, &before);

    scene.restart_emulator(EmulatorConfig::with_cameras([after.clone()]));
    let reason = "an export that cannot be begun has no plan";
    let second = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), reason).expect_code(3);
    let error = second.export("gate")["error"].as_str().expect("an error");
    let (old, new) = ("stream/gate/1709164800000", "stream/gate/1709247600000");
    for words in ["deleted and made again", old, new, "give the job another output"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    support::expect_exact(&first, &job, &before);
    scene.check_sums("gate");

    let elsewhere = Job { name: "gate-again".to_owned(), ..job };
    let third =
        scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&elsewhere), reason).expect_code(0);
    support::expect_exact(&third, &elsewhere, &after);
    scene.check_sums("gate");
}

/// A camera whose clock begins at 0 when it starts; the service's clock is at midnight then.
fn since_it_started() -> Recording {
    Recording::at(UtcMillis::new(0)).ingested_at(MIDNIGHT).server_delay_ms(250)
}

/// The jobs of a camera that only the service's clock can select.
fn jobs_by_server(name: &str, range: kvs_export::model::TimeRange) -> Vec<Job> {
    let all = Job::matrix(name, range, |_| "gate".to_owned()).into_iter();
    all.filter(|job| job.timestamps == TimestampKind::Server).collect()
}

#[test]
fn a_buffered_outage_of_a_camera_without_a_clock_is_no_gap() {
    let mut fragments = since_it_started().fragments(30, 2_000).into_fragments();
    for (index, fragment) in (10..).zip(&mut fragments[10..25]) {
        // Half a minute's worth, sent within 100 ms when the network is back.
        fragment.server = MIDNIGHT + 48_250 - 7 * (24 - index);
    }
    for inner_timing in [InnerTiming::KeepStarts, InnerTiming::CloseGaps] {
        let camera = Camera::with_script("gate", Script::Fragments(fragments.clone()));
        let config = EmulatorConfig { inner_timing, ..EmulatorConfig::with_cameras([camera]) };
        let scene = Scene::new(config);
        let jobs = jobs_by_server("outage", after_midnight(0, 60_000));
        let run = scene.run_jobs(&jobs).expect_code(0);
        for job in &jobs {
            expect_parts(&run, job, &[truth::frames(&fragments, job.timeline)]);
            let manifest = run.manifest(&job.name);
            assert_eq!(manifest["gaps"], serde_json::json!([]));
            assert_eq!(manifest["merge"]["join_count"], 0);
            assert_eq!(manifest["clock"]["media_clock"], "server");
            assert_eq!(manifest["clock"]["reckoning"]["sessions"], 1);
            assert_eq!(manifest["outputs"][0]["start"], fragments[0].server.to_string());
        }
        assert_eq!(scene.requests(Api::GetClip).len(), jobs.len(), "a burst is no reason to ask one by one");
    }
}

#[test]
fn a_camera_without_a_clock_that_starts_anew_leaves_a_gap_as_long_as_it_was_away() {
    let first = since_it_started().fragments(10, 2_000).gap_ms(45_000);
    let both = first.restart_at(UtcMillis::new(0)).fragments(12, 2_000).into_fragments();
    let sessions = [both[..10].to_vec(), both[10..].to_vec()];
    let scene =
        Scene::new(EmulatorConfig::with_cameras([Camera::with_script("gate", Script::Fragments(both))]));
    let jobs = jobs_by_server("restart", after_midnight(0, 89_000));
    let run = scene.run_jobs(&jobs).expect_code(0);
    for job in &jobs {
        let gaps = serde_json::json!([{
            "from": (MIDNIGHT + 20_250).to_string(),
            "to": (MIDNIGHT + 65_250).to_string(),
            "ms": 45_000,
            "cause": "not-listed",
        }]);
        assert_eq!(run.manifest(&job.name)["gaps"], gaps);
        let mut expected = one_after_the_other(&sessions);
        if job.timeline == Timeline::Wallclock {
            let first = expected.iter().position(|frame| frame.fragment == sessions[1][0].number.as_str());
            for frame in &mut expected[first.expect("a frame")..] {
                frame.at_ms += 45_000.0;
            }
        }
        expect_parts(&run, job, &[expected]);
    }
}
