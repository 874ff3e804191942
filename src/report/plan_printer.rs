//! Writes a plan export by export, so that a plan of any length needs no memory for its text, and its reader no patience.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::plan::{described, end, late};
use super::table::Paint;
use crate::model::plan_report::{PLAN_SCHEMA, PlanReport, PlanSink, PlannedExport};

/// The form of a plan.
#[derive(Debug)]
pub enum PlanForm {
    /// For people.
    Text {
        /// The job file's folder.
        folder: PathBuf,
        /// Whether in colour.
        color: bool,
    },
    /// One JSON document.
    Json,
}

/// Writes a plan.
pub struct PlanPrinter<W> {
    form: PlanForm,
    written: Mutex<Written<W>>,
}

struct Written<W> {
    writer: W,
    exports: u64,
    /// The first failure: after it nothing is written any more.
    failed: Option<io::Error>,
}

impl<W: Write> Written<W> {
    fn write(&mut self, text: serde_json::Result<String>) {
        if self.failed.is_none() {
            let written =
                text.map_err(io::Error::from).and_then(|text| self.writer.write_all(text.as_bytes()));
            // Who reads along sees each export when it is known.
            self.failed = written.and_then(|()| self.writer.flush()).err();
        }
    }
}

impl<W: Write> PlanPrinter<W> {
    /// Makes a printer that has written nothing yet.
    pub fn new(form: PlanForm, writer: W) -> Self {
        Self { form, written: Mutex::new(Written { writer, exports: 0, failed: None }) }
    }

    /// Writes what follows the exports. A reader that has gone (`| head`) is no error.
    pub fn finish(&self, report: &PlanReport) -> io::Result<()> {
        let mut written = self.lock();
        match &self.form {
            PlanForm::Text { color, .. } => written.write(Ok(end(report, Paint(*color)))),
            PlanForm::Json => {
                let before = if written.exports == 0 { head() } else { "\n  ".to_owned() };
                written.write(tail(report).map(|tail| before + &tail));
            }
        }
        match written.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written<W>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The document up to its first export.
fn head() -> String {
    format!("{{\n  \"schema\": \"{PLAN_SCHEMA}\",\n  \"exports\": [")
}

/// The document after its last export.
fn tail(report: &PlanReport) -> serde_json::Result<String> {
    Ok(format!("],{}\n", pretty(report, "")?.strip_prefix('{').unwrap_or_default()))
}

/// Indented JSON, each line but the first with `indent` before it.
fn pretty(value: &impl Serialize, indent: &str) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    // No text of JSON holds a line break as such.
    Ok(if indent.is_empty() { text } else { text.replace('\n', &format!("\n{indent}")) })
}

impl<W: Write + Send> PlanSink for PlanPrinter<W> {
    fn is_early(&self) -> bool {
        // In the document each export says whether it expires before its turn.
        matches!(self.form, PlanForm::Text { .. })
    }

    fn export(&self, export: &PlannedExport) {
        let mut written = self.lock();
        let text = match &self.form {
            PlanForm::Text { folder, color } => Ok(described(export, folder, Paint(*color))),
            PlanForm::Json => {
                let before = if written.exports == 0 { head() } else { ",".to_owned() };
                pretty(export, "    ").map(|export| format!("{before}\n    {export}"))
            }
        };
        written.exports += 1;
        written.write(text);
    }

    fn late(&self, export: &PlannedExport) {
        if let PlanForm::Text { color, .. } = &self.form {
            self.lock().write(Ok(late(export, Paint(*color))));
        }
    }
}

/// The whole document of a plan without exports.
pub fn plan_json(report: &PlanReport) -> serde_json::Result<String> {
    Ok(head() + &tail(report)?)
}
