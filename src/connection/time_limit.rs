use std::time::{Duration, Instant};

/// How long a call may take, from the moment it is made to its answer, and whether its caller wants to know how long
/// it did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    pub(crate) started: Instant,
    timeout: Duration,
    firmness: Firmness,
    pub(super) timing: Timing,
}

/// Whether a call is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Now and then.
    Sampled,
    /// Its caller asked for it.
    Demanded,
    /// Never, as its answer may wait for long until its caller looks.
    Off,
}

#[derive(Debug, Clone, Copy)]
enum Firmness {
    /// Configured; an agent that says it is slow gets more time.
    Stretchable,
    /// Demanded for this one call.
    Firm,
}

/// More than fit are a time that never passes.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl TimeLimit {
    /// The time that is configured, from now on.
    pub(crate) fn configured(timeout: Duration) -> Self {
        Self::new(timeout, Firmness::Stretchable)
    }

    /// The time that a caller demands, from now on.
    pub(crate) fn firm(timeout: Duration) -> Self {
        Self::new(timeout, Firmness::Firm)
    }

    fn new(timeout: Duration, firmness: Firmness) -> Self {
        Self {
            started: Instant::now(),
            timeout,
            firmness,
            timing: Timing::Sampled,
        }
    }

    /// The same for a caller that wants to know where the time went.
    pub(crate) fn timed(self) -> Self {
        Self {
            timing: Timing::Demanded,
            ..self
        }
    }

    /// The same for a caller that does not wait for the answer at once.
    pub(crate) fn untimed(self) -> Self {
        Self {
            timing: Timing::Off,
            ..self
        }
    }

    /// The same with the factor of an agent that says it is slow.
    pub(crate) fn stretched(self, factor: f32) -> Self {
        let timeout = match self.firmness {
            Firmness::Stretchable if factor > 1.0 => {
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

    /// A deadline so far away that it never passes stands for one that cannot be expressed.
    pub(crate) fn deadline(self) -> Instant {
        const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        self.started
            .checked_add(self.timeout)
            .unwrap_or_else(|| self.started + NEVER)
    }
}
