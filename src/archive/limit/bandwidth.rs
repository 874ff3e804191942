//! Bytes per second over the whole run, kept by reading later what has arrived.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may arrive at once after a silence, as time at the full speed: short enough that a line stays usable for
/// others, long enough that a busy machine loses nothing.
const BURST: Duration = Duration::from_millis(250);

/// The bytes that all connections share.
///
/// Each part of a body is paid for after it was read, and the next is not read before that is paid: the sender
/// feels the pressure through its connection. Connections pay in the order in which their parts arrive, each for
/// one part at a time, so none can take more turns than another.
#[derive(Debug)]
pub(super) struct Bandwidth {
    per_second: f64,
    /// When everything that was read is paid for.
    paid: Mutex<Instant>,
}

impl Bandwidth {
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1) as f64, paid: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes are paid for.
    pub(super) async fn pay(&self, bytes: u64) {
        let due = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            *paid = (*paid).max(earliest) + Duration::from_secs_f64(bytes as f64 / self.per_second);
            *paid
        };
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_connections_together_keep_to_the_bandwidth_and_share_it() {
        let bandwidth = Arc::new(Bandwidth::new(1_000_000));
        let begin = Instant::now();
        let mut connections = tokio::task::JoinSet::new();
        for connection in 0..4_u64 {
            let bandwidth = Arc::clone(&bandwidth);
            connections.spawn(async move {
                let mut read = 0;
                while begin.elapsed() < Duration::from_secs(20) {
                    let part = 10_000 + connection * 1_000;
                    bandwidth.pay(part).await;
                    read += part;
                }
                read
            });
        }
        let read: Vec<u64> = connections.join_all().await;
        let total: u64 = read.iter().sum();
        assert!((19_900_000..=20_500_000).contains(&total), "{total} bytes in 20 s");
        assert!(read.iter().all(|read| (4_000_000..=6_000_000).contains(read)), "{read:?}");
    }
}
