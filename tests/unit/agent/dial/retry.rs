use super::*;

const INTERVAL: Duration = Duration::from_millis(500);

fn after(failures: impl IntoIterator<Item = ConnectError>) -> Duration {
    let mut retry = RetryDelays::default();
    for cause in failures {
        retry.record_failure(&cause);
    }
    retry.delay(INTERVAL)
}

#[test]
fn absent_proxy_is_retried_within_a_second() {
    assert_eq!(after([]), Duration::ZERO);
    for count in 1..50 {
        let delay = after((0..count).map(|_| ConnectError::Refused));
        assert!(
            delay >= INTERVAL / 2 && delay <= MAX_DELAY_WHEN_ABSENT,
            "{delay:?}"
        );
    }
}

#[test]
fn rejecting_proxy_is_retried_rarely() {
    let rejected = || ConnectError::HandshakeRefused("rejected".to_owned());
    let delay = after((0..20).map(|_| rejected()));
    assert!(delay >= MAX_DELAY_WHEN_REJECTED / 2, "{delay:?}");
}

#[test]
fn reconnecting_after_a_loss_is_spread_out() {
    let mut retry = RetryDelays::default();
    retry.record_loss(true);
    let delays: Vec<_> = (0..200).map(|_| retry.delay(INTERVAL)).collect();
    let count_in = |from: u32, to: u32| {
        let range = INTERVAL / 10 * from..INTERVAL / 10 * to;
        delays.iter().filter(|delay| range.contains(*delay)).count()
    };
    assert!(count_in(0, 10) >= 195, "every delay is within the interval");
    assert!(count_in(0, 3) > 20 && count_in(3, 10) > 20);
}
