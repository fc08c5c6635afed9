//! Pacing of reconnects to one agent.

use crate::backoff::delay;
use crate::connection::RuntimeId;
use crate::error::ConnectError;
use crate::lock::lock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// State of opening an agent's connections: which work is in progress, and how long it waits
/// between attempts.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    /// Runtimes whose connections are being opened; `None` stands for shared connections.
    in_progress: Mutex<Vec<Option<RuntimeId>>>,
    /// Number of failed attempts in a row.
    failures: AtomicU32,
    /// Number of rounds in a row whose connections all closed soon and before the agent sent
    /// anything.
    useless_rounds: AtomicU32,
    /// Set if the connections that were lost last had been open only for moments.
    were_brief: AtomicBool,
    /// Notified when a call finds no connection.
    demanded: Notify,
}

/// Longest wait between two attempts.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(30);

/// Shortest wait before an attempt that a call demands.
const MIN_DEMAND_DELAY: Duration = Duration::from_millis(250);

/// Age from which a lost connection is replaced at once, and longest wait otherwise.
pub(super) const MIN_AGE: Duration = Duration::from_millis(100);

/// Lost connections of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The agent has none left, and sent nothing on those that it had.
    Useless,
    /// None of them reached [`MIN_AGE`].
    Brief,
    Useful,
}

impl Reconnect {
    /// Begins to open connections for one runtime, or shared ones, unless that is in progress.
    pub(super) fn begin(self: &Arc<Self>, runtime: Option<RuntimeId>) -> Option<ReconnectGuard> {
        let mut in_progress = lock(&self.in_progress);
        if in_progress.contains(&runtime) {
            return None;
        }
        in_progress.push(runtime);
        Some(ReconnectGuard {
            reconnect: Arc::clone(self),
            runtime,
        })
    }

    /// Shortens the current wait, because calls need the agent.
    pub(super) fn request_now(&self) {
        self.demanded.notify_one();
    }

    /// Counts a failed attempt, and returns the number of failures in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Notes that connections closed. Rounds of useless connections lengthen the waits, and brief
    /// ones cause a short wait, so that an agent that crashes on every connection is not dialed
    /// without a pause.
    pub(super) fn lost_connections(&self, lost: Lost) {
        self.were_brief
            .store(lost == Lost::Brief, Ordering::Relaxed);
        if lost == Lost::Useless {
            self.useless_rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            self.useless_rounds.store(0, Ordering::Relaxed);
        }
    }

    /// Waits before the next attempt. `cause` is the reason why the last one failed, if it did.
    pub(super) async fn pause(&self, interval: Duration, cause: Option<&ConnectError>) {
        let attempts = self
            .failures
            .load(Ordering::Relaxed)
            .saturating_add(self.useless_rounds.load(Ordering::Relaxed));
        let delay = if attempts == 0 && self.were_brief.load(Ordering::Relaxed) {
            delay(interval, MIN_AGE, 1)
        } else {
            delay(interval, MAX_DELAY, attempts)
        };
        if !cause.is_some_and(is_absent) {
            return sleep(delay).await;
        }
        let minimum = delay.min(MIN_DEMAND_DELAY);
        sleep(minimum).await;
        // An attempt to connect to an absent agent costs the agent nothing, so calls may hasten it.
        let _ = timeout(delay - minimum, self.demanded.notified()).await;
    }
}

/// Returns whether nothing listens at the endpoint.
///
/// Calls shorten the wait then, so only failures that prove the absence count. After a timeout or
/// an interrupted handshake, the agent may be running, and further attempts would cost it work. The
/// dialer's `RetryDelays` counts such failures as absence too, because no call shortens its wait.
fn is_absent(cause: &ConnectError) -> bool {
    matches!(cause, ConnectError::NoSuchSocket | ConnectError::Refused)
}

/// Work that is in progress until this is dropped.
#[derive(Debug)]
pub(super) struct ReconnectGuard {
    reconnect: Arc<Reconnect>,
    runtime: Option<RuntimeId>,
}

impl Drop for ReconnectGuard {
    fn drop(&mut self) {
        lock(&self.reconnect.in_progress).retain(|runtime| *runtime != self.runtime);
    }
}

#[cfg(test)]
#[path = "../../tests/unit/pool/reconnect.rs"]
mod tests;
