//! The embedded archive: a small HTTP server on loopback that answers as Kinesis Video Streams does.
//!
//! It makes the first try work on a machine without AWS, and it is what the tests run against: as strict as
//! the service where the service's behaviour is known, and open about it where it had to choose. It must not
//! use the planner, the media code or the merge, so that tests do not compare those with themselves.
//!
//! From the camera to the wire: [`Camera`]s follow a [`Script`] that yields [`ScriptedFragment`]s; `archive`
//! selects among them as the service would; `clip` and `boxes` make MP4s whose every frame carries a mark
//! ([`FRAME_MARK_UUID`]); `service` answers the calls and `server` speaks HTTP. A [`FaultRule`] makes
//! requests go wrong, a [`Disturbance`] reads one from the command line, a [`RequestRecord`] tells what was asked.

mod api;
mod archive;
mod body;
mod boxes;
mod camera;
mod clip;
mod config;
mod disturbance;
mod encode;
mod endpoints;
mod error;
mod fault;
mod hash;
mod log;
mod media;
mod points;
mod recording;
mod refusal;
mod scenario;
mod script;
mod server;
mod service;
mod signature;
mod sound;
#[cfg(test)]
mod tests;
mod video;
mod wire;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use api::Api;
pub use archive::{ClipLimits, Selector};
pub use camera::{Camera, VideoSource};
pub use clip::{InnerTiming, MoviePosition};
pub use config::{ByteTrigger, EmulatorConfig};
pub use disturbance::{Disturbance, disturbance_help};
pub use error::EmulatorError;
pub use fault::{Fault, FaultRule, When, Window};
pub use log::{RequestRecord, Tally};
pub use media::{FRAME_MARK_UUID, MediaProblem};
pub use points::{PointBudgets, SecondClient, SecondClientTally};
pub use recording::Recording;
pub use refusal::ErrorStyle;
pub use script::{FragmentSizes, Grid, Script, ScriptedFragment, SoundSpan};
pub use sound::{SoundCodec, TestSound};
pub use video::{PictureCodec, TestPictures, Video};

/// A running emulator; ends, with all its connections, when stopped or dropped.
#[derive(Debug)]
pub struct Emulator {
    service: Arc<service::Service>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Emulator {
    /// Encodes the pictures that are needed and starts to listen on 127.0.0.1.
    pub async fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        // ffmpeg runs meanwhile: not on a thread that serves.
        let prepared = tokio::task::spawn_blocking(move || config.prepare().map(|()| config)).await;
        let config = prepared.map_err(|_| EmulatorError::EncodingStopped)??;
        let port = config.port;
        let failed = |source| EmulatorError::Listen { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let service = Arc::new(service::Service::new(config, format!("http://{address}")));
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server::serve(listener, Arc::clone(&service), stopped));
        Ok(Self { service, stop, server })
    }

    /// The control plane's endpoint, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.service.endpoint().to_owned()
    }

    /// The requests so far, in order of arrival.
    pub fn log(&self) -> Vec<RequestRecord> {
        self.service.log.snapshot()
    }

    /// What became of the requests so far.
    pub fn tally(&self) -> Tally {
        self.service.log.tally()
    }

    /// What the second clients of a stream got so far.
    pub fn second_client_tally(&self, stream: &str) -> SecondClientTally {
        self.service.second_client_tally(stream)
    }

    /// Bytes of clips handed to sockets so far.
    pub fn media_bytes_sent(&self) -> u64 {
        self.service.media_bytes()
    }

    /// Stops listening, ends all connections, and returns when both is done.
    pub async fn stop(self) {
        drop(self.stop);
        // The task can only fail by a panic, which has been reported where it happened.
        drop(self.server.await);
    }
}
