//! Builds explicit scripts step by step, the way footage comes into being: sessions, gaps, restarts, replays.

use crate::model::{TimeRange, UtcMillis};

use super::script::{Script, ScriptedFragment, SoundSpan, fragment_number};
use super::sound::TestSound;

/// A script in the making: two clocks, the camera's and the service's, that fragments move on.
///
/// ```
/// # use kvs_export::emulator::Recording;
/// # use kvs_export::model::UtcMillis;
/// let start = UtcMillis::new(1_709_251_200_000);
/// let script = Recording::at(start)
///     .server_delay_ms(250)
///     .fragments(5, 2_000)      // a session
///     .gap_ms(10_000)           // the camera was away
///     .fragments(3, 1_856)
///     .restart_at(start)        // it came back and replays what it had sent
///     .fragments(2, 2_000)
///     .into_script();
/// ```
#[derive(Debug, Clone)]
pub struct Recording {
    producer: UtcMillis,
    server: UtcMillis,
    server_delay_ms: i64,
    frame_rate: u32,
    bytes_per_second: u64,
    listed_length_ms: Option<u32>,
    video: usize,
    sound: Option<RecordedSound>,
    session: u32,
    fragments: Vec<ScriptedFragment>,
}

/// Sound that a camera records.
#[derive(Debug, Clone, Copy)]
struct RecordedSound {
    sound: usize,
    kind: TestSound,
    /// When its first frame began, on the camera's clock.
    began: UtcMillis,
    /// The next frame.
    index: u64,
}

/// Bytes that small test pictures fit in: a key frame, marks, and what changes in the time.
const fn room(frames: u64, length_ms: u32) -> u64 {
    12_000 + 300 * frames + 4 * length_ms as u64
}

impl Recording {
    /// Begins with both clocks at `start`, 10 frames and 25 000 bytes a second.
    pub fn at(start: UtcMillis) -> Self {
        Self {
            producer: start,
            server: start,
            server_delay_ms: 0,
            frame_rate: 10,
            bytes_per_second: 25_000,
            listed_length_ms: None,
            video: 0,
            sound: None,
            session: 0,
            fragments: Vec::new(),
        }
    }

    /// Sets how much later than the service's clock the next fragments are stamped (a slow network).
    ///
    /// Fragments are stamped in order of ingestion, so a delay that shrinks by more than a fragment's length
    /// makes server timestamps that disagree with fragment numbers.
    #[must_use]
    pub fn server_delay_ms(self, server_delay_ms: i64) -> Self {
        Self { server_delay_ms, ..self }
    }

    /// Sets the frame rate of the next fragments.
    #[must_use]
    pub fn frame_rate(self, frame_rate: u32) -> Self {
        Self { frame_rate, ..self }
    }

    /// Sets the bit rate of the next fragments, in bytes; none gets smaller than its pictures.
    #[must_use]
    pub fn bytes_per_second(self, bytes_per_second: u64) -> Self {
        Self { bytes_per_second, ..self }
    }

    /// Sets the length that the listing claims for the next fragments; `None`: their real one.
    #[must_use]
    pub fn listed_length_ms(self, listed_length_ms: impl Into<Option<u32>>) -> Self {
        Self { listed_length_ms: listed_length_ms.into(), ..self }
    }

    /// Takes the next fragments from that video of the camera.
    #[must_use]
    pub fn video(self, video: usize) -> Self {
        Self { video, ..self }
    }

    /// Gives the next fragments a track of sound, the camera's `sound`th, which is of that kind; `None`: no more.
    ///
    /// Its frames follow each other without a pause from now on, and belong to the fragment in which they begin.
    #[must_use]
    pub fn sound(self, sound: impl Into<Option<(usize, TestSound)>>) -> Self {
        let began = self.producer;
        let recorded = |(sound, kind)| RecordedSound { sound, kind, began, index: 0 };
        Self { sound: sound.into().map(recorded), ..self }
    }

    /// Adds `count` fragments of `length_ms` each, with as many whole frames as fit (at least one).
    #[must_use]
    pub fn fragments(mut self, count: usize, length_ms: u32) -> Self {
        for _ in 0..count {
            self = self.fragment(length_ms);
        }
        self
    }

    fn fragment(mut self, length_ms: u32) -> Self {
        let frames = (u64::from(length_ms) * u64::from(self.frame_rate) / 1000).max(1);
        let ingested = self.fragments.len() as u64;
        let producer = self.producer;
        let sound = self.sound.as_mut().map(|sound| sound.span(producer, length_ms));
        let sound_room = sound.map_or(0, |span| 700 * u64::from(span.frames));
        self.fragments.push(ScriptedFragment {
            number: fragment_number(ingested),
            producer: self.producer,
            server: self.server + self.server_delay_ms,
            length_ms: self.listed_length_ms.unwrap_or(length_ms),
            size_bytes: (self.bytes_per_second * u64::from(length_ms) / 1000)
                .max(room(frames, length_ms) + sound_room),
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
            frame_rate: self.frame_rate,
            video: self.video,
            picture: ingested,
            sound,
            session: self.session,
        });
        self.step_ms(i64::from(length_ms))
    }

    fn step_ms(self, ms: i64) -> Self {
        Self { producer: self.producer + ms, server: self.server + ms, ..self }
    }

    /// Lets time pass on both clocks; negative: the next fragment overlaps.
    #[must_use]
    pub fn gap_ms(self, ms: i64) -> Self {
        self.step_ms(ms).silenced()
    }

    /// A session that begins: so does its sound.
    fn silenced(mut self) -> Self {
        if let Some(sound) = &mut self.sound {
            (sound.began, sound.index) = (self.producer, 0);
        }
        self
    }

    /// Sets the camera's clock: a reconnect that replays, or a clock that was put right.
    #[must_use]
    pub fn restart_at(self, producer: UtcMillis) -> Self {
        Self { producer, session: self.session + 1, ..self }.silenced()
    }

    /// Sets the service's clock: footage that was kept during an outage and is sent now.
    #[must_use]
    pub fn ingested_at(self, server: UtcMillis) -> Self {
        Self { server, ..self }
    }

    /// Where the camera's clock stands.
    pub fn producer(&self) -> UtcMillis {
        self.producer
    }

    /// Where the service's clock stands.
    pub(super) fn server(&self) -> UtcMillis {
        self.server
    }

    /// The fragments after the first `count`.
    pub(super) fn fragments_after(&self, count: usize) -> Vec<ScriptedFragment> {
        self.fragments.iter().skip(count).cloned().collect()
    }

    /// The range from the first to the last instant on the service's clock, lengths included.
    pub fn server_range(&self) -> Option<TimeRange> {
        let first = self.fragments.iter().map(|fragment| fragment.server).min()?;
        let end =
            self.fragments.iter().map(|fragment| fragment.server + i64::from(fragment.length_ms.max(1)));
        TimeRange::new(first, end.max()?)
    }

    /// The fragments so far, to be changed by hand.
    pub fn into_fragments(self) -> Vec<ScriptedFragment> {
        self.fragments
    }

    /// The script.
    pub fn into_script(self) -> Script {
        Script::Fragments(self.fragments)
    }
}

impl RecordedSound {
    /// What begins in a fragment of that length.
    fn span(&mut self, start: UtcMillis, length_ms: u32) -> SoundSpan {
        const MS: i64 = 1_000_000;
        let start_ns = (start - self.began) * MS;
        let end_ns = start_ns + i64::from(length_ms) * MS;
        let first = self.index;
        let mut frames = 0;
        while self.kind.frame_start_ns(self.index) < end_ns {
            self.index += 1;
            frames += 1;
        }
        let first_ns = self.kind.frame_start_ns(first) - start_ns;
        SoundSpan { sound: self.sound, first_ns, index: first, frames }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{Camera, EmulatorConfig};

    #[test]
    fn fragments_of_any_length_and_rate_have_room_for_their_pictures() {
        for frame_rate in [1, 10, 30] {
            let mut recording = Recording::at(UtcMillis::new(0)).frame_rate(frame_rate).bytes_per_second(0);
            for length_ms in [0, 1, 100, 1_856, 4_000] {
                recording = recording.fragments(3, length_ms).video(1).fragments(1, length_ms).video(0);
            }
            let camera = Camera::with_script("gate", recording.into_script());
            let prepared = EmulatorConfig::with_cameras([camera]).prepare();
            assert!(prepared.is_ok(), "{frame_rate}: {prepared:?}");
        }
    }

    #[test]
    fn a_restart_turns_back_the_cameras_clock_only() {
        let start = UtcMillis::new(1_709_251_200_000);
        let recording = Recording::at(start).server_delay_ms(250).fragments(2, 2_000).restart_at(start);
        let fragments = recording.fragments(1, 2_000).ingested_at(start + 60_000).fragments(1, 2_000);
        let times = |of: &ScriptedFragment| (of.producer - start, of.server - start);
        let fragments = fragments.into_fragments();
        assert_eq!(
            fragments.iter().map(times).collect::<Vec<_>>(),
            [(0, 250), (2_000, 2_250), (0, 4_250), (2_000, 60_250)]
        );
        assert!(fragments.is_sorted_by_key(|of| of.number.clone()));
    }
}
