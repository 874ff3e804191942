//! Shows a run while it goes on: takes its events without blocking, tells them from a thread of its own.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bars;
use super::events::{ProgressEvent, Totals};
use super::meter::Meter;
use super::screen;
use super::state::{Level, Line, RunState};
use super::table::Paint;
use crate::clock::{Clock, SystemClock};
use crate::model::event::{EventSink, RunEvent};
use crate::model::report::Outcome;

/// How often a line tells where the run stands.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// How often JSON does.
const TOTALS_INTERVAL: Duration = Duration::from_secs(5);
/// How often bars are drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// How often the end of a throttle or an outage is looked for, and the rate is measured.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressMode {
    /// Bars when standard error is a terminal, lines elsewhere
    #[default]
    Auto,
    /// Bars
    Bars,
    /// A line every 30 s and at every milestone
    Lines,
    /// Events as JSON, one a line; logs and errors are JSON lines too; see docs/json.md
    Json,
    /// Nothing but warnings and failures
    None,
}

/// What the user wants to see while a run goes on.
#[derive(Debug, Clone, Default)]
pub struct ProgressOptions {
    /// Bars, lines, JSON or nothing.
    pub mode: ProgressMode,
    /// Whether standard error may be coloured.
    pub color: bool,
    /// Failures only, and nothing at all of a run that does what it should.
    pub quiet: bool,
    /// Whether logs go to standard error too: `Auto` then shows lines.
    pub logs: bool,
    /// How long the run waits for a service that is away.
    pub outage: Option<Duration>,
    /// The job file, where there is one.
    pub job_file: Option<PathBuf>,
    /// The state file.
    pub state: PathBuf,
}

/// Where a run's events go, and the display behind it.
///
/// The display ends with [`Progress::finish`] or when this is dropped; sinks that are left over ignore what comes.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    display: Option<JoinHandle<()>>,
}

/// What is told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Lines for people.
    Text,
    /// Only the lines that are more than milestones.
    Grave,
    /// The same, but warnings are held back until it is known that the run did not do what it should.
    Quiet,
    /// The event itself.
    Json,
}

/// Takes events; cheap to call from any thread.
#[derive(Debug)]
struct Shared {
    begun: Instant,
    state: Mutex<RunState>,
    received: AtomicU64,
    /// `None` once the display is ended.
    lines: Mutex<Option<Sender<Line>>>,
    held_back: Mutex<Vec<Line>>,
    form: Form,
}

/// Starts to show a run on standard error.
pub fn progress(options: &ProgressOptions) -> Progress {
    let terminal = io::stderr().is_terminal();
    let mode = match options.mode {
        ProgressMode::Auto if terminal && !options.logs => ProgressMode::Bars,
        ProgressMode::Auto => ProgressMode::Lines,
        // Elsewhere bars would only write control characters into a file.
        ProgressMode::Bars if !terminal => ProgressMode::Lines,
        chosen => chosen,
    };
    let form = match mode {
        ProgressMode::Json => Form::Json,
        _ if options.quiet => Form::Quiet,
        ProgressMode::None => Form::Grave,
        _ => Form::Text,
    };
    let paint = Paint(options.color && form != Form::Json);
    if form == Form::Json {
        let (job_file, state) = (options.job_file.as_deref(), options.state.as_path());
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        ProgressEvent::Began { version, pid, job_file, state }.tell();
    }
    let interval = if form == Form::Json { TOTALS_INTERVAL } else { LINE_INTERVAL };
    Progress::start(form, options.outage, move |shared, lines| {
        if mode == ProgressMode::Bars && form == Form::Text {
            draw_bars(&shared, &lines, paint);
        } else {
            write_lines(&shared, &lines, &mut io::stderr(), interval, paint);
        }
    })
}

impl Progress {
    fn start(
        form: Form,
        outage: Option<Duration>,
        show: impl FnOnce(Arc<Shared>, Receiver<Line>) + Send + 'static,
    ) -> Self {
        let (sender, receiver) = mpsc::channel();
        let mut state = RunState::default();
        state.trouble.outage = outage;
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            state: Mutex::new(state),
            received: AtomicU64::new(0),
            lines: Mutex::new(Some(sender)),
            held_back: Mutex::default(),
            form,
        });
        let of_display = Arc::clone(&shared);
        let display = std::thread::Builder::new().name("progress".to_owned());
        // Without its thread a run is not shown, but goes on.
        let display = display.spawn(move || show(of_display, receiver)).ok();
        Self { shared, display }
    }

    /// Where the run sends its events.
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::clone(&self.shared) as Arc<dyn EventSink>
    }

    /// Shows what was told so far, takes bars away, and ends. A run that ended well keeps quiet what it held back.
    pub fn finish(self, outcome: Outcome) {
        let held_back = std::mem::take(&mut *lock(&self.shared.held_back));
        if outcome != Outcome::Done {
            for line in held_back {
                self.shared.send(line);
            }
        }
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        lock(&self.shared.lines).take();
        if let Some(display) = self.display.take() {
            // A display that panicked must not take the run's result with it.
            drop(display.join());
        }
    }
}

impl EventSink for Shared {
    fn event(&self, event: RunEvent) {
        if let RunEvent::BytesReceived { bytes } = event {
            self.received.fetch_add(bytes, Ordering::Relaxed);
            return;
        }
        log(&event);
        if self.form == Form::Json
            && let Some(told) = ProgressEvent::of(&event)
        {
            self.send(Line { level: Level::Milestone, text: told.line(SystemClock.now()) });
        }
        let line = lock(&self.state).take(event, self.begun.elapsed());
        self.tell(line);
    }
}

impl Shared {
    fn with_state<T>(&self, read: impl FnOnce(&RunState) -> T) -> T {
        read(&lock(&self.state))
    }

    /// Tells lines for people, as far as the user wants them.
    fn tell(&self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            match (self.form, line.level) {
                (Form::Json, _) | (Form::Grave | Form::Quiet, Level::Milestone) => {}
                (Form::Quiet, Level::Warning) => lock(&self.held_back).push(line),
                _ => self.send(line),
            }
        }
    }

    fn send(&self, line: Line) {
        if let Some(lines) = lock(&self.lines).as_ref() {
            // Nobody listens when the display could not be started.
            drop(lines.send(line));
        }
    }

    /// Tells which throttles and outages are over.
    fn look_for_ends(&self) {
        let over = lock(&self.state).trouble.over(self.begun.elapsed());
        self.tell(over);
    }

    /// Where the run stands, as a line.
    fn stand(&self, rate: Option<u64>) -> Option<String> {
        let now = self.begun.elapsed();
        match self.form {
            Form::Text => Some(self.with_state(|state| state.tick(rate, now))),
            Form::Json => {
                let received = self.received.load(Ordering::Relaxed);
                let totals = self.with_state(|state| Totals::of(state, received, rate, now));
                Some(ProgressEvent::Totals(totals).line(SystemClock.now()))
            }
            Form::Grave | Form::Quiet => None,
        }
    }
}

/// The operators' log has what holds a run up, beside each request with its id.
fn log(event: &RunEvent) {
    match event {
        RunEvent::Retrying { stream, api, attempt, delay_ms, error } => {
            tracing::info!(api, stream, attempt, delay_ms, error, "sent again");
        }
        RunEvent::StreamPaused { stream, reason, retry_ms } => {
            tracing::info!(stream, ?reason, retry_ms, "stream paused");
        }
        RunEvent::StreamResumed { stream } => tracing::info!(stream, "stream resumed"),
        RunEvent::DiskLow { free, needed } => tracing::info!(free, needed, "disk low"),
        RunEvent::DiskFreed => tracing::info!("disk freed"),
        _ => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn painted(line: &Line, paint: Paint) -> String {
    match line.level {
        Level::Milestone => line.text.clone(),
        Level::Warning => paint.yellow(&line.text),
        Level::Failure => paint.red(&line.text),
    }
}

/// Writes each line as it comes and where the run stands every `interval`, until the run is over.
fn write_lines(
    shared: &Shared,
    lines: &Receiver<Line>,
    out: &mut dyn Write,
    interval: Duration,
    paint: Paint,
) {
    // One write a line, so that lines of other programs do not tear it. Nothing can be done when it fails.
    let mut write = |text: &str| drop(out.write_all(format!("{text}\n").as_bytes()));
    let (mut meter, mut rate) = (Meter::default(), None);
    let (mut next_look, mut next_line) = (Duration::ZERO, interval);
    loop {
        let now = shared.begun.elapsed();
        if now >= next_look {
            next_look = now + LOOK_INTERVAL;
            rate = meter.rate(now, shared.received.load(Ordering::Relaxed));
            shared.look_for_ends();
        }
        if now >= next_line {
            next_line = now + interval;
            shared.stand(rate).iter().for_each(|line| write(line));
        }
        match lines.recv_timeout(next_look.min(next_line).saturating_sub(now)) {
            Ok(line) => write(&painted(&line, paint)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if shared.form == Form::Json {
        // The last totals are those of the whole run.
        shared.stand(rate).iter().for_each(|line| write(line));
    }
}

/// Draws bars, with the lines above them, until the run is over.
fn draw_bars(shared: &Shared, lines: &Receiver<Line>, paint: Paint) {
    let mut meter = Meter::default();
    let mut next = Duration::ZERO;
    loop {
        let now = shared.begun.elapsed();
        if now >= next {
            next = now + BAR_INTERVAL;
            let rate = meter.rate(now, shared.received.load(Ordering::Relaxed));
            shared.look_for_ends();
            // Drawn without the state in hand: a terminal that stands still must not hold the run up.
            screen::draw(shared.with_state(|state| bars::lines(state, rate, now)));
        }
        match lines.recv_timeout(next.saturating_sub(now)) {
            Ok(line) => {
                // Nothing can be done when the terminal is gone.
                drop(screen::write_above((painted(&line, paint) + "\n").as_bytes()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return screen::draw(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that the test can read while the display owns its writer.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    fn lines(form: Form, interval: Duration) -> (Progress, Paper) {
        let paper = Paper::default();
        let mut out = paper.clone();
        let progress = Progress::start(form, None, move |shared, lines| {
            write_lines(&shared, &lines, &mut out, interval, Paint(false));
        });
        (progress, paper)
    }

    fn warning(n: u32) -> RunEvent {
        RunEvent::Warning { message: format!("number {n}") }
    }

    #[test]
    fn every_line_is_written_before_finish_returns() {
        let (progress, paper) = lines(Form::Text, LINE_INTERVAL);
        let sink = progress.sink();
        for n in 0..1000 {
            sink.event(RunEvent::BytesReceived { bytes: 7 });
            sink.event(warning(n));
        }
        progress.finish(Outcome::Done);
        let text = paper.text();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("warning: number 999\n"));
    }

    #[test]
    fn a_sink_that_outlives_the_display_is_ignored() {
        let (progress, paper) = lines(Form::Text, LINE_INTERVAL);
        let sink = progress.sink();
        drop(progress);
        sink.event(warning(1));
        assert_eq!(paper.text(), "");
    }

    fn opened() -> RunEvent {
        let start = crate::model::UtcMillis::new(0);
        RunEvent::ExportOpened {
            export: crate::model::ExportId("0".to_owned()),
            job: "j".to_owned(),
            stream: crate::model::StreamSelector::Name("s".to_owned()),
            range: crate::model::TimeRange::new(start, start + 1).expect("not empty"),
            resumed: None,
        }
    }

    fn failed() -> RunEvent {
        let (export, error) = (crate::model::ExportId("0".to_owned()), Some("denied".to_owned()));
        RunEvent::ExportFinished { export, state: crate::model::ExportState::Failed, error }
    }

    #[test]
    fn without_progress_warnings_are_shown_and_nothing_else() {
        let (progress, paper) = lines(Form::Grave, Duration::ZERO);
        progress.sink().event(warning(1));
        progress.sink().event(opened());
        progress.finish(Outcome::Done);
        assert_eq!(paper.text(), "warning: number 1\n");
    }

    #[test]
    fn quiet_shows_nothing_of_a_run_that_ends_well_and_everything_grave_of_another() {
        for (outcome, text) in [
            (Outcome::Done, ""),
            (Outcome::Incomplete, "j s 1970-01-01T00:00:00Z: failed: denied\nwarning: number 1\n"),
        ] {
            let (progress, paper) = lines(Form::Quiet, Duration::ZERO);
            let sink = progress.sink();
            sink.event(warning(1));
            sink.event(opened());
            if outcome != Outcome::Done {
                sink.event(failed());
            }
            progress.finish(outcome);
            assert_eq!(paper.text(), text);
        }
    }

    #[test]
    fn json_holds_every_event_and_ends_with_the_totals() {
        let (progress, paper) = lines(Form::Json, LINE_INTERVAL);
        let sink = progress.sink();
        sink.event(opened());
        sink.event(RunEvent::BytesReceived { bytes: 7 });
        sink.event(failed());
        progress.finish(Outcome::Incomplete);
        let lines: Vec<serde_json::Value> =
            paper.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap_or_default()).collect();
        assert_eq!(events, ["export_opened", "export_finished", "totals"]);
        assert_eq!((&lines[2]["bytes_received"], &lines[2]["exports_failed"]), (&7.into(), &1.into()));
        assert!(lines.iter().all(|line| line["schema"] == "kvs-export/progress/1"), "{lines:?}");
    }

    #[test]
    fn a_tick_comes_without_any_event() {
        let (progress, paper) = lines(Form::Text, Duration::ZERO);
        while !paper.text().contains("exports finished") {
            std::thread::yield_now();
        }
        progress.finish(Outcome::Done);
        assert!(!paper.text().contains('\u{1b}'));
    }
}
