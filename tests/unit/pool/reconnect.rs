use super::*;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn demand_shortens_the_wait_for_an_absent_agent() {
    let reconnect = Reconnect::default();
    for _ in 0..20 {
        reconnect.failed();
    }
    for (cause, is_shortened) in [
        (ConnectError::NoSuchSocket, true),
        (ConnectError::Refused, true),
        (ConnectError::ClosedDuringHandshake, false),
    ] {
        reconnect.request_now();
        let started = Instant::now();
        reconnect.pause(Duration::from_secs(1), Some(&cause)).await;
        let is_short = started.elapsed() < Duration::from_secs(1);
        assert_eq!(is_short, is_shortened, "{cause}");
        assert!(started.elapsed() >= MIN_DEMAND_DELAY);
    }
}

#[tokio::test(start_paused = true)]
async fn useless_connections_delay_the_next_round() {
    let reconnect = Reconnect::default();
    let waited = async || {
        let started = Instant::now();
        reconnect.pause(Duration::from_secs(1), None).await;
        started.elapsed()
    };
    assert_eq!(waited().await, Duration::ZERO);
    reconnect.lost_connections(Lost::Useless);
    assert!(waited().await >= Duration::from_millis(500));
    reconnect.succeeded();
    assert!(waited().await >= Duration::from_millis(500));
    reconnect.lost_connections(Lost::Useful);
    assert_eq!(waited().await, Duration::ZERO);
    reconnect.lost_connections(Lost::Brief);
    assert!((MIN_AGE / 2..=MIN_AGE).contains(&waited().await));
}
