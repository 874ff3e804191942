//! Writes samples as one Matroska Segment of unknown size, for a pipe.
//!
//! One tick is 0.1 ms: with 1 ms a frame of sound would be up to 0.5 ms off. Clusters have no size either, so nothing
//! is held back; each begins with its time in eight bytes. Blocks carry the time at which they are shown, and stand in
//! decode order.

use std::io::{self, Write};

use super::track::{SampleDescription, TrackKind};

/// Nanoseconds a tick.
pub const TICK_NANOS: i64 = 100_000;

const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Rounds nanoseconds to the nearest tick.
pub const fn nanos_to_ticks(nanos: i64) -> i64 {
    nanos.saturating_add(TICK_NANOS / 2).div_euclid(TICK_NANOS)
}

/// The head of a block.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The track's place among those the writer was made with.
    pub track: usize,
    /// When it is shown; not negative.
    pub ticks: i64,
    /// Whether decoding can begin here.
    pub is_sync: bool,
    /// Whether a new cluster begins with it.
    pub begins_cluster: bool,
    /// Bytes of payload that follow.
    pub size: u32,
}

/// Writes a Segment as it goes.
#[derive(Debug)]
pub struct MatroskaWriter<W> {
    out: W,
    cluster: Option<i64>,
}

impl<W: Write> MatroskaWriter<W> {
    /// Writes everything before the first cluster.
    pub fn new(mut out: W, tracks: &[SampleDescription]) -> io::Result<Self> {
        let mut head = Vec::new();
        element(&mut head, &[0x1a, 0x45, 0xdf, 0xa3], |ebml| {
            number(ebml, &[0x42, 0x86], 1);
            number(ebml, &[0x42, 0xf7], 1);
            number(ebml, &[0x42, 0xf2], 4);
            number(ebml, &[0x42, 0xf3], 8);
            element(ebml, &[0x42, 0x82], |body| body.extend(b"matroska"));
            number(ebml, &[0x42, 0x87], 4);
            number(ebml, &[0x42, 0x85], 2);
        });
        head.extend([0x18, 0x53, 0x80, 0x67]);
        head.extend(UNKNOWN_SIZE);
        element(&mut head, &[0x15, 0x49, 0xa9, 0x66], |info| {
            number(info, &[0x2a, 0xd7, 0xb1], TICK_NANOS.unsigned_abs());
            element(info, &[0x4d, 0x80], |body| body.extend(b"kvs-export"));
            element(info, &[0x57, 0x41], |body| body.extend(b"kvs-export"));
        });
        element(&mut head, &[0x16, 0x54, 0xae, 0x6b], |entries| {
            for (index, track) in (1_u64..).zip(tracks) {
                element(entries, &[0xae], |entry| track_entry(entry, index, track));
            }
        });
        out.write_all(&head)?;
        Ok(Self { out, cluster: None })
    }

    /// Begins a block; exactly `block.size` bytes of [`MatroskaWriter::payload`] must follow.
    pub fn begin_block(&mut self, block: &Block) -> io::Result<()> {
        let time = u64::try_from(block.ticks).map_err(|_| io::Error::other("a negative block time"))?;
        let relative = self.cluster.filter(|_| !block.begins_cluster).and_then(|cluster| {
            block.ticks.checked_sub(cluster).and_then(|relative| i16::try_from(relative).ok())
        });
        let relative = if let Some(relative) = relative {
            relative
        } else {
            self.out.write_all(&[0x1f, 0x43, 0xb6, 0x75])?;
            self.out.write_all(&UNKNOWN_SIZE)?;
            self.out.write_all(&[0xe7, 0x88])?;
            self.out.write_all(&time.to_be_bytes())?;
            self.cluster = Some(block.ticks);
            0
        };
        let track = u8::try_from(block.track + 1).ok().filter(|number| *number < 0x7f);
        let track = track.ok_or_else(|| io::Error::other("too many tracks"))?;
        let mut head = Vec::with_capacity(13);
        head.push(0xa3);
        push_size(&mut head, u64::from(block.size) + 4);
        head.push(0x80 | track);
        head.extend(relative.to_be_bytes());
        head.push(if block.is_sync { 0x80 } else { 0 });
        self.out.write_all(&head)
    }

    /// Writes a piece of the current block's payload.
    pub fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Ends the stream and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn track_entry(entry: &mut Vec<u8>, number_: u64, track: &SampleDescription) {
    number(entry, &[0xd7], number_);
    number(entry, &[0x73, 0xc5], number_);
    number(entry, &[0x83], if track.kind == TrackKind::Video { 1 } else { 2 });
    number(entry, &[0x9c], 0);
    element(entry, &[0x22, 0xb5, 0x9c], |body| body.extend(b"und"));
    element(entry, &[0x86], |body| body.extend(track.codec.matroska_id().unwrap_or_default().bytes()));
    element(entry, &[0x63, 0xa2], |body| body.extend(&track.codec_private));
    if track.kind == TrackKind::Video {
        element(entry, &[0xe0], |video| {
            number(video, &[0xb0], track.width.into());
            number(video, &[0xba], track.height.into());
        });
    } else {
        element(entry, &[0xe1], |audio| {
            element(audio, &[0xb5], |body| body.extend(f64::from(track.sample_rate).to_be_bytes()));
            number(audio, &[0x9f], track.channels.into());
            if track.codec.is_pcm() {
                number(audio, &[0x62, 0x64], 8);
            }
        });
    }
}

/// Appends an element with a known size.
fn element(out: &mut Vec<u8>, id: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    out.extend(id);
    push_size(out, body.len() as u64);
    out.extend(body);
}

fn number(out: &mut Vec<u8>, id: &[u8], value: u64) {
    element(out, id, |body| {
        let bytes = value.to_be_bytes();
        let leading = bytes.iter().take(7).take_while(|byte| **byte == 0).count();
        body.extend(&bytes[leading..]);
    });
}

/// Appends an element's size in as few bytes as hold it; all ones would mean "unknown".
fn push_size(out: &mut Vec<u8>, size: u64) {
    let length = (1..8).find(|length| size < (1 << (7 * length)) - 1).unwrap_or(8);
    let marked = size | 1 << (7 * length);
    out.extend(&marked.to_be_bytes()[8 - length..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_takes_as_few_bytes_as_hold_it_and_never_means_unknown() {
        let coded = |size| {
            let mut out = Vec::new();
            push_size(&mut out, size);
            out
        };
        assert_eq!(coded(0), [0x80]);
        assert_eq!(coded(126), [0xfe]);
        assert_eq!(coded(127), [0x40, 0x7f]);
        assert_eq!(coded(16_382), [0x7f, 0xfe]);
        assert_eq!(coded(16_383), [0x20, 0x3f, 0xff]);
        assert_eq!(coded(50 << 20), [0x13, 0x20, 0, 0]);
    }

    #[test]
    fn ticks_round_to_the_nearest_on_both_sides_of_zero() {
        assert_eq!(nanos_to_ticks(149_999), 1);
        assert_eq!(nanos_to_ticks(150_000), 2);
        assert_eq!(nanos_to_ticks(-50_001), -1);
        assert_eq!(nanos_to_ticks(-50_000), 0);
    }

    #[test]
    fn a_cluster_begins_where_asked_and_where_its_clock_would_overflow() {
        let mut writer = MatroskaWriter::new(Vec::new(), &[]).expect("head");
        let head = writer.out.len();
        for (ticks, begins_cluster) in [(0, true), (32_767, false), (32_768, false), (0, false), (5, true)] {
            let block = Block { track: 0, ticks, is_sync: true, begins_cluster, size: 1 };
            writer.begin_block(&block).expect("block");
            writer.payload(&[7]).expect("payload");
        }
        let out = writer.finish().expect("flushed");
        let clusters = out[head..].windows(4).filter(|id| *id == [0x1f, 0x43, 0xb6, 0x75]).count();
        assert_eq!(clusters, 3, "−32 768 still fits the block at 0");
    }
}
