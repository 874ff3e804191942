//! Reads a video with ffprobe and ffmpeg alone, and says which frame of which fragment stands where in it.

use std::path::Path;
use std::process::Command;

use kvs_export::emulator::FRAME_MARK_UUID;
use serde_json::Value;

/// A frame as it was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// The stream that it says it is of.
    pub(crate) stream: String,
    /// The number of its fragment.
    pub(crate) fragment: String,
    /// Its place in the fragment, from 0.
    pub(crate) index: u32,
    /// How many frames the fragment has.
    pub(crate) frames: u32,
    /// When it is shown, in milliseconds of the file.
    pub(crate) pts_ms: f64,
    /// Whether the file calls it a key frame.
    pub(crate) is_key: bool,
}

/// The frames of a video's pictures in decode order.
pub(crate) fn frames(video: &Path) -> Vec<Frame> {
    let marks = match codec(video, "v:0").as_ref().map(|(codec, _)| codec.as_str()) {
        Some("h264") => marks(&annex_b(video, "h264_mp4toannexb", 6, "h264")),
        // Apple's players take H.265 by this tag alone.
        Some("hevc") if tag(video) == "hvc1" => marks(&annex_b(video, "hevc_mp4toannexb", 39, "hevc")),
        other => panic!("{}: pictures coded as {other:?}", video.display()),
    };
    let packets = packets(video, "v:0");
    assert_eq!(marks.len(), packets.len(), "{}: marks and packets", video.display());
    marks
        .into_iter()
        .zip(packets)
        .map(|((_, mark), packet)| mark.shown(packet.pts_ms, packet.is_key))
        .collect()
}

/// The longest time, in milliseconds, that a picture is decoded before it is shown. Players seek by decode times.
pub(crate) fn longest_decoded_ahead_ms(video: &Path) -> f64 {
    packets(video, "v:0").iter().map(|packet| packet.pts_ms - packet.dts_ms).fold(0.0, f64::max)
}

/// The frames of a video's sound in decode order; none where there is no sound.
///
/// No frame of sound is a key frame to this; [`Frame::is_key`] says which are the first of a fragment.
pub(crate) fn sound(video: &Path) -> Vec<Frame> {
    let Some((codec, sample_rate)) = codec(video, "a:0") else { return Vec::new() };
    let payload = ffmpeg(video, &["-map", "0:a:0", "-c", "copy", "-f", "data"]);
    let packets = packets(video, "a:0");
    let bytes: usize = packets.iter().map(|packet| packet.size).sum();
    assert_eq!(bytes, payload.len(), "{}: bytes of sound", video.display());
    let marks = marks(&payload);
    if codec == "aac" {
        assert_eq!(marks.len(), packets.len(), "{}: marks and frames of sound", video.display());
    }
    // A byte of G.711 is a sample: packets may hold any number of blocks, or parts of them.
    let mut starts = Vec::with_capacity(packets.len());
    let mut at = 0;
    for packet in &packets {
        starts.push(at);
        at += packet.size;
    }
    let place = |(at, mark): (usize, Mark)| {
        let packet = starts.partition_point(|start| *start <= at) - 1;
        let samples = if codec == "aac" { 0 } else { at - starts[packet] };
        let later_ms = f64::from(u32::try_from(samples).expect("few")) * 1000.0 / sample_rate;
        let is_first = mark.index == 0;
        mark.shown(packets[packet].pts_ms + later_ms, is_first)
    };
    marks.into_iter().map(place).collect()
}

/// The four characters that name the pictures' coding in the file.
fn tag(video: &Path) -> String {
    let document = ffprobe(video, &["-select_streams", "v:0", "-show_entries", "stream=codec_tag_string"]);
    document["streams"][0]["codec_tag_string"].as_str().unwrap_or_default().to_owned()
}

/// How a track is coded, and how many samples a second it has if it is sound; `None` where there is none.
fn codec(video: &Path, track: &str) -> Option<(String, f64)> {
    let entries = ["-select_streams", track, "-show_entries", "stream=codec_name,sample_rate"];
    let document = ffprobe(video, &entries);
    let stream = &document["streams"][0];
    let rate = stream["sample_rate"].as_str().and_then(|rate| rate.parse().ok()).unwrap_or(0.0);
    stream["codec_name"].as_str().map(|codec| (codec.to_owned(), rate))
}

struct Packet {
    pts_ms: f64,
    dts_ms: f64,
    is_key: bool,
    size: usize,
}

/// Asks ffprobe when each packet of a track is shown, whether it is a key frame, and how large it is.
fn packets(video: &Path, track: &str) -> Vec<Packet> {
    let entries =
        ["-select_streams", track, "-show_packets", "-show_entries", "packet=pts_time,dts_time,flags,size"];
    let document = ffprobe(video, &entries);
    let packets = document["packets"].as_array().expect("packets").iter();
    let mut last_dts = f64::MIN;
    let packet = |packet: &Value| {
        let text = |key: &str| packet[key].as_str().unwrap_or_else(|| panic!("no {key}: {packet}"));
        let ms = |key: &str| text(key).parse::<f64>().expect("seconds") * 1000.0;
        let dts = ms("dts_time");
        assert!(dts > last_dts, "{}: decode times go back at {packet}", video.display());
        last_dts = dts;
        let is_key = text("flags").starts_with('K');
        Packet { pts_ms: ms("pts_time"), dts_ms: dts, is_key, size: text("size").parse().expect("bytes") }
    };
    packets.map(packet).collect()
}

fn ffprobe(video: &Path, arguments: &[&str]) -> Value {
    let asked = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(arguments)
        .arg(video)
        .output()
        .expect("ffprobe starts");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success() && said.is_empty(), "{}: {said}", video.display());
    serde_json::from_slice(&asked.stdout).expect("ffprobe writes JSON")
}

/// Has ffmpeg write out the supplemental units of the coded pictures.
fn annex_b(video: &Path, to_annex_b: &str, unit: u8, format: &str) -> Vec<u8> {
    let filter = format!("{to_annex_b},filter_units=pass_types={unit}");
    ffmpeg(video, &["-map", "0:v:0", "-c", "copy", "-bsf:v", &filter, "-f", format])
}

fn ffmpeg(video: &Path, arguments: &[&str]) -> Vec<u8> {
    let copied = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(video)
        .args(arguments)
        .arg("-")
        .output()
        .expect("ffmpeg starts");
    // It may complain that its own clock for bare H.264 is too coarse; the number of marks tells of every loss.
    let said = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{}: {said}", video.display());
    copied.stdout
}

/// `stream|fragment number|frame index|frames`.
struct Mark {
    stream: String,
    fragment: String,
    index: u32,
    frames: u32,
}

impl Mark {
    fn parse(text: &[u8]) -> Self {
        let text = str::from_utf8(text).expect("a mark is ASCII");
        let mut words = text.split('|');
        let mut word = || words.next().unwrap_or_else(|| panic!("an incomplete mark: {text}")).to_owned();
        let (stream, fragment, index, frames) = (word(), word(), word(), word());
        let number = |text: String| text.parse::<u32>().expect("a number");
        Self { stream, fragment, index: number(index), frames: number(frames) }
    }

    fn shown(self, pts_ms: f64, is_key: bool) -> Frame {
        let Self { stream, fragment, index, frames } = self;
        Frame { stream, fragment, index, frames, pts_ms, is_key }
    }
}

/// The marks in coded data, with their places.
fn marks(data: &[u8]) -> Vec<(usize, Mark)> {
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(found) =
        data[at..].windows(FRAME_MARK_UUID.len()).position(|bytes| bytes == FRAME_MARK_UUID)
    {
        let begins = at + found;
        let text = &data[begins + FRAME_MARK_UUID.len()..];
        let length = text.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(text.len());
        marks.push((begins, Mark::parse(&text[..length])));
        at = begins + FRAME_MARK_UUID.len() + length;
    }
    marks
}
