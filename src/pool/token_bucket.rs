//! Limits of what may happen per second.

use crate::clock;
use crate::transport::lock;
use std::sync::Mutex;
use std::time::Instant;

/// A token bucket that holds the tokens of one second.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: f64,
    level: f64,
    updated: Instant,
}

impl TokenBucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second: per_second.into(),
            level: per_second.into(),
            updated: now,
        }
    }

    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        self.level = self.level_at(now);
        self.updated = now;
        let has_one = self.level >= 1.0;
        if has_one {
            self.level -= 1.0;
        }
        has_one
    }

    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.level_at(now) >= self.per_second
    }

    fn level_at(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.updated).as_secs_f64() * self.per_second;
        (self.level + gained).min(self.per_second)
    }
}

/// Limits the lines of a log.
#[derive(Debug)]
pub(super) struct LineLimit(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    bucket: TokenBucket,
    /// Number of lines left out since the last one that was logged.
    left_out: u64,
}

impl LineLimit {
    pub(super) fn new(per_second: u32) -> Self {
        Self(Mutex::new(Lines {
            bucket: TokenBucket::new(per_second, clock::now()),
            left_out: 0,
        }))
    }

    /// Changes the limit.
    pub(super) fn set(&self, per_second: u32) {
        lock(&self.0).bucket.per_second = per_second.into();
    }

    /// Takes one line. Returns the number of lines left out before it, or `None` if this line
    /// exceeds the limit.
    pub(super) fn try_take(&self) -> Option<u64> {
        let mut lines = lock(&self.0);
        if !lines.bucket.try_take(clock::now()) {
            lines.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn bucket_holds_one_second_and_refills() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2, start);
        assert!(bucket.try_take(start) && bucket.try_take(start));
        assert!(!bucket.try_take(start));
        assert!(!bucket.try_take(start + Duration::from_millis(400)));
        assert!(bucket.try_take(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(60);
        assert!(bucket.is_full(later));
        assert!(bucket.try_take(later) && bucket.try_take(later) && !bucket.try_take(later));
    }
}
