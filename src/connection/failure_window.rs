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
mod tests {
    use super::Failure::{Fault, Timeout};
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);
    const THRESHOLD: u64 = 5;

    /// A window with a clock and a counter of answers.
    #[derive(Default)]
    struct Agent {
        window: FailureWindow,
        now: Duration,
        answered: u64,
    }

    impl Agent {
        fn fail(&mut self, failure: Failure) -> bool {
            let Self {
                window,
                now,
                answered,
            } = self;
            window.record(failure, *now, LENGTH, *answered, THRESHOLD)
        }

        fn after(&mut self, milliseconds: u64) -> &mut Self {
            self.now += Duration::from_millis(milliseconds);
            self
        }

        fn answer(&mut self, count: u64) -> &mut Self {
            self.answered += count;
            self
        }

        /// Fails `count` times. Returns how many of the failures were too many.
        fn fail_times(&mut self, count: usize, failure: Failure) -> usize {
            (0..count).filter(|_| self.fail(failure)).count()
        }
    }

    #[test]
    fn silent_agent_fails_at_the_threshold() {
        for failures in [[Timeout; 4], [Fault; 4], [Timeout, Fault, Timeout, Fault]] {
            let mut agent = Agent::default();
            assert!(failures.into_iter().all(|failure| !agent.fail(failure)));
            assert!(agent.fail(Timeout));
        }
    }

    #[test]
    fn timeouts_do_not_count_while_others_are_answered() {
        let mut agent = Agent::default();
        for _ in 0..100 {
            agent.after(9_000).answer(1);
            assert_eq!(agent.fail_times(50, Timeout), 0);
        }
    }

    #[test]
    fn agent_that_becomes_silent_fails_after_the_window() {
        let mut agent = Agent::default();
        agent.answer(1_000_000);
        assert_eq!(agent.fail_times(100, Timeout), 0);
        assert_eq!(agent.after(8_900).fail_times(100, Timeout), 0);
        assert_eq!(agent.after(1_100).fail_times(100, Timeout), 100);
    }

    #[test]
    fn faults_are_compared_to_answers() {
        let mut agent = Agent::default();
        agent.answer(6);
        assert_eq!(agent.fail_times(5, Fault), 0);
        assert!(agent.fail(Fault));
        agent.answer(10);
        assert_eq!(agent.fail_times(9, Fault), 0);
        assert!(agent.fail(Fault));
    }

    #[test]
    fn old_failures_and_answers_are_forgotten() {
        let mut agent = Agent::default();
        assert_eq!(agent.fail_times(4, Fault), 0);
        assert!(!agent.after(10_000).fail(Fault));
        agent.answer(100);
        assert_eq!(agent.after(5_000).fail_times(4, Fault), 0);
        assert_eq!(agent.after(10_000).fail_times(5, Fault), 1);
    }

    #[test]
    fn cleared_window_is_empty() {
        let mut agent = Agent::default();
        assert_eq!(agent.answer(100).fail_times(4, Timeout), 0);
        agent.window.clear(100);
        assert_eq!(agent.fail_times(5, Timeout), 1);
    }

    #[test]
    fn extreme_times_are_accepted() {
        for (now, length) in [
            (Duration::MAX, Duration::ZERO),
            (Duration::ZERO, Duration::MAX),
            (Duration::MAX, Duration::MAX),
        ] {
            let mut window = FailureWindow::default();
            assert!(!window.record(Fault, now, length, 0, 2));
            assert!(!window.record(Fault, now, length, u64::MAX, 1));
        }
    }
}
