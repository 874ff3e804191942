//! Finds ffmpeg, and runs it so that nothing of it outlives its run.

#![expect(clippy::disallowed_methods, reason = "this is the module that may")]

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How much of ffmpeg's messages is kept.
const MAX_MESSAGES: usize = 16 << 10;
/// How often a running ffmpeg is checked for cancellation.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// An ffmpeg that was found and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ffmpeg {
    /// The program.
    pub path: PathBuf,
    /// The first line it says about itself, without the word `ffmpeg version`.
    pub version: String,
}

/// There is no usable ffmpeg.
#[derive(Debug, thiserror::Error)]
pub enum FfmpegError {
    /// Not where `KVS_EXPORT_FFMPEG` says, or nowhere in `PATH`.
    #[error(
        "ffmpeg is not found{}. Install it with `sudo apt-get install ffmpeg` (Debian, Ubuntu) or `brew install ffmpeg` \
         (macOS), or set KVS_EXPORT_FFMPEG=/path/to/ffmpeg",
        path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default()
    )]
    Missing {
        /// Where it was said to be.
        path: Option<PathBuf>,
    },
    /// It is there but does not run.
    #[error("{} does not run", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It runs but is not ffmpeg.
    #[error("{} does not answer as ffmpeg does: {answer:?}", path.display())]
    NotFfmpeg {
        /// The program.
        path: PathBuf,
        /// What it said.
        answer: String,
    },
}

impl Ffmpeg {
    /// Finds ffmpeg: where `KVS_EXPORT_FFMPEG` says, else in `PATH`.
    pub fn find() -> Result<Self, FfmpegError> {
        Self::find_in(std::env::var_os("KVS_EXPORT_FFMPEG"), std::env::var_os("PATH"))
    }

    fn find_in(named: Option<OsString>, path: Option<OsString>) -> Result<Self, FfmpegError> {
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            return Self::at(Path::new(&named));
        }
        let folders = path.unwrap_or_default();
        let found = std::env::split_paths(&folders)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("ffmpeg"))
            .find(|candidate| candidate.is_file());
        Self::at(&found.ok_or(FfmpegError::Missing { path: None })?)
    }

    /// Asks the program at `path` for its version.
    pub fn at(path: &Path) -> Result<Self, FfmpegError> {
        let output = Command::new(path).arg("-version").stdin(Stdio::null()).output().map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                FfmpegError::Missing { path: Some(path.to_owned()) }
            } else {
                FfmpegError::Run { path: path.to_owned(), source }
            }
        })?;
        let answer = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        match answer.strip_prefix("ffmpeg version ") {
            Some(version) if output.status.success() => {
                let version = version.split(" Copyright").next().unwrap_or(version).trim();
                Ok(Self { path: path.to_owned(), version: version.to_owned() })
            }
            _ => Err(FfmpegError::NotFfmpeg { path: path.to_owned(), answer }),
        }
    }

    /// Whether it is older than version `major`; builds without a version number count as newest.
    pub(super) fn is_older_than(&self, major: u32) -> bool {
        let digits = self.version.trim_start_matches('n');
        let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse::<u32>().is_ok_and(|found| found < major)
    }

    /// Starts it in a process group of its own, with a pipe to its standard input if `with_input`.
    pub(super) fn start(
        &self,
        args: &[OsString],
        with_input: bool,
        cancel: &Arc<AtomicBool>,
    ) -> io::Result<Running> {
        let mut child = Command::new(&self.path)
            .args(args)
            .stdin(if with_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process has no id"))?;
        let stderr = child.stderr.take().map(|stderr| std::thread::spawn(move || gather(stderr)));
        let input = child.stdin.take();
        let (done, is_done) = mpsc::channel();
        let cancel = Arc::clone(cancel);
        let watch = std::thread::spawn(move || {
            while is_done.recv_timeout(CANCEL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if cancel.load(Ordering::Relaxed) {
                    // Not reaped before this thread has ended, so the id is still its own.
                    kill_process_group(pid, Signal::KILL).ok();
                    return;
                }
            }
        });
        Ok(Running { child, pid, input, stderr, watch: Some((done, watch)) })
    }
}

/// What an ended ffmpeg leaves behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) messages: String,
}

impl Ended {
    /// Its exit code or signal, in words.
    pub(super) fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        }
    }
}

/// A running ffmpeg; killed with its group and reaped when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pid: Pid,
    input: Option<ChildStdin>,
    stderr: Option<JoinHandle<String>>,
    watch: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Running {
    /// Takes its standard input; it reads to the end when this is dropped.
    pub(super) fn take_input(&mut self) -> io::Result<ChildStdin> {
        self.input.take().ok_or_else(|| io::Error::other("its input is taken"))
    }

    /// Waits for its end, or for cancellation to bring that about.
    pub(super) fn wait(mut self) -> io::Result<Ended> {
        self.input = None;
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(error) = waitid(WaitId::Pid(self.pid), ended) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        self.stop_watch();
        let status = self.child.wait()?;
        let messages = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Ended { status, messages })
    }

    fn stop_watch(&mut self) {
        if let Some((done, thread)) = self.watch.take() {
            drop(done);
            drop(thread.join());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.input = None;
        self.stop_watch();
        if self.stderr.is_some() {
            kill_process_group(self.pid, Signal::KILL).ok();
            drop(self.child.wait());
        }
    }
}

/// Reads everything, keeping the beginning and the end.
fn gather(mut stderr: impl Read) -> String {
    let (mut head, mut tail) = (Vec::new(), Vec::<u8>::new());
    let mut buffer = [0; 4096];
    let mut left_out = false;
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        let room = MAX_MESSAGES / 2 - head.len();
        let (first, rest) = buffer[..count].split_at(room.min(count));
        head.extend(first);
        tail.extend(rest);
        if tail.len() > MAX_MESSAGES / 2 {
            tail.drain(..tail.len() - MAX_MESSAGES / 2);
            left_out = true;
        }
    }
    if left_out {
        head.extend(b"\n[...]\n");
    }
    head.extend(tail);
    String::from_utf8_lossy(&head).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ffmpeg_is_told_with_the_commands_that_install_it() {
        let error = Ffmpeg::find_in(None, Some("/nonexistent".into())).expect_err("nothing there");
        let text = error.to_string();
        assert!(text.contains("apt-get install ffmpeg") && text.contains("brew install ffmpeg"), "{text}");
        let error = Ffmpeg::find_in(Some("/nonexistent/ffmpeg".into()), None).expect_err("nothing there");
        assert!(error.to_string().contains("at /nonexistent/ffmpeg"), "{error}");
    }

    #[test]
    fn another_program_is_not_taken_for_ffmpeg() {
        let error = Ffmpeg::at(Path::new("/bin/echo")).expect_err("echo");
        assert!(matches!(error, FfmpegError::NotFfmpeg { .. }), "{error:?}");
    }

    #[test]
    fn a_build_without_a_version_number_counts_as_newest() {
        let ffmpeg = |version: &str| Ffmpeg { path: PathBuf::new(), version: version.to_owned() };
        assert!(ffmpeg("4.4.2-0ubuntu0.22.04.1").is_older_than(5));
        assert!(!ffmpeg("5.1.9-0+deb12u1").is_older_than(5));
        assert!(!ffmpeg("n7.1").is_older_than(5));
        assert!(!ffmpeg("N-118000-gabcdef").is_older_than(5));
    }

    #[test]
    fn of_many_messages_the_first_and_the_last_are_kept() {
        let lines: Vec<String> = (0..10_000).map(|i| format!("message {i}")).collect();
        let text = lines.join("\n");
        let kept = gather(text.as_bytes());
        assert!(kept.starts_with("message 0\n") && kept.ends_with("message 9999"));
        assert!(kept.len() < MAX_MESSAGES + 16);
    }
}
