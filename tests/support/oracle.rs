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

/// The frames of a video in decode order.
pub(crate) fn frames(video: &Path) -> Vec<Frame> {
    let times = times(video);
    let marks = marks(video);
    assert_eq!(marks.len(), times.len(), "{}: marks and packets", video.display());
    let frame = |((stream, fragment, index, frames), (pts_ms, is_key))| Frame {
        stream,
        fragment,
        index,
        frames,
        pts_ms,
        is_key,
    };
    marks.into_iter().zip(times).map(frame).collect()
}

/// Asks ffprobe when each packet is shown, and whether it is a key frame.
fn times(video: &Path) -> Vec<(f64, bool)> {
    let asked = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_packets"])
        .args(["-show_entries", "packet=pts_time,dts_time,flags", "-of", "json"])
        .arg(video)
        .output()
        .expect("ffprobe starts");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success() && said.is_empty(), "{}: {said}", video.display());
    let document: Value = serde_json::from_slice(&asked.stdout).expect("ffprobe writes JSON");
    let packets = document["packets"].as_array().expect("packets").iter();
    let mut last_dts = f64::MIN;
    let packet = |packet: &Value| {
        let ms = |key: &str| {
            let text = packet[key].as_str().unwrap_or_else(|| panic!("no {key}: {packet}"));
            text.parse::<f64>().expect("seconds") * 1000.0
        };
        let dts = ms("dts_time");
        assert!(dts > last_dts, "{}: decode times go back at {packet}", video.display());
        last_dts = dts;
        (ms("pts_time"), packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')))
    };
    packets.map(packet).collect()
}

/// Has ffmpeg write out the supplemental units of the coded data, and reads the marks among them.
fn marks(video: &Path) -> Vec<(String, String, u32, u32)> {
    let copied = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(video)
        .args(["-map", "0:v:0", "-c", "copy", "-bsf:v", "h264_mp4toannexb,filter_units=pass_types=6"])
        .args(["-f", "h264", "-"])
        .output()
        .expect("ffmpeg starts");
    // It may complain that its own clock for bare H.264 is too coarse; the number of marks tells of every loss.
    let said = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{}: {said}", video.display());
    let mut rest = copied.stdout.as_slice();
    let mut marks = Vec::new();
    while let Some(at) = rest.windows(FRAME_MARK_UUID.len()).position(|bytes| bytes == FRAME_MARK_UUID) {
        rest = &rest[at + FRAME_MARK_UUID.len()..];
        let length = rest.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len());
        marks.push(mark(&rest[..length]));
    }
    marks
}

/// `stream|fragment number|frame index|frames`.
fn mark(text: &[u8]) -> (String, String, u32, u32) {
    let text = str::from_utf8(text).expect("a mark is ASCII");
    let mut words = text.split('|');
    let mut word = || words.next().unwrap_or_else(|| panic!("an incomplete mark: {text}")).to_owned();
    let (stream, fragment, index, frames) = (word(), word(), word(), word());
    let number = |text: String| text.parse::<u32>().expect("a number");
    (stream, fragment, number(index), number(frames))
}
