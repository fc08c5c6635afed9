//! What the pool counts.

use super::agents::AgentEntry;
use super::{AgentPool, Inner};
use crate::connection::{AgentRecord, CircuitBreakerState};
use crate::metrics::{AgentMetrics, Poolwide, ProtocolMetricsSnapshot};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// What a pool counts of its calls and connections. Lives as long as anybody holds it, and keeps no connection open.
///
/// ```
/// let pool = tollgate::AgentPool::new();
/// let metrics = pool.protocol_metrics();
/// assert_eq!(metrics.snapshot().requests_total, 0);
/// assert!(metrics.to_prometheus("tollgate").contains("\ntollgate_requests_total 0\n"));
/// ```
#[derive(Clone)]
pub struct ProtocolMetrics(Arc<Inner>);

impl AgentPool {
    /// What the pool counts, to be read or exported.
    pub fn protocol_metrics(&self) -> ProtocolMetrics {
        ProtocolMetrics(Arc::clone(&self.inner))
    }
}

impl ProtocolMetrics {
    /// Everything at this moment.
    pub fn snapshot(&self) -> ProtocolMetricsSnapshot {
        let pool = &*self.0;
        let mut departed = pool.departed.lock();
        let agents = pool.agents.load();
        let connections = pool.config.connections_per_agent.max(1);
        let metrics: BTreeMap<_, _> = agents
            .iter()
            .map(|agent| (agent.id().to_string(), agent.metrics(connections)))
            .collect();
        let is_present = |record: &Arc<AgentRecord>| {
            let known = agents.get(&record.id);
            known.is_some_and(|agent| Arc::ptr_eq(&agent.record, record))
        };
        let mut total = departed.total(is_present);
        metrics.values().for_each(|agent| total += agent);
        let poolwide = Poolwide {
            affinity_evictions: pool.affinities.evictions(),
            affinity_rejections: pool.affinities.rejections(),
            correlation_affinities: pool.affinities.len() as u64,
            sticky_sessions: pool.sessions.len() as u64,
        };
        ProtocolMetricsSnapshot::new(poolwide, total, metrics)
    }

    /// Everything in the text format of Prometheus: see [`ProtocolMetricsSnapshot::to_prometheus`].
    pub fn to_prometheus(&self, prefix: &str) -> String {
        self.snapshot().to_prometheus(prefix)
    }
}

impl AgentEntry {
    fn metrics(&self, wanted_connections: usize) -> AgentMetrics {
        let open = || self.open_connections();
        let active_connections = open().count();
        let is_closed = self.record.breaker.state() == CircuitBreakerState::Closed;
        AgentMetrics {
            pending_requests: open().map(|connection| connection.in_flight() as u64).sum(),
            active_connections: active_connections as u64,
            healthy_connections: open().filter(|connection| connection.is_healthy()).count() as u64,
            paused_connections: open().filter(|connection| connection.is_paused()).count() as u64,
            connecting_connections: wanted_connections.saturating_sub(active_connections) as u64,
            open_circuit_breakers: u64::from(!is_closed),
            buffer_utilization: open()
                .map(|connection| connection.ring_utilization())
                .fold(0.0, f64::max),
            ..counted(&self.record)
        }
    }
}

/// What a record counts, without what its connections are like at present.
fn counted(record: &AgentRecord) -> AgentMetrics {
    let incidents = &record.incidents;
    let calls = record.calls.counts();
    AgentMetrics {
        in_flight_requests: calls.made.saturating_sub(calls.ended()),
        calls,
        decisions: record.calls.decisions(),
        faults: record.counters.faults(),
        failed_open: incidents.failed_open.load(Ordering::Relaxed),
        allowed_while_paused: incidents.allowed_while_paused.load(Ordering::Relaxed),
        exchanges_cancelled: incidents.exchanges_cancelled.load(Ordering::Relaxed),
        reconnects: incidents.reconnects.load(Ordering::Relaxed),
        circuit_breaker_trips: record.breaker.trips(),
        flow_control_pauses: incidents.pauses.load(Ordering::Relaxed),
        flow_control_resumes: incidents.resumes.load(Ordering::Relaxed),
        request_duration: record.calls.durations(),
        stages: record.stages.snapshot(),
        ..AgentMetrics::default()
    }
}

/// What was counted of agents that were removed, so that totals never fall.
#[derive(Debug, Default)]
pub(super) struct Departed(Mutex<DepartedAgents>);

#[derive(Debug, Default)]
pub(super) struct DepartedAgents {
    /// Those whose calls may not all be over.
    lingering: Vec<Arc<AgentRecord>>,
    /// All others.
    over: AgentMetrics,
}

impl Departed {
    /// Keeps what was counted of an agent that is about to leave the pool. Before it does, so that a snapshot finds
    /// it in one place or the other.
    pub(super) fn keep(&self, record: &Arc<AgentRecord>) {
        let mut departed = self.lock();
        let is_known = |known: &Arc<AgentRecord>| Arc::ptr_eq(known, record);
        if !departed.lingering.iter().any(is_known) {
            departed.settle();
            departed.lingering.push(Arc::clone(record));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, DepartedAgents> {
        // Nothing that holds the lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DepartedAgents {
    /// Everything of agents that have left.
    fn total(&mut self, is_present: impl Fn(&Arc<AgentRecord>) -> bool) -> AgentMetrics {
        self.settle();
        let mut total = self.over.clone();
        for record in &self.lingering {
            if !is_present(record) {
                total += &counted(record);
            }
        }
        total
    }

    /// Adds up the records that nobody else holds, which do not change any more.
    fn settle(&mut self) {
        let over = &mut self.over;
        self.lingering.retain(|record| {
            let is_over = Arc::strong_count(record) == 1;
            if is_over {
                *over += &counted(record);
            }
            !is_over
        });
    }
}

impl fmt::Debug for ProtocolMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
