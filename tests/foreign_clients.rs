//! The emulator as clients see it that know nothing of this project: boto3 and the AWS CLI.
//!
//! What they must find is written in `tests/foreign/check.py`, taken from what is known of the service. The
//! clients come from `PyPI`, pinned in `tests/foreign/requirements.txt`, into a folder below the build folder.

#[path = "support/venv.rs"]
mod venv;

use std::fs;
use std::path::Path;
use std::process::Command;

use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, Fault, FaultRule, Recording};
use kvs_export::model::{TimeRange, TimestampKind, UtcMillis};
use serde_json::{Value, json};

/// 2024-03-01T00:00:00Z.
const START: UtcMillis = UtcMillis::new(1_709_251_200_000);

fn cameras() -> Vec<Camera> {
    let replay = Recording::at(START)
        .server_delay_ms(250)
        .fragments(30, 2_000)
        .gap_ms(60_000)
        .fragments(20, 2_000)
        .restart_at(START)
        .fragments(3, 2_000);
    vec![
        Camera::with_script("front-gate", replay.into_script()),
        Camera::steady("yard-north"),
        Camera::steady("yard-south"),
        Camera::steady("yard-west"),
        Camera::steady("closed"),
        Camera::steady("brief").retention_hours(1),
        Camera::steady("unkept").retention_hours(0),
        Camera::steady("busy"),
        Camera::steady("moving"),
    ]
}

/// What `camera` holds in an hour from [`START`], as its script says.
fn truth(camera: &Camera) -> Value {
    let hour = TimeRange::new(START, START + 3_600_000).expect("an hour");
    let fragments = camera.fragments(hour, TimestampKind::Server).into_iter().map(|fragment| {
        json!({
            "number": fragment.number.as_str(),
            "producer_ms": fragment.producer.get(),
            "server_ms": fragment.server.get(),
            "length_ms": fragment.length_ms,
            "size_bytes": fragment.size_bytes,
            "frames": fragment.frames,
        })
    });
    fragments.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_and_the_aws_cli_find_the_service_they_know() {
    let cameras = cameras();
    let truth: Value = cameras
        .iter()
        .map(|camera| (camera.name.clone(), truth(camera)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let emulator = Emulator::start(EmulatorConfig {
        denied: vec![("closed".to_owned(), Api::GetClip), ("closed".to_owned(), Api::DescribeStream)],
        faults: vec![
            FaultRule::always(Api::GetClip, Fault::Throttle).on_stream("busy"),
            FaultRule::nth(Api::ListFragments, 1, Fault::ExpireEndpoint).on_stream("moving"),
        ],
        // The script makes more than five calls a second on one stream's control plane.
        points: None,
        ..EmulatorConfig::with_cameras(cameras)
    })
    .await
    .expect("the emulator starts");
    let folder = tempfile::tempdir().expect("a folder");
    let truth_file = folder.path().join("truth.json");
    fs::write(&truth_file, truth.to_string()).expect("written");

    let (endpoint, work) = (emulator.endpoint(), folder.path().to_owned());
    let script = tokio::task::spawn_blocking(move || {
        let programs = venv::programs("foreign-clients", "requirements.txt");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/check.py");
        Command::new(programs.join("python"))
            .arg(script)
            .args([endpoint.as_ref(), truth_file.as_os_str(), programs.join("aws").as_os_str()])
            .current_dir(&work)
            // Neither the user's configuration nor a proxy may get between.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &work)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "example")
            .env("AWS_SESSION_TOKEN", "example")
            .env("AWS_DEFAULT_REGION", "us-west-2")
            .env("AWS_MAX_ATTEMPTS", "1")
            .output()
    });
    let output = script.await.expect("not cancelled").expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(said.contains(" checks passed"), "the script ended early:\n{said}{complaints}");
    let log = emulator.log();
    assert!(
        log.iter().all(|record| record.region.as_deref() == Some("us-west-2") || record.status == Some(403))
    );
    emulator.stop().await;
}
