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
