use std::time::{Duration, Instant};

/// How long a call may take, from the moment it is made to its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    pub(crate) started: Instant,
    timeout: Duration,
    firmness: Firmness,
}

#[derive(Debug, Clone, Copy)]
enum Firmness {
    /// Configured; an agent that says it is slow gets more time.
    Stretchable,
    /// Demanded for this one call.
    Firm,
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
