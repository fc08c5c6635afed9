use super::*;

fn degraded(timeout_multiplier: f32) -> HealthState {
    HealthState::Degraded {
        disabled_features: Vec::new(),
        timeout_multiplier,
    }
}

#[test]
fn only_consecutive_failures_count() {
    let health = ConnectionHealth::new(3);
    for _ in 0..5 {
        assert!(!health.failed(7) && !health.failed(7));
        health.succeeded();
    }
    assert!(!health.failed(7) && !health.failed(7) && health.failed(7));
    assert!(health.is_failing());
    assert_eq!(health.failing_since(), 7);
    assert!(!health.failed(7), "reported only once");
    health.succeeded();
    assert!(!health.is_failing());
}

#[test]
fn reported_states_are_applied() {
    let health = ConnectionHealth::new(3);
    health.report(&degraded(2.5), None);
    assert!(health.is_available() && health.is_degraded());
    assert_eq!(health.timeout_factor(), 2.5);
    health.report(&HealthState::Draining { eta_ms: None }, None);
    assert!(!health.is_available() && health.timeout_factor() == 1.0);
    health.report(&HealthState::Healthy, None);
    assert!(health.is_available() && !health.is_degraded());
}

#[test]
fn the_timeout_factor_is_limited() {
    let health = ConnectionHealth::new(3);
    let reported = [f32::NAN, f32::INFINITY, f32::MIN, -1.0, 0.0, 0.5, 1e9];
    let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0];
    for (multiplier, expected) in reported.into_iter().zip(expected) {
        health.report(&degraded(multiplier), None);
        assert_eq!(health.timeout_factor(), expected, "{multiplier}");
    }
}

#[test]
fn an_expired_report_is_dropped() {
    let health = ConnectionHealth::new(3);
    let unhealthy = HealthState::from_number(4).expect("a state");
    health.report(&unhealthy, Some(1_000));
    assert!(!health.forget_stale_report(1_000) && !health.is_available());
    assert!(health.forget_stale_report(1_001) && health.is_available());
    health.report(&unhealthy, None);
    assert!(!health.forget_stale_report(u64::MAX) && !health.is_available());
}
