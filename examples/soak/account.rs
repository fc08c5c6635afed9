//! What became of every call, as its caller saw it, against what the pool counted.

use crate::{Failure, LIAR, STEADY, VICTIM};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tollgate::{AgentPool, AgentProtocolError, AgentResponse, CallCounts, HeaderOp};

/// How calls ended, in the words of [`CallCounts`].
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

const AGENTS: [&str; 3] = [STEADY, VICTIM, LIAR];

/// What callers saw.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: [[AtomicU64; KINDS.len()]; AGENTS.len()],
    /// The first answer that was not the one to its call.
    wrong: Mutex<Option<String>>,
}

impl Ledger {
    /// Enters what became of a call that should be answered with this checksum.
    pub(crate) fn enter(
        &self,
        agent: &str,
        expected: u64,
        outcome: &Result<AgentResponse, AgentProtocolError>,
    ) {
        match outcome {
            Ok(response) if checksum_in(response) == Some(expected) => self.count(agent, ANSWERED),
            Ok(response) => self.wrong(format!("{agent}: {expected:x} expected: {response:?}")),
            Err(error) => match kind_of(error) {
                Some(kind) => self.count(agent, kind),
                None => self.wrong(format!("{agent}: {error}")),
            },
        }
    }

    /// Enters a call that its caller gave up.
    pub(crate) fn enter_given_up(&self, agent: &str) {
        self.count(agent, GIVEN_UP);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.sum(|kind| kind == ANSWERED)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.sum(|kind| kind != ANSWERED)
    }

    /// Fails as soon as something is wrong.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Some(wrong) = &*self.wrong.lock().expect("nobody panics with this lock") {
            return Err(wrong.clone().into());
        }
        let harmed = self.counts[0].iter().enumerate().any(|(kind, count)| {
            kind != ANSWERED && kind != GIVEN_UP && count.load(Ordering::Relaxed) > 0
        });
        if harmed {
            return Err("a call to the agent that is never harmed has failed".into());
        }
        Ok(())
    }

    /// Compares with the pool's own counts, once all callers are done.
    pub(crate) async fn settle(&self, pool: &AgentPool) -> Result<(), Failure> {
        self.check()?;
        let mut differences = Vec::new();
        for (agent, seen) in AGENTS.iter().zip(&self.counts) {
            let stats = pool.agent_stats(agent).await.ok_or("an agent is missing")?;
            let counted = in_order(&stats.calls);
            println!("{agent}: {} calls", stats.calls.made);
            for ((kind, seen), counted) in KINDS.iter().zip(seen).zip(counted) {
                let seen = seen.load(Ordering::Relaxed);
                if seen > 0 || counted > 0 {
                    println!("  {seen:>10} {kind}");
                }
                if seen != counted {
                    differences.push(format!(
                        "{agent}: {seen} {kind}, the pool counted {counted}"
                    ));
                }
            }
            if stats.calls.made != stats.calls.ended() || stats.total_in_flight != 0 {
                differences.push(format!("{agent}: calls do not add up: {:?}", stats.calls));
            }
            println!(
                "  {} connections replaced, breaker opened {} times, {} exchanges cancelled, {:?}",
                stats.reconnects,
                stats.circuit_breaker_trips,
                stats.exchanges_cancelled,
                stats.faults
            );
        }
        let affinities = pool.correlation_affinity_count();
        if affinities != 0 {
            differences.push(format!("{affinities} affinities are left behind"));
        }
        if differences.is_empty() {
            println!("every answer belongs to its call, and all counts add up");
            return Ok(());
        }
        Err(differences.join("\n").into())
    }

    fn count(&self, agent: &str, kind: usize) {
        let index = AGENTS.iter().position(|name| *name == agent);
        self.counts[index.expect("one of the agents")][kind].fetch_add(1, Ordering::Relaxed);
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().expect("nobody panics with this lock");
        wrong.get_or_insert(what);
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

fn in_order(calls: &CallCounts) -> [u64; KINDS.len()] {
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

/// The name of the header that carries a checksum back.
pub(crate) const CHECKSUM: &str = "x-checksum";

fn checksum_in(response: &AgentResponse) -> Option<u64> {
    match response.request_headers.as_slice() {
        [HeaderOp::Set { name, value }] if name == CHECKSUM => u64::from_str_radix(value, 16).ok(),
        _ => None,
    }
}

/// FNV-1a of what an event is about and carries.
pub(crate) fn checksum(about: &str, data: &[u8]) -> u64 {
    let bytes = about.bytes().chain(data.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
