use crate::backoff::delay;
use crate::error::ConnectError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// The work of bringing an agent's connections back: whether it is under way, and how long it waits between
/// attempts.
#[derive(Debug, Default)]
pub(super) struct Repair {
    is_under_way: AtomicBool,
    /// Attempts in a row that failed.
    failures: AtomicU32,
    /// Rounds in a row whose connections ended before the agent said anything on them.
    vain_rounds: AtomicU32,
    /// Notified when a call finds no connection.
    demand: Notify,
}

/// No wait between two attempts is longer.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// How often an agent that calls ask for is looked for.
const DEMAND_INTERVAL: Duration = Duration::from_millis(250);

impl Repair {
    /// Begins the work unless it is under way.
    pub(super) fn begin(self: &Arc<Self>) -> Option<UnderWay> {
        let begins = !self.is_under_way.swap(true, Ordering::AcqRel);
        begins.then(|| UnderWay(Arc::clone(self)))
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
pub(super) struct UnderWay(Arc<Repair>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Release);
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
