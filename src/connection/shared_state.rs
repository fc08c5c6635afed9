//! State that all connections to one agent share.

use super::admission_queues::AdmissionQueues;
use super::breaker::{CircuitBreaker, CircuitBreakerSettings};
use super::expiring_keys::IdHasher;
use super::{CallContext, CallEnd, RingCounters, Stopwatch};
use crate::error::CallError;
use crate::memory::MemoryBudget;
use crate::metrics::{CallTally, Fault, FaultCounters, StageTally};
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Notify;

/// The part of an agent's state that its calls use, on all its connections.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(crate) id: Arc<str>,
    pub(crate) faults: FaultCounters,
    pub(crate) calls: CallTally,
    pub(crate) stages: StageTally,
    /// Stopwatches kept for the next timed calls, so that those allocate none.
    stopwatches: ArrayQueue<Stopwatch>,
    pub(crate) breaker: CircuitBreaker,
    /// Calls that may use any connection, waiting for one.
    pub(crate) queues: AdmissionQueues,
    /// Hashes the correlation ids of this agent's exchanges.
    pub(super) keys: IdHasher,
    /// Notified to run the pool's maintenance.
    maintenance: Arc<Notify>,
    /// Memory that agents make the pool hold.
    pub(crate) memory: MemoryBudget,
    /// Number of requests of the agent to pause.
    pub(crate) pauses: AtomicU64,
    /// Number of requests of the agent to resume.
    pub(crate) resumes: AtomicU64,
    /// Counters of the connections through shared memory.
    pub(crate) rings: Arc<RingCounters>,
    /// Connections that stayed on their socket because shared memory failed.
    pub(crate) failed_upgrades: AtomicU64,
}

/// Maximum number of stopwatches that are kept; more concurrently timed calls allocate theirs.
const MAX_STOPWATCHES: usize = 16;

impl SharedState {
    pub(crate) fn new(
        id: &str,
        breaker: CircuitBreakerSettings,
        maintenance: Arc<Notify>,
        memory: MemoryBudget,
    ) -> Self {
        Self {
            id: id.into(),
            faults: FaultCounters::default(),
            calls: CallTally::default(),
            stages: StageTally::default(),
            stopwatches: ArrayQueue::new(MAX_STOPWATCHES),
            breaker: CircuitBreaker::new(breaker),
            queues: AdmissionQueues::default(),
            keys: IdHasher::default(),
            maintenance,
            memory,
            pauses: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
            rings: Arc::default(),
            failed_upgrades: AtomicU64::new(0),
        }
    }

    /// Wakes the pool's maintenance.
    pub(crate) fn request_maintenance(&self) {
        self.maintenance.notify_one();
    }

    /// Counts and logs something that went wrong on a connection.
    pub(crate) fn record_fault(&self, fault: Fault, detail: &dyn std::fmt::Display) {
        self.faults.note(&self.id, fault, detail);
    }

    /// Returns the error of an operation on a connection.
    pub(super) fn error(&self, end: CallEnd, timeout: Duration) -> CallError {
        end.error(CallContext {
            agent_id: &self.id,
            timeout,
            correlation_id: "",
            max_queued: 0,
        })
    }

    /// Returns a stopwatch for a call, a used one if there is one.
    pub(super) fn stopwatch(&self) -> Stopwatch {
        self.stopwatches.pop().unwrap_or_else(Stopwatch::new)
    }

    /// Keeps a stopwatch for another call.
    pub(super) fn recycle_stopwatch(&self, watch: Stopwatch) {
        if let Some(watch) = watch.reset() {
            // Dropped if enough are kept.
            let _ = self.stopwatches.push(watch);
        }
    }

    /// Returns the correlation of an exchange with this agent.
    pub(crate) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        Correlation {
            id,
            key: self.keys.key(id),
        }
    }
}

/// Identity of an exchange: its correlation id and a hash of that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Correlation<'a> {
    pub(crate) id: &'a str,
    /// Hash of `id`, with a seed of the agent: the same on all its connections, but different for
    /// other agents.
    pub(crate) key: u64,
}
