//! Failed calls of the recent past, against the answers in that time.

use std::time::Duration;

/// Number of intervals that the sliding time is divided into.
const INTERVALS: u64 = 10;

/// Counts an agent's failures over a sliding time, and decides whether they are too many.
///
/// Answers are not recorded one by one: each failure brings the number of answers so far, and the
/// answers since the failure before it count as if they had just been given. This errs towards the
/// agent, for one sliding time at most, and an answered call pays nothing for it.
#[derive(Debug, Default)]
pub(super) struct FailureWindow {
    intervals: [Interval; INTERVALS as usize],
    /// Number of answers at the last failure.
    answered: u64,
}

/// Meaning of a failed call for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The agent closed the connection, or its answer could not be decoded.
    Fault,
    /// The agent did not answer in time. The reason may be the request.
    Timeout,
}

#[derive(Debug, Default, Clone, Copy)]
struct Interval {
    /// Position of the interval in time, in lengths of an interval.
    number: u64,
    faults: u64,
    timeouts: u64,
    answered: u64,
}

impl FailureWindow {
    /// Records a failure at `now`. Returns whether the failures of the last `length` are too many:
    ///
    /// * at least `threshold` faults, and no fewer than answers; or
    /// * at least `threshold` failures of both kinds, and no answer at all.
    ///
    /// A timeout counts only if the agent answers nobody: a client can send requests on which the
    /// agent takes too long, but it cannot keep the agent from answering others.
    ///
    /// `now` is the time since any fixed point, and `answered` is the number of answers so far.
    pub(super) fn record(
        &mut self,
        failure: Failure,
        now: Duration,
        length: Duration,
        answered: u64,
        threshold: u64,
    ) -> bool {
        let interval_ns = (length.as_nanos() / u128::from(INTERVALS)).max(1);
        let number = u64::try_from(now.as_nanos() / interval_ns).unwrap_or(u64::MAX);
        let current = &mut self.intervals[(number % INTERVALS) as usize];
        if current.number != number {
            *current = Interval {
                number,
                ..Interval::default()
            };
        }
        current.answered += answered.saturating_sub(self.answered);
        self.answered = self.answered.max(answered);
        match failure {
            Failure::Fault => current.faults += 1,
            Failure::Timeout => current.timeouts += 1,
        }
        let sum = self.sum(number);
        let has_many_faults = sum.faults >= threshold && sum.faults >= sum.answered;
        let is_silent = sum.answered == 0 && sum.faults + sum.timeouts >= threshold;
        has_many_faults || is_silent
    }

    /// Forgets all failures. Answers up to now count no more.
    pub(super) fn clear(&mut self, answered: u64) {
        *self = Self {
            intervals: Default::default(),
            answered,
        };
    }

    /// Returns the sum of the intervals up to `number` that have not left the window.
    fn sum(&self, number: u64) -> Interval {
        let mut sum = Interval::default();
        let is_recent = |interval: &&Interval| number.saturating_sub(interval.number) < INTERVALS;
        for interval in self.intervals.iter().filter(is_recent) {
            sum.faults += interval.faults;
            sum.timeouts += interval.timeouts;
            sum.answered += interval.answered;
        }
        sum
    }
}

#[cfg(test)]
#[path = "../../tests/unit/connection/failure_window.rs"]
mod tests;
