//! Runs ffmpeg for pictures and sound to build fragments from.

#![expect(clippy::disallowed_methods, reason = "the emulator encodes its pictures")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::error::EmulatorError;
use super::video::PictureCodec;

/// Encodes `input` as an Annex-B stream with closed groups of exactly `group_frames` frames, in which `b_pictures`
/// stand between two that others refer to.
pub(super) fn pictures(
    what: &str,
    input: &[OsString],
    codec: PictureCodec,
    (group_frames, b_pictures): (u32, u32),
) -> Result<Vec<u8>, EmulatorError> {
    let group = format!("keyint={group_frames}:min-keyint={group_frames}:scenecut=0:open-gop=0:aud=1");
    // A fixed pattern, so that the order of showing is known without reading the slices.
    let order = format!("bframes={b_pictures}:b-adapt=0:b-pyramid=0");
    // One thread: the same pictures have the same bytes on every machine.
    let (encoder, more) = match codec {
        PictureCodec::H264 => {
            (["-c:v", "libx264", "-profile:v", "main", "-f", "h264", "-x264-params"], String::new())
        }
        PictureCodec::H265 => (
            ["-c:v", "libx265", "-profile:v", "main", "-f", "hevc", "-x265-params"],
            ":log-level=error:info=0:pools=none:frame-threads=1".to_owned(),
        ),
    };
    let parameters = format!("{group}:{order}{more}");
    let mut arguments: Vec<OsString> = input.to_vec();
    arguments.extend(["-an", "-sn", "-dn", "-preset", "veryfast", "-crf", "28"].map(OsString::from));
    arguments.extend(["-pix_fmt", "yuv420p", "-threads", "1"].map(OsString::from));
    arguments.extend(encoder.map(OsString::from));
    arguments.push(parameters.into());
    run(what, &arguments)
}

/// Encodes `input` as AAC in ADTS frames.
pub(super) fn aac(what: &str, input: &[OsString]) -> Result<Vec<u8>, EmulatorError> {
    let mut arguments: Vec<OsString> = input.to_vec();
    arguments.extend(["-vn", "-sn", "-dn", "-c:a", "aac", "-b:a", "32k", "-f", "adts"].map(OsString::from));
    run(what, &arguments)
}

/// Runs ffmpeg and returns what it writes.
fn run(what: &str, arguments: &[OsString]) -> Result<Vec<u8>, EmulatorError> {
    let program = std::env::var_os("KVS_EXPORT_FFMPEG").unwrap_or_else(|| "ffmpeg".into());
    let output = Command::new(&program)
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .arg("pipe:1")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| EmulatorError::StartFfmpeg { program: PathBuf::from(&program), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(EmulatorError::Encode { what: what.to_owned(), stderr });
    }
    Ok(output.stdout)
}
