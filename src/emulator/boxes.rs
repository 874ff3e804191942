//! The boxes of an MP4 with a track of pictures and perhaps one of sound (ISO/IEC 14496-12, -14 and -15), written by hand.
//!
//! The exporter reads clips with a library; the emulator writes them without it, so that neither hides the
//! other's mistakes.

use std::sync::Arc;

use crate::model::UtcMillis;

use super::sound::{Sound, SoundCodec};
use super::video::{PictureCodec, Video};

/// Seconds from 1904, where MP4 counts from, to 1970.
const EPOCH_OFFSET: i64 = 2_082_844_800;

/// Flags of a track that is enabled and part of the movie.
const TRACK_ENABLED_IN_MOVIE: u32 = 3;

/// Rotation and scale that change nothing.
const IDENTITY_MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// `und`: no language.
const UNDETERMINED_LANGUAGE: u16 = 0x55C4;

/// What the movie's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct MovieHeader {
    pub(super) created: UtcMillis,
    pub(super) time_scale: u32,
}

/// One track: what its samples are, their sizes, times and places.
#[derive(Debug)]
pub(super) struct TrackTables {
    pub(super) entry: SampleEntry,
    pub(super) time_scale: u32,
    /// How much of its time is not shown, in ticks: reordered pictures are decoded before the first is shown.
    pub(super) skipped: u32,
    /// How long it waits before it begins, in ticks.
    pub(super) delay: u64,
    sizes: Vec<u32>,
    /// Runs of samples of one duration.
    durations: Vec<(u32, u32)>,
    /// Runs of samples of one distance from decoding to showing; empty where there is none.
    offsets: Vec<(u32, u32)>,
    /// Samples, bytes, and place in the media of each fragment, which is one chunk.
    fragments: Vec<(u32, u64, u64)>,
}

/// What the samples of a track are.
#[derive(Debug)]
pub(super) enum SampleEntry {
    Video(Arc<Video>),
    Sound(Arc<Sound>),
}

impl TrackTables {
    pub(super) fn new(entry: SampleEntry, time_scale: u32) -> Self {
        Self {
            entry,
            time_scale,
            skipped: 0,
            delay: 0,
            sizes: Vec::new(),
            durations: Vec::new(),
            offsets: Vec::new(),
            fragments: Vec::new(),
        }
    }

    /// Adds a fragment's samples, which stand `at` bytes into the media; their durations are added by themselves.
    pub(super) fn push_fragment(&mut self, sizes: &[u64], at: u64) {
        if sizes.is_empty() {
            return;
        }
        self.sizes.extend(sizes.iter().map(|size| u32::try_from(*size).unwrap_or(u32::MAX)));
        self.fragments.push((length(sizes.len()), sizes.iter().sum(), at));
    }

    /// Adds the duration of the next sample.
    pub(super) fn push_duration(&mut self, duration: u32) {
        push_run(&mut self.durations, duration);
    }

    /// Adds the distances from decoding to showing of a fragment's samples.
    pub(super) fn push_offsets(&mut self, offsets: impl Iterator<Item = u32>) {
        offsets.for_each(|offset| push_run(&mut self.offsets, offset));
    }

    fn duration(&self) -> u64 {
        self.durations.iter().map(|(count, duration)| u64::from(*count) * u64::from(*duration)).sum()
    }

    /// In ticks of another scale.
    fn scaled(&self, ticks: u64, scale: u32) -> u64 {
        ticks * u64::from(scale) / u64::from(self.time_scale.max(1))
    }
}

fn push_run(runs: &mut Vec<(u32, u32)>, value: u32) {
    match runs.last_mut() {
        Some((count, last)) if *last == value => *count += 1,
        _ => runs.push((1, value)),
    }
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn put_box(out: &mut Vec<u8>, kind: [u8; 4], content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind);
    content(out);
    let size = length(out.len() - start);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

fn put_full_box(
    out: &mut Vec<u8>,
    kind: [u8; 4],
    version: u8,
    flags: u32,
    content: impl FnOnce(&mut Vec<u8>),
) {
    put_box(out, kind, |out| {
        put_u32(out, u32::from(version) << 24 | flags);
        content(out);
    });
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_matrix(out: &mut Vec<u8>) {
    for value in IDENTITY_MATRIX {
        put_u32(out, value);
    }
}

/// The box a file begins with.
pub(super) fn file_type() -> Vec<u8> {
    let mut out = Vec::new();
    put_box(&mut out, *b"ftyp", |out| out.extend_from_slice(b"isom\0\0\x02\0isomiso2avc1mp41"));
    out
}

/// The header of the box that holds the media; the media follows it.
pub(super) fn media_data_header(media_size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // Size 1 announces a 64-bit size behind the kind; below 4 GB the short form is the usual one.
    if let Ok(size) = u32::try_from(media_size + 8) {
        put_u32(&mut out, size);
        out.extend_from_slice(b"mdat");
    } else {
        put_u32(&mut out, 1);
        out.extend_from_slice(b"mdat");
        put_u64(&mut out, media_size + 16);
    }
    out
}

/// The box that describes the media, of so many bytes, which begins `media_at` bytes into the file.
pub(super) fn movie(header: &MovieHeader, tracks: &[TrackTables], media_size: u64, media_at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let scale = header.time_scale;
    let shown =
        |track: &TrackTables| track.scaled(track.duration() + track.delay - u64::from(track.skipped), scale);
    let duration = tracks.iter().map(shown).max().unwrap_or(0);
    put_box(&mut out, *b"moov", |out| {
        put_full_box(out, *b"mvhd", 1, 0, |out| {
            put_times(out, header);
            put_u32(out, scale);
            put_u64(out, duration);
            put_u32(out, 0x1_0000); // rate 1.0
            put_u16(out, 0x100); // volume 1.0
            out.extend_from_slice(&[0; 10]);
            put_matrix(out);
            out.extend_from_slice(&[0; 24]);
            put_u32(out, length(tracks.len()) + 1); // the next track's id
        });
        for (id, track) in (1..).zip(tracks) {
            put_box(out, *b"trak", |out| put_track(out, header, (id, track), media_size, media_at));
        }
    });
    out
}

fn put_times(out: &mut Vec<u8>, header: &MovieHeader) {
    let created = u64::try_from(header.created.get().div_euclid(1000) + EPOCH_OFFSET).unwrap_or(0);
    put_u64(out, created);
    put_u64(out, created);
}

fn put_track(
    out: &mut Vec<u8>,
    header: &MovieHeader,
    (id, track): (u32, &TrackTables),
    media_size: u64,
    media_at: u64,
) {
    let scale = header.time_scale;
    let shown = track.scaled(track.duration() - u64::from(track.skipped), scale);
    let delay = track.scaled(track.delay, scale);
    let (width, height) = match &track.entry {
        SampleEntry::Video(video) => (video.width, video.height),
        SampleEntry::Sound(_) => (0, 0),
    };
    put_full_box(out, *b"tkhd", 1, TRACK_ENABLED_IN_MOVIE, |out| {
        put_times(out, header);
        put_u32(out, id);
        put_u32(out, 0);
        put_u64(out, delay + shown);
        out.extend_from_slice(&[0; 16]); // reserved, layer, group, volume
        put_matrix(out);
        put_u32(out, u32::from(width) << 16);
        put_u32(out, u32::from(height) << 16);
    });
    if delay > 0 || track.skipped > 0 {
        put_box(out, *b"edts", |out| {
            put_full_box(out, *b"elst", 1, 0, |out| {
                put_u32(out, 1 + u32::from(delay > 0));
                if delay > 0 {
                    put_edit(out, delay, -1);
                }
                put_edit(out, shown, track.skipped.into());
            });
        });
    }
    put_box(out, *b"mdia", |out| {
        put_full_box(out, *b"mdhd", 1, 0, |out| {
            put_times(out, header);
            put_u32(out, track.time_scale);
            put_u64(out, track.duration());
            put_u16(out, UNDETERMINED_LANGUAGE);
            put_u16(out, 0);
        });
        let (handler, name): ([u8; 4], &[u8]) = match &track.entry {
            SampleEntry::Video(_) => (*b"vide", b"VideoHandler\0"),
            SampleEntry::Sound(_) => (*b"soun", b"SoundHandler\0"),
        };
        put_full_box(out, *b"hdlr", 0, 0, |out| {
            put_u32(out, 0);
            out.extend_from_slice(&handler);
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(name);
        });
        put_box(out, *b"minf", |out| {
            match &track.entry {
                SampleEntry::Video(_) => {
                    put_full_box(out, *b"vmhd", 0, 1, |out| out.extend_from_slice(&[0; 8]));
                }
                SampleEntry::Sound(_) => {
                    put_full_box(out, *b"smhd", 0, 0, |out| out.extend_from_slice(&[0; 4]));
                }
            }
            put_box(out, *b"dinf", |out| {
                put_full_box(out, *b"dref", 0, 0, |out| {
                    put_u32(out, 1);
                    put_full_box(out, *b"url ", 0, 1, |_| {}); // flag 1: in this file
                });
            });
            put_box(out, *b"stbl", |out| put_sample_tables(out, track, media_size, media_at));
        });
    });
}

/// An edit at normal speed; a time of -1 is a pause.
fn put_edit(out: &mut Vec<u8>, duration: u64, media_time: i64) {
    put_u64(out, duration);
    out.extend_from_slice(&media_time.to_be_bytes());
    put_u32(out, 0x1_0000);
}

fn put_runs(out: &mut Vec<u8>, kind: [u8; 4], runs: &[(u32, u32)]) {
    put_full_box(out, kind, 0, 0, |out| {
        put_u32(out, length(runs.len()));
        for (count, value) in runs {
            put_u32(out, *count);
            put_u32(out, *value);
        }
    });
}

fn put_sample_tables(out: &mut Vec<u8>, track: &TrackTables, media_size: u64, media_at: u64) {
    put_full_box(out, *b"stsd", 0, 0, |out| {
        put_u32(out, 1);
        match &track.entry {
            SampleEntry::Video(video) => put_video_entry(out, video),
            SampleEntry::Sound(sound) => put_sound_entry(out, sound),
        }
    });
    put_runs(out, *b"stts", &track.durations);
    if track.offsets.iter().any(|(_, offset)| *offset > 0) {
        put_runs(out, *b"ctts", &track.offsets);
    }
    if matches!(track.entry, SampleEntry::Video(_)) {
        put_full_box(out, *b"stss", 0, 0, |out| {
            put_u32(out, length(track.fragments.len()));
            let mut key_frame = 1;
            for (samples, ..) in &track.fragments {
                put_u32(out, key_frame);
                key_frame += samples;
            }
        });
    }
    put_full_box(out, *b"stsc", 0, 0, |out| {
        put_u32(out, length(track.fragments.len()));
        for (chunk, (samples, ..)) in (1..).zip(&track.fragments) {
            put_u32(out, chunk);
            put_u32(out, *samples);
            put_u32(out, 1); // the sample description
        }
    });
    put_full_box(out, *b"stsz", 0, 0, |out| {
        put_u32(out, 0); // sizes differ
        put_u32(out, length(track.sizes.len()));
        for size in &track.sizes {
            put_u32(out, *size);
        }
    });
    // Decided by the media alone: the box must not change its length with `media_at`.
    let wide = media_size > u64::from(u32::MAX) - 0x100_0000;
    put_full_box(out, if wide { *b"co64" } else { *b"stco" }, 0, 0, |out| {
        put_u32(out, length(track.fragments.len()));
        for (.., at) in &track.fragments {
            match u32::try_from(media_at + at) {
                Ok(offset) if !wide => put_u32(out, offset),
                _ => put_u64(out, media_at + at),
            }
        }
    });
}

fn put_video_entry(out: &mut Vec<u8>, video: &Video) {
    let (kind, configuration) = match video.codec {
        PictureCodec::H264 => (*b"avc1", *b"avcC"),
        PictureCodec::H265 => (*b"hvc1", *b"hvcC"),
    };
    put_box(out, kind, |out| {
        out.extend_from_slice(&[0; 6]);
        put_u16(out, 1); // the data reference
        out.extend_from_slice(&[0; 16]);
        put_u16(out, video.width);
        put_u16(out, video.height);
        put_u32(out, 0x48_0000); // 72 dots per inch
        put_u32(out, 0x48_0000);
        put_u32(out, 0);
        put_u16(out, 1); // frames per sample
        out.extend_from_slice(&[0; 32]); // the compressor's name
        put_u16(out, 24); // bits per pixel
        put_u16(out, 0xFFFF); // no colour table
        put_box(out, configuration, |out| match video.codec {
            PictureCodec::H264 => put_avc_configuration(out, &video.parameter_sets),
            PictureCodec::H265 => put_hevc_configuration(out, &video.parameter_sets),
        });
    });
}

fn put_unit(out: &mut Vec<u8>, unit: &[u8]) {
    put_u16(out, u16::try_from(unit.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(unit);
}

fn put_avc_configuration(out: &mut Vec<u8>, sets: &[Vec<u8>]) {
    let [sequence, picture] = sets else { return };
    out.push(1);
    out.extend_from_slice(sequence.get(1..4).unwrap_or(&[0; 3])); // profile, compatibility, level
    out.push(0xFF); // NAL lengths have 4 bytes
    out.push(0xE1); // one set of sequence parameters
    put_unit(out, sequence);
    out.push(1);
    put_unit(out, picture);
}

fn put_hevc_configuration(out: &mut Vec<u8>, sets: &[Vec<u8>]) {
    let Some(video) = sets.first() else { return };
    // Bytes that keep the payload from looking like a start code do not count.
    let mut plain: Vec<u8> = Vec::new();
    for byte in video {
        if !(*byte == 3 && plain.ends_with(&[0, 0])) {
            plain.push(*byte);
        }
    }
    out.push(1);
    // Profile, compatibility, constraints and level stand behind the unit's header and four bytes.
    out.extend_from_slice(plain.get(6..18).unwrap_or(&[0; 12]));
    put_u16(out, 0xF000); // no spatial segmentation
    out.push(0xFC); // parallelism unknown
    out.push(0xFD); // 4:2:0
    out.push(0xF8); // 8 bits of luma
    out.push(0xF8); // 8 bits of chroma
    put_u16(out, 0); // average frame rate unknown
    out.push(0x0F); // one temporal layer, nested; NAL lengths have 4 bytes
    out.push(u8::try_from(sets.len()).unwrap_or(u8::MAX));
    for set in sets {
        out.push(0x80 | (set.first().copied().unwrap_or(0) >> 1 & 0x3F)); // complete, of this type
        put_u16(out, 1);
        put_unit(out, set);
    }
}

fn put_sound_entry(out: &mut Vec<u8>, sound: &Sound) {
    let kind = match sound.kind.codec {
        SoundCodec::Aac => *b"mp4a",
        SoundCodec::ALaw => *b"alaw",
        SoundCodec::MuLaw => *b"ulaw",
    };
    put_box(out, kind, |out| {
        out.extend_from_slice(&[0; 6]);
        put_u16(out, 1); // the data reference
        out.extend_from_slice(&[0; 8]);
        put_u16(out, 1); // channels
        put_u16(out, 16); // bits a sample, when decoded
        put_u32(out, 0);
        put_u32(out, sound.kind.sample_rate << 16);
        if sound.kind.codec == SoundCodec::Aac {
            put_full_box(out, *b"esds", 0, 0, |out| put_elementary_stream(out, &sound.config));
        }
    });
}

/// The descriptors of ISO/IEC 14496-1 around the `AudioSpecificConfig`.
fn put_elementary_stream(out: &mut Vec<u8>, config: &[u8]) {
    let put = |out: &mut Vec<u8>, tag: u8, content: &[u8]| {
        out.push(tag);
        out.push(u8::try_from(content.len()).unwrap_or(0)); // all are shorter than 128 bytes
        out.extend_from_slice(content);
    };
    let mut decoder = vec![0x40, 0x15, 0, 0, 0]; // AAC, an audio stream, buffer size unknown
    decoder.extend_from_slice(&[0; 8]); // bit rates unknown
    put(&mut decoder, 0x05, config);
    let mut stream = vec![0, 0, 0]; // id, flags
    put(&mut stream, 0x04, &decoder);
    put(&mut stream, 0x06, &[2]); // predefined: MP4
    put(out, 0x03, &stream);
}
