//! Shows a run while it goes on: takes its events without blocking, tells them from a thread of its own.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bars::Bars;
use super::state::{Level, Line, RunState, Traffic};
use super::table::Paint;
use crate::model::event::{EventSink, RunEvent};

/// How often a line tells where the run stands.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// How often bars are drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Bars show the rate over about this long.
const RATE_WINDOW: Duration = Duration::from_secs(5);

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
    /// Nothing but warnings and failures
    None,
}

/// What the user wants to see while a run goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProgressOptions {
    /// Bars, lines or nothing.
    pub mode: ProgressMode,
    /// Whether standard error may be coloured.
    pub color: bool,
    /// Only warnings and failures.
    pub quiet: bool,
    /// Whether logs go to standard error too: `Auto` then shows lines, which logs do not tear.
    pub logs: bool,
}

/// Where a run's events go, and the display behind it.
///
/// The display ends with [`Progress::finish`] or when this is dropped; sinks that are left over ignore what comes.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    display: Option<JoinHandle<()>>,
}

/// Takes events; cheap to call from any thread.
#[derive(Debug)]
struct Shared {
    state: Mutex<RunState>,
    received: AtomicU64,
    /// `None` once the display is ended.
    lines: Mutex<Option<Sender<Line>>>,
    quiet: bool,
}

/// Starts to show a run on standard error.
pub fn progress(options: ProgressOptions) -> Progress {
    let terminal = io::stderr().is_terminal();
    let mode = match options.mode {
        ProgressMode::Auto if terminal && !options.logs => ProgressMode::Bars,
        ProgressMode::Auto => ProgressMode::Lines,
        // Elsewhere bars would only write control characters into a file.
        ProgressMode::Bars if !terminal => ProgressMode::Lines,
        chosen => chosen,
    };
    let quiet = options.quiet || mode == ProgressMode::None;
    let paint = Paint(options.color);
    if mode == ProgressMode::Bars && !quiet {
        Progress::start(quiet, move |shared, lines| draw_bars(&shared, &lines, &Bars::on_stderr(), paint))
    } else {
        Progress::start(quiet, move |shared, lines| {
            write_lines(&shared, &lines, &mut io::stderr(), LINE_INTERVAL, paint);
        })
    }
}

impl Progress {
    fn start(quiet: bool, show: impl FnOnce(Arc<Shared>, Receiver<Line>) + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            received: AtomicU64::new(0),
            lines: Mutex::new(Some(sender)),
            quiet,
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

    /// Shows what was told so far, takes bars away, and ends.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
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
        let line = self.state.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        let Some(line) = line.filter(|line| !self.quiet || line.level != Level::Milestone) else { return };
        if let Some(lines) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Nobody listens when the display could not be started.
            drop(lines.send(line));
        }
    }
}

impl Shared {
    fn with_state<T>(&self, read: impl FnOnce(&RunState) -> T) -> T {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn painted(line: &Line, paint: Paint) -> String {
    match line.level {
        Level::Milestone => line.text.clone(),
        Level::Warning => paint.yellow(&line.text),
        Level::Failure => paint.red(&line.text),
    }
}

/// Writes each line as it comes and a tick every `interval`, until the run is over.
fn write_lines(
    shared: &Shared,
    lines: &Receiver<Line>,
    out: &mut dyn Write,
    interval: Duration,
    paint: Paint,
) {
    // One write a line, so that lines of other programs do not tear it. Nothing can be done when it fails.
    let mut write = |text: &str| drop(out.write_all(format!("{text}\n").as_bytes()));
    let begun = Instant::now();
    let (mut next, mut before) = (interval, 0);
    loop {
        match lines.recv_timeout(next.saturating_sub(begun.elapsed())) {
            Ok(line) => write(&painted(&line, paint)),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                next = begun.elapsed() + interval;
                let received = shared.received.load(Ordering::Relaxed);
                let traffic = Traffic { bytes: received - before, during: interval };
                before = received;
                if !shared.quiet {
                    write(&shared.with_state(|state| state.tick(traffic, begun.elapsed())));
                }
            }
        }
    }
}

/// Draws bars, with the lines above them, until the run is over.
fn draw_bars(shared: &Shared, lines: &Receiver<Line>, bars: &Bars, paint: Paint) {
    let mut samples = vec![(Instant::now(), 0)];
    loop {
        match lines.recv_timeout(BAR_INTERVAL) {
            Ok(line) => bars.print(&painted(&line, paint)),
            Err(RecvTimeoutError::Disconnected) => return bars.clear(),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let (now, received) = (Instant::now(), shared.received.load(Ordering::Relaxed));
        if samples.last().is_none_or(|(at, _)| now.duration_since(*at) >= BAR_INTERVAL) {
            samples.push((now, received));
        }
        samples.retain(|(at, _)| now.duration_since(*at) <= RATE_WINDOW);
        let &(oldest, before) = samples.first().unwrap_or(&(now, received));
        let traffic = Traffic { bytes: received - before, during: now.duration_since(oldest) };
        shared.with_state(|state| bars.draw(state, traffic));
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

    fn lines(quiet: bool, interval: Duration) -> (Progress, Paper) {
        let paper = Paper::default();
        let mut out = paper.clone();
        let progress = Progress::start(quiet, move |shared, lines| {
            write_lines(&shared, &lines, &mut out, interval, Paint(false));
        });
        (progress, paper)
    }

    fn warning(n: u32) -> RunEvent {
        RunEvent::Warning { message: format!("number {n}") }
    }

    #[test]
    fn every_line_is_written_before_finish_returns() {
        let (progress, paper) = lines(false, LINE_INTERVAL);
        let sink = progress.sink();
        for n in 0..1000 {
            sink.event(RunEvent::BytesReceived { bytes: 7 });
            sink.event(warning(n));
        }
        progress.finish();
        let text = paper.text();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("warning: number 999\n"));
    }

    #[test]
    fn a_sink_that_outlives_the_display_is_ignored() {
        let (progress, paper) = lines(false, LINE_INTERVAL);
        let sink = progress.sink();
        drop(progress);
        sink.event(warning(1));
        assert_eq!(paper.text(), "");
    }

    #[test]
    fn quiet_shows_warnings_and_nothing_else() {
        let (progress, paper) = lines(true, Duration::ZERO);
        let sink = progress.sink();
        sink.event(warning(1));
        let start = crate::model::UtcMillis::new(0);
        sink.event(RunEvent::ExportOpened {
            export: crate::model::ExportId("0".to_owned()),
            job: "j".to_owned(),
            stream: crate::model::StreamSelector::Name("s".to_owned()),
            range: crate::model::TimeRange::new(start, start + 1).expect("not empty"),
            resumed: None,
        });
        progress.finish();
        assert_eq!(paper.text(), "warning: number 1\n");
    }

    #[test]
    fn a_tick_comes_without_any_event() {
        let (progress, paper) = lines(false, Duration::ZERO);
        while !paper.text().contains("exports finished") {
            std::thread::yield_now();
        }
        progress.finish();
        assert!(!paper.text().contains('\u{1b}'));
    }

    #[test]
    fn bars_are_drawn_and_taken_away() {
        let progress = Progress::start(false, |shared, lines| {
            draw_bars(&shared, &lines, &Bars::hidden(), Paint(true));
        });
        progress.sink().event(warning(1));
        progress.finish();
    }
}
