//! Token buckets: limits of how often something may happen.

use std::time::Instant;

/// A limit of how often something may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Tokens that a bucket holds.
    pub(crate) burst: f64,
    /// Tokens that a bucket gains.
    pub(crate) per_second: f64,
}

impl Rate {
    /// Allows this many times per second, all of them at once.
    pub(crate) fn per_second(times: u32) -> Self {
        Self {
            burst: times.into(),
            per_second: times.into(),
        }
    }
}

/// A bucket that begins full, and gives a token for each time.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    level: f64,
    updated: Instant,
}

impl TokenBucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            level: rate.burst,
            updated: now,
        }
    }

    /// Takes a token. Returns `false` if there is none.
    pub(crate) fn try_take(&mut self, rate: Rate, now: Instant) -> bool {
        self.level = self.level_at(rate, now);
        self.updated = now;
        let has_one = self.level >= 1.0;
        if has_one {
            self.level -= 1.0;
        }
        has_one
    }

    pub(crate) fn is_full(&self, rate: Rate, now: Instant) -> bool {
        self.level_at(rate, now) >= rate.burst
    }

    fn level_at(&self, rate: Rate, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.updated);
        (self.level + since.as_secs_f64() * rate.per_second).min(rate.burst)
    }
}

#[cfg(test)]
#[path = "../tests/unit/token_bucket.rs"]
mod tests;
