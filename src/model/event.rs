//! What happens during a run, told to whoever shows it. `run` sends, `report` renders; they meet only here.

use super::export::{ExportId, ExportState};
use super::stream::StreamSelector;
use super::time::{TimeRange, UtcMillis};

/// Why requests for a stream wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseReason {
    /// The service says that the stream's quota is spent.
    Throttled,
    /// No request of the stream succeeds.
    Away,
}

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// What is to be done is known: the streams are described, the state file is read.
    RunStarted {
        /// Exports that will be taken up, those that are done or pending left out.
        exports: u64,
    },
    /// An export is taken up, new or from an earlier run.
    ExportOpened {
        /// Its id.
        export: ExportId,
        /// Its job's name.
        job: String,
        /// Its stream.
        stream: StreamSelector,
        /// Its range.
        range: TimeRange,
        /// Chunks that an earlier run has fetched, and all that it had planned.
        resumed: Option<(u64, u64)>,
    },
    /// One of its windows is listed and planned, now or by an earlier run.
    WindowPlanned {
        /// The export.
        export: ExportId,
        /// Chunks in the window.
        chunks: u64,
        /// Bytes in the window, as listed.
        bytes: u64,
        /// Milliseconds of media in the window.
        media_ms: u64,
        /// Whether it was the last: totals are final from here on.
        last: bool,
    },
    /// Bytes of media arrived (not yet checked).
    BytesReceived {
        /// How many since the last such event.
        bytes: u64,
    },
    /// A chunk is whole on disk.
    ChunkFetched {
        /// The export.
        export: ExportId,
        /// Bytes as listed, the unit of the totals.
        planned_bytes: u64,
        /// Size of the file.
        size_bytes: u64,
    },
    /// A chunk was replaced by smaller ones.
    ChunkSplit {
        /// The export.
        export: ExportId,
        /// How many took its place.
        into: u64,
    },
    /// A fixed window has no media.
    WindowEmpty {
        /// The export.
        export: ExportId,
    },
    /// A stream is told to slow down by the service.
    Throttled {
        /// The stream's name.
        stream: String,
    },
    /// A request failed in a way that passes and is sent again.
    Retrying {
        /// The stream's name.
        stream: String,
        /// The API's name.
        api: String,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Milliseconds until the next.
        delay_ms: u64,
        /// Why.
        error: String,
    },
    /// Requests for a stream wait: the service throttles it, or answers nothing.
    StreamPaused {
        /// The stream's name.
        stream: String,
        /// Why.
        reason: PauseReason,
        /// Milliseconds until it is tried again.
        retry_ms: u64,
    },
    /// A paused stream answers again.
    StreamResumed {
        /// The stream's name.
        stream: String,
    },
    /// Nothing more is fetched until merges have made room on the disk.
    DiskLow {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are to stay free, or that the next export needs.
        needed: u64,
    },
    /// There is room on the disk again.
    DiskFreed,
    /// All chunks are settled, the output is being written.
    MergeStarted {
        /// The export.
        export: ExportId,
    },
    /// An export is finished, or given up in this run.
    ExportFinished {
        /// The export.
        export: ExportId,
        /// Done, partial, empty or failed.
        state: ExportState,
        /// The error, when it failed, with its causes.
        error: Option<String>,
    },
    /// The next export's range has just ended: its last fragments may still be open or on their way (`settle`).
    Settling {
        /// Its stream.
        stream: StreamSelector,
        /// Until when it is left alone.
        until: UtcMillis,
    },
    /// Something the user should know that stops nothing.
    Warning {
        /// What, in one line.
        message: String,
    },
    /// The user asked the run to stop.
    Interrupted,
}

/// Where the events of a run go.
pub trait EventSink: Send + Sync {
    /// Takes one event; must not block.
    fn event(&self, event: RunEvent);
}
