//! Clips for the tests, made once a process, and ffprobe's view of files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use tempfile::TempDir;

use crate::merge::*;
use crate::model::*;

/// The moment that every test's stream begins.
pub(super) const EPOCH: i64 = 1_700_000_000_000;
const SECONDS: u32 = 12;

/// A 12 s recording with a key frame every 2 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Base {
    Plain,
    BFrames,
    H265,
    Larger,
    Silent,
    ALaw,
    /// Five small pictures a second, with sound.
    Small,
    /// Sound for the first three seconds only; its track goes on without samples.
    SoundEnds,
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("folder")).path()
}

pub(super) fn ffmpeg() -> Ffmpeg {
    static FFMPEG: OnceLock<Ffmpeg> = OnceLock::new();
    FFMPEG.get_or_init(|| Ffmpeg::find().expect("ffmpeg")).clone()
}

pub(super) fn run_ffmpeg(args: &[&str]) {
    let status = Command::new(ffmpeg().path)
        .args(["-nostdin", "-v", "error", "-y"])
        .args(args)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success(), "{args:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn container(base: Base) -> &'static str {
    if base == Base::ALaw { "mov" } else { "mp4" }
}

/// Encodes a base once.
pub(super) fn base(base: Base) -> PathBuf {
    static MADE: Mutex<Vec<Base>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().expect("lock");
    let path = folder().join(format!("{base:?}.mp4"));
    if !made.contains(&base) {
        let (size, rate) = match base {
            Base::Larger => ("640x360", 25),
            Base::Small => ("64x64", 5),
            _ => ("320x180", 25),
        };
        let video = format!("testsrc2=s={size}:r={rate}:d={SECONDS}");
        let group = (2 * rate).to_string();
        let sound_seconds = if base == Base::SoundEnds { 3 } else { SECONDS };
        let sound = format!("sine=frequency=440:sample_rate=48000:d={sound_seconds}");
        let mut args = vec!["-f", "lavfi", "-i", &video];
        match base {
            Base::Silent => {}
            Base::ALaw => args.extend(["-f", "lavfi", "-i", &sound, "-ar", "8000", "-c:a", "pcm_alaw"]),
            _ => args.extend(["-f", "lavfi", "-i", &sound, "-c:a", "aac"]),
        }
        args.extend(["-g", &group, "-threads", "1", "-preset", "ultrafast"]);
        args.extend(match base {
            Base::BFrames => vec![
                "-c:v",
                "libx264",
                "-bf",
                "3",
                "-b_strategy",
                "0",
                "-sc_threshold",
                "0",
                "-x264-params",
                "b-pyramid=normal",
            ],
            Base::H265 => {
                vec![
                    "-c:v",
                    "libx265",
                    "-tag:v",
                    "hvc1",
                    "-x265-params",
                    "keyint=50:min-keyint=50:scenecut=0:open-gop=0:log-level=none",
                ]
            }
            _ => vec!["-c:v", "libx264", "-bf", "0", "-sc_threshold", "0"],
        });
        args.extend(["-f", container(base), text(&path)]);
        run_ffmpeg(&args);
        made.push(base);
    }
    path
}

/// Cuts a base into clips that begin at `starts` (milliseconds, on key frames).
pub(super) fn cut(which: Base, starts: &[i64]) -> Vec<PathBuf> {
    static CUTS: Mutex<u32> = Mutex::new(0);
    let number = {
        let mut cuts = CUTS.lock().expect("lock");
        *cuts += 1;
        *cuts
    };
    let source = base(which);
    let pattern = folder().join(format!("cut{number}-%d.mp4"));
    let times: Vec<String> = starts[1..].iter().map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000)).collect();
    let times = if times.is_empty() { "1000".to_owned() } else { times.join(",") };
    run_ffmpeg(&[
        "-i",
        text(&source),
        "-map",
        "0",
        "-c",
        "copy",
        "-f",
        "segment",
        "-segment_times",
        &times,
        "-reset_timestamps",
        "1",
        "-segment_format",
        container(which),
        "-segment_format_options",
        // Only fragmented files keep a track without samples.
        if which == Base::SoundEnds { "movflags=frag_keyframe+empty_moov+default_base_moof" } else { "" },
        text(&pattern),
    ]);
    (0..starts.len()).map(|i| folder().join(format!("cut{number}-{i}.mp4"))).collect()
}

/// The fragment that begins `ms` into the stream's media, on a wall clock that `wall` tells.
pub(super) fn fragment(ms: i64, wall: impl Fn(i64) -> i64) -> Fragment {
    let start = UtcMillis::new(EPOCH + wall(ms));
    Fragment {
        number: FragmentNumber::parse(&format!("913438523331814323926820626{ms:08}")).expect("number"),
        producer: start,
        server: start + 700,
        length_ms: 1_960,
        size_bytes: 100_000,
    }
}

/// Cuts a base into chunks and lists the 2 s fragments of each.
pub(super) fn chunks_of(which: Base, starts: &[i64], end: i64, wall: impl Fn(i64) -> i64) -> Vec<MergeChunk> {
    let files = cut(which, starts);
    let ends = starts[1..].iter().copied().chain([end]);
    let clips = files.into_iter().zip(starts.iter().copied().zip(ends));
    clips
        .map(|(path, (start, end))| {
            let fragments = (start..end).step_by(2_000).map(|ms| fragment(ms, &wall)).collect();
            chunk(path, fragments)
        })
        .collect()
}

pub(super) fn chunk(path: PathBuf, fragments: Vec<Fragment>) -> MergeChunk {
    let all = fragments.iter().enumerate();
    let selection = all.map(|(index, fragment)| Selected { index, start: fragment.producer }).collect();
    MergeChunk { sha256: sha256_of(&path), path, fragments, selection, window: None }
}

pub(super) fn sha256_of(path: &Path) -> Sha256Digest {
    Sha256Digest(Sha256::digest(std::fs::read(path).expect("read")).into())
}

/// Rewrites a clip so that everything from picture `picture` on, and sound from `at_ms` on, is `by_ms` later.
pub(super) fn delayed_inside(clip: &Path, picture: u32, at_ms: i64, by_ms: i64) -> PathBuf {
    let path = clip.with_extension(format!("{picture}-{by_ms}.mp4"));
    let video = format!("setts=ts=TS+gte(N\\,{picture})*{by_ms}/1000/TB");
    let video = video.replace("ts=TS", "pts=PTS") + &format!(":dts=DTS+gte(N\\,{picture})*{by_ms}/1000/TB");
    let sound = format!("setts=pts=PTS+gte(PTS*TB\\,{at_ms}/1000)*{by_ms}/1000/TB");
    let sound = sound.clone() + &sound.replace("setts=pts=PTS", ":dts=DTS");
    run_ffmpeg(&[
        "-i",
        text(clip),
        "-map",
        "0",
        "-c",
        "copy",
        "-bsf:v",
        &video,
        "-bsf:a",
        &sound,
        text(&path),
    ]);
    path
}

pub(super) fn fresh_request(timeline: Timeline) -> (TempDir, MergeRequest) {
    let folder = tempfile::tempdir().expect("folder");
    let request = MergeRequest {
        timeline,
        media_clock: TimestampKind::Producer,
        gap_tolerance_ms: 1_000,
        on_codec_change: OnCodecChange::Split,
        folder: folder.path().to_owned(),
        file_name: "front-gate.mp4".to_owned(),
        ffmpeg: ffmpeg(),
        cancel: Arc::default(),
    };
    (folder, request)
}

pub(super) fn run(request: &MergeRequest, chunks: &[MergeChunk]) -> Result<MergeReport, MergeError> {
    merge(request, &mut chunks.iter().cloned().map(Ok))
}

/// A packet as ffprobe sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) stream: usize,
    pub(super) micros: i64,
    pub(super) is_key: bool,
    pub(super) hash: String,
}

/// All packets of a file, in the order of decoding a stream.
pub(super) fn packets(path: &Path) -> Vec<Packet> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-show_data_hash", "sha256"])
        .args(["-of", "json"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{path:?}: {output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = document["packets"].as_array().expect("packets");
    all.iter()
        .map(|packet| {
            let text = |name: &str| packet[name].as_str().unwrap_or_else(|| panic!("no {name}: {packet}"));
            Packet {
                stream: usize::try_from(packet["stream_index"].as_u64().expect("index")).expect("small"),
                micros: decimal_micros(text("pts_time")),
                is_key: text("flags").starts_with('K'),
                hash: text("data_hash").to_owned(),
            }
        })
        .collect()
}

/// When each packet of a file is shown, in nanoseconds: pictures, and sound. For files of many packets.
pub(super) fn times(path: &Path) -> [Vec<i64>; 2] {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "packet=stream_index,pts,pts_time", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{path:?}: {output:?}");
    let mut times = [Vec::new(), Vec::new()];
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let words: Vec<&str> = line.split(',').collect();
        if words[0].is_empty() {
            // What stands beside a packet has a line of its own.
            continue;
        }
        times[words[0].parse::<usize>().expect("a stream")].push(1_000 * decimal_micros(words[2]));
    }
    times
}

/// What the outputs must hold if the fragments begin at `begins`: (part, milliseconds of the part).
pub(super) fn expected_packets(chunks: &[MergeChunk], begins: &[(usize, i64)]) -> Vec<Vec<Packet>> {
    let mut parts = vec![Vec::new(); begins.iter().map(|(part, _)| part + 1).max().unwrap_or(0)];
    let mut before = 0;
    for chunk in chunks {
        let all = packets(&chunk.path);
        let keys: Vec<i64> = all.iter().filter(|p| p.stream == 0 && p.is_key).map(|p| p.micros).collect();
        assert_eq!(keys.len(), chunk.fragments.len(), "key frames of the clip");
        let mut group = 0;
        for packet in all {
            let fragment = if packet.stream == 0 {
                group += usize::from(packet.is_key);
                group - 1
            } else {
                keys.iter().rposition(|key| *key <= packet.micros).unwrap_or(0)
            };
            let (part, ms) = begins[before + fragment];
            let micros = ms * 1000 + packet.micros - keys[fragment];
            parts[part].push(Packet { micros, ..packet });
        }
        before += chunk.fragments.len();
    }
    parts
}

/// Parses decimal seconds with six places.
fn decimal_micros(text: &str) -> i64 {
    let (whole, places) = text.split_once('.').expect("a decimal point");
    assert_eq!(places.len(), 6, "{text}");
    format!("{whole}{places}").parse().expect("a number")
}
