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
