//! The outcome of every call as its caller saw it, compared with the pool's counts.

use crate::Failure;
use crate::roster::{Agent, Role};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tollgate::{
    AgentPool, AgentResponse, CallError, HeaderOp, metrics::CallCounts, stats::AgentPoolStats,
};

/// Outcomes of calls, in the order of [`outcomes`].
pub(crate) const KINDS: [&str; 13] = [
    "answered",
    "timed out",
    "connection closed",
    "undecodable",
    "cancelled",
    "given up",
    "too large",
    "paused",
    "busy",
    "queue full",
    "queue timed out",
    "unavailable",
    "circuit open",
];

pub(crate) const ANSWERED: usize = 0;
const GIVEN_UP: usize = 5;

pub(crate) type Counts = [u64; KINDS.len()];

/// Outcomes as callers saw them, per agent and kind.
#[derive(Debug)]
pub(crate) struct Ledger {
    agents: Vec<Agent>,
    counts: Vec<[AtomicU64; KINDS.len()]>,
    /// The first wrong answer or unexpected error.
    wrong: Mutex<Option<String>>,
}

impl Ledger {
    pub(crate) fn new(agents: Vec<Agent>) -> Self {
        let counts = agents.iter().map(|_| Default::default()).collect();
        Self {
            agents,
            counts,
            wrong: Mutex::default(),
        }
    }

    /// Records the outcome of a call that should be answered with this checksum.
    pub(crate) fn record(
        &self,
        agent: &Agent,
        expected: u64,
        outcome: &Result<AgentResponse, CallError>,
    ) {
        match outcome {
            Ok(response) if checksum_in(response) == Some(expected) => self.count(agent, ANSWERED),
            Ok(response) => {
                let id = &agent.id;
                self.record_wrong(format!(
                    "{id}: expected checksum {expected:x}, got {response:?}"
                ));
            }
            Err(error) => self.record_error(agent, error),
        }
    }

    fn record_error(&self, agent: &Agent, error: &CallError) {
        if agent.role == Role::Steady {
            self.record_wrong(format!("a call to a steady agent failed: {error}"));
        }
        match kind_of(error) {
            Some(kind) => self.count(agent, kind),
            None => self.record_wrong(format!("{}: {error}", agent.id)),
        }
    }

    /// Records that an exchange could not begin. This is no call.
    pub(crate) fn record_not_begun(&self, agent: &Agent, error: &CallError) {
        if agent.role == Role::Steady {
            self.record_wrong(format!("an exchange did not begin: {error}"));
        }
    }

    /// Records a call that its caller dropped.
    pub(crate) fn record_given_up(&self, agent: &Agent) {
        self.count(agent, GIVEN_UP);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.sum(|kind| kind == ANSWERED)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.sum(|kind| kind != ANSWERED)
    }

    pub(crate) fn answered_by(&self, agent: &Agent) -> u64 {
        self.counts[agent.index][ANSWERED].load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self, agent: &Agent) -> Counts {
        std::array::from_fn(|kind| self.counts[agent.index][kind].load(Ordering::Relaxed))
    }

    /// Fails if an answer was wrong, or if a call to a steady agent failed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &*self.wrong.lock().expect("no panic while locked") {
            Some(wrong) => Err(wrong.clone().into()),
            None => Ok(()),
        }
    }

    /// Compares the outcomes with the pool's counts and with its metrics as Prometheus sees them.
    /// Call this once all callers are done.
    pub(crate) async fn compare(&self, pool: &AgentPool) -> Result<Vec<AgentPoolStats>, Failure> {
        self.check()?;
        let metrics = pool.metrics().to_prometheus("soak");
        let mut all = Vec::new();
        let mut differences = Vec::new();
        for agent in &self.agents {
            let id = &agent.id;
            let stats = pool
                .agent(id)
                .map(|agent| agent.stats())
                .ok_or_else(|| format!("{id}: the pool does not know this agent"))?;
            let seen = self.counts(agent);
            for ((kind, seen), counted) in KINDS.iter().zip(seen).zip(outcomes(&stats.calls)) {
                if seen != counted {
                    differences.push(format!(
                        "{id}: callers saw {seen} {kind}, the pool counted {counted}"
                    ));
                }
            }
            if stats.calls.made != stats.calls.ended() || stats.total_in_flight != 0 {
                differences.push(format!("{id}: counts do not add up: {:?}", stats.calls));
            }
            differences.extend(differences_in(&metrics, id, &seen));
            all.push(stats);
        }
        let affinities = pool.metrics().snapshot().correlation_affinities;
        if affinities != 0 {
            differences.push(format!("{affinities} correlation ids are still pinned"));
        }
        if differences.is_empty() {
            return Ok(all);
        }
        Err(differences.join("\n").into())
    }

    fn count(&self, agent: &Agent, kind: usize) {
        self.counts[agent.index][kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn record_wrong(&self, message: String) {
        let mut wrong = self.wrong.lock().expect("no panic while locked");
        wrong.get_or_insert(message);
    }

    fn sum(&self, is_counted: impl Fn(usize) -> bool) -> u64 {
        let counts = self
            .counts
            .iter()
            .flat_map(|counts| counts.iter().enumerate());
        counts
            .filter(|(kind, _)| is_counted(*kind))
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum()
    }
}

/// Compares what callers saw with the series of an agent in the Prometheus text format.
fn differences_in(metrics: &str, id: &str, seen: &Counts) -> Vec<String> {
    let failed = seen.iter().sum::<u64>() - seen[ANSWERED];
    [
        ("soak_agent_requests_total", seen.iter().sum()),
        ("soak_agent_responses_total", seen[ANSWERED]),
        ("soak_agent_failures_total", failed),
    ]
    .into_iter()
    .filter_map(|(series, seen)| {
        let exported = sum_of_series(metrics, series, id);
        let is_equal = exported == Some(seen);
        (!is_equal).then(|| format!("{id}: callers saw {seen}, {series} is {exported:?}"))
    })
    .collect()
}

/// Returns the sum of an agent's series of one name, or `None` if there are none.
fn sum_of_series(metrics: &str, series: &str, id: &str) -> Option<u64> {
    let label = format!("agent_id=\"{id}\"");
    let values = metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix(series)?.strip_prefix('{')?;
        let (labels, value) = labels.rsplit_once("} ")?;
        let is_wanted = labels.split(',').any(|one| one == label);
        is_wanted.then(|| value.parse().ok())?
    });
    values.reduce(|sum, value: u64| sum + value)
}

fn kind_of(error: &CallError) -> Option<usize> {
    Some(match error {
        CallError::Timeout { .. } => 1,
        CallError::ConnectionClosed { .. } => 2,
        CallError::InvalidMessage { .. } => 3,
        CallError::Cancelled { .. } => 4,
        CallError::MessageTooLarge { .. } => 6,
        CallError::FlowControlPaused { .. } => 7,
        CallError::CorrelationBusy { .. } => 8,
        CallError::QueueFull { .. } => 9,
        CallError::QueueTimeout { .. } => 10,
        CallError::Unavailable { .. } => 11,
        CallError::CircuitOpen { .. } => 12,
        _ => return None,
    })
}

/// Returns the pool's counts in the order of [`KINDS`].
fn outcomes(calls: &CallCounts) -> Counts {
    [
        calls.answered,
        calls.timed_out,
        calls.connection_closed,
        calls.undecodable,
        calls.cancelled,
        calls.given_up,
        calls.too_large,
        calls.paused,
        calls.busy,
        calls.queue_full,
        calls.queue_timed_out,
        calls.unavailable,
        calls.circuit_open,
    ]
}

/// Name of the header that returns a checksum.
pub(crate) const CHECKSUM: &str = "x-checksum";

fn checksum_in(response: &AgentResponse) -> Option<u64> {
    match response.request_headers.as_slice() {
        [HeaderOp::Set { name, value }] if name == CHECKSUM => u64::from_str_radix(value, 16).ok(),
        _ => None,
    }
}

/// Returns a hash of an event's correlation id and data, in the manner of FNV-1a by words.
pub(crate) fn checksum(correlation_id: &str, data: &[u8]) -> u64 {
    let parts = [correlation_id.as_bytes(), data];
    let words = parts.iter().flat_map(|part| part.chunks(8));
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        let mixed = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0100_0000_01b3);
        mixed ^ (mixed >> 32)
    })
}
