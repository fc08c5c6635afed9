//! The circuit breaker of an agent.

use super::failure_window::{Failure, FailureWindow};
use super::sync::{AtomicU64, Ordering};
use crate::clock;
use crate::lock::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// State of an agent's circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitBreakerState {
    /// Every call is allowed.
    Closed,
    /// No call is allowed, because too many failed.
    Open,
    /// One trial call is allowed. Its outcome closes the breaker or opens it again.
    HalfOpen,
}

/// Stops calls to an agent that fails too many: see [`FailureWindow::record`].
///
/// Then no call is allowed for `reset_timeout`, and after that one, the trial. If it succeeds, all
/// calls are allowed again; if it fails, the breaker stays open for another `reset_timeout`.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    /// 0 while closed. While open, the time of the next trial in milliseconds since `epoch`, with
    /// [`OPEN`] set, and [`ON_TRIAL`] during a trial.
    state: AtomicU64,
    trips: AtomicU64,
    threshold: AtomicU64,
    window_ms: AtomicU64,
    reset_ms: AtomicU64,
    epoch: Instant,
    /// Locked only by calls that fail, and by trials that succeed.
    failures: Mutex<FailureWindow>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CircuitBreakerSettings {
    /// Least number of failures that opens the breaker; 0 disables it.
    pub(crate) threshold: u32,
    /// Time for which failures and answers count.
    pub(crate) window: Duration,
    /// Time before a trial is allowed.
    pub(crate) reset_timeout: Duration,
}

const OPEN: u64 = 1 << 63;
const ON_TRIAL: u64 = 1 << 62;
const TIME_MASK: u64 = ON_TRIAL - 1;

/// Permission for one call. Has to be returned to the breaker when the call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Granted by a closed breaker.
    Regular,
    /// Granted to the one call whose outcome closes or opens the breaker. No other is granted until
    /// this one is returned.
    Trial,
}

impl CircuitBreaker {
    pub(crate) fn new(settings: CircuitBreakerSettings) -> Self {
        let breaker = Self {
            state: AtomicU64::new(0),
            trips: AtomicU64::new(0),
            threshold: AtomicU64::new(0),
            window_ms: AtomicU64::new(0),
            reset_ms: AtomicU64::new(0),
            epoch: clock::now(),
            failures: Mutex::default(),
        };
        breaker.configure(settings);
        breaker
    }

    /// Changes the settings. A breaker that is open stays so for the time that was set before,
    /// unless it is disabled.
    pub(crate) fn configure(&self, settings: CircuitBreakerSettings) {
        let threshold = u64::from(settings.threshold);
        self.threshold.store(threshold, Ordering::Relaxed);
        self.window_ms
            .store(milliseconds(settings.window), Ordering::Relaxed);
        self.reset_ms
            .store(milliseconds(settings.reset_timeout), Ordering::Relaxed);
        if threshold == 0 {
            self.state.store(0, Ordering::Relaxed);
        }
    }

    /// Grants a permit for one call, or `None` while the breaker is open.
    ///
    /// Every permit has to be returned by one of [`CircuitBreaker::succeeded`],
    /// [`CircuitBreaker::failed`] and [`CircuitBreaker::release`].
    pub(crate) fn try_acquire(&self) -> Option<Permit> {
        let state = self.state.load(Ordering::Relaxed);
        if state & OPEN == 0 {
            return Some(Permit::Regular);
        }
        if state & ON_TRIAL != 0 || self.now_ms() < state & TIME_MASK {
            return None;
        }
        self.change(state, state | ON_TRIAL)
            .then_some(Permit::Trial)
    }

    /// Returns the permit of a call that succeeded. `answered` returns the number of the agent's
    /// answers so far.
    pub(crate) fn succeeded(&self, permit: Permit, answered: impl FnOnce() -> u64) {
        if permit == Permit::Trial {
            lock(&self.failures).clear(answered());
            self.state.store(0, Ordering::Relaxed);
        }
    }

    /// Returns the permit of a call that failed. Returns `true` if this opened the breaker.
    /// `answered` is the number of the agent's answers so far.
    pub(crate) fn failed(&self, permit: Permit, failure: Failure, answered: u64) -> bool {
        let threshold = self.threshold.load(Ordering::Relaxed);
        if threshold == 0 {
            // Another thread may have opened the breaker while it was disabled.
            self.state.store(0, Ordering::Relaxed);
            return false;
        }
        if permit == Permit::Trial {
            self.state.store(self.open_state(), Ordering::Relaxed);
            self.trips.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let length = Duration::from_millis(self.window_ms.load(Ordering::Relaxed));
        let now = clock::elapsed(self.epoch);
        let are_too_many = lock(&self.failures).record(failure, now, length, answered, threshold);
        // Fails if the breaker is open: the permit was granted before that.
        let has_opened = are_too_many && self.change(0, self.open_state());
        if has_opened {
            self.trips.fetch_add(1, Ordering::Relaxed);
        }
        has_opened
    }

    /// Returns the permit of a call that ended without showing anything about the agent. If it was
    /// the trial, another call may be.
    pub(crate) fn release(&self, permit: Permit) {
        if permit == Permit::Trial {
            self.state.fetch_and(!ON_TRIAL, Ordering::Relaxed);
        }
    }

    /// Allows a trial at once, for an agent that seems to be back.
    pub(crate) fn allow_trial(&self) {
        let state = self.state.load(Ordering::Relaxed);
        if state & OPEN != 0 && state & ON_TRIAL == 0 {
            // If it fails, another thread has begun or ended a trial meanwhile.
            let _ = self.change(state, OPEN);
        }
    }

    pub(crate) fn state(&self) -> CircuitBreakerState {
        let state = self.state.load(Ordering::Relaxed);
        if state & OPEN == 0 {
            CircuitBreakerState::Closed
        } else if state & ON_TRIAL != 0 || self.now_ms() >= state & TIME_MASK {
            CircuitBreakerState::HalfOpen
        } else {
            CircuitBreakerState::Open
        }
    }

    #[cfg(feature = "__sim")]
    pub(crate) fn is_on_trial(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & OPEN != 0 && state & ON_TRIAL != 0
    }

    /// Returns the number of times that the breaker opened.
    pub(crate) fn trips(&self) -> u64 {
        self.trips.load(Ordering::Relaxed)
    }

    /// Returns the state of a breaker that opens now.
    fn open_state(&self) -> u64 {
        let reset_ms = self.reset_ms.load(Ordering::Relaxed);
        OPEN | self.now_ms().saturating_add(reset_ms).min(TIME_MASK)
    }

    fn now_ms(&self) -> u64 {
        milliseconds(clock::elapsed(self.epoch))
    }

    /// Relaxed, like every access: no other memory is published through `state`.
    fn change(&self, from: u64, to: u64) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(TIME_MASK)
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/breaker.rs"]
mod tests;
