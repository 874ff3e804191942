//! Reads a track's sample description (`stsd`), keeping the codec's private data byte for byte.
//!
//! By hand and not through `mp4-atom`: its typed boxes would have to be encoded again to get the private bytes, and
//! it refuses the sound descriptions that `QuickTime` writers make.

use super::boxes::Bytes;
use super::error::Mp4Error;
use crate::media::track::{Codec, SampleDescription, TrackKind};

fn damaged(what: &str) -> Mp4Error {
    Mp4Error::Damaged { kind: "stsd".to_owned(), what: what.to_owned() }
}

/// Reads the content of an `stsd` box.
pub(super) fn parse(content: &[u8], kind: TrackKind) -> Result<SampleDescription, Mp4Error> {
    let mut bytes = Bytes(content);
    let short = || damaged("it is too short");
    bytes.u32().ok_or_else(short)?;
    match bytes.u32().ok_or_else(short)? {
        0 => return Err(damaged("it is empty")),
        1 => {}
        _ => return Err(Mp4Error::SeveralDescriptions),
    }
    let (fourcc, mut entry) = bytes.next_box().ok_or_else(short)?;
    entry.take(8).ok_or_else(short)?;
    match kind {
        TrackKind::Video => video(fourcc, entry),
        TrackKind::Audio => audio(fourcc, entry),
        TrackKind::Other => Some(Ok(plain(fourcc, TrackKind::Other))),
    }
    .ok_or_else(short)?
}

fn plain(fourcc: [u8; 4], kind: TrackKind) -> SampleDescription {
    SampleDescription {
        kind,
        codec: Codec::Other(fourcc),
        codec_private: Vec::new(),
        width: 0,
        height: 0,
        channels: 0,
        sample_rate: 0,
    }
}

fn video(fourcc: [u8; 4], mut entry: Bytes<'_>) -> Option<Result<SampleDescription, Mp4Error>> {
    let mut description = plain(fourcc, TrackKind::Video);
    entry.take(16)?;
    (description.width, description.height) = (entry.u16()?, entry.u16()?);
    entry.take(50)?;
    let (codec, holder) = match &fourcc {
        b"avc1" | b"avc3" => (Codec::H264, *b"avcC"),
        b"hvc1" | b"hev1" => (Codec::H265, *b"hvcC"),
        _ => return Some(Ok(description)),
    };
    let Some(private) = entry.find(holder) else {
        return Some(Err(damaged("the codec's private data is missing")));
    };
    description.codec = codec;
    description.codec_private = private.0.to_vec();
    Some(Ok(description))
}

fn audio(fourcc: [u8; 4], mut entry: Bytes<'_>) -> Option<Result<SampleDescription, Mp4Error>> {
    let mut description = plain(fourcc, TrackKind::Audio);
    let version = entry.u16()?;
    entry.take(6)?;
    description.channels = entry.u16()?;
    entry.take(6)?;
    description.sample_rate = entry.u32()? >> 16;
    match version {
        0 => {}
        1 => drop(entry.take(16)?),
        _ => return Some(Err(Mp4Error::Unsupported("a sound description of QuickTime's version 2"))),
    }
    match &fourcc {
        b"mp4a" => {
            let esds =
                entry.find(*b"esds").or_else(|| entry.find(*b"wave").and_then(|wave| wave.find(*b"esds")));
            let Some(config) = esds.and_then(audio_specific_config) else {
                return Some(Err(damaged("the AudioSpecificConfig is missing")));
            };
            description.codec = Codec::Aac;
            description.codec_private = config.to_vec();
        }
        b"alaw" | b"ulaw" => {
            description.codec = if &fourcc == b"alaw" { Codec::ALaw } else { Codec::MuLaw };
            description.codec_private = wave_format(&description);
        }
        _ => {}
    }
    Some(Ok(description))
}

/// Digs the `AudioSpecificConfig` out of an `esds` box, if its object type says AAC.
fn audio_specific_config(mut esds: Bytes<'_>) -> Option<&[u8]> {
    esds.u32()?;
    let mut stream = descriptor(&mut esds, 0x03)?;
    stream.u16()?;
    let flags = stream.u8()?;
    if flags & 0x80 != 0 {
        stream.u16()?;
    }
    if flags & 0x40 != 0 {
        let length = stream.u8()?;
        stream.take(usize::from(length))?;
    }
    if flags & 0x20 != 0 {
        stream.u16()?;
    }
    let mut decoder = descriptor(&mut stream, 0x04)?;
    let object_type = decoder.u8()?;
    decoder.take(12)?;
    let config = descriptor(&mut decoder, 0x05)?.0;
    (matches!(object_type, 0x40 | 0x66..=0x68) && !config.is_empty()).then_some(config)
}

/// Takes the next MPEG-4 descriptor, which must have the given tag.
fn descriptor<'a>(bytes: &mut Bytes<'a>, tag: u8) -> Option<Bytes<'a>> {
    if bytes.u8()? != tag {
        return None;
    }
    let mut length = 0_usize;
    for _ in 0..4 {
        let byte = bytes.u8()?;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    bytes.take(length).map(Bytes)
}

/// Makes the `WAVEFORMATEX` of G.711, which Matroska wants and MP4 does not have.
fn wave_format(description: &SampleDescription) -> Vec<u8> {
    let tag: u16 = if description.codec == Codec::ALaw { 6 } else { 7 };
    let bytes_a_second = description.sample_rate.saturating_mul(u32::from(description.channels));
    let mut wave = Vec::with_capacity(18);
    wave.extend(tag.to_le_bytes());
    wave.extend(description.channels.to_le_bytes());
    wave.extend(description.sample_rate.to_le_bytes());
    wave.extend(bytes_a_second.to_le_bytes());
    wave.extend(description.channels.to_le_bytes());
    wave.extend(8_u16.to_le_bytes());
    wave.extend(0_u16.to_le_bytes());
    wave
}
