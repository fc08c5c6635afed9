//! The counts of one worker, kept without sharing or allocating.

use crate::latency::Latencies;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tollgate::Decision;

/// Counts of finished requests.
pub(crate) struct Tally {
    /// Latencies of requests with a decision.
    pub(crate) latencies: Latencies,
    /// Decisions on requests.
    pub(crate) decisions: DecisionCounts,
    /// Number of requests that failed.
    pub(crate) errors: u64,
}

/// Decisions by kind. JSON leaves out kinds with a count of 0, except `allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DecisionCounts {
    allow: u64,
    #[serde(skip_serializing_if = "is_zero")]
    block: u64,
    #[serde(skip_serializing_if = "is_zero")]
    redirect: u64,
    #[serde(skip_serializing_if = "is_zero")]
    challenge: u64,
}

impl Tally {
    /// Creates empty counts. Allocates all memory that they will need.
    pub(crate) fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            decisions: DecisionCounts::default(),
            errors: 0,
        }
    }

    /// Counts a request with its decision.
    pub(crate) fn record(&mut self, decision: &Decision, latency: Duration) {
        self.latencies.record(latency);
        *self.decisions.of(decision) += 1;
    }

    /// Adds the counts of another worker.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.decisions.merge(other.decisions);
        self.errors += other.errors;
    }

    /// Returns the number of finished requests, including failed ones.
    pub(crate) fn requests(&self) -> u64 {
        self.latencies.count() + self.errors
    }
}

impl DecisionCounts {
    /// Returns `allow` and each other kind with a count above 0.
    pub(crate) fn seen(self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("allow", self.allow),
            ("block", self.block),
            ("redirect", self.redirect),
            ("challenge", self.challenge),
        ]
        .into_iter()
        .filter(|&(kind, count)| kind == "allow" || count > 0)
    }

    fn of(&mut self, decision: &Decision) -> &mut u64 {
        match decision {
            Decision::Allow => &mut self.allow,
            Decision::Block { .. } => &mut self.block,
            Decision::Redirect { .. } => &mut self.redirect,
            Decision::Challenge { .. } => &mut self.challenge,
        }
    }

    fn merge(&mut self, other: Self) {
        self.allow += other.allow;
        self.block += other.block;
        self.redirect += other.redirect;
        self.challenge += other.challenge;
    }
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Decision {
        Decision::Block {
            status: 403,
            body: None,
            headers: None,
        }
    }

    #[test]
    fn errors_count_as_requests_and_not_as_decisions() {
        let mut tally = Tally::new();
        tally.record(&block(), Duration::from_micros(5));
        tally.errors += 1;
        let mut sum = Tally::new();
        sum.merge(&tally);
        sum.merge(&tally);
        assert_eq!(sum.requests(), 4);
        assert_eq!(sum.decisions.block, 2);
    }

    #[test]
    fn json_has_allow_and_nonzero_kinds() {
        let mut counts = DecisionCounts::default();
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"allow":0}"#);
        *counts.of(&block()) += 1;
        assert_eq!(
            serde_json::to_string(&counts).unwrap(),
            r#"{"allow":0,"block":1}"#
        );
        assert_eq!(counts.seen().count(), 2);
    }
}
