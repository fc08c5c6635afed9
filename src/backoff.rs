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
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn waits_double_up_to_the_maximum() {
        let interval = Duration::from_millis(100);
        assert_eq!(delay(interval, MAX, 0), Duration::ZERO);
        for attempts in 1..100 {
            let full = interval.as_millis() << (attempts - 1).min(20);
            let full = full.min(30_000);
            let delay = delay(interval, MAX, attempts).as_millis();
            assert!(
                full / 2 <= delay && delay <= full,
                "{attempts}: {delay} of {full}"
            );
        }
    }

    #[test]
    fn waits_are_random() {
        let waits: Vec<_> = (0..20).map(|_| delay(MAX, MAX, 1)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
