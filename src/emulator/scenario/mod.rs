//! Scenario files: archives as cameras leave them, written down in TOML.
//!
//! A file names streams, and for each of them, in order, what its camera did: recorded so many fragments, paused, came
//! back with another clock, changed its pictures. `docs/emulator.md` documents the keys.

mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use self::record::{Record, Shooting};
use super::archive::ClipLimits;
use super::camera::Camera;
use super::clip::{InnerTiming, MoviePosition};
use super::config::EmulatorConfig;
use super::disturbance::Disturbance;
use super::error::EmulatorError;
use super::refusal::ErrorStyle;
use super::script::Script;
use crate::clock::{Clock, SystemClock};
use crate::model::UtcMillis;

/// The only version of scenario files there is.
const VERSION: u32 = 1;

/// An instant, written as a TOML date-time with an offset.
#[derive(Debug, Clone, Copy)]
struct Instant(UtcMillis);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = toml::value::Datetime::deserialize(deserializer)?.to_string();
        let parsed = text.parse::<jiff::Timestamp>();
        parsed.map(|instant| Self(instant.into())).map_err(|_| {
            de::Error::custom(format!(
                "{text} is no instant: write it with its offset, as 2024-03-01T00:00:00Z"
            ))
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    /// What the scenario is about, for its readers.
    #[expect(dead_code, reason = "for the reader of the file")]
    about: Option<String>,
    #[serde(default)]
    archive: ArchiveEntry,
    #[serde(default, rename = "stream")]
    streams: Vec<StreamEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ArchiveEntry {
    now: Option<Instant>,
    inner_timing: InnerTiming,
    movie: MoviePosition,
    errors: ErrorStyle,
    clip_fragments: Option<usize>,
    clip_bytes: Option<u64>,
    faults: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamEntry {
    name: String,
    start: Instant,
    created: Option<Instant>,
    retention_hours: Option<u32>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    numbers: Numbers,
    #[serde(default, rename = "record")]
    records: Vec<Record>,
}

/// In which order fragments got their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Numbers {
    /// In the order of the file.
    #[default]
    AsRecorded,
    /// In the order of their server timestamps: producers that send at the same time.
    ByServerTime,
}

impl EmulatorConfig {
    /// Reads a scenario file's text; `name` is what it is called in errors.
    pub fn from_scenario(name: &str, text: &str) -> Result<Self, EmulatorError> {
        let wrong = |message: String| EmulatorError::Scenario { file: name.to_owned(), message };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if file.version != VERSION {
            return Err(wrong(format!("version {} is not known, only {VERSION}", file.version)));
        }
        if file.streams.is_empty() {
            return Err(wrong("there is no [[stream]]".to_owned()));
        }
        let mut cameras: Vec<Camera> = Vec::new();
        for stream in &file.streams {
            if cameras.iter().any(|other| other.name == stream.name) {
                return Err(wrong(format!("there are two streams {:?}", stream.name)));
            }
            let camera =
                stream.camera().map_err(|problem| wrong(format!("stream {:?}: {problem}", stream.name)))?;
            cameras.push(camera);
        }
        let ArchiveEntry { now, inner_timing, movie, errors, clip_fragments, clip_bytes, faults } =
            file.archive;
        let usual = ClipLimits::default();
        let clip_limits = ClipLimits {
            fragments: clip_fragments.unwrap_or(usual.fragments),
            bytes: clip_bytes.unwrap_or(usual.bytes),
        };
        let mut config =
            Self { inner_timing, movie, error_style: errors, clip_limits, ..Self::with_cameras(cameras) };
        if let Some(Instant(now)) = now {
            config.clock = Arc::new(ShiftedClock { ahead_ms: now - SystemClock.now() });
        }
        let disturbances = faults.iter().map(|text| {
            Disturbance::parse(text).map_err(|refusal| wrong(format!("fault {text:?}: {}", refusal.message)))
        });
        Ok(config.disturbed(disturbances.collect::<Result<Vec<_>, _>>()?))
    }
}

impl StreamEntry {
    fn camera(&self) -> Result<Camera, String> {
        let mut shooting = Shooting::at(self.start.0);
        for (count, record) in (1..).zip(&self.records) {
            shooting
                .record(record)
                .map_err(|problem| format!("[[stream.record]] number {count}: {problem}"))?;
        }
        let (fragments, videos, sounds) = shooting.finish(self.numbers == Numbers::ByServerTime);
        let mut camera = Camera::with_script(&self.name, Script::Fragments(fragments));
        (camera.videos, camera.sounds) = (videos, sounds);
        if let Some(Instant(created)) = self.created {
            camera.created = created;
        }
        camera.retention_hours = self.retention_hours.unwrap_or(camera.retention_hours);
        camera.tags = self.tags.clone().into_iter().collect();
        Ok(camera)
    }
}

/// This machine's clock, moved.
#[derive(Debug)]
struct ShiftedClock {
    ahead_ms: i64,
}

impl Clock for ShiftedClock {
    fn now(&self) -> UtcMillis {
        SystemClock.now() + self.ahead_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::ScriptedFragment;
    use crate::model::{TimeRange, TimestampKind};

    const START: UtcMillis = UtcMillis::new(1_709_251_200_000);

    fn read(text: &str) -> Result<EmulatorConfig, EmulatorError> {
        EmulatorConfig::from_scenario("night.toml", &format!("version = 1\n{text}"))
    }

    /// The fragments of a stream of those records, with their clocks in milliseconds after the start.
    fn fragments(records: &str) -> Vec<ScriptedFragment> {
        let stream = format!("[[stream]]\nname = \"gate\"\nstart = 2024-03-01T00:00:00Z\n{records}");
        let config = read(&stream).expect("a scenario");
        config.prepare().expect("it can be served");
        let range = TimeRange::new(UtcMillis::new(0), START + 864_000_000).expect("a range");
        let mut all = config.cameras[0].fragments(range, TimestampKind::Server);
        all.sort_by(|a, b| a.number.cmp(&b.number));
        all
    }

    fn clocks(records: &str) -> Vec<(i64, i64)> {
        fragments(records).iter().map(|of| (of.producer - START, of.server - START)).collect()
    }

    #[test]
    fn records_follow_each_other_on_both_clocks() {
        let records = "
            [[stream.record]]
            fragments = 3
            length_ms = [2000, 1000]
            delay_ms = 250
            [[stream.record]]
            pause_ms = 10000
            fragments = 1
            [[stream.record]]
            producer_ms = 500
            server_ms = 60000
            fragments = 2
            length_ms = 1000
        ";
        assert_eq!(
            clocks(records),
            [(0, 250), (2_000, 2_250), (3_000, 3_250), (15_000, 15_250), (500, 60_250), (1_500, 61_250)]
        );
    }

    #[test]
    fn a_record_can_happen_several_times() {
        let records = "
            [[stream.record]]
            pause_ms = 500
            fragments = 1
            length_ms = 2000
            repeat = 3
        ";
        assert_eq!(clocks(records), [(500, 500), (3_000, 3_000), (5_500, 5_500)]);
    }

    #[test]
    fn what_was_held_back_is_received_at_once_when_it_ends() {
        let records = "
            [[stream.record]]
            fragments = 3
            length_ms = 2000
            burst_ms = 5
            [[stream.record]]
            fragments = 1
        ";
        assert_eq!(clocks(records), [(0, 6_000), (2_000, 6_005), (4_000, 6_010), (6_000, 6_015)]);
    }

    #[test]
    fn a_clock_that_drifts_is_ahead_by_its_millionths() {
        let records = "
            [[stream.record]]
            fragments = 4
            length_ms = 10000
            drift_ppm = 100
        ";
        assert_eq!(clocks(records), [(0, 0), (10_001, 10_000), (20_002, 20_000), (30_003, 30_000)]);
    }

    #[test]
    fn producers_that_send_at_once_share_the_numbers() {
        let stream = "
            [[stream]]
            name = 'gate'
            start = 2024-03-01T00:00:00Z
            numbers = 'by-server-time'
            [[stream.record]]
            fragments = 2
            length_ms = 2000
            [[stream.record]]
            producer_ms = 700
            server_ms = 700
            fragments = 2
        ";
        let config = read(stream).expect("a scenario");
        let range = TimeRange::new(START, START + 60_000).expect("a range");
        let fragments = config.cameras[0].fragments(range, TimestampKind::Server);
        assert!(fragments.is_sorted_by_key(|of| of.number.clone()));
        assert_eq!(fragments.iter().map(|of| of.server - START).collect::<Vec<_>>(), [0, 700, 2_000, 2_700]);
    }

    #[test]
    fn pictures_and_sound_change_when_they_are_told_to() {
        let records = "
            [[stream.record]]
            fragments = 1
            length_ms = 2000
            sound = 'aac'
            [[stream.record]]
            fragments = 1
            picture = 'h265'
            reordered = true
            size = [640, 360]
            sound = 'none'
            [[stream.record]]
            fragments = 1
            picture = 'h264'
            reordered = false
            size = [320, 180]
        ";
        let fragments = fragments(records);
        let tracks: Vec<_> = fragments.iter().map(|of| (of.video, of.sound.is_some())).collect();
        assert_eq!(tracks, [(0, true), (1, false), (0, false)]);
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_its_place() {
        let stream = "[[stream]]\nname = \"gate\"\nstart = 2024-03-01T00:00:00Z\n";
        let record = |lines: &str| format!("{stream}[[stream.record]]\n{lines}");
        for (text, said) in [
            ("[[stream]]\nname = 3\n".to_owned(), "line 3, column 8"),
            (format!("{stream}colour = 1\n"), "unknown field `colour`"),
            (stream.replace("00Z", "00"), "no instant"),
            (format!("{stream}{stream}"), "two streams \"gate\""),
            (String::new(), "no [[stream]]"),
            (record("fragments = 2"), "record]] number 1: `length_ms` is missing"),
            (record("fragments = 2\nlength_ms = []"), "`length_ms` is missing"),
            (record("picture = \"h266\""), "unknown variant `h266`"),
            (record("producer_ms = 1\nproducer_at = 1970-01-01T00:00:00Z"), "set the same clock"),
            (record("sound_rate = 8000"), "needs `sound`"),
            ("[archive]\nfaults = [\"trottle\"]\n".to_owned() + stream, "fault \"trottle\""),
        ] {
            let error = read(&text).expect_err(said).to_string();
            assert!(error.contains(said) && error.contains("night.toml"), "{said}: {error}");
        }
    }
}
