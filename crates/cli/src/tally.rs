//! What one worker counts, without sharing or allocating.

use crate::latency::Latencies;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tollgate::Decision;

/// Counts of finished requests.
pub(crate) struct Tally {
    /// How long those took that were decided.
    pub(crate) latencies: Latencies,
    /// How they were decided.
    pub(crate) decisions: DecisionCounts,
    /// How many failed instead.
    pub(crate) errors: u64,
}

/// Decisions by kind. Kinds that never came are left out of JSON, except `allow`.
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
    /// Takes all the memory it will ever need.
    pub(crate) fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            decisions: DecisionCounts::default(),
            errors: 0,
        }
    }

    /// Counts a request that was decided.
    pub(crate) fn decided(&mut self, decision: &Decision, latency: Duration) {
        self.latencies.record(latency);
        *self.decisions.of(decision) += 1;
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.decisions.merge(other.decisions);
        self.errors += other.errors;
    }

    /// All finished requests.
    pub(crate) fn requests(&self) -> u64 {
        self.latencies.count() + self.errors
    }
}

impl DecisionCounts {
    /// Each kind that came, and `allow`, with its count.
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

// Serde hands over a reference.
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
        tally.decided(&block(), Duration::from_micros(5));
        tally.errors += 1;
        let mut sum = Tally::new();
        sum.merge(&tally);
        sum.merge(&tally);
        assert_eq!(sum.requests(), 4);
        assert_eq!(sum.decisions.block, 2);
    }

    #[test]
    fn json_has_allow_and_what_was_seen() {
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
