use crate::protocol::HealthState;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How a connection and the agent behind it are, as far as is known: what choosing one looks at.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Calls in a row that timed out or were answered with garbage.
    errors: AtomicU32,
    /// Errors from which on the connection takes no new exchange.
    max_errors: u32,
    report: Report,
}

/// The agent's last report of its health.
#[derive(Debug)]
struct Report {
    /// The number of the [`HealthState`], and above it the bits of the factor that deadlines grow by.
    state: AtomicU64,
    /// When it goes stale, in milliseconds since the Unix epoch; 0 is never.
    valid_until_ms: AtomicU64,
}

/// What a factor that the agent reports is cut to; one that is less would make deadlines shorter.
const FACTORS: std::ops::RangeInclusive<f32> = 1.0..=10.0;

const HEALTHY: u64 = 1;
const DEGRADED: u64 = 2;

impl Condition {
    pub(crate) fn new(max_errors: u32) -> Self {
        Self {
            errors: AtomicU32::new(0),
            max_errors: max_errors.max(1),
            report: Report {
                state: AtomicU64::new(HEALTHY),
                valid_until_ms: AtomicU64::new(0),
            },
        }
    }

    /// Whether new exchanges may be put on the connection.
    pub(crate) fn is_good(&self) -> bool {
        self.reported() <= DEGRADED && !self.is_failing()
    }

    /// Whether so many calls in a row failed that the connection is not trusted.
    pub(crate) fn is_failing(&self) -> bool {
        self.errors.load(Ordering::Relaxed) >= self.max_errors
    }

    /// Whether the agent says that it works, but not fully.
    pub(crate) fn is_degraded(&self) -> bool {
        self.reported() == DEGRADED
    }

    /// By how much deadlines grow.
    pub(crate) fn stretch(&self) -> f32 {
        let state = self.report.state.load(Ordering::Relaxed);
        if state & u64::from(u32::MAX) != DEGRADED {
            return 1.0;
        }
        f32::from_bits((state >> 32) as u32)
    }

    /// Notes an answer, or another sign that the agent is at work.
    pub(crate) fn succeeded(&self) {
        if self.errors.load(Ordering::Relaxed) != 0 {
            self.errors.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failed call. Says whether that was one too many.
    pub(crate) fn failed(&self) -> bool {
        let errors = self
            .errors
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        errors == self.max_errors
    }

    /// Takes what the agent says of itself.
    pub(crate) fn report(&self, state: &HealthState, valid_until_ms: Option<u64>) {
        let factor = match state {
            HealthState::Degraded {
                timeout_multiplier, ..
            } if timeout_multiplier.is_finite() => {
                timeout_multiplier.clamp(*FACTORS.start(), *FACTORS.end())
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

    /// Forgets a report that has gone stale.
    pub(crate) fn forget_stale_report(&self, now_ms: u64) {
        let valid_until = self.report.valid_until_ms.load(Ordering::Relaxed);
        if valid_until != 0 && valid_until < now_ms {
            self.report(&HealthState::Healthy, None);
        }
    }

    fn reported(&self) -> u64 {
        self.report.state.load(Ordering::Relaxed) & u64::from(u32::MAX)
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;

    fn degraded(timeout_multiplier: f32) -> HealthState {
        HealthState::Degraded {
            disabled_features: Vec::new(),
            timeout_multiplier,
        }
    }

    #[test]
    fn errors_in_a_row_count() {
        let condition = Condition::new(3);
        for _ in 0..5 {
            assert!(!condition.failed() && !condition.failed());
            condition.succeeded();
        }
        assert!(!condition.failed() && !condition.failed() && condition.failed());
        assert!(!condition.is_good());
        assert!(!condition.failed(), "said once is enough");
        condition.succeeded();
        assert!(condition.is_good());
    }

    #[test]
    fn the_agent_says_how_it_is() {
        let condition = Condition::new(3);
        condition.report(&degraded(2.5), None);
        assert!(condition.is_good() && condition.is_degraded());
        assert_eq!(condition.stretch(), 2.5);
        condition.report(&HealthState::Draining { eta_ms: None }, None);
        assert!(!condition.is_good() && condition.stretch() == 1.0);
        condition.report(&HealthState::Healthy, None);
        assert!(condition.is_good() && !condition.is_degraded());
    }

    #[test]
    fn deadlines_are_not_stretched_beyond_reason() {
        let condition = Condition::new(3);
        let reported = [f32::NAN, f32::INFINITY, f32::MIN, -1.0, 0.0, 0.5, 1e9];
        let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0];
        for (multiplier, expected) in reported.into_iter().zip(expected) {
            condition.report(&degraded(multiplier), None);
            assert_eq!(condition.stretch(), expected, "{multiplier}");
        }
    }

    #[test]
    fn a_stale_report_is_forgotten() {
        let condition = Condition::new(3);
        let unhealthy = HealthState::from_number(4).expect("a state");
        condition.report(&unhealthy, Some(1_000));
        condition.forget_stale_report(1_000);
        assert!(!condition.is_good());
        condition.forget_stale_report(1_001);
        assert!(condition.is_good());
        condition.report(&unhealthy, None);
        condition.forget_stale_report(u64::MAX);
        assert!(!condition.is_good());
    }
}
