//! The operators' log on standard error.
//!
//! Only this program's own events: the AWS SDK logs requests and answers whole, with session URLs and tokens in
//! them, so no filter lets it through.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::metadata::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::report;

/// The environment variable that says what is logged, instead of `-v` and `-q`: `debug`, or
/// `kvs_export::archive=trace,warn`.
pub const FILTER_VARIABLE: &str = "KVS_EXPORT_LOG";

/// This program's targets begin with it.
const OWN: &str = "kvs_export";

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// What to log and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Text or JSON.
    pub format: LogFormat,
    /// How often `-v` was given.
    pub verbose: u8,
    /// Whether `-q` was given.
    pub quiet: bool,
    /// Whether text may be coloured.
    pub color: bool,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error(
        "{FILTER_VARIABLE} is {text:?}, which is no log filter; write a level (debug) or target=level pairs"
    )]
    Filter {
        /// As given.
        text: String,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// Something else set up logging before.
    #[error("logging is set up twice")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Sets up the log of this process on standard error. Call once.
pub fn init(options: LogOptions) -> Result<(), LoggingError> {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let color = options.color && io::stderr().is_terminal();
    let layer = layer(LogOptions { color, ..options }, variable.as_deref(), report::Stderr::default)?;
    // Not `init()`: that would also take in what libraries write through the `log` crate.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .map_err(LoggingError::Twice)
}

fn layer<S, W>(
    options: LogOptions,
    variable: Option<&str>,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, LoggingError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let filter = match variable.map(str::trim) {
        None | Some("") => EnvFilter::default().add_directive(level.into()),
        Some(text) => EnvFilter::builder()
            .parse(text)
            .map_err(|source| LoggingError::Filter { text: text.to_owned(), source })?,
    };
    let own = filter_fn(|metadata| {
        metadata.target().strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(options.color);
    Ok(match options.format {
        LogFormat::Text => lines.with_filter(filter.and(own)).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter.and(own)).boxed(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: LogOptions, variable: Option<&str>) -> String {
        let paper = Paper::default();
        let out = paper.clone();
        let layer = layer(options, variable, move || out.clone()).expect("a filter");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(target: "kvs_export::run", chunk = 7, "own warning");
            tracing::info!(target: "kvs_export", "own info");
            tracing::trace!(target: "kvs_export::archive", "own trace");
            tracing::error!(target: "aws_smithy_runtime::client", "X-Amz-Security-Token: secret");
            tracing::error!(target: "kvs_exporter_of_someone_else", "not ours: secret");
        });
        String::from_utf8(paper.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }

    #[test]
    fn each_v_shows_more_and_the_default_shows_warnings() {
        for (verbose, lines) in [(0, 1), (1, 2), (2, 2), (3, 3)] {
            let text = logged(LogOptions { verbose, ..LogOptions::default() }, None);
            assert_eq!(text.lines().count(), lines, "{verbose}: {text}");
        }
        assert_eq!(logged(LogOptions { quiet: true, ..LogOptions::default() }, None), "");
    }

    #[test]
    fn no_filter_lets_the_sdk_through() {
        for variable in [None, Some("trace"), Some("aws_smithy_runtime=trace,trace")] {
            let text = logged(LogOptions { verbose: 9, ..LogOptions::default() }, variable);
            assert!(text.contains("own warning") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn the_variable_beats_the_options() {
        let text = logged(LogOptions::default(), Some("kvs_export::archive=trace"));
        assert!(text.contains("own trace") && !text.contains("own warning"), "{text}");
        let options = LogOptions::default();
        let error = layer::<tracing_subscriber::Registry, _>(options, Some("archive=loud"), io::sink).err();
        assert!(matches!(error, Some(LoggingError::Filter { .. })), "{error:?}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(LogOptions { format: LogFormat::Json, ..LogOptions::default() }, None);
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one object");
        assert_eq!((&value["message"], &value["chunk"]), (&"own warning".into(), &7.into()));
    }
}
