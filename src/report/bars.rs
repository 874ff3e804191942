//! Progress bars on a terminal: the whole run in bytes, and a line for every open export.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::state::{RunState, Traffic};
use crate::model::ExportId;

/// The bars; drawn only when told to.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    exports: Mutex<HashMap<ExportId, ProgressBar>>,
}

impl Bars {
    /// Bars on standard error.
    pub(super) fn on_stderr() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(10))
    }

    /// Bars that nobody sees.
    #[cfg(test)]
    pub(super) fn hidden() -> Self {
        Self::on(ProgressDrawTarget::hidden())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let total = all.add(ProgressBar::new(0).with_style(style("{bar:20} {percent:>3}%  {wide_msg}")));
        Self { all, total, exports: Mutex::default() }
    }

    /// Prints a line above the bars.
    pub(super) fn print(&self, line: &str) {
        // Nothing can be done when the terminal is gone.
        drop(self.all.println(line));
    }

    /// Draws the run as it stands.
    pub(super) fn draw(&self, state: &RunState, traffic: Traffic) {
        let sums = state.sums();
        self.total.set_length(sums.bytes);
        self.total.set_position(sums.bytes_on_disk);
        self.total.set_message(state.describe(traffic));
        let mut exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        exports.retain(|id, bar| {
            let open = state.open.iter().any(|open| open.id == *id);
            if !open {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            open
        });
        for open in &state.open {
            let bar = exports.entry(open.id.clone()).or_insert_with(|| {
                self.all.add(ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg}")))
            });
            bar.set_message(open.describe());
            bar.tick();
        }
    }

    /// Takes all bars away.
    pub(super) fn clear(&self) {
        for (_, bar) in self.exports.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ").tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::event::RunEvent;
    use crate::model::{ExportState, StreamSelector, TimeRange, UtcMillis};

    #[test]
    fn an_open_export_has_a_bar_until_it_is_finished() {
        let (bars, mut state) = (Bars::hidden(), RunState::default());
        let export = ExportId("1".to_owned());
        let start = UtcMillis::new(0);
        state.take(RunEvent::ExportOpened {
            export: export.clone(),
            job: "nightly".to_owned(),
            stream: StreamSelector::Name("yard".to_owned()),
            range: TimeRange::new(start, start + 1).expect("not empty"),
            resumed: Some((7, 12)),
        });
        state.take(RunEvent::WindowPlanned {
            export: export.clone(),
            chunks: 12,
            bytes: 1200,
            media_ms: 1,
            last: true,
        });
        let traffic = Traffic { bytes: 0, during: Duration::ZERO };
        bars.draw(&state, traffic);
        assert_eq!((bars.total.position(), bars.total.length()), (700, Some(1200)));
        assert_eq!(
            bars.exports.lock().expect("not poisoned")[&export].message(),
            "nightly yard 1970-01-01T00:00:00Z: 7 of 12 chunks"
        );
        state.take(RunEvent::ExportFinished { export, state: ExportState::Done, error: None });
        bars.draw(&state, traffic);
        assert!(bars.exports.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn the_templates_are_valid() {
        for template in ["{bar:20} {percent:>3}%  {wide_msg}", "{spinner} {wide_msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
