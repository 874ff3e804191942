//! INT, TERM and HUP ask a command to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::error::CommandError;

/// A flag that becomes true with the first signal.
pub(super) fn cancel_on_signals() -> Result<watch::Receiver<bool>, CommandError> {
    let (sender, receiver) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let failed = |source| CommandError::Io { what: "listen for signals", source };
        let mut signals = signal(kind).map_err(failed)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_replace(true);
            }
        });
    }
    Ok(receiver)
}
