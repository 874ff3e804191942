//! Faults that outlast a request: expired endpoints and credentials, clocks, other clients, hidden fragments.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvs_export::emulator::{
    Api, ByteTrigger, Camera, EmulatorConfig, Fault, FaultRule, PointBudgets, SecondClient, When,
};
use kvs_export::model::TimestampKind;
use serde_json::json;

use crate::support::scene::{Job, Run, Scene};
use crate::support::{after_midnight, expect_exact};
use crate::{camera_of_short_fragments, expect_overcome, minute};

#[test]
fn endpoints_that_expire_are_asked_for_anew() {
    let log = expect_overcome(vec![
        ("clip-endpoint", FaultRule::nth(Api::GetClip, 2, Fault::ExpireEndpoint)),
        ("first-clip-endpoint", FaultRule::nth(Api::GetClip, 1, Fault::ExpireEndpoint)),
        ("list-endpoint", FaultRule::nth(Api::ListFragments, 1, Fault::ExpireEndpoint)),
    ]);
    for stream in ["clip-endpoint", "first-clip-endpoint", "list-endpoint"] {
        let of_stream = || log.iter().filter(|record| record.stream == stream);
        let refused = of_stream().filter(|record| record.status == Some(401)).count();
        let endpoints = of_stream().filter(|record| record.api == Api::GetDataEndpoint).count();
        assert!(refused >= 1 && endpoints >= 3, "{stream}: {refused} refused, {endpoints} endpoints");
    }
}

/// A file of credentials, as the SDK reads it.
fn write_credentials(file: &Path, key: &str) {
    let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = secret-of-{key}\n");
    std::fs::write(file, text).expect("written");
}

/// Runs with the credentials in a file instead of the environment.
fn run_with(scene: &Scene, credentials: &Path) -> Run {
    let mut command = scene.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_SHARED_CREDENTIALS_FILE", credentials);
    Run::of(&mut command)
}

/// A scene whose credentials expire at the third clip.
struct Expiring {
    scene: Scene,
    credentials: PathBuf,
    camera: Camera,
    job: Job,
    _folder: tempfile::TempDir,
}

impl Expiring {
    fn new(renewed: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let credentials = folder.path().join("credentials");
        write_credentials(&credentials, "AKIDFIRST");
        let file = credentials.clone();
        let renewal = ByteTrigger { at: 1, action: Arc::new(move || write_credentials(&file, "AKIDSECOND")) };
        let camera = camera_of_short_fragments("gate");
        let scene = Scene::new(EmulatorConfig {
            faults: vec![FaultRule::nth(Api::GetClip, 3, Fault::ExpireCredentials)],
            on_bytes: renewed.then_some(renewal),
            ..EmulatorConfig::with_cameras([camera.clone()])
        });
        let job = Job::new("night", "gate", minute());
        // One after the other: two clips are whole before the third is asked for.
        scene.write_jobs("requests_in_flight = 1", std::slice::from_ref(&job));
        Self { scene, credentials, camera, job, _folder: folder }
    }
}

#[test]
fn credentials_that_expire_midway_are_renewed_where_there_are_new_ones() {
    let Expiring { scene, credentials, camera, job, _folder } = Expiring::new(true);
    let run = run_with(&scene, &credentials).expect_code(0);
    expect_exact(&run, &job, &camera);
    let expired =
        scene.log().iter().filter(|of| of.error.as_deref() == Some("ExpiredTokenException")).count();
    assert!(expired >= 1);
}

#[test]
fn credentials_that_expire_for_good_stop_the_run_and_the_next_one_resumes() {
    let Expiring { scene, credentials, camera, job, _folder } = Expiring::new(false);
    let run = run_with(&scene, &credentials).expect_code(5);
    assert_eq!((&run.report["outcome"], run.status("night")), (&json!("auth"), "pending"));
    let before = scene.requests(Api::GetClip);
    let had: BTreeSet<_> = before.iter().flat_map(|clip| clip.fragments.clone()).collect();
    assert!(!had.is_empty());
    write_credentials(&credentials, "AKIDSECOND");
    let run = run_with(&scene, &credentials).expect_code(0);
    expect_exact(&run, &job, &camera);
    let again = &scene.requests(Api::GetClip)[before.len()..];
    assert!(again.iter().flat_map(|clip| &clip.fragments).all(|number| !had.contains(number)));
}

#[test]
fn a_clock_that_is_off_costs_a_refusal_and_no_run() {
    let camera = Camera::steady("gate");
    let scene = Scene::new(EmulatorConfig {
        clock_offset_ms: 600_000,
        ..EmulatorConfig::with_cameras([camera.clone()])
    });
    let job = Job::new("night", "gate", minute());
    let run = scene.run_jobs_otherwise_than_planned(
        std::slice::from_ref(&job),
        "each client learns the difference from a refusal of its first request",
    );
    expect_exact(&run.expect_code(0), &job, &camera);
    let refused = scene.log().iter().filter(|record| record.status == Some(403)).count();
    assert!(refused > 0, "the signatures are ten minutes off");
}

#[test]
fn a_second_client_on_the_stream_slows_the_run_and_costs_it_nothing() {
    let camera = camera_of_short_fragments("gate");
    let scene = Scene::new(EmulatorConfig {
        points: Some(PointBudgets { media: 100, ..PointBudgets::default() }),
        second_clients: vec![SecondClient { stream: Some("gate".to_owned()), media: 50, metadata: 1_000 }],
        ..EmulatorConfig::with_cameras([camera.clone()])
    });
    let job = Job::new("night", "gate", after_midnight(5_500, 125_500));
    scene.write_jobs("attempts = 1", std::slice::from_ref(&job));
    let run = scene.run().expect_code(0);
    expect_exact(&run, &job, &camera);
    let tally = scene.tally();
    assert!(tally.over_quota > 0 && tally.faulty == 0, "{tally:?}");
}

/// A chunk of one request, in which the service finds nothing the first time; the listing that follows lacks
/// some of its fragments.
fn flickering(hidden: impl Fn(usize) -> bool) -> (Scene, Camera, Job) {
    let camera = Camera::steady("gate");
    let range = after_midnight(5_500, 15_500);
    let around = after_midnight(0, 20_000);
    let mut faults = vec![FaultRule::nth(Api::GetClip, 1, Fault::NoFragments)];
    for (index, fragment) in camera.fragments(around, TimestampKind::Server).into_iter().enumerate() {
        if hidden(index) {
            let late = Fault::ListLate { fragment: fragment.number, listings: u64::MAX };
            faults.push(FaultRule { when: When::Nth(2), ..FaultRule::always(Api::ListFragments, late) });
        }
    }
    let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera.clone()]) });
    let job = Job::new("night", "gate", range);
    scene.write_jobs("", std::slice::from_ref(&job));
    (scene, camera, job)
}

#[test]
fn a_fragment_that_a_later_listing_lacks_is_fetched_all_the_same() {
    let (scene, camera, job) = flickering(|index| index == 5);
    let run = scene.run().expect_code(0);
    expect_exact(&run, &job, &camera);
    assert_eq!(run.export("night")["gaps"], json!([]));
    let hid = |record: &kvs_export::emulator::RequestRecord| {
        record.api == Api::ListFragments && !record.faults.is_empty()
    };
    assert_eq!(scene.log().iter().filter(|record| hid(record)).count(), 1);
}

#[test]
fn a_chunk_that_a_later_listing_lacks_is_neither_expired_nor_a_gap_and_is_fetched_the_next_time() {
    let (scene, camera, job) = flickering(|_| true);
    let run = scene.run().expect_code(3);
    assert_eq!((run.status("night"), &run.export("night")["gaps"]), ("failed", &json!([])));
    let chunks = &run.export("night")["chunks"];
    assert_eq!((&chunks["expired"], &chunks["failed"]), (&json!(0), &json!(1)));
    let error = run.export("night")["error"].as_str().unwrap_or_default();
    assert!(error.contains("not listed any more, though not past retention"), "{error}");
    let run = scene.run().expect_code(0);
    expect_exact(&run, &job, &camera);
}
