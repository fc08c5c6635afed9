use hdrhistogram::Histogram;
use std::time::Duration;

/// Longest latency that is recorded exactly, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Counts of a run. Allocates all memory when it is created.
pub(crate) struct Tally {
    /// Latencies of allowed calls, in nanoseconds.
    pub(crate) allowed: Histogram<u64>,
    pub(crate) errors: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let allowed = Histogram::new_with_bounds(1, LONGEST, SIGNIFICANT_DIGITS)
            .expect("the bounds are valid constants");
        Self { allowed, errors: 0 }
    }

    pub(crate) fn allow(&mut self, taken: Duration) {
        let nanoseconds = u64::try_from(taken.as_nanos()).unwrap_or(LONGEST);
        self.allowed.saturating_record(nanoseconds);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.allowed
            .add(&other.allowed)
            .expect("all histograms have the same bounds");
        self.errors += other.errors;
    }
}
