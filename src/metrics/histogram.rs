//! Histograms of durations with fixed buckets.

use super::sharded::{SHARDS, shard};
use crossbeam_utils::CachePadded;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of every histogram, in microseconds. They include those of
/// `zentinel-agent-protocol`. One more bucket has no bound.
const BOUNDS_US: [u64; 24] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
    200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000,
];

/// Histogram of durations that are recorded rarely: all threads share its memory.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The total is the sum of the buckets, so that the two agree even if durations are recorded
    /// meanwhile.
    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        HistogramSnapshot {
            buckets: BOUNDS_US.to_vec(),
            count: counts.iter().sum(),
            counts,
            sum: self.sum_ns.load(Ordering::Relaxed) / 1_000,
        }
    }
}

/// Histogram of durations that every call records: each thread writes to one of several shards, so
/// that threads do not contend for a cache line.
#[derive(Debug, Default)]
pub(crate) struct ShardedHistogram([CachePadded<Histogram>; SHARDS]);

impl ShardedHistogram {
    pub(crate) fn record(&self, duration: Duration) {
        self.0[shard()].record(duration);
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        let mut sum = HistogramSnapshot::default();
        for shard in &self.0 {
            sum += &shard.snapshot();
        }
        sum
    }
}

/// Distribution of durations, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistogramSnapshot {
    /// Upper bounds of the buckets, in microseconds.
    pub buckets: Vec<u64>,
    /// Number of durations in each bucket, not cumulative. It has one element more than `buckets`:
    /// the last one counts durations above all bounds.
    pub counts: Vec<u64>,
    /// Sum of all durations, in microseconds.
    pub sum: u64,
    /// Number of durations.
    pub count: u64,
}

impl HistogramSnapshot {
    /// Returns the mean in microseconds; 0.0 if there are no durations.
    pub fn mean_micros(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum as f64 / self.count as f64
    }

    /// Returns the bound in microseconds that `p` percent of the durations did not exceed. If it is
    /// above all bounds, returns the largest bound; if there are no durations, 0.
    pub fn percentile_micros(&self, p: f64) -> u64 {
        let largest = self.buckets.last().copied().unwrap_or(0);
        if self.count == 0 {
            return 0;
        }
        let rank = (self.count as f64 * p / 100.0).ceil().max(1.0) as u64;
        let mut cumulative = 0;
        let reached = self.buckets.iter().zip(&self.counts).find(|(_, count)| {
            cumulative += **count;
            cumulative >= rank
        });
        reached.map_or(largest, |(bound, _)| *bound)
    }
}

impl Default for HistogramSnapshot {
    /// Returns an empty distribution.
    fn default() -> Self {
        Self {
            buckets: BOUNDS_US.to_vec(),
            counts: vec![0; BOUNDS_US.len() + 1],
            sum: 0,
            count: 0,
        }
    }
}

impl AddAssign<&Self> for HistogramSnapshot {
    fn add_assign(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
        self.count += other.count;
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/metrics/histogram.rs"]
mod tests;
