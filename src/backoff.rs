//! Exponential backoff with jitter.

use std::time::Duration;

/// Returns the wait before an attempt, after `attempts` earlier ones.
///
/// There is no wait before the first attempt. Then it is `interval`, doubled for each further
/// attempt up to `max`, and reduced at random by up to half.
pub(crate) fn delay(interval: Duration, max: Duration, attempts: u32) -> Duration {
    let Some(doublings) = attempts.checked_sub(1) else {
        return Duration::ZERO;
    };
    let full = interval
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(max);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
#[path = "../tests/unit/backoff.rs"]
mod tests;
