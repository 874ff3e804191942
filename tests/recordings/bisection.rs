//! How many calls it takes to find where the codec changes: the listing does not tell, and clips that hold a change are
//! only refused.

use kvs_export::emulator::{Api, Camera, EmulatorConfig, Recording};

use crate::support::expected::Content;
use crate::support::oracle;
use crate::support::scene::{Job, Scene};
use crate::support::{MIDNIGHT, after_midnight};

/// A window of 200 fragments, a whole clip, and another after it.
const FRAGMENTS: usize = 200;

/// A camera whose pictures change after each of these fragments of its first window.
fn camera(name: &str, changes: &[usize]) -> Camera {
    let from = MIDNIGHT + 3_600_000 - 1_000 * i64::try_from(FRAGMENTS).expect("few");
    let mut recording = Recording::at(from).frame_rate(2).bytes_per_second(0);
    let mut recorded = 0;
    for (video, change) in changes.iter().chain([&(2 * FRAGMENTS)]).enumerate() {
        recording = recording.video(video % 2).fragments(change - recorded, 1_000);
        recorded = *change;
    }
    Camera::with_script(name, recording.into_script())
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts belong into the table")]
fn a_change_of_codec_is_found_by_bisection() {
    let changes: [&[usize]; 7] = [&[1], &[37], &[100], &[101], &[137], &[199], &[60, 61]];
    let name = |changes: &[usize]| {
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        format!("after-{}", words.join("-"))
    };
    let cameras: Vec<Camera> = changes.iter().map(|changes| camera(&name(changes), changes)).collect();
    let range = after_midnight(3_600_000 - 200_000, 3_600_000 + 200_000);
    let jobs: Vec<Job> = cameras.iter().map(|camera| Job::new(&camera.name, &camera.name, range)).collect();
    let scene = Scene::new(EmulatorConfig::with_cameras(cameras.clone()));
    let reason = "clips that hold a change are refused and divided";
    let run = scene.run_jobs_otherwise_than_planned(&jobs, reason).expect_code(0);
    let clips = scene.requests(Api::GetClip);
    for ((changes, camera), job) in changes.iter().zip(&cameras).zip(&jobs) {
        let of_camera = || clips.iter().filter(|clip| clip.stream == camera.name);
        let refused = of_camera().filter(|clip| clip.status == Some(400)).count();
        let served = of_camera().filter(|clip| clip.status == Some(200)).count();
        println!("bisection: {:12} {refused:2} clips refused, {served:2} served", camera.name);
        // Halving 200 fragments eight times leaves one; a second change makes a second search.
        let most = 8 * changes.len();
        assert!(refused <= most, "{}: {refused} clips refused", camera.name);
        assert!(served <= most + 2, "{}: {served} clips served", camera.name);
        let videos = run.export(&job.name)["output"].as_array().expect("outputs").clone();
        assert_eq!(videos.len(), changes.len() + 1, "{}", camera.name);
        let found = videos.iter().flat_map(|video| oracle::frames(video.as_str().expect("a path").as_ref()));
        let content = Content::of(camera, job);
        let expected = content.kept.iter().map(|of| usize::try_from(of.frames).expect("few")).sum::<usize>();
        assert_eq!(found.count(), expected, "{}", camera.name);
    }
}
