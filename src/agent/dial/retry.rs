//! Delays between a dialer's attempts to connect.

use crate::backoff::delay;
use crate::error::ConnectError;
use std::time::Duration;

/// Longest delay while the proxy is absent. Short, because the proxy needs its agents as soon as it
/// is back.
const MAX_DELAY_WHEN_ABSENT: Duration = Duration::from_secs(1);

/// Longest delay while the proxy rejects the agent.
const MAX_DELAY_WHEN_REJECTED: Duration = Duration::from_secs(30);

/// Failures of one connection so far, which determine the delay before its next attempt.
#[derive(Debug, Default)]
pub(super) struct RetryDelays {
    failures: u32,
    /// Number of connections in a row that were lost soon after they were registered.
    short_lived: u32,
    last: LastOutcome,
}

#[derive(Debug, Default)]
enum LastOutcome {
    #[default]
    None,
    Lost,
    Absent,
    Rejected,
}

impl RetryDelays {
    /// Records a failed attempt. Returns the number of failures in a row.
    pub(super) fn record_failure(&mut self, cause: &ConnectError) -> u32 {
        self.last = match cause {
            // Failures that can come from a proxy that is down or restarting. They end without
            // anybody's help, and the proxy needs its agents as soon as it is back. The others are
            // likely to last until a configuration changes. `is_absent` in the pool's
            // `reconnect.rs` is narrower, because calls shorten the wait there.
            ConnectError::NoSuchSocket
            | ConnectError::Refused
            | ConnectError::TimedOut(_)
            | ConnectError::ClosedDuringHandshake
            | ConnectError::Unresolved(_)
            | ConnectError::Io(_) => LastOutcome::Absent,
            _ => LastOutcome::Rejected,
        };
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Records that a registered connection was lost. `was_useful` is `true` if it lasted long
    /// enough to reset the delay.
    pub(super) fn record_loss(&mut self, was_useful: bool) {
        self.last = LastOutcome::Lost;
        self.failures = 0;
        self.short_lived = if was_useful {
            0
        } else {
            self.short_lived.saturating_add(1)
        };
    }

    /// Returns how long to wait before the next attempt.
    pub(super) fn delay(&self, interval: Duration) -> Duration {
        match self.last {
            LastOutcome::None => Duration::ZERO,
            // All agents lose a restarting proxy at the same moment; the random factor spreads
            // their reconnects.
            LastOutcome::Lost => {
                let full = delay(interval, MAX_DELAY_WHEN_ABSENT, self.short_lived.max(1));
                full.mul_f64(fastrand::f64())
            }
            LastOutcome::Absent => delay(interval, MAX_DELAY_WHEN_ABSENT, self.failures),
            LastOutcome::Rejected => delay(interval, MAX_DELAY_WHEN_REJECTED, self.failures),
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/agent/dial/retry.rs"]
mod tests;
