//! The boxes of an MP4 with one H.264 track (ISO/IEC 14496-12 and -15), written by hand.
//!
//! The exporter reads clips with a library; the emulator writes them without it, so that neither hides the
//! other's mistakes.

use crate::model::UtcMillis;

use super::video::Video;

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

/// Sizes, times and places of the samples.
#[derive(Debug, Default)]
pub(super) struct SampleTables {
    sizes: Vec<u32>,
    /// Runs of samples of one duration.
    durations: Vec<(u32, u32)>,
    /// Samples and bytes of each fragment, which is one chunk and begins with its only key frame.
    fragments: Vec<(u32, u64)>,
}

impl SampleTables {
    /// Adds a fragment's samples.
    pub(super) fn push_fragment(&mut self, sizes: &[u64], durations: &[u32]) {
        self.sizes.extend(sizes.iter().map(|size| u32::try_from(*size).unwrap_or(u32::MAX)));
        for duration in durations {
            match self.durations.last_mut() {
                Some((count, last)) if last == duration => *count += 1,
                _ => self.durations.push((1, *duration)),
            }
        }
        self.fragments.push((length(sizes.len()), sizes.iter().sum()));
    }

    /// Bytes of all samples.
    pub(super) fn media_size(&self) -> u64 {
        self.fragments.iter().map(|(_, bytes)| bytes).sum()
    }

    fn duration(&self) -> u64 {
        self.durations.iter().map(|(count, duration)| u64::from(*count) * u64::from(*duration)).sum()
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

/// The box that describes the media, which begins `media_at` bytes into the file.
pub(super) fn movie(header: &MovieHeader, video: &Video, tables: &SampleTables, media_at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let created = u64::try_from(header.created.get().div_euclid(1000) + EPOCH_OFFSET).unwrap_or(0);
    let duration = tables.duration();
    let put_times = |out: &mut Vec<u8>| {
        put_u64(out, created);
        put_u64(out, created);
    };
    put_box(&mut out, *b"moov", |out| {
        put_full_box(out, *b"mvhd", 1, 0, |out| {
            put_times(out);
            put_u32(out, header.time_scale);
            put_u64(out, duration);
            put_u32(out, 0x1_0000); // rate 1.0
            put_u16(out, 0x100); // volume 1.0
            out.extend_from_slice(&[0; 10]);
            put_matrix(out);
            out.extend_from_slice(&[0; 24]);
            put_u32(out, 2); // the next track's id
        });
        put_box(out, *b"trak", |out| {
            put_full_box(out, *b"tkhd", 1, TRACK_ENABLED_IN_MOVIE, |out| {
                put_times(out);
                put_u32(out, 1); // track id
                put_u32(out, 0);
                put_u64(out, duration);
                out.extend_from_slice(&[0; 16]); // reserved, layer, group, volume
                put_matrix(out);
                put_u32(out, u32::from(video.width) << 16);
                put_u32(out, u32::from(video.height) << 16);
            });
            put_box(out, *b"mdia", |out| {
                put_full_box(out, *b"mdhd", 1, 0, |out| {
                    put_times(out);
                    put_u32(out, header.time_scale);
                    put_u64(out, duration);
                    put_u16(out, UNDETERMINED_LANGUAGE);
                    put_u16(out, 0);
                });
                put_full_box(out, *b"hdlr", 0, 0, |out| {
                    put_u32(out, 0);
                    out.extend_from_slice(b"vide");
                    out.extend_from_slice(&[0; 12]);
                    out.extend_from_slice(b"VideoHandler\0");
                });
                put_box(out, *b"minf", |out| {
                    put_full_box(out, *b"vmhd", 0, 1, |out| out.extend_from_slice(&[0; 8]));
                    put_box(out, *b"dinf", |out| {
                        put_full_box(out, *b"dref", 0, 0, |out| {
                            put_u32(out, 1);
                            put_full_box(out, *b"url ", 0, 1, |_| {}); // flag 1: in this file
                        });
                    });
                    put_box(out, *b"stbl", |out| put_sample_tables(out, video, tables, media_at));
                });
            });
        });
    });
    out
}

fn put_sample_tables(out: &mut Vec<u8>, video: &Video, tables: &SampleTables, media_at: u64) {
    put_full_box(out, *b"stsd", 0, 0, |out| {
        put_u32(out, 1);
        put_sample_entry(out, video);
    });
    put_full_box(out, *b"stts", 0, 0, |out| {
        put_u32(out, length(tables.durations.len()));
        for (count, duration) in &tables.durations {
            put_u32(out, *count);
            put_u32(out, *duration);
        }
    });
    put_full_box(out, *b"stss", 0, 0, |out| {
        put_u32(out, length(tables.fragments.len()));
        let mut key_frame = 1;
        for (samples, _) in &tables.fragments {
            put_u32(out, key_frame);
            key_frame += samples;
        }
    });
    put_full_box(out, *b"stsc", 0, 0, |out| {
        put_u32(out, length(tables.fragments.len()));
        for (chunk, (samples, _)) in (1..).zip(&tables.fragments) {
            put_u32(out, chunk);
            put_u32(out, *samples);
            put_u32(out, 1); // the sample description
        }
    });
    put_full_box(out, *b"stsz", 0, 0, |out| {
        put_u32(out, 0); // sizes differ
        put_u32(out, length(tables.sizes.len()));
        for size in &tables.sizes {
            put_u32(out, *size);
        }
    });
    // Decided by the media alone: the box must not change its length with `media_at`.
    let wide = tables.media_size() > u64::from(u32::MAX) - 0x100_0000;
    put_full_box(out, if wide { *b"co64" } else { *b"stco" }, 0, 0, |out| {
        put_u32(out, length(tables.fragments.len()));
        let mut offset = media_at;
        for (_, bytes) in &tables.fragments {
            match u32::try_from(offset) {
                Ok(offset) if !wide => put_u32(out, offset),
                _ => put_u64(out, offset),
            }
            offset += bytes;
        }
    });
}

fn put_sample_entry(out: &mut Vec<u8>, video: &Video) {
    put_box(out, *b"avc1", |out| {
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
        put_box(out, *b"avcC", |out| {
            let sequence = &video.sequence_parameters;
            out.push(1);
            out.extend_from_slice(sequence.get(1..4).unwrap_or(&[0; 3])); // profile, compatibility, level
            out.push(0xFF); // NAL lengths have 4 bytes
            out.push(0xE1); // one set of sequence parameters
            put_u16(out, u16::try_from(sequence.len()).unwrap_or(u16::MAX));
            out.extend_from_slice(sequence);
            out.push(1);
            put_u16(out, u16::try_from(video.picture_parameters.len()).unwrap_or(u16::MAX));
            out.extend_from_slice(&video.picture_parameters);
        });
    });
}
