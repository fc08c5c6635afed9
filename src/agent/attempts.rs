//! How long a dialer waits before it connects again.

use crate::backoff::delay;
use crate::error::ConnectError;
use std::time::Duration;

/// No wait is longer where the proxy is not there: its agents are missed as soon as it is.
const MAX_DELAY_WHEN_ABSENT: Duration = Duration::from_secs(1);

/// No wait is longer where the proxy does not want the agent.
const MAX_DELAY_WHEN_REJECTED: Duration = Duration::from_secs(30);

/// How often in a row connecting came to nothing.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: u32,
    /// Connections in a row that ended soon.
    in_vain: u32,
    last: Last,
}

#[derive(Debug, Default)]
enum Last {
    #[default]
    None,
    Lost,
    Absent,
    Rejected,
}

impl Attempts {
    /// Says how often in a row.
    pub(super) fn failed(&mut self, cause: &ConnectError) -> u32 {
        self.last = match cause {
            ConnectError::NoSuchSocket
            | ConnectError::Refused
            | ConnectError::TimedOut(_)
            | ConnectError::ClosedDuringHandshake
            | ConnectError::Unresolved(_)
            | ConnectError::Io(_) => Last::Absent,
            _ => Last::Rejected,
        };
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// `was_of_use` says whether the connection lasted.
    pub(super) fn lost(&mut self, was_of_use: bool) {
        self.last = Last::Lost;
        self.failures = 0;
        self.in_vain = if was_of_use {
            0
        } else {
            self.in_vain.saturating_add(1)
        };
    }

    /// How long to wait before the next attempt.
    pub(super) fn pause(&self, interval: Duration) -> Duration {
        match self.last {
            Last::None => Duration::ZERO,
            // All agents of a proxy lose it at the same moment, and are not to come back at the same moment.
            Last::Lost => {
                let full = delay(interval, MAX_DELAY_WHEN_ABSENT, self.in_vain.max(1));
                full.mul_f64(fastrand::f64())
            }
            Last::Absent => delay(interval, MAX_DELAY_WHEN_ABSENT, self.failures),
            Last::Rejected => delay(interval, MAX_DELAY_WHEN_REJECTED, self.failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    fn after(causes: impl IntoIterator<Item = ConnectError>) -> Duration {
        let mut attempts = Attempts::default();
        for cause in causes {
            attempts.failed(&cause);
        }
        attempts.pause(INTERVAL)
    }

    #[test]
    fn a_proxy_that_is_not_there_is_looked_for_again_soon() {
        assert_eq!(after([]), Duration::ZERO);
        for count in 1..50 {
            let pause = after((0..count).map(|_| ConnectError::Refused));
            assert!(
                pause >= INTERVAL / 2 && pause <= MAX_DELAY_WHEN_ABSENT,
                "{pause:?}"
            );
        }
    }

    #[test]
    fn a_proxy_that_rejects_is_left_alone() {
        let rejected = || ConnectError::HandshakeRefused("rejected".to_owned());
        let pause = after((0..20).map(|_| rejected()));
        assert!(pause >= MAX_DELAY_WHEN_REJECTED / 2, "{pause:?}");
    }

    #[test]
    fn those_that_lose_a_proxy_come_back_at_different_moments() {
        let mut attempts = Attempts::default();
        attempts.lost(true);
        let pauses: Vec<_> = (0..200).map(|_| attempts.pause(INTERVAL)).collect();
        let count_in = |from: u32, to: u32| {
            let range = INTERVAL / 10 * from..INTERVAL / 10 * to;
            pauses.iter().filter(|pause| range.contains(pause)).count()
        };
        assert!(count_in(0, 10) >= 195, "all are back within the interval");
        assert!(count_in(0, 3) > 20 && count_in(3, 10) > 20);
    }
}
