use super::*;

const STEP: Duration = Duration::from_micros(1);

/// Polls until the wait ends in one way or the other. Returns the time that it took.
fn wait(spin: &mut Spin, now: &mut Instant) -> Duration {
    let began = *now;
    while matches!(spin.next(1, *now, || false), Wait::Begin | Wait::Look) {
        *now += STEP;
    }
    *now - began
}

fn spin(mode: SharedMemory) -> (Spin, Instant) {
    let now = Instant::now();
    SPINNER.set(None);
    (Spin::new(mode, now), now)
}

fn has_one_processor_only() -> bool {
    has_one_processor()
}

/// Nothing is expected before something was received.
#[test]
fn sleeps_while_idle() {
    let (mut spin, now) = spin(SharedMemory::Adaptive);
    assert_eq!(spin.next(1, now, || false), Wait::Sleep);
    spin.set_expecting(false);
    spin.received();
    assert_eq!(spin.next(1, now, || false), Wait::Sleep);
}

/// The processor that both sides share runs the peer only while this side sleeps.
#[test]
fn sleeps_on_a_shared_processor() {
    let (mut spin, now) = spin(SharedMemory::BusyPoll);
    assert_eq!(spin.next(1, now, || true), Wait::Sleep);
}

/// Waits in vain end after the window, and each doubles the number of waits that sleep at once.
#[test]
fn vain_waits_are_punished() {
    if has_one_processor_only() {
        return;
    }
    let (mut spin, mut now) = spin(SharedMemory::Adaptive);
    spin.set_expecting(true);
    for penalty in [1, 2, 4, 8, 16, 32, 64, 64] {
        assert_eq!(wait(&mut spin, &mut now), FIRST_WINDOW);
        for _ in 0..penalty {
            assert_eq!(wait(&mut spin, &mut now), Duration::ZERO);
        }
    }
    // Each success halves the penalty.
    for _ in 0..7 {
        assert_eq!(spin.next(1, now, || false), Wait::Begin);
        spin.received();
    }
    assert_eq!(wait(&mut spin, &mut now), FIRST_WINDOW);
    assert_eq!(wait(&mut spin, &mut now), Duration::ZERO);
    assert_eq!(wait(&mut spin, &mut now), FIRST_WINDOW);
}

/// The window follows the time that the peer takes to wake, within its bounds.
#[test]
fn window_is_twice_a_wake_up() {
    if has_one_processor_only() {
        return;
    }
    for (took, window) in [(1, 10), (20, 40), (1000, 100)] {
        let (mut spin, mut now) = spin(SharedMemory::Adaptive);
        spin.set_expecting(true);
        for _ in 0..100 {
            spin.woke_in(Duration::from_micros(took));
        }
        let waited = wait(&mut spin, &mut now).as_micros();
        assert!(waited.abs_diff(window) <= 1, "{waited} for {window}");
    }
}

/// Only one link of a thread looks at its ring.
#[test]
fn one_link_waits_for_each_thread() {
    if has_one_processor_only() {
        return;
    }
    let (mut first, now) = spin(SharedMemory::BusyPoll);
    let mut second = Spin::new(SharedMemory::BusyPoll, now);
    assert_eq!(first.next(1, now, || false), Wait::Begin);
    assert_eq!(second.next(2, now, || false), Wait::Sleep);
    assert_eq!(first.next(1, now + STEP, || false), Wait::Look);
    // The first was dropped or sleeps.
    assert_eq!(second.next(2, now + STEP + 2 * TURN, || false), Wait::Begin);
}
