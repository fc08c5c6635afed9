//! How long agents are waited for before it is looked whether the client still waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const TICK: Duration = Duration::from_millis(10);

/// Ends for everybody in turn, one to two ticks after he began to wait. Nearly all agents answer sooner, and to wait for
/// what comes anyway costs each request less than a timer of its own.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    ticks: AtomicUsize,
    /// Those that came since the last tick wait at one until the tick after the next.
    ends: [Notify; 2],
}

impl Patience {
    pub(crate) async fn end(&self) {
        self.next().notified().await;
    }

    /// Has it end again and again. Never returns.
    pub(crate) async fn tick(&self) {
        let mut interval = tokio::time::interval(TICK);
        loop {
            interval.tick().await;
            self.ticks.fetch_add(1, Ordering::Relaxed);
            self.next().notify_waiters();
        }
    }

    fn next(&self) -> &Notify {
        &self.ends[self.ticks.load(Ordering::Relaxed) % self.ends.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn it_lasts_one_to_two_ticks() {
        let patience = Patience::default();
        let waiting = async {
            // Not in step with the ticks.
            tokio::time::sleep(TICK * 7 / 2).await;
            for _ in 0..5 {
                let began = Instant::now();
                patience.end().await;
                assert!((TICK..=2 * TICK).contains(&began.elapsed()));
            }
        };
        tokio::select! {
            () = patience.tick() => unreachable!(),
            waited = timeout(20 * TICK, waiting) => waited.unwrap(),
        }
    }
}
