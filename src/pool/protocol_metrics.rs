//! Metrics of a pool.

use super::agent_state::AgentState;
use super::member::Member;
use super::{AgentPool, Inner};
use crate::connection::{CircuitBreakerState, LinkKind};
use crate::lock::lock;
use crate::metrics::{AgentMetrics, ProtocolMetricsSnapshot};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Metrics of a pool's calls and connections. A handle keeps the counters, but no connection,
/// alive.
///
/// ```
/// let pool = tollgate::AgentPool::new();
/// let metrics = pool.metrics();
/// assert_eq!(metrics.snapshot().requests_total, 0);
/// assert!(metrics.to_prometheus("tollgate").contains("\ntollgate_requests_total 0\n"));
/// ```
#[derive(Clone)]
pub struct ProtocolMetrics(Arc<Inner>);

impl AgentPool {
    /// Returns the pool's metrics, to read or export them.
    pub fn metrics(&self) -> ProtocolMetrics {
        ProtocolMetrics(Arc::clone(&self.inner))
    }
}

impl ProtocolMetrics {
    /// Returns a snapshot of all metrics.
    pub fn snapshot(&self) -> ProtocolMetricsSnapshot {
        let pool = &*self.0;
        let mut retired_counters = lock(&pool.retired_counters.0);
        let agents = pool.agents.load();
        let metrics: BTreeMap<_, _> = agents
            .values()
            .map(|agent| (agent.id().to_string(), agent.metrics()))
            .collect();
        let is_present = |state: &Arc<AgentState>| {
            let known = agents.get(&state.shared.id);
            known.is_some_and(|agent| Arc::ptr_eq(&agent.state, state))
        };
        let mut total = retired_counters.total(is_present);
        metrics.values().for_each(|agent| total += agent);
        let calls = &total.calls;
        ProtocolMetricsSnapshot {
            requests_total: calls.made,
            responses_total: calls.answered,
            timeouts_total: calls.timed_out,
            connection_errors_total: calls.connection_closed + calls.unavailable,
            serialization_errors_total: calls.undecodable + calls.too_large,
            flow_control_pauses_total: total.flow_control_pauses,
            flow_control_resumes_total: total.flow_control_resumes,
            flow_control_rejections_total: calls.paused,
            affinity_evictions_total: pool.affinities.evictions(),
            affinity_rejections_total: pool.affinities.rejections(),
            in_flight_requests: total.in_flight_requests,
            correlation_affinities: pool.affinities.len() as u64,
            buffer_utilization_percent: (total.buffer_utilization * 100.0).round() as u64,
            healthy_connections: total.healthy_connections,
            paused_connections: total.paused_connections,
            serialization_time: total.stages.encode.clone(),
            request_duration: total.request_duration.clone(),
            sticky_sessions: 0,
            memory_bytes: pool.memory.used() as u64,
            memory_limit_bytes: pool.memory.limit() as u64,
            connections_ended_for_memory_total: pool.memory.ended(),
            rejections: pool.rejections.counts(),
            total,
            agents: metrics,
        }
    }

    /// Returns all metrics in the Prometheus text format: see
    /// [`ProtocolMetricsSnapshot::to_prometheus`].
    pub fn to_prometheus(&self, prefix: &str) -> String {
        self.snapshot().to_prometheus(prefix)
    }
}

impl Member {
    fn metrics(&self) -> AgentMetrics {
        let snapshot = self.snapshot_full();
        let open = || snapshot.open_connections();
        let wanted_connections = self.config.connections_per_agent;
        let active_connections = open().count();
        let is_closed = self.state.shared.breaker.state() == CircuitBreakerState::Closed;
        AgentMetrics {
            pending_requests: open().map(|one| one.calls.slots.pending() as u64).sum(),
            active_connections: active_connections as u64,
            healthy_connections: open().filter(|connection| connection.is_healthy()).count() as u64,
            paused_connections: open().filter(|one| one.flow.is_paused()).count() as u64,
            connecting_connections: wanted_connections.saturating_sub(active_connections) as u64,
            open_circuit_breakers: u64::from(!is_closed),
            shared_memory_connections: open()
                .filter(|one| matches!(one.link_kind, LinkKind::SharedMemory(_)))
                .count() as u64,
            buffer_utilization: open()
                .map(|connection| connection.outbound.queue.utilization())
                .fold(0.0, f64::max),
            ..counters_of(&self.state)
        }
    }
}

/// Returns the counters of an agent, without the gauges of its connections.
fn counters_of(state: &AgentState) -> AgentMetrics {
    let counters = &state.counters;
    let calls = state.shared.calls.counts();
    AgentMetrics {
        in_flight_requests: calls.made.saturating_sub(calls.ended()),
        calls,
        decisions: state.shared.calls.decisions(),
        faults: state.shared.faults.counts(),
        failed_open: counters.failed_open.load(Ordering::Relaxed),
        allowed_while_paused: counters.allowed_while_paused.load(Ordering::Relaxed),
        exchanges_cancelled: counters.exchanges_cancelled.load(Ordering::Relaxed),
        reconnects: counters.reconnects.load(Ordering::Relaxed),
        circuit_breaker_trips: state.shared.breaker.trips(),
        flow_control_pauses: state.shared.pauses.load(Ordering::Relaxed),
        flow_control_resumes: state.shared.resumes.load(Ordering::Relaxed),
        shared_memory_doorbells: state.shared.rings.doorbells.load(Ordering::Relaxed),
        shared_memory_sleeps: state.shared.rings.sleeps.load(Ordering::Relaxed),
        shared_memory_vain_spins: state.shared.rings.vain_spins.load(Ordering::Relaxed),
        shared_memory_failures: state.shared.failed_upgrades.load(Ordering::Relaxed),
        request_duration: state.shared.calls.durations(),
        stages: state.shared.stages.snapshot(),
        ..AgentMetrics::default()
    }
}

/// Counters of agents that were removed, so that totals never decrease.
#[derive(Debug, Default)]
pub(super) struct RetiredCounters(Mutex<RetiredAgents>);

#[derive(Debug, Default)]
pub(super) struct RetiredAgents {
    /// Agents whose counters may still change, because calls or connections hold them.
    live: Vec<Arc<AgentState>>,
    /// Sum of the counters of all other agents.
    ended: AgentMetrics,
}

impl RetiredCounters {
    /// Keeps the counters of an agent that is about to be removed. Called before the removal, so
    /// that a snapshot finds the agent in one place or the other.
    pub(super) fn keep(&self, state: &Arc<AgentState>) {
        let mut retired_counters = lock(&self.0);
        let is_known = |known: &Arc<AgentState>| Arc::ptr_eq(known, state);
        if !retired_counters.live.iter().any(is_known) {
            retired_counters.collect_ended();
            retired_counters.live.push(Arc::clone(state));
        }
    }
}

impl RetiredAgents {
    /// Returns the sum of the counters of removed agents.
    fn total(&mut self, is_present: impl Fn(&Arc<AgentState>) -> bool) -> AgentMetrics {
        self.collect_ended();
        let mut total = self.ended.clone();
        for state in &self.live {
            if !is_present(state) {
                total += &counters_of(state);
            }
        }
        total
    }

    /// Adds up the agents that nothing else holds, whose counters no longer change.
    fn collect_ended(&mut self) {
        let ended = &mut self.ended;
        self.live.retain(|state| {
            let has_ended = Arc::strong_count(state) == 1;
            if has_ended {
                *ended += &counters_of(state);
            }
            !has_ended
        });
    }
}

impl fmt::Debug for ProtocolMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
