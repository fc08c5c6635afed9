use crate::backoff::delay;
use crate::connection::Home;
use crate::error::ConnectError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// The work of bringing an agent's connections back: for whom it is under way, and how long it waits between
/// attempts.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// The runtimes whose connections are being made; `None` where they are everybody's.
    under_way: Mutex<Vec<Option<Home>>>,
    /// Attempts in a row that failed.
    failures: AtomicU32,
    /// Rounds in a row whose connections ended before the agent said anything on them.
    vain_rounds: AtomicU32,
    /// Notified when a call finds no connection.
    demand: Notify,
}

/// No wait between two attempts is longer.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(30);

/// How often an agent that calls ask for is looked for.
const DEMAND_INTERVAL: Duration = Duration::from_millis(250);

impl Repair {
    /// Begins the work for one runtime, or for everybody, unless it is under way.
    pub(super) fn begin(self: &Arc<Self>, home: Option<Home>) -> Option<UnderWay> {
        let mut under_way = self.under_way();
        if under_way.contains(&home) {
            return None;
        }
        under_way.push(home);
        Some(UnderWay {
            repair: Arc::clone(self),
            home,
        })
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<Option<Home>>> {
        // Nothing that holds the lock can leave the list half changed.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that calls ask for the agent.
    pub(super) fn demand(&self) {
        self.demand.notify_one();
    }

    /// Notes why an attempt failed, and returns how many in a row did.
    pub(super) fn failed(&self) -> u32 {
        self.failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Notes whether the connections that ended were of any use, so that an agent that crashes as soon as it
    /// is connected to is not connected to again and again without a pause.
    pub(super) fn lost_connections(&self, were_in_vain: bool) {
        if were_in_vain {
            self.vain_rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            self.vain_rounds.store(0, Ordering::Relaxed);
        }
    }

    /// Waits before the next attempt. `cause` is why the last one failed, if it did.
    pub(super) async fn pause(&self, interval: Duration, cause: Option<&ConnectError>) {
        let attempts = self
            .failures
            .load(Ordering::Relaxed)
            .saturating_add(self.vain_rounds.load(Ordering::Relaxed));
        let delay = delay(interval, MAX_DELAY, attempts);
        if !cause.is_some_and(is_absence) {
            return sleep(delay).await;
        }
        let least = delay.min(DEMAND_INTERVAL);
        sleep(least).await;
        // Asking where nobody listens costs no agent anything.
        let _ = timeout(delay - least, self.demand.notified()).await;
    }
}

fn is_absence(cause: &ConnectError) -> bool {
    matches!(cause, ConnectError::NoSuchSocket | ConnectError::Refused)
}

/// Work that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    repair: Arc<Repair>,
    home: Option<Home>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.repair.under_way().retain(|home| *home != self.home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn demand_shortens_the_wait_for_an_agent_that_is_not_there() {
        let repair = Arc::new(Repair::default());
        for _ in 0..20 {
            repair.failed();
        }
        for (cause, is_hurried) in [
            (ConnectError::NoSuchSocket, true),
            (ConnectError::Refused, true),
            (ConnectError::ClosedDuringHandshake, false),
        ] {
            repair.demand();
            let started = Instant::now();
            repair.pause(Duration::from_secs(1), Some(&cause)).await;
            let is_short = started.elapsed() < Duration::from_secs(1);
            assert_eq!(is_short, is_hurried, "{cause}");
            assert!(started.elapsed() >= DEMAND_INTERVAL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_in_vain_make_the_next_round_wait() {
        let repair = Repair::default();
        let waited = async || {
            let started = Instant::now();
            repair.pause(Duration::from_secs(1), None).await;
            started.elapsed()
        };
        assert_eq!(waited().await, Duration::ZERO);
        repair.lost_connections(true);
        assert!(waited().await >= Duration::from_millis(500));
        repair.succeeded();
        assert!(waited().await >= Duration::from_millis(500));
        repair.lost_connections(false);
        assert_eq!(waited().await, Duration::ZERO);
    }
}
