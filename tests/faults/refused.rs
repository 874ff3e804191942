//! Fragments that the service refuses or that retention takes: they are missing alone, and named.

use std::collections::BTreeSet;
use std::sync::Arc;

use kvs_export::clock::{Clock, SystemClock};
use kvs_export::emulator::{
    Api, Camera, EmulatorConfig, Fault, FaultRule, Recording, RequestRecord, ScriptedFragment,
};
use kvs_export::model::{Edges, TimeRange, Timeline, TimestampKind, UtcMillis};
use serde_json::{Value, json};

use crate::support::scene::{Job, Scene};
use crate::support::{MIDNIGHT, after_midnight, expect_exact, expect_fragments, truth};

/// As many as one request can have.
const CLIP_FRAGMENTS: usize = 200;

/// One full chunk, and after the hour a little more: an export of one window would be cut finer.
fn full_chunk(name: &str) -> Camera {
    let recording = Recording::at(MIDNIGHT + 1_000)
        .fragments(CLIP_FRAGMENTS, 1_000)
        .gap_ms(3_600_000)
        .fragments(5, 1_000);
    Camera::with_script(name, recording.into_script())
}

fn numbers(missing: &Value) -> BTreeSet<String> {
    let entries = missing.as_array().expect("a list").iter();
    entries.map(|entry| entry["number"].as_str().expect("a number").to_owned()).collect()
}

fn clips_of<'a>(log: &'a [RequestRecord], stream: &str) -> Vec<&'a RequestRecord> {
    log.iter().filter(|record| record.api == Api::GetClip && record.stream == stream).collect()
}

#[test]
fn refused_fragments_are_isolated_in_few_requests_and_nothing_is_fetched_twice() {
    let cases: [(&str, &[usize]); 5] = [
        ("none", &[]),
        ("first", &[0]),
        ("middle", &[100]),
        ("last", &[CLIP_FRAGMENTS - 1]),
        ("two", &[37, 151]),
    ];
    let range = after_midnight(0, 4_200_000);
    let cameras = cases.map(|(name, _)| full_chunk(name));
    let of = |camera: &Camera| camera.fragments(range, TimestampKind::Server);
    let mut faults = Vec::new();
    for ((name, bad), camera) in cases.iter().zip(&cameras) {
        for index in *bad {
            let number = of(camera)[*index].number.clone();
            faults.push(FaultRule::always(Api::GetClip, Fault::RefuseFragment(number)).on_stream(*name));
        }
    }
    let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras(cameras.clone()) });
    let jobs = cases.map(|(name, _)| Job::new(name, name, range));
    let run = scene.run_jobs(&jobs).expect_code(3);
    let log = scene.log();
    let undisturbed = clips_of(&log, "none").len();
    // Halves of halves: so many times, until one fragment is alone.
    let depth = CLIP_FRAGMENTS.next_power_of_two().ilog2() as usize;
    for (((name, bad), camera), job) in cases.iter().zip(&cameras).zip(&jobs) {
        let clips = clips_of(&log, name);
        let calls = clips.len() - undisturbed;
        assert!(calls <= 2 * depth * bad.len(), "{name}: {calls} more requests than without refusals");
        let refused: BTreeSet<String> = bad.iter().map(|at| of(camera)[*at].number.to_string()).collect();
        let served: Vec<_> = clips.iter().flat_map(|clip| &clip.fragments).collect();
        let once: BTreeSet<_> = served.iter().collect();
        assert_eq!(
            (served.len(), once.len()),
            (of(camera).len() - bad.len(), served.len()),
            "{name}: fetched twice"
        );
        if bad.is_empty() {
            expect_exact(&run, job, camera);
            continue;
        }
        assert_eq!(run.status(name), "partial");
        let mut rest = truth::fragments(camera, job);
        rest.retain(|fragment| !refused.contains(fragment.number.as_str()));
        expect_fragments(&run, job, &rest);
        let manifest = run.manifest(name);
        assert_eq!(numbers(&manifest["missing"]), refused, "{name}");
        for entry in manifest["missing"].as_array().expect("a list") {
            assert_eq!(
                (&entry["state"], &entry["code"]),
                (&json!("rejected"), &json!("InvalidMediaFrameException"))
            );
            let words = entry["detail"].as_str().unwrap_or_default();
            assert!(words.contains("could not be parsed"), "the service's words: {words}");
        }
        assert_eq!(run.export(name)["chunks"]["rejected"], json!(bad.len()), "{name}");
        assert_eq!(run.export(name)["gaps"], run.export("none")["gaps"], "{name}: a refusal is no gap");
        scene.check_sums(name);
    }
    let again = scene.run().expect_code(0);
    assert_eq!((again.status("two"), &again.export("two")["already"]), ("partial", &json!(true)));
    assert_eq!(clips_of(&scene.log(), "two").len(), clips_of(&log, "two").len());
}

/// A clock half an hour behind: what the machine's clock calls past retention is still there.
#[derive(Debug)]
struct LateClock;

impl Clock for LateClock {
    fn now(&self) -> UtcMillis {
        SystemClock.now() - 1_800_000
    }
}

#[test]
fn retention_that_overtakes_a_chunk_takes_only_what_it_has_passed() {
    let start = SystemClock.now() - 3_600_000 - 1_200_000;
    let range = TimeRange::new(start, start + 60_000).expect("a minute");
    let names = ["by-server", "by-producer"];
    let cameras = names.map(|name| Camera::steady(name).retention_hours(1));
    // The head comes to stand between the bound of a request, 500 ms before its first fragment, and that fragment.
    let first_alive = 11;
    let head = |camera: &Camera| camera.fragments(range, TimestampKind::Server)[first_alive].server - 100;
    let faults = cameras.iter().map(|camera| {
        let fault = Fault::RetentionPasses { head: head(camera) };
        FaultRule { api: Some(Api::GetClip), ..FaultRule::every_request(fault) }
            .on_stream(camera.name.clone())
    });
    let scene = Scene::new(EmulatorConfig {
        clock: Arc::new(LateClock),
        faults: faults.collect(),
        ..EmulatorConfig::with_cameras(cameras.clone())
    });
    let jobs = [TimestampKind::Server, TimestampKind::Producer]
        .map(|kind| (kind, names[usize::from(kind == TimestampKind::Producer)]))
        .map(|(kind, name)| Job::new(name, name, range).of(kind, Edges::Cover, Timeline::Compact));
    let run = scene.run_jobs(&jobs).expect_code(3);
    for (job, camera) in jobs.iter().zip(&cameras) {
        let name = job.name.as_str();
        let (living, dead): (Vec<ScriptedFragment>, Vec<ScriptedFragment>) =
            truth::fragments(camera, job).into_iter().partition(|fragment| fragment.server >= head(camera));
        assert!(!living.is_empty() && dead.len() > 8, "{name}: {} died", dead.len());
        assert_eq!(run.status(name), "partial", "{:#}", run.report);
        expect_fragments(&run, job, &living);
        let manifest = run.manifest(name);
        let dead: BTreeSet<String> = dead.iter().map(|fragment| fragment.number.to_string()).collect();
        assert_eq!(numbers(&manifest["missing"]), dead, "{name}");
        let states: BTreeSet<&str> = manifest["missing"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["state"].as_str())
            .collect();
        assert_eq!(states, BTreeSet::from(["expired"]), "{name}");
        assert_eq!(manifest["gaps"], json!([]), "{name}: what expired is no gap");
        assert!(run.export(name)["chunks"]["expired"].as_u64() > Some(0), "{name}");
        assert_eq!(run.export(name)["chunks"]["failed"], json!(0), "{name}");
    }
    let again = scene.run().expect_code(0);
    assert!(jobs.iter().all(|job| again.status(&job.name) == "partial"));
}
