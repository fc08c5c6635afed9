//! Outcomes and durations of the calls to one agent.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Calls of one phase of a run. Times are in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) agent: String,
    pub(crate) calls: u64,
    /// Number of calls that failed, by error.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) median: u64,
    pub(crate) p99: u64,
    pub(crate) slowest: u64,
}

/// Calls to an agent before the attack, during it and after it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Course(pub(crate) [Calls; 3]);

/// Records the calls to one agent.
#[derive(Debug)]
pub(crate) struct Recorder {
    agent: String,
    current: Mutex<Recorded>,
    ended: Mutex<Vec<Calls>>,
}

#[derive(Debug)]
struct Recorded {
    times: Histogram<u64>,
    failed: BTreeMap<String, u64>,
}

impl Recorder {
    pub(crate) fn of(agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            current: Mutex::new(Recorded::new()),
            ended: Mutex::default(),
        }
    }

    pub(crate) fn record(&self, took: Duration, failed: Option<&str>) {
        let mut recorded = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.times.saturating_record(took.as_micros() as u64);
        if let Some(error) = failed {
            *recorded.failed.entry(error.to_owned()).or_default() += 1;
        }
    }

    /// Ends a phase of the run.
    pub(crate) fn end_phase(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = std::mem::replace(&mut *current, Recorded::new());
        let calls = Calls {
            agent: self.agent.clone(),
            calls: recorded.times.len(),
            failed: recorded.failed,
            median: recorded.times.value_at_quantile(0.5),
            p99: recorded.times.value_at_quantile(0.99),
            slowest: recorded.times.max(),
        };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(calls);
    }

    /// Returns the phases, of which all three must have ended.
    pub(crate) fn course(&self) -> Option<Course> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Course(ended.clone().try_into().ok()?))
    }
}

impl Recorded {
    fn new() -> Self {
        let highest = Duration::from_secs(60).as_micros() as u64;
        let times = Histogram::new_with_bounds(1, highest, 3).expect("the bounds are in order");
        Self {
            times,
            failed: BTreeMap::new(),
        }
    }
}
