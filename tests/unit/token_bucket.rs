use super::*;
use std::time::Duration;

#[test]
fn bucket_holds_one_second_and_refills() {
    let rate = Rate::per_second(2);
    let start = Instant::now();
    let mut bucket = TokenBucket::new(rate, start);
    let mut takes = |at| bucket.try_take(rate, at);
    assert!(takes(start) && takes(start));
    assert!(!takes(start));
    assert!(!takes(start + Duration::from_millis(400)));
    assert!(takes(start + Duration::from_millis(500)));
    let later = start + Duration::from_secs(60);
    assert!(takes(later) && takes(later) && !takes(later));
    assert!(bucket.is_full(rate, later + Duration::from_secs(1)));
}
