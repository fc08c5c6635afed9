//! Expectations of a run, and which of them were met.

use crate::answered::Calls;
use crate::calls::DEADLINE;
use crate::common::markdown::grouped;
use crate::payloads::MIB;

/// Memory that a process may take: its budget, and 96 MiB for the program and the allocator.
pub(crate) const MAX_RSS_MIB: usize = 256 + 96;

/// Memory that a process may keep once the attack is over.
pub(crate) const MAX_RSS_AFTER_MIB: usize = 128;

/// Length that no line of a log may reach, in bytes.
pub(crate) const MAX_LINE: usize = 2 * 1024;

#[derive(Debug)]
pub(crate) struct Expectation {
    pub(crate) text: String,
    pub(crate) seen: String,
    pub(crate) is_met: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Expectations(pub(crate) Vec<Expectation>);

impl Expectations {
    /// Expects that a figure is at most its bound.
    pub(crate) fn at_most(&mut self, what: &str, seen: usize, bound: usize, unit: &str) {
        self.0.push(Expectation {
            text: format!("{what}: at most {}{unit}", grouped(bound as u64)),
            seen: format!("{}{unit}", grouped(seen as u64)),
            is_met: seen <= bound,
        });
    }

    /// Expects that each call was answered within its deadline.
    pub(crate) fn all_answered(&mut self, whom: &str, calls: &Calls) {
        let slowest = calls.slowest / 1000;
        let failed: u64 = calls.failed.values().sum();
        let errors = match &calls.failed {
            errors if errors.is_empty() => String::new(),
            errors => format!(" {errors:?}"),
        };
        self.0.push(Expectation {
            text: format!("{whom}: each call answered within {DEADLINE:?}"),
            seen: format!("{failed} failed{errors}, slowest {slowest} ms"),
            is_met: failed == 0 && calls.calls > 0 && u128::from(slowest) < DEADLINE.as_millis(),
        });
    }

    pub(crate) fn missed(&self) -> Vec<&Expectation> {
        self.0.iter().filter(|each| !each.is_met).collect()
    }
}

pub(crate) fn mib(kib: usize) -> usize {
    kib * 1024 / MIB
}
