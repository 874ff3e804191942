//! Cameras: a stream's name and settings, its script, and the videos its pictures come from.

use std::path::Path;
use std::sync::Arc;

use crate::model::{StreamStatus, TimeRange, TimestampKind, UtcMillis};

use super::error::EmulatorError;
use super::media::{self, MediaProblem};
use super::script::{FragmentSizes, Grid, Script, ScriptedFragment};
use super::sound::{SoundCodec, TestSound};
use super::video::{PictureCodec, TestPictures, VIDEO_FRAME_RATE, VIDEO_GROUP_MS, Video};

/// Retention of cameras that do not say otherwise, the longest the service has: ten years.
const LONGEST_RETENTION_HOURS: u32 = 87_600;

/// 2018-01-01: when cameras that do not say otherwise were created.
const CREATED: UtcMillis = UtcMillis::new(1_514_764_800_000);

/// Where a camera's pictures come from.
#[derive(Debug, Clone)]
pub enum VideoSource {
    /// Test pictures, encoded when they are first needed.
    TestPictures(TestPictures),
    /// A video that is already encoded.
    Encoded(Arc<Video>),
    /// None: the service lists such fragments, and refuses to make clips of them.
    Refused(MediaProblem),
}

impl VideoSource {
    /// The encoded pictures; encodes them if that has not been done.
    pub(super) fn encoded(&self) -> Result<Arc<Video>, EmulatorError> {
        match self {
            Self::TestPictures(pictures) => pictures.encoded(),
            Self::Encoded(video) => Ok(Arc::clone(video)),
            Self::Refused(_) => Err(EmulatorError::NoMedia { what: "refused media".to_owned() }),
        }
    }
}

/// One emulated stream.
#[derive(Debug, Clone)]
pub struct Camera {
    /// The stream's name.
    pub name: String,
    /// When the stream was created; ends its ARN, and nothing is older.
    pub created: UtcMillis,
    /// Where the stream stands between its creation and its end.
    pub status: StreamStatus,
    /// Hours after which fragments vanish; 0: none are kept.
    pub retention_hours: u32,
    /// What it has recorded.
    pub script: Script,
    /// What it shows; fragments name one by its index.
    pub videos: Vec<VideoSource>,
    /// What is heard; fragments name one by its index.
    pub sounds: Vec<TestSound>,
    /// The stream's tags.
    pub tags: Vec<(String, String)>,
}

impl Camera {
    /// Makes a camera that records fragments of 2 s, 10 frames and 25 000 bytes a second, without a gap.
    ///
    /// Server timestamps are 180 ms to 299 ms later than producer timestamps.
    pub fn steady(name: impl Into<String>) -> Self {
        let grid = Grid {
            fragment_ms: 2_000,
            frame_rate: 10,
            phase_ms: 0,
            gaps: Vec::new(),
            server_delay_ms: 180,
            server_jitter_ms: 119,
            sizes: FragmentSizes::BytesPerSecond(25_000),
        };
        Self::on_grid(name, grid)
    }

    /// Makes a camera that records by that rule, with test pictures that fit it.
    pub fn on_grid(name: impl Into<String>, grid: Grid) -> Self {
        let pictures = TestPictures::looping(grid.frame_rate, grid.frames());
        let mut camera = Self::with_script(name, Script::Grid(grid));
        camera.videos = vec![VideoSource::TestPictures(pictures)];
        camera
    }

    /// Makes a camera that has recorded exactly these fragments.
    ///
    /// Each video that a fragment names shows test pictures, of a size of its own.
    pub fn with_script(name: impl Into<String>, script: Script) -> Self {
        let fragments = if let Script::Fragments(list) = &script { list.as_slice() } else { &[] };
        let videos = fragments.iter().map(|fragment| fragment.video).max().unwrap_or(0) + 1;
        let test_pictures = |video| {
            let of_video = || fragments.iter().filter(|fragment| fragment.video == video);
            let frame_rate = of_video().map(|fragment| fragment.frame_rate).max().unwrap_or(10);
            let frames = of_video().map(|fragment| fragment.frames).max().unwrap_or(1);
            VideoSource::TestPictures(TestPictures::looping(frame_rate, frames).enlarged(video))
        };
        Self {
            name: name.into(),
            created: CREATED,
            status: StreamStatus::Active,
            retention_hours: LONGEST_RETENTION_HOURS,
            videos: (0..videos).map(test_pictures).collect(),
            sounds: Vec::new(),
            script,
            tags: Vec::new(),
        }
    }

    /// Makes a camera that shows a video file over and over, in fragments of 2 s.
    ///
    /// ffmpeg transcodes it: at most three minutes, 640×360, 25 frames a second, without sound.
    pub fn from_video(name: impl Into<String>, file: &Path) -> Result<Self, EmulatorError> {
        let name = name.into();
        let video = Video::from_file(file)?;
        let sizes =
            (0..video.groups.len()).map(|picture| media::natural_size(&video, picture, &name)).collect();
        let grid = Grid {
            fragment_ms: VIDEO_GROUP_MS,
            frame_rate: VIDEO_FRAME_RATE,
            phase_ms: 0,
            gaps: Vec::new(),
            server_delay_ms: 180,
            server_jitter_ms: 119,
            sizes: FragmentSizes::PerPicture(sizes),
        };
        let mut camera = Self::with_script(name, Script::Grid(grid));
        camera.videos = vec![VideoSource::Encoded(Arc::new(video))];
        Ok(camera)
    }

    /// Changes the grid's rule; a camera with a list of fragments stays as it is.
    #[must_use]
    pub fn grid(mut self, change: impl FnOnce(&mut Grid)) -> Self {
        if let Script::Grid(grid) = &mut self.script {
            change(grid);
            if let [VideoSource::TestPictures(pictures)] = self.videos.as_mut_slice() {
                *pictures = TestPictures::looping(grid.frame_rate, grid.frames());
            }
        }
        self
    }

    /// What the producer says of its media when it begins.
    pub(super) fn media_type(&self) -> String {
        let codec = match self.videos.first() {
            Some(VideoSource::TestPictures(pictures)) => Some(pictures.codec),
            Some(VideoSource::Encoded(video)) => Some(video.codec),
            Some(VideoSource::Refused(_)) | None => None,
        };
        let video = match codec {
            Some(PictureCodec::H264) => "video/h264",
            Some(PictureCodec::H265) => "video/h265",
            None => "video/x-unknown",
        };
        match self.sounds.first().map(|sound| sound.codec) {
            Some(SoundCodec::Aac) => format!("{video},audio/aac"),
            Some(SoundCodec::ALaw) => format!("{video},audio/alaw"),
            Some(SoundCodec::MuLaw) => format!("{video},audio/mulaw"),
            None => video.to_owned(),
        }
    }

    /// Takes the media out of a range of producer time: every fragment that reaches into it.
    #[must_use]
    pub fn gap(self, gap: TimeRange) -> Self {
        self.grid(|grid| grid.gaps.push(gap))
    }

    /// Sets the bit rate of a grid, in bytes.
    #[must_use]
    pub fn bytes_per_second(self, rate: u64) -> Self {
        self.grid(|grid| grid.sizes = FragmentSizes::BytesPerSecond(rate))
    }

    /// Sets the retention.
    #[must_use]
    pub fn retention_hours(self, retention_hours: u32) -> Self {
        Self { retention_hours, ..self }
    }

    /// Sets the status.
    #[must_use]
    pub fn status(self, status: StreamStatus) -> Self {
        Self { status, ..self }
    }

    /// Sets the creation time.
    #[must_use]
    pub fn created(self, created: UtcMillis) -> Self {
        Self { created, ..self }
    }

    /// The truth: every fragment that was ever recorded whose start on the clock `kind` lies in `range`,
    /// in order of that clock, whatever retention says.
    pub fn fragments(&self, range: TimeRange, kind: TimestampKind) -> Vec<ScriptedFragment> {
        self.script.select(&[(kind, range)])
    }
}
