//! Health of a connection: consecutive failures and the agent's own reports.

use crate::protocol::HealthState;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Health of a connection and of the agent behind it. Connections are chosen by it.
#[derive(Debug)]
pub(crate) struct ConnectionHealth {
    /// Number of consecutive calls that timed out or whose answer could not be decoded.
    failures: AtomicU32,
    /// Number of failures from which on the connection is avoided.
    max_failures: u32,
    /// Tick at which the last row of so many failures was complete.
    failing_since: AtomicU64,
    report: Report,
}

/// The agent's last health report.
#[derive(Debug)]
struct Report {
    /// Number of the [`HealthState`] in the low 32 bits, timeout factor (bits of an `f32`) above.
    state: AtomicU64,
    /// Time at which the report expires, in milliseconds since the Unix epoch; 0 means never.
    valid_until_ms: AtomicU64,
}

/// Range to which a reported factor is limited. Below 1.0 it would shorten timeouts.
const FACTOR_RANGE: std::ops::RangeInclusive<f32> = 1.0..=10.0;

const HEALTHY: u64 = 1;
const DEGRADED: u64 = 2;

impl ConnectionHealth {
    pub(crate) fn new(max_failures: u32) -> Self {
        Self {
            failures: AtomicU32::new(0),
            max_failures: max_failures.max(1),
            failing_since: AtomicU64::new(0),
            report: Report {
                state: AtomicU64::new(HEALTHY),
                valid_until_ms: AtomicU64::new(0),
            },
        }
    }

    /// Returns whether the agent takes new exchanges, as far as it has reported.
    pub(super) fn is_available(&self) -> bool {
        self.reported_state() <= DEGRADED
    }

    /// Returns whether too many calls in a row have failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= self.max_failures
    }

    /// Returns whether the agent reports that it is degraded.
    pub(crate) fn is_degraded(&self) -> bool {
        self.reported_state() == DEGRADED
    }

    /// Returns the factor by which configured timeouts grow: 1.0 unless the agent is degraded.
    pub(crate) fn timeout_factor(&self) -> f32 {
        let state = self.report.state.load(Ordering::Relaxed);
        if state & u64::from(u32::MAX) != DEGRADED {
            return 1.0;
        }
        f32::from_bits((state >> 32) as u32)
    }

    /// Records an answer or a pong, which ends a row of failures.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Returns the tick at which too many calls in a row had failed. Meaningful while
    /// [`is_failing`](Self::is_failing).
    pub(super) fn failing_since(&self) -> u64 {
        self.failing_since.load(Ordering::Relaxed)
    }

    /// Records a call that failed at a tick. Returns `true` if this one reached the maximum.
    pub(super) fn failed(&self, tick: u64) -> bool {
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let is_reached = failures == self.max_failures;
        if is_reached {
            self.failing_since.store(tick, Ordering::Relaxed);
        }
        is_reached
    }

    /// Records a health report of the agent.
    pub(crate) fn report(&self, state: &HealthState, valid_until_ms: Option<u64>) {
        let factor = match state {
            HealthState::Degraded {
                timeout_multiplier, ..
            } if timeout_multiplier.is_finite() => {
                timeout_multiplier.clamp(*FACTOR_RANGE.start(), *FACTOR_RANGE.end())
            }
            _ => 1.0,
        };
        let packed = u64::from(factor.to_bits()) << 32 | state.number() as u64;
        let valid_until = valid_until_ms.unwrap_or(0);
        self.report
            .valid_until_ms
            .store(valid_until, Ordering::Relaxed);
        self.report.state.store(packed, Ordering::Relaxed);
    }

    /// Drops the report if it has expired. Returns whether it had.
    pub(super) fn forget_stale_report(&self, now_ms: u64) -> bool {
        let valid_until = self.report.valid_until_ms.load(Ordering::Relaxed);
        let is_stale = valid_until != 0 && valid_until < now_ms;
        if is_stale {
            self.report(&HealthState::Healthy, None);
        }
        is_stale
    }

    fn reported_state(&self) -> u64 {
        self.report.state.load(Ordering::Relaxed) & u64::from(u32::MAX)
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/health.rs"]
mod tests;
