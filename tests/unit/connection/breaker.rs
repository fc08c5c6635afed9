use super::*;

fn breaker(threshold: u32, reset_timeout: Duration) -> CircuitBreaker {
    CircuitBreaker::new(CircuitBreakerSettings {
        threshold,
        window: Duration::from_secs(10),
        reset_timeout,
    })
}

fn fail(breaker: &CircuitBreaker) -> bool {
    let permit = breaker.try_acquire().expect("a closed breaker");
    breaker.failed(permit, Failure::Fault, 0)
}

#[test]
fn too_many_failures_open_the_breaker() {
    let breaker = breaker(3, Duration::MAX);
    assert!(!fail(&breaker) && !fail(&breaker) && fail(&breaker));
    assert_eq!(breaker.state(), CircuitBreakerState::Open);
    assert_eq!(breaker.try_acquire(), None);
    assert_eq!(breaker.trips(), 1);
}

#[test]
fn successful_trial_forgets_failures() {
    let breaker = breaker(3, Duration::ZERO);
    for _ in 0..2 {
        assert!(!fail(&breaker) && !fail(&breaker) && fail(&breaker));
        let trial = breaker.try_acquire().expect("a trial");
        breaker.succeeded(trial, || 1);
    }
}

#[test]
fn one_trial_closes_or_reopens_the_breaker() {
    let breaker = breaker(1, Duration::ZERO);
    assert!(fail(&breaker));
    assert_eq!(breaker.try_acquire(), Some(Permit::Trial));
    assert_eq!(breaker.state(), CircuitBreakerState::HalfOpen);
    assert_eq!(breaker.try_acquire(), None, "a second trial");
    breaker.release(Permit::Trial);
    assert_eq!(breaker.try_acquire(), Some(Permit::Trial));
    assert!(breaker.failed(Permit::Trial, Failure::Timeout, 0));
    assert_eq!(breaker.try_acquire(), Some(Permit::Trial));
    breaker.succeeded(Permit::Trial, || 0);
    assert_eq!(breaker.state(), CircuitBreakerState::Closed);
    assert_eq!(breaker.try_acquire(), Some(Permit::Regular));
    assert_eq!(breaker.trips(), 2);
}

#[test]
fn permits_from_before_opening_change_nothing() {
    let breaker = breaker(1, Duration::MAX);
    let (early, late) = (breaker.try_acquire(), breaker.try_acquire());
    assert!(breaker.failed(early.expect("closed"), Failure::Fault, 0));
    breaker.succeeded(late.expect("closed"), || 0);
    assert!(!breaker.failed(Permit::Regular, Failure::Fault, 0));
    assert_eq!(breaker.state(), CircuitBreakerState::Open);
}

#[test]
fn allow_trial_permits_one_call_at_once() {
    let breaker = breaker(1, Duration::MAX);
    breaker.allow_trial();
    assert_eq!(breaker.state(), CircuitBreakerState::Closed);
    assert!(fail(&breaker));
    breaker.allow_trial();
    assert_eq!(breaker.try_acquire(), Some(Permit::Trial));
    breaker.allow_trial();
    assert_eq!(breaker.try_acquire(), None, "a second trial");
}

#[test]
fn disabling_closes_the_breaker() {
    let breaker = breaker(1, Duration::MAX);
    assert!(fail(&breaker));
    breaker.allow_trial();
    let trial = breaker.try_acquire().expect("a trial");
    breaker.configure(CircuitBreakerSettings {
        threshold: 0,
        window: Duration::MAX,
        reset_timeout: Duration::MAX,
    });
    assert_eq!(breaker.state(), CircuitBreakerState::Closed);
    assert!(!breaker.failed(trial, Failure::Fault, 0));
    assert_eq!(breaker.state(), CircuitBreakerState::Closed);
    assert_eq!(breaker.try_acquire(), Some(Permit::Regular));
}

#[test]
fn a_threshold_of_zero_disables_the_breaker() {
    let breaker = breaker(0, Duration::MAX);
    assert!((0..100).all(|_| !fail(&breaker)));
    assert_eq!(breaker.state(), CircuitBreakerState::Closed);
}
