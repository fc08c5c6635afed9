use super::sync::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What an agent's circuit breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CircuitBreakerState {
    /// Every call.
    Closed,
    /// No call: too many failed one after another.
    Open,
    /// One call, whose outcome decides.
    HalfOpen,
}

/// Keeps calls from an agent that fails one call after another.
///
/// After `threshold` failures in a row nothing is let through for `reset_timeout`; then one call is, the
/// trial. If it succeeds, everything is let through again; if it fails, the wait begins anew.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    /// Failures in a row while closed; when open, the time from which a trial may be made, in
    /// milliseconds since `epoch`, with [`OPEN`] and perhaps [`ON_TRIAL`].
    state: AtomicU64,
    trips: AtomicU64,
    settings: CircuitBreakerSettings,
    epoch: Instant,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CircuitBreakerSettings {
    /// Failures in a row that open it; 0 keeps it closed for ever.
    pub(crate) threshold: u32,
    /// How long it stays open.
    pub(crate) reset_timeout: Duration,
}

const OPEN: u64 = 1 << 63;
const ON_TRIAL: u64 = 1 << 62;
const TIME: u64 = ON_TRIAL - 1;

/// What a call was let through as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Regular,
    /// Its outcome decides; whoever has it says what came of it.
    Trial,
}

impl CircuitBreaker {
    pub(crate) fn new(settings: CircuitBreakerSettings) -> Self {
        Self {
            state: AtomicU64::new(0),
            trips: AtomicU64::new(0),
            settings,
            epoch: Instant::now(),
        }
    }

    /// Lets a call through or not. Every pass ends in one of [`CircuitBreaker::succeeded`],
    /// [`CircuitBreaker::failed`] and [`CircuitBreaker::undecided`].
    pub(crate) fn admit(&self) -> Option<Pass> {
        let state = self.state.load(Ordering::Relaxed);
        if state & OPEN == 0 {
            return Some(Pass::Regular);
        }
        if state & ON_TRIAL != 0 || self.now() < state & TIME {
            return None;
        }
        self.change(state, state | ON_TRIAL).then_some(Pass::Trial)
    }

    pub(crate) fn succeeded(&self, pass: Pass) {
        let state = self.state.load(Ordering::Relaxed);
        match pass {
            Pass::Trial => self.state.store(0, Ordering::Relaxed),
            Pass::Regular if state != 0 && state & OPEN == 0 => {
                // A failure at the same moment counts as coming after.
                let _ = self.change(state, 0);
            }
            Pass::Regular => {}
        }
    }

    /// Says whether this opened the breaker.
    pub(crate) fn failed(&self, pass: Pass) -> bool {
        if self.settings.threshold == 0 {
            return false;
        }
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let next = match pass {
                Pass::Trial => self.opened(),
                // It was let through before the breaker opened.
                Pass::Regular if state & OPEN != 0 => return false,
                Pass::Regular if state + 1 < u64::from(self.settings.threshold) => state + 1,
                Pass::Regular => self.opened(),
            };
            if self.change(state, next) {
                let has_opened = next & OPEN != 0;
                if has_opened {
                    self.trips.fetch_add(1, Ordering::Relaxed);
                }
                return has_opened;
            }
            state = self.state.load(Ordering::Relaxed);
        }
    }

    /// The call came to no outcome that says anything about the agent. Another may be the trial.
    pub(crate) fn undecided(&self, pass: Pass) {
        if pass == Pass::Trial {
            self.state.fetch_and(!ON_TRIAL, Ordering::Relaxed);
        }
    }

    /// Lets a trial be made at once, since the agent seems to be back.
    pub(crate) fn allow_trial(&self) {
        let state = self.state.load(Ordering::Relaxed);
        if state & OPEN != 0 && state & ON_TRIAL == 0 {
            // Whoever changed it meanwhile has made a trial or ended one.
            let _ = self.change(state, OPEN);
        }
    }

    pub(crate) fn state(&self) -> CircuitBreakerState {
        let state = self.state.load(Ordering::Relaxed);
        if state & OPEN == 0 {
            CircuitBreakerState::Closed
        } else if state & ON_TRIAL != 0 || self.now() >= state & TIME {
            CircuitBreakerState::HalfOpen
        } else {
            CircuitBreakerState::Open
        }
    }

    /// How often it opened.
    pub(crate) fn trips(&self) -> u64 {
        self.trips.load(Ordering::Relaxed)
    }

    fn opened(&self) -> u64 {
        let reset = u64::try_from(self.settings.reset_timeout.as_millis()).unwrap_or(TIME);
        OPEN | self.now().saturating_add(reset).min(TIME)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(TIME)
    }

    /// Relaxed like every access: nothing else is published through the state.
    fn change(&self, from: u64, to: u64) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;

    fn breaker(threshold: u32, reset_timeout: Duration) -> CircuitBreaker {
        CircuitBreaker::new(CircuitBreakerSettings {
            threshold,
            reset_timeout,
        })
    }

    fn fail(breaker: &CircuitBreaker) -> bool {
        let pass = breaker.admit().expect("a closed breaker");
        breaker.failed(pass)
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let breaker = breaker(3, Duration::MAX);
        for _ in 0..10 {
            assert!(!fail(&breaker) && !fail(&breaker));
            let pass = breaker.admit().expect("two failures are too few");
            breaker.succeeded(pass);
        }
        assert!(!fail(&breaker) && !fail(&breaker) && fail(&breaker));
        assert_eq!(breaker.state(), CircuitBreakerState::Open);
        assert_eq!(breaker.admit(), None);
        assert_eq!(breaker.trips(), 1);
    }

    #[test]
    fn one_trial_decides() {
        let breaker = breaker(1, Duration::ZERO);
        assert!(fail(&breaker));
        assert_eq!(breaker.admit(), Some(Pass::Trial));
        assert_eq!(breaker.state(), CircuitBreakerState::HalfOpen);
        assert_eq!(breaker.admit(), None, "a second trial");
        breaker.undecided(Pass::Trial);
        assert_eq!(breaker.admit(), Some(Pass::Trial));
        assert!(breaker.failed(Pass::Trial));
        assert_eq!(breaker.admit(), Some(Pass::Trial));
        breaker.succeeded(Pass::Trial);
        assert_eq!(breaker.state(), CircuitBreakerState::Closed);
        assert_eq!(breaker.admit(), Some(Pass::Regular));
        assert_eq!(breaker.trips(), 2);
    }

    #[test]
    fn calls_from_before_it_opened_change_nothing() {
        let breaker = breaker(1, Duration::MAX);
        let (early, late) = (breaker.admit(), breaker.admit());
        assert!(breaker.failed(early.expect("closed")));
        breaker.succeeded(late.expect("closed"));
        assert!(!breaker.failed(Pass::Regular));
        assert_eq!(breaker.state(), CircuitBreakerState::Open);
    }

    #[test]
    fn an_agent_that_is_back_is_tried_at_once() {
        let breaker = breaker(1, Duration::MAX);
        breaker.allow_trial();
        assert_eq!(breaker.state(), CircuitBreakerState::Closed);
        assert!(fail(&breaker));
        breaker.allow_trial();
        assert_eq!(breaker.admit(), Some(Pass::Trial));
        breaker.allow_trial();
        assert_eq!(breaker.admit(), None, "a second trial");
    }

    #[test]
    fn a_threshold_of_zero_keeps_it_closed() {
        let breaker = breaker(0, Duration::MAX);
        assert!((0..100).all(|_| !fail(&breaker)));
        assert_eq!(breaker.state(), CircuitBreakerState::Closed);
    }
}
