//! Tells somebody how a run ended: starts the job file's `[notify]` command and waits for it, not for ever.
//!
//! No shell: the words are the program and its arguments. It has no input and a process group of its own, so that
//! a Ctrl-C meant for the run does not end it halfway; it inherits the environment, AWS credentials with it.

#![expect(clippy::disallowed_methods, reason = "this module starts the user's own command")]

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use crate::model::report::Outcome;

/// How the run ended, a word of the table of exit codes.
pub const OUTCOME_VARIABLE: &str = "KVS_EXPORT_OUTCOME";
/// The run's exit code.
pub const EXIT_CODE_VARIABLE: &str = "KVS_EXPORT_EXIT_CODE";
/// The path of the run's JSON; not set where it could not be written.
pub const REPORT_VARIABLE: &str = "KVS_EXPORT_REPORT";

/// How long the command may take.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Of what the command writes, so much is kept.
const KEPT_OUTPUT: usize = 64 * 1024;

/// How often the command is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long to wait for the rest of its output: a process that it left behind may keep that open for ever.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// What is to be told, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// How the run ended.
    pub outcome: Outcome,
    /// With which exit code.
    pub exit_code: u8,
    /// Its JSON, where that could be written.
    pub report: Option<&'a Path>,
    /// How long the command may take.
    pub limit: Duration,
}

/// The command did not do its work. The run's exit code does not change.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// It could not be started.
    #[error("cannot start the [notify] command {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for the [notify] command {program}")]
    Wait {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("the [notify] command {program} {}", ending(*.status))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("the [notify] command {program} was killed: it took longer than {} s", .limit.as_secs_f64())]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The user asked to stop while it ran.
    #[error("the [notify] command {program} was killed: interrupted")]
    Interrupted {
        /// The program.
        program: String,
    },
}

/// What became of the command.
#[derive(Debug)]
pub struct Notified {
    /// What it wrote to standard output and standard error, at most the first 64 KiB.
    pub output: String,
    /// Whether it did its work.
    pub result: Result<(), NotifyError>,
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Runs the command to its end, to its limit, or until `interrupted`.
pub async fn notify(notice: Notice<'_>, interrupted: impl Future<Output = ()>) -> Notified {
    let Some((program, arguments)) = notice.command.split_first() else {
        return Notified { output: String::new(), result: Ok(()) };
    };
    let (mut child, output) = match start(program, arguments, &notice) {
        Ok(started) => started,
        Err(source) => {
            let result = Err(NotifyError::Start { program: program.clone(), source });
            return Notified { output: String::new(), result };
        }
    };
    let program = program.clone();
    let ended = tokio::select! {
        ended = end_of(&mut child) => ended,
        () = tokio::time::sleep(notice.limit) => {
            kill(&mut child);
            Ok(Err(NotifyError::TimedOut { program: program.clone(), limit: notice.limit }))
        }
        () = interrupted => {
            kill(&mut child);
            Ok(Err(NotifyError::Interrupted { program: program.clone() }))
        }
    };
    let result = match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(NotifyError::Failed { program, status }),
        Ok(Err(error)) => Err(error),
        Err(source) => Err(NotifyError::Wait { program, source }),
    };
    Notified { output: output.collect().await, result }
}

fn start(program: &str, arguments: &[String], notice: &Notice<'_>) -> io::Result<(Child, Output)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(OUTCOME_VARIABLE, notice.outcome.as_str())
        .env(EXIT_CODE_VARIABLE, notice.exit_code.to_string())
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    match notice.report {
        Some(report) => command.env(REPORT_VARIABLE, report),
        // One from outside would be another run's.
        None => command.env_remove(REPORT_VARIABLE),
    };
    let child = command.spawn()?;
    // With the command its ends of the pipe are closed here: the reader sees the end when the process is gone.
    drop(command);
    Ok((child, Output::gather(reader)?))
}

async fn end_of(child: &mut Child) -> io::Result<Result<ExitStatus, NotifyError>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ok(status));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Kills the command with all that it started in its group.
fn kill(child: &mut Child) {
    // It is not waited for yet, so the id is still its own.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
    if let Err(error) = child.wait() {
        tracing::debug!(error = %error, "the [notify] command could not be waited for");
    }
}

/// What the command writes, read by a thread so that it never waits for a reader.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Output {
    fn gather(mut pipe: impl Read + Send + 'static) -> io::Result<Self> {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let thread = std::thread::Builder::new().name("notify".to_owned()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
                let room = KEPT_OUTPUT.saturating_sub(text.len());
                text.extend_from_slice(&buffer[..count.min(room)]);
            }
        })?;
        Ok(Self { text, thread })
    }

    async fn collect(self) -> String {
        let patience = Instant::now() + OUTPUT_PATIENCE;
        while !self.thread.is_finished() && Instant::now() < patience {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(script: &str, limit: Duration, interrupted: impl Future<Output = ()>) -> Notified {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let (outcome, report) = (Outcome::Incomplete, Some(Path::new("/srv/last-run.json")));
        let notice = Notice { command: &command, outcome, exit_code: 3, report, limit };
        notify(notice, interrupted).await
    }

    #[tokio::test]
    async fn the_command_is_told_how_the_run_ended() {
        let script = "echo $KVS_EXPORT_OUTCOME $KVS_EXPORT_EXIT_CODE; echo $KVS_EXPORT_REPORT >&2; cat";
        let told = told(script, LIMIT, std::future::pending()).await;
        assert!(told.result.is_ok(), "{told:?}");
        assert_eq!(told.output, "incomplete 3\n/srv/last-run.json\n");
    }

    #[tokio::test]
    async fn a_command_that_fails_or_is_not_there_is_an_error() {
        let failed = told("echo no; exit 7", LIMIT, std::future::pending()).await;
        assert_eq!(failed.output, "no\n");
        let error = failed.result.expect_err("it failed").to_string();
        assert_eq!(error, "the [notify] command /bin/sh ended with exit code 7");
        let command = ["/nowhere/tell.sh".to_owned()];
        let notice =
            Notice { command: &command, outcome: Outcome::Done, exit_code: 0, report: None, limit: LIMIT };
        let missing = notify(notice, std::future::pending()).await;
        assert!(matches!(missing.result, Err(NotifyError::Start { .. })), "{missing:?}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let hanging = "sleep 1000 & echo $!; echo $$; wait";
        let limit = Duration::from_millis(300);
        let timed_out = told(hanging, limit, std::future::pending()).await;
        assert!(matches!(timed_out.result, Err(NotifyError::TimedOut { .. })), "{timed_out:?}");
        let interrupted = told(hanging, LIMIT, tokio::time::sleep(limit)).await;
        assert!(matches!(interrupted.result, Err(NotifyError::Interrupted { .. })), "{interrupted:?}");
        for process in timed_out.output.lines().chain(interrupted.output.lines()) {
            // The kernel takes its time over an orphan, which then may wait as a zombie for its new parent.
            let gone = async {
                loop {
                    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
                    if state.is_empty() || state.contains(") Z ") {
                        break;
                    }
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            };
            tokio::time::timeout(LIMIT, gone).await.expect("killed");
        }
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_is_neither_killed_nor_waited_for() {
        let told = told("sleep 1000 & echo $!", LIMIT, std::future::pending()).await;
        assert!(told.result.is_ok(), "{told:?}");
        let left: i32 = told.output.trim().parse().expect("a process");
        let left = Pid::from_raw(left).expect("an id");
        rustix::process::kill_process(left, Signal::KILL).expect("it is still there");
    }

    #[tokio::test]
    async fn much_output_does_not_hold_the_command_up() {
        let told = told("yes 0123456789 | head -c 1000000", LIMIT, std::future::pending()).await;
        assert!(told.result.is_ok(), "{:?}", told.result);
        assert_eq!(told.output.len(), KEPT_OUTPUT);
    }
}
