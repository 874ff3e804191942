//! Walks a track's samples in a file of movie fragments (`moof`), one fragment in memory at a time.

use std::collections::VecDeque;
use std::io::{Read, Seek};

use mp4_atom::{Tfdt, Tfhd, Trex, Trun};

use super::boxes::{BoxSpan, box_at, each_box};
use super::error::Mp4Error;
use super::samples::RawSample;

/// The flag that says a sample is not a key frame.
const IS_NON_SYNC: u32 = 1 << 16;

/// Where a walk through the fragments stands.
#[derive(Debug, Clone)]
pub(super) struct FragmentWalk {
    defaults: Trex,
    is_audio: bool,
    /// Where the next outermost box begins.
    at: u64,
    length: u64,
    dts: i64,
    index: u64,
    runs: VecDeque<Run>,
}

/// What is left of one `trun`.
#[derive(Debug, Clone)]
struct Run {
    samples: Trun,
    taken: usize,
    offset: u64,
    /// Duration, size and flags of samples that have none of their own.
    defaults: (u32, u32, u32),
    /// The decode time that its fragment says it begins at.
    decode_time: Option<i64>,
}

impl FragmentWalk {
    pub(super) fn new(defaults: Trex, is_audio: bool, at: u64, length: u64) -> Self {
        Self { defaults, is_audio, at, length, dts: 0, index: 0, runs: VecDeque::new() }
    }

    pub(super) fn next<R: Read + Seek>(&mut self, reader: &mut R) -> Result<Option<RawSample>, Mp4Error> {
        loop {
            let Some(run) = self.runs.front_mut() else {
                if self.load_fragment(reader)? {
                    continue;
                }
                return Ok(None);
            };
            let Some(entry) = run.samples.samples.get(run.taken) else {
                self.runs.pop_front();
                continue;
            };
            if let Some(time) = run.decode_time.take() {
                self.dts = time;
            }
            let (duration, size, flags) = run.defaults;
            let sample = RawSample {
                offset: run.offset,
                size: entry.size.unwrap_or(size),
                dts: self.dts,
                composition: entry.cts.unwrap_or(0),
                duration: entry.duration.unwrap_or(duration),
                is_sync: self.is_audio || entry.flags.unwrap_or(flags) & IS_NON_SYNC == 0,
                index: self.index,
            };
            run.taken += 1;
            run.offset = run.offset.checked_add(sample.size.into()).ok_or(Mp4Error::Absurd("data offset"))?;
            self.dts = self.dts.checked_add(sample.duration.into()).ok_or(Mp4Error::Absurd("sample time"))?;
            self.index += 1;
            return Ok(Some(sample));
        }
    }

    /// Reads the next `moof` and keeps this track's runs; false after the last.
    fn load_fragment<R: Read + Seek>(&mut self, reader: &mut R) -> Result<bool, Mp4Error> {
        while let Some(span) = box_at(reader, self.at, self.length)? {
            self.at = span.end;
            if &span.kind != b"moof" {
                continue;
            }
            let mut trafs = Vec::new();
            each_box(reader, (span.start, span.end), |_, child| {
                if &child.kind == b"traf" {
                    trafs.push(child);
                }
                if trafs.len() > 1024 { Err(Mp4Error::Absurd("number of tracks")) } else { Ok(()) }
            })?;
            for traf in trafs {
                self.load_track_fragment(reader, span, traf)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn load_track_fragment<R: Read + Seek>(
        &mut self,
        reader: &mut R,
        moof: BoxSpan,
        traf: BoxSpan,
    ) -> Result<(), Mp4Error> {
        let (mut tfhd, mut tfdt, mut truns) = (None, None, Vec::new());
        each_box(reader, (traf.start, traf.end), |_, span| {
            match &span.kind {
                b"tfhd" => tfhd = Some(span),
                b"tfdt" => tfdt = Some(span),
                b"trun" if truns.len() < 4096 => truns.push(span),
                b"trun" => return Err(Mp4Error::Absurd("number of runs")),
                _ => {}
            }
            Ok(())
        })?;
        let head: Tfhd = tfhd.ok_or(Mp4Error::Missing("tfhd"))?.decode(reader)?;
        if head.track_id != self.defaults.track_id {
            return Ok(());
        }
        if head.sample_description_index.unwrap_or(1) != 1 {
            return Err(Mp4Error::SeveralDescriptions);
        }
        let mut decode_time = match tfdt {
            Some(span) => {
                let tfdt: Tfdt = span.decode(reader)?;
                let time = i64::try_from(tfdt.base_media_decode_time);
                Some(time.map_err(|_| Mp4Error::Absurd("sample time"))?)
            }
            None => None,
        };
        let base = head.base_data_offset.unwrap_or(moof.header);
        let mut offset = None;
        for span in truns {
            let samples: Trun = span.decode(reader)?;
            let begins = match (samples.data_offset, offset) {
                (Some(relative), _) => base.checked_add_signed(relative.into()),
                (None, Some(after_previous)) => Some(after_previous),
                (None, None) => return Err(Mp4Error::Unsupported("a run without a data offset")),
            };
            let begins = begins.ok_or(Mp4Error::Absurd("data offset"))?;
            let defaults = (
                head.default_sample_duration.unwrap_or(self.defaults.default_sample_duration),
                head.default_sample_size.unwrap_or(self.defaults.default_sample_size),
                head.default_sample_flags.unwrap_or(self.defaults.default_sample_flags),
            );
            let mut end = begins;
            if let mp4_atom::TrunSamples::Explicit(entries) = &samples.samples {
                for entry in entries {
                    end = end.saturating_add(entry.size.unwrap_or(defaults.1).into());
                }
            } else {
                end = end.saturating_add(samples.samples.len() as u64 * u64::from(defaults.1));
            }
            offset = Some(end);
            self.runs.push_back(Run {
                samples,
                taken: 0,
                offset: begins,
                defaults,
                decode_time: decode_time.take(),
            });
        }
        Ok(())
    }
}
