//! How an emulator is set up.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::model::StreamSelector;

use super::api::Api;
use super::archive::ClipLimits;
use super::camera::Camera;
use super::clip::{InnerTiming, MoviePosition};
use super::disturbance::Disturbance;
use super::error::EmulatorError;
use super::fault::FaultRule;
use super::media::{self, Coded};
use super::points::{PointBudgets, SecondClient};
use super::refusal::ErrorStyle;
use super::script::{Script, ScriptedFragment};

/// Something to do when so many bytes of media were sent.
#[derive(Clone)]
pub struct ByteTrigger {
    /// Bytes of the bodies of clips, over all requests.
    pub at: u64,
    /// What to do, once.
    pub action: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for ByteTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteTrigger").field("at", &self.at).finish_non_exhaustive()
    }
}

/// Everything that decides what an emulator answers.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// The port on 127.0.0.1; 0: any that is free.
    pub port: u16,
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
    /// The streams.
    pub cameras: Vec<Camera>,
    /// Whether every other name is a steady camera too.
    pub any_stream: bool,
    /// What the archive takes for now: what is there, and what retention has taken. Windows of faults are on it.
    pub clock: Arc<dyn Clock>,
    /// How far the clock that dates answers and judges the dates of signatures is ahead of this machine's.
    ///
    /// It is not [`Self::clock`]: the clients' clocks cannot be set.
    pub clock_offset_ms: i64,
    /// Time before each answer of the data plane.
    pub latency: Duration,
    /// Pace of each connection's bodies; `None`: as fast as they are read.
    pub bytes_per_second: Option<u64>,
    /// Quotas of each stream; `None`: no limits.
    pub points: Option<PointBudgets>,
    /// Others who spend the same streams' points.
    pub second_clients: Vec<SecondClient>,
    /// Where a clip stops.
    pub clip_limits: ClipLimits,
    /// What the times inside clips do between fragments.
    pub inner_timing: InnerTiming,
    /// Where clips have their movie box.
    pub movie: MoviePosition,
    /// Decides in which order listings come, and which requests a rate of faults befalls.
    pub seed: u64,
    /// How errors are written.
    pub error_style: ErrorStyle,
    /// What goes wrong.
    pub faults: Vec<FaultRule>,
    /// Calls on streams (`*`: on any) that the caller has no permission for.
    pub denied: Vec<(String, Api)>,
    /// Something to do when so many bytes of media were sent.
    pub on_bytes: Option<ByteTrigger>,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            port: 0,
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
            cameras: Vec::new(),
            any_stream: false,
            clock: Arc::new(SystemClock),
            clock_offset_ms: 0,
            latency: Duration::ZERO,
            bytes_per_second: None,
            points: Some(PointBudgets::default()),
            second_clients: Vec::new(),
            clip_limits: ClipLimits::default(),
            inner_timing: InnerTiming::default(),
            movie: MoviePosition::default(),
            seed: 0,
            error_style: ErrorStyle::default(),
            faults: Vec::new(),
            denied: Vec::new(),
            on_bytes: None,
        }
    }
}

impl EmulatorConfig {
    /// The service's own limits, these cameras, and nothing that goes wrong.
    pub fn with_cameras(cameras: impl IntoIterator<Item = Camera>) -> Self {
        Self { cameras: cameras.into_iter().collect(), ..Self::default() }
    }

    /// Reads arguments of the form `NAME` (a steady camera) or `NAME=VIDEO` (a file, shown over and over);
    /// without any, every stream name is a steady camera.
    pub fn from_arguments(port: u16, arguments: &[String]) -> Result<Self, EmulatorError> {
        let camera = |argument: &String| {
            let (name, video) = argument.split_once('=').map_or((&**argument, None), |(n, v)| (n, Some(v)));
            let invalid = || EmulatorError::StreamArgument { argument: argument.clone() };
            let Ok(StreamSelector::Name(name)) = StreamSelector::parse(name) else {
                return Err(invalid());
            };
            match video {
                Some("") => Err(invalid()),
                Some(file) => Camera::from_video(name, Path::new(file)),
                None => Ok(Camera::steady(name)),
            }
        };
        let cameras: Vec<Camera> = arguments.iter().map(camera).collect::<Result<_, _>>()?;
        Ok(Self { port, any_stream: cameras.is_empty(), cameras, ..Self::default() })
    }

    /// Adds what the command line orders.
    #[must_use]
    pub fn disturbed(mut self, by: impl IntoIterator<Item = Disturbance>) -> Self {
        for disturbance in by {
            match disturbance {
                Disturbance::Fault(rule) => self.faults.push(rule),
                Disturbance::SecondClient(client) => self.second_clients.push(client),
                Disturbance::ClockOffset(ms) => self.clock_offset_ms = ms,
            }
        }
        self
    }

    /// Encodes what is to be shown and checks that every camera's script can be served with it.
    pub(super) fn prepare(&self) -> Result<(), EmulatorError> {
        if self.any_stream {
            check(&Camera::steady("any"))?;
        }
        self.cameras.iter().try_for_each(check)
    }
}

/// Checks that the fragments' frames exist and fit in the sizes listed.
fn check(camera: &Camera) -> Result<(), EmulatorError> {
    let wrong = |problem: String| EmulatorError::Script { camera: camera.name.clone(), problem };
    if !matches!(StreamSelector::parse(&camera.name), Ok(StreamSelector::Name(_))) {
        return Err(wrong("not a stream name".to_owned()));
    }
    let fragments: Vec<ScriptedFragment> = match &camera.script {
        Script::Fragments(list) => list.clone(),
        Script::Grid(grid) if grid.fragment_ms == 0 || grid.frame_rate == 0 => {
            return Err(wrong("fragments need a length and a frame rate".to_owned()));
        }
        // One fragment for each group of pictures: the others are like them.
        Script::Grid(grid) => {
            let groups = match camera.videos.first() {
                Some(video) => video.encoded()?.groups.len(),
                None => 1,
            };
            (0..).take(groups).filter_map(|index| grid.ungapped_fragment(index)).collect()
        }
    };
    // Nothing is encoded that is never sent.
    for fragment in fragments.iter().filter(|fragment| media::problem(camera, fragment).is_none()) {
        let coded = Coded::of(camera, fragment)?;
        match media::smallest_size(&coded, &camera.name, fragment) {
            None => {
                return Err(wrong(format!(
                    "fragment {} has {} frames, its video has fewer in a group, or it has none",
                    fragment.number, fragment.frames
                )));
            }
            Some(smallest) if smallest > fragment.size_bytes => {
                return Err(wrong(format!(
                    "fragment {} is listed with {} bytes, its pictures need {smallest}",
                    fragment.number, fragment.size_bytes
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
