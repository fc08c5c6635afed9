//! A timer with a resolution of 10 ms for all requests. It sets how long a request waits for agents
//! before it checks whether its client is still connected.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Resolution of the timer.
const TICK: Duration = Duration::from_millis(10);

/// A timer that wakes each waiter one to two ticks after it began to wait.
///
/// Nearly all agents answer sooner than that. Sharing one timer costs each request less than a
/// `tokio` timer of its own.
#[derive(Debug, Default)]
pub(crate) struct CoarseTimer {
    ticks: AtomicUsize,
    /// Waiters by the parity of `ticks` when they began to wait. Each tick switches new waiters to
    /// the other `Notify`, and wakes those that still wait there: they began before the last tick.
    waiters: [Notify; 2],
}

impl CoarseTimer {
    /// Waits one to two ticks.
    pub(crate) async fn wait(&self) {
        self.current().notified().await;
    }

    /// Wakes the waiters at every tick. Never returns.
    pub(crate) async fn run(&self) {
        let mut interval = tokio::time::interval(TICK);
        loop {
            interval.tick().await;
            self.ticks.fetch_add(1, Ordering::Relaxed);
            self.current().notify_waiters();
        }
    }

    fn current(&self) -> &Notify {
        &self.waiters[self.ticks.load(Ordering::Relaxed) % self.waiters.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn waits_one_to_two_ticks() {
        let timer = CoarseTimer::default();
        let waiting = async {
            // Start between two ticks.
            tokio::time::sleep(TICK * 7 / 2).await;
            for _ in 0..5 {
                let began = Instant::now();
                timer.wait().await;
                assert!((TICK..=2 * TICK).contains(&began.elapsed()));
            }
        };
        tokio::select! {
            () = timer.run() => unreachable!(),
            waited = timeout(20 * TICK, waiting) => waited.unwrap(),
        }
    }
}
