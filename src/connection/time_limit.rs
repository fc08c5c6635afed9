//! Timeout and timing of a call.

use crate::clock;
use std::time::{Duration, Instant};

/// Time limit of a call, from its start to its answer, and whether its stages are timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    pub(crate) started: Instant,
    timeout: Duration,
    kind: Kind,
    pub(super) timing: Timing,
}

/// Selects whether a call is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Timed if the connection's sampling selects the call.
    Sampled,
    /// Timed, because the caller asked for it.
    Requested,
    /// Not timed, because the answer may wait for a long time until the caller takes it.
    Off,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The configured timeout, which is extended for a degraded agent.
    Configured,
    /// A timeout given for this call only, which is never extended.
    Fixed,
}

/// Converts to nanoseconds, saturating at `u64::MAX`, which never passes.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl TimeLimit {
    /// Creates a limit of the configured timeout, starting now.
    pub(crate) fn configured(timeout: Duration) -> Self {
        Self::new(timeout, Kind::Configured)
    }

    /// Creates a limit that a degraded agent does not extend, starting now.
    pub(crate) fn fixed(timeout: Duration) -> Self {
        Self::new(timeout, Kind::Fixed)
    }

    fn new(timeout: Duration, kind: Kind) -> Self {
        Self {
            started: clock::now(),
            timeout,
            kind,
            timing: Timing::Sampled,
        }
    }

    /// Requests a timing breakdown of the call.
    pub(crate) fn timed(self) -> Self {
        Self {
            timing: Timing::Requested,
            ..self
        }
    }

    /// Excludes the call from timing, for a caller that does not wait for the answer at once.
    pub(crate) fn untimed(self) -> Self {
        Self {
            timing: Timing::Off,
            ..self
        }
    }

    /// Multiplies a configured timeout by the factor of a degraded agent. A fixed one stays.
    pub(crate) fn scaled_by(self, factor: f32) -> Self {
        let timeout = match self.kind {
            Kind::Configured if factor > 1.0 => {
                Duration::try_from_secs_f64(self.timeout.as_secs_f64() * f64::from(factor))
                    .unwrap_or(Duration::MAX)
            }
            _ => self.timeout,
        };
        Self { timeout, ..self }
    }

    pub(crate) fn timeout(self) -> Duration {
        self.timeout
    }

    /// Returns the deadline. One that `Instant` cannot express becomes one decades away.
    pub(crate) fn deadline(self) -> Instant {
        const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        self.started
            .checked_add(self.timeout)
            .unwrap_or_else(|| self.started + NEVER)
    }
}
