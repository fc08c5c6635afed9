use super::*;

#[test]
fn bounds_are_inclusive() {
    let histogram = Histogram::default();
    for (ns, bucket) in [
        (0, 0),
        (1_000, 0),
        (1_001, 1),
        (50_000_000_000, 23),
        (50_000_000_001, 24),
    ] {
        let before = histogram.snapshot().counts[bucket];
        histogram.record(Duration::from_nanos(ns));
        assert_eq!(histogram.snapshot().counts[bucket], before + 1, "{ns} ns");
    }
    assert_eq!(histogram.snapshot().count, 5);
    histogram.record(Duration::MAX);
    assert_eq!(histogram.snapshot().counts[24], 2);
}

#[test]
fn sum_keeps_fractions_of_microseconds() {
    let histogram = Histogram::default();
    (0..1_000).for_each(|_| histogram.record(Duration::from_nanos(500)));
    assert_eq!(histogram.snapshot().sum, 500);
    assert_eq!(histogram.snapshot().mean_micros(), 0.5);
}

#[test]
fn percentiles_are_bucket_bounds() {
    let histogram = ShardedHistogram::default();
    assert_eq!(histogram.snapshot().percentile_micros(50.0), 0);
    (1..=100).for_each(|us| histogram.record(Duration::from_micros(us)));
    let snapshot = histogram.snapshot();
    assert_eq!(snapshot.percentile_micros(0.0), 1);
    assert_eq!(snapshot.percentile_micros(50.0), 50);
    assert_eq!(snapshot.percentile_micros(51.0), 100);
    histogram.record(Duration::from_secs(1_000));
    assert_eq!(histogram.snapshot().percentile_micros(100.0), 50_000_000);
}
