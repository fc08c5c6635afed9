use std::time::Duration;

/// How long to wait before an attempt: not at all before the first, then `interval` doubled each time up to `max`, less
/// up to half by chance.
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
    fn each_wait_is_twice_as_long_up_to_the_longest() {
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
    fn waits_differ_by_chance() {
        let waits: Vec<_> = (0..20).map(|_| delay(MAX, MAX, 1)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
