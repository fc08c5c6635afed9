use super::*;

#[test]
fn concurrent_increments_are_all_counted() {
    let counter = ShardedCounter::default();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| (0..1000).for_each(|_| counter.increment()));
        }
    });
    assert_eq!(counter.sum(), 20_000);
}
