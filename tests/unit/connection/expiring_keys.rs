use super::*;

#[test]
fn the_set_is_bounded() {
    let set = ExpiringKeySet::new(2, Duration::MAX);
    assert_eq!(set.insert(1), Ok(()));
    assert_eq!(set.insert(2), Ok(()));
    assert_eq!(set.insert(2), Ok(()));
    assert_eq!(set.insert(3), Err(AtCapacity));
    assert!(set.remove(1));
    assert!(!set.remove(1));
    assert_eq!(set.insert(3), Ok(()));
    assert!(set.contains(3) && !set.contains(1));
    set.insert_over_oldest(4);
    assert!(set.contains(3) && set.contains(4) && !set.contains(2));
    set.clear();
    assert!(!set.contains(3));
}

#[test]
fn stale_entries_are_compacted() {
    let set = ExpiringKeySet::new(100, Duration::MAX);
    set.insert_over_oldest(0);
    for key in 1..10_000 {
        set.insert_over_oldest(key);
        assert!(set.remove(key));
    }
    assert!(set.contains(0));
    let kept = set.with_keys(|keys| keys.by_age.len());
    assert!(kept < 200, "{kept} entries are kept for one key");
}

#[test]
fn keys_expire() {
    let set = ExpiringKeySet::new(1, Duration::ZERO);
    assert_eq!(set.insert(1), Ok(()));
    assert!(!set.contains(1));
    assert_eq!(set.insert(2), Ok(()));
}
