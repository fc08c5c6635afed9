//! The outcome of every call as its caller saw it, compared with the pool's counts.

use crate::{FAULTY, Failure, STEADY, VICTIM};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tollgate::{AgentPool, AgentProtocolError, AgentResponse, CallCounts, HeaderOp};

/// Outcomes of calls, in the order of [`outcomes`].
const KINDS: [&str; 13] = [
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

const ANSWERED: usize = 0;
const GIVEN_UP: usize = 5;

const AGENTS: [&str; 3] = [STEADY, VICTIM, FAULTY];

/// Outcomes as callers saw them, per agent and kind.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: [[AtomicU64; KINDS.len()]; AGENTS.len()],
    /// The first wrong answer or unexpected error.
    wrong: Mutex<Option<String>>,
}

impl Ledger {
    /// Records the outcome of a call that should be answered with this checksum.
    pub(crate) fn record(
        &self,
        agent: &str,
        expected: u64,
        outcome: &Result<AgentResponse, AgentProtocolError>,
    ) {
        match outcome {
            Ok(response) if checksum_in(response) == Some(expected) => self.count(agent, ANSWERED),
            Ok(response) => {
                self.record_wrong(format!(
                    "{agent}: expected checksum {expected:x}, got {response:?}"
                ));
            }
            Err(error) => match kind_of(error) {
                Some(kind) => self.count(agent, kind),
                None => self.record_wrong(format!("{agent}: {error}")),
            },
        }
    }

    /// Records a call that its caller dropped.
    pub(crate) fn record_given_up(&self, agent: &str) {
        self.count(agent, GIVEN_UP);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.sum(|kind| kind == ANSWERED)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.sum(|kind| kind != ANSWERED)
    }

    /// Fails if an answer was wrong, or if a call to the steady agent failed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Some(wrong) = &*self.wrong.lock().expect("no panic while locked") {
            return Err(wrong.clone().into());
        }
        let has_failure = self.counts[0].iter().enumerate().any(|(kind, count)| {
            kind != ANSWERED && kind != GIVEN_UP && count.load(Ordering::Relaxed) > 0
        });
        if has_failure {
            return Err("a call to the steady agent failed".into());
        }
        Ok(())
    }

    /// Compares the outcomes with the pool's counts. Call this once all callers are done.
    pub(crate) async fn compare(&self, pool: &AgentPool) -> Result<(), Failure> {
        self.check()?;
        let mut differences = Vec::new();
        for (agent, seen) in AGENTS.iter().zip(&self.counts) {
            let stats = pool
                .agent_stats(agent)
                .await
                .ok_or_else(|| format!("{agent}: the pool does not know this agent"))?;
            let counted = outcomes(&stats.calls);
            println!("{agent}: {} calls", stats.calls.made);
            for ((kind, seen), counted) in KINDS.iter().zip(seen).zip(counted) {
                let seen = seen.load(Ordering::Relaxed);
                if seen > 0 || counted > 0 {
                    println!("  {seen:>10} {kind}");
                }
                if seen != counted {
                    differences.push(format!(
                        "{agent}: callers saw {seen} {kind}, the pool counted {counted}"
                    ));
                }
            }
            if stats.calls.made != stats.calls.ended() || stats.total_in_flight != 0 {
                differences.push(format!("{agent}: counts do not add up: {:?}", stats.calls));
            }
            println!(
                "  {} reconnects, circuit breaker opened {} times, {} exchanges cancelled, {:?}",
                stats.reconnects,
                stats.circuit_breaker_trips,
                stats.exchanges_cancelled,
                stats.faults
            );
        }
        let affinities = pool.correlation_affinity_count();
        if affinities != 0 {
            differences.push(format!("{affinities} correlation ids are still pinned"));
        }
        if differences.is_empty() {
            println!("every answer matched its call, and all counts add up");
            return Ok(());
        }
        Err(differences.join("\n").into())
    }

    fn count(&self, agent: &str, kind: usize) {
        let index = AGENTS.iter().position(|name| *name == agent);
        self.counts[index.expect("one of the agents")][kind].fetch_add(1, Ordering::Relaxed);
    }

    fn record_wrong(&self, message: String) {
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

fn kind_of(error: &AgentProtocolError) -> Option<usize> {
    Some(match error {
        AgentProtocolError::Timeout { .. } => 1,
        AgentProtocolError::ConnectionClosed { .. } => 2,
        AgentProtocolError::InvalidMessage { .. } => 3,
        AgentProtocolError::Cancelled { .. } => 4,
        AgentProtocolError::MessageTooLarge { .. } => 6,
        AgentProtocolError::FlowControlPaused { .. } => 7,
        AgentProtocolError::CorrelationBusy { .. } => 8,
        AgentProtocolError::QueueFull { .. } => 9,
        AgentProtocolError::QueueTimeout { .. } => 10,
        AgentProtocolError::Unavailable { .. } => 11,
        AgentProtocolError::CircuitOpen { .. } => 12,
        _ => return None,
    })
}

/// Returns the pool's counts in the order of [`KINDS`].
fn outcomes(calls: &CallCounts) -> [u64; KINDS.len()] {
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

/// Returns the FNV-1a hash of an event's correlation id and data.
pub(crate) fn checksum(correlation_id: &str, data: &[u8]) -> u64 {
    let bytes = correlation_id.bytes().chain(data.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
