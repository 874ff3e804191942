//! Reads samples out of MP4 files: where each lies, when it is decoded and shown, whether it is a key frame.
//!
//! Opening reads only the small boxes; [`SampleCursor`] walks the tables through small buffers. Both layouts are
//! read, one `moov` with tables (before or after the media) and fragments (`moof`).

mod boxes;
mod description;
mod error;
mod fragmented;
mod samples;
mod table;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom};

use mp4_atom::{Elst, Mdhd, Mvhd, Tkhd, Trex};

use self::boxes::{BoxSpan, each_box, find};
pub use self::error::Mp4Error;
pub use self::samples::{Sample, SampleCursor};
use self::samples::{Sizes, Tables};
use self::table::Table;
use super::track::{SampleDescription, TrackKind};

/// No sample is larger: the service's fragments are at most 50 MB.
pub const MAX_SAMPLE_BYTES: u32 = 64 << 20;

const NANOS: i128 = 1_000_000_000;

/// A track of an opened file.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its id in the file.
    pub id: u32,
    /// What its samples are.
    pub description: SampleDescription,
    /// Ticks a second of its clock.
    pub time_scale: u32,
    clock: TrackClock,
    tables: Option<Tables>,
    defaults: Trex,
}

/// Turns a track's ticks into nanoseconds of presentation, edit list applied.
#[derive(Debug, Clone, Copy)]
struct TrackClock {
    scale: u32,
    /// The media time that is shown first.
    skipped_ticks: i64,
    /// How long the track waits before that.
    delay_nanos: i64,
}

impl TrackClock {
    fn nanos(&self, ticks: i128) -> Result<i64, Mp4Error> {
        let shown = ticks - i128::from(self.skipped_ticks);
        i64::try_from(rounded(shown * NANOS, i128::from(self.scale)) + i128::from(self.delay_nanos))
            .map_err(|_| Mp4Error::Absurd("sample time"))
    }
}

/// Divides, to the nearest integer, halves upwards.
fn rounded(numerator: i128, denominator: i128) -> i128 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

/// An opened MP4 file.
#[derive(Debug)]
pub struct Mp4<R> {
    reader: R,
    length: u64,
    /// Every `moof` there is lies at or after this.
    first_fragment: Option<u64>,
    tracks: Vec<Track>,
}

impl<R: Read + Seek> Mp4<R> {
    /// Opens a file: walks its outermost boxes, which must fill it exactly, and reads the tracks' heads.
    pub fn open(mut reader: R) -> Result<Self, Mp4Error> {
        let length = reader.seek(SeekFrom::End(0))?;
        let (mut moov, mut has_media, mut first_fragment) = (None, false, None);
        let mut end = 0;
        each_box(&mut reader, (0, length), |_, span| {
            match &span.kind {
                b"moov" => drop(moov.get_or_insert(span)),
                b"moof" => drop(first_fragment.get_or_insert(span.header)),
                b"mdat" => has_media = true,
                _ => {}
            }
            end = span.end;
            Ok(())
        })?;
        if end != length {
            return Err(Mp4Error::Truncated { kind: "box header".to_owned(), missing: 8 - (length - end) });
        }
        let moov = moov.ok_or(Mp4Error::Missing("moov"))?;
        if !has_media {
            return Err(Mp4Error::Missing("mdat"));
        }
        let tracks = read_tracks(&mut reader, moov, first_fragment.is_some())?;
        Ok(Self { reader, length, first_fragment, tracks })
    }

    /// Its tracks, in the order of the file.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Begins at the first sample of the track at `index` of [`Mp4::tracks`].
    pub fn samples(&self, index: usize) -> SampleCursor {
        SampleCursor::new(&self.tracks[index], self.length, self.first_fragment)
    }

    /// Takes the next sample of a walk, `None` after the last.
    pub fn next(&mut self, cursor: &mut SampleCursor) -> Result<Option<Sample>, Mp4Error> {
        cursor.next(&mut self.reader)
    }

    /// Hands out a sample's payload piece by piece through `buffer`.
    pub fn payload<E: From<Mp4Error>>(
        &mut self,
        sample: &Sample,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = |error| E::from(Mp4Error::Read(error));
        self.reader.seek(SeekFrom::Start(sample.offset)).map_err(read)?;
        let mut left = sample.size as usize;
        while left > 0 {
            let piece = left.min(buffer.len());
            self.reader.read_exact(&mut buffer[..piece]).map_err(read)?;
            take(&buffer[..piece])?;
            left -= piece;
        }
        Ok(())
    }
}

fn read_tracks<R: Read + Seek>(
    reader: &mut R,
    moov: BoxSpan,
    has_fragments: bool,
) -> Result<Vec<Track>, Mp4Error> {
    let mut track_boxes = Vec::new();
    let (mut mvhd, mut mvex) = (None, None);
    each_box(reader, (moov.start, moov.end), |_, span| {
        match &span.kind {
            b"mvhd" => mvhd = Some(span),
            b"mvex" => mvex = Some(span),
            b"trak" if track_boxes.len() == 64 => return Err(Mp4Error::Absurd("number of tracks")),
            b"trak" => track_boxes.push(span),
            _ => {}
        }
        Ok(())
    })?;
    let mvhd: Mvhd = mvhd.ok_or(Mp4Error::Missing("mvhd"))?.decode(reader)?;
    let mut defaults = Vec::new();
    if let Some(mvex) = mvex {
        each_box(reader, (mvex.start, mvex.end), |reader, span| {
            if &span.kind == b"trex" && defaults.len() < 64 {
                defaults.push(span.decode::<Trex, R>(reader)?);
            }
            Ok(())
        })?;
    }
    let mut tracks: Vec<Track> = Vec::new();
    for trak in track_boxes {
        let mut track = read_track(reader, trak, mvhd.timescale)?;
        if tracks.iter().any(|other| other.id == track.id) {
            return Err(Mp4Error::TablesDisagree { track: track.id, what: "two tracks have this id" });
        }
        if has_fragments {
            if track.tables.is_some_and(|tables| tables.sizes.count() > 0) {
                return Err(Mp4Error::Unsupported("a file with both sample tables and fragments"));
            }
            let own = defaults.iter().find(|trex| trex.track_id == track.id);
            track.defaults = own.cloned().ok_or(Mp4Error::Missing("trex"))?;
            track.tables = None;
        } else if track.tables.is_none() {
            return Err(Mp4Error::Missing("stbl"));
        }
        tracks.push(track);
    }
    if tracks.is_empty() { Err(Mp4Error::Missing("trak")) } else { Ok(tracks) }
}

fn read_track<R: Read + Seek>(reader: &mut R, trak: BoxSpan, movie_scale: u32) -> Result<Track, Mp4Error> {
    let [tkhd, edts, mdia] = find(reader, trak, [b"tkhd", b"edts", b"mdia"])?;
    let tkhd: Tkhd = tkhd.ok_or(Mp4Error::Missing("tkhd"))?.decode(reader)?;
    let mdia = mdia.ok_or(Mp4Error::Missing("mdia"))?;
    let [mdhd, hdlr, minf] = find(reader, mdia, [b"mdhd", b"hdlr", b"minf"])?;
    let mdhd_span = mdhd.ok_or(Mp4Error::Missing("mdhd"))?;
    let mdhd: Mdhd = mdhd_span.decode(reader)?;
    if mdhd.timescale == 0 {
        return Err(mdhd_span.damaged("its time scale is zero"));
    }
    // Not decoded whole: QuickTime's handler names are no UTF-8, and nobody needs them.
    let hdlr = hdlr.ok_or(Mp4Error::Missing("hdlr"))?.read(reader, 1 << 20)?;
    let kind = match hdlr.get(8..12) {
        Some(b"vide") => TrackKind::Video,
        Some(b"soun") => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    let [stbl] = find(reader, minf.ok_or(Mp4Error::Missing("minf"))?, [b"stbl"])?;
    let stbl = stbl.ok_or(Mp4Error::Missing("stbl"))?;
    let [stsd] = find(reader, stbl, [b"stsd"])?;
    let stsd = stsd.ok_or(Mp4Error::Missing("stsd"))?.read(reader, 1 << 20)?;
    let mut clock = TrackClock { scale: mdhd.timescale, skipped_ticks: 0, delay_nanos: 0 };
    if let Some(edts) = edts
        && let [Some(elst)] = find(reader, edts, [b"elst"])?
    {
        apply_edits(&mut clock, &elst.decode(reader)?, movie_scale)?;
    }
    Ok(Track {
        id: tkhd.track_id,
        description: description::parse(&stsd, kind)?,
        time_scale: mdhd.timescale,
        clock,
        tables: find_tables(reader, stbl)?,
        defaults: Trex::default(),
    })
}

/// Understands the edit lists that mean an offset: any number of empty edits, then one at normal speed.
fn apply_edits(clock: &mut TrackClock, edits: &Elst, movie_scale: u32) -> Result<(), Mp4Error> {
    let mut begun = false;
    for edit in &edits.entries {
        match edit.media_time {
            _ if begun => return Err(Mp4Error::Unsupported("an edit list that cuts inside the track")),
            None if movie_scale == 0 => return Err(Mp4Error::Absurd("movie time scale")),
            None => {
                let delay = rounded(i128::from(edit.segment_duration) * NANOS, i128::from(movie_scale));
                clock.delay_nanos = i64::try_from(delay)
                    .ok()
                    .and_then(|delay| clock.delay_nanos.checked_add(delay))
                    .ok_or(Mp4Error::Absurd("edit list"))?;
            }
            Some(_) if edit.media_rate != 1.into() => {
                return Err(Mp4Error::Unsupported("an edit list that changes the speed"));
            }
            Some(time) => {
                clock.skipped_ticks = i64::try_from(time).map_err(|_| Mp4Error::Absurd("edit list"))?;
                begun = true;
            }
        }
    }
    Ok(())
}

/// Finds the sample tables; `None` when the essential ones are not there, as in a file of fragments.
fn find_tables<R: Read + Seek>(reader: &mut R, stbl: BoxSpan) -> Result<Option<Tables>, Mp4Error> {
    let kinds = [b"stts", b"ctts", b"stsc", b"stsz", b"stz2", b"stco", b"co64", b"stss"];
    let [durations, offsets, layout, sizes, compact_sizes, chunks, wide_chunks, syncs] =
        find(reader, stbl, kinds)?;
    if compact_sizes.is_some() {
        return Err(Mp4Error::Unsupported("a compact sample size table (stz2)"));
    }
    let places = chunks.map(|span| (span, 4)).or(wide_chunks.map(|span| (span, 8)));
    let (Some(durations), Some(layout), Some(sizes), Some((chunks, width))) =
        (durations, layout, sizes, places)
    else {
        return Ok(None);
    };
    let plain =
        |reader: &mut R, span, width| Table::open::<R, 0>(reader, span, width).map(|(table, _)| table);
    let (table, [size]) = Table::open::<R, 1>(reader, sizes, 0)?;
    let sizes = if size == 0 {
        Sizes::Each(Table::open::<R, 1>(reader, sizes, 4)?.0)
    } else {
        Sizes::All { size, count: table.rows }
    };
    Ok(Some(Tables {
        durations: plain(reader, durations, 8)?,
        offsets: offsets.map(|span| plain(reader, span, 8)).transpose()?,
        layout: plain(reader, layout, 12)?,
        sizes,
        chunks: plain(reader, chunks, width)?,
        wide_chunks: width == 8,
        syncs: syncs.map(|span| plain(reader, span, 4)).transpose()?,
    }))
}
