//! Snapshots of the pool's metrics.

use super::calls::{CallCounts, DecisionCounts, add_fields};
use super::counters::FaultCounts;
use super::histogram::HistogramSnapshot;
use super::rejections::RejectionCounts;
use super::stages::StageHistograms;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Metrics of one agent, or of all agents together.
///
/// Fields described as current are gauges; all others are counters that never decrease.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct AgentMetrics {
    /// Numbers of calls, by how they ended.
    pub calls: CallCounts,
    /// Numbers of answers, by decision.
    pub decisions: DecisionCounts,
    /// Numbers of faults that do not belong to a single call.
    pub faults: FaultCounts,
    /// Number of failed calls that were allowed because of
    /// [`FailureMode::Open`](crate::FailureMode::Open).
    pub failed_open: u64,
    /// Number of calls that were allowed during a pause because of
    /// [`FlowControlMode::FailOpen`](crate::FlowControlMode::FailOpen).
    pub allowed_while_paused: u64,
    /// Number of exchanges that were dropped before their end and cancelled at the agent.
    pub exchanges_cancelled: u64,
    /// Number of connections that replaced lost ones.
    pub reconnects: u64,
    /// Number of times that the circuit breaker opened.
    pub circuit_breaker_trips: u64,
    /// Number of pauses that the agent asked for.
    pub flow_control_pauses: u64,
    /// Number of pauses that ended.
    pub flow_control_resumes: u64,
    /// Number of times that the sleeping agent was woken, on connections through shared memory.
    pub shared_memory_doorbells: u64,
    /// Number of times that the proxy's side of such connections went to sleep.
    pub shared_memory_sleeps: u64,
    /// Number of times that the proxy's side of such connections waited without sleeping, and
    /// nothing came.
    pub shared_memory_vain_spins: u64,
    /// Number of connections that stayed on their socket because shared memory failed.
    pub shared_memory_failures: u64,
    /// Current number of open connections through shared memory.
    pub shared_memory_connections: u64,
    /// Current number of calls that were made and have not ended.
    pub in_flight_requests: u64,
    /// Current number of calls that have a slot, so that the agent may be working on them.
    pub pending_requests: u64,
    /// Current number of open connections.
    pub active_connections: u64,
    /// Current number of connections that take new exchanges.
    pub healthy_connections: u64,
    /// Current number of connections that the agent paused.
    pub paused_connections: u64,
    /// Current number of missing connections that are being opened.
    pub connecting_connections: u64,
    /// Current number of agents whose circuit breaker is open or half-open.
    pub open_circuit_breakers: u64,
    /// Current fill level of the send queue, from 0.0 to 1.0. With several connections, that of the
    /// fullest.
    pub buffer_utilization: f64,
    /// Duration of calls that were sent to the agent, from making the call to receiving its answer
    /// or to its failure. Calls that were rejected, dropped by the caller or not sent are not
    /// included.
    pub request_duration: HistogramSnapshot,
    /// Durations of the stages of timed calls.
    pub stages: StageHistograms,
}

impl AddAssign<&Self> for AgentMetrics {
    fn add_assign(&mut self, more: &Self) {
        add_fields!(self += more: calls, decisions, faults, failed_open, allowed_while_paused,
            exchanges_cancelled, reconnects, circuit_breaker_trips, flow_control_pauses, flow_control_resumes,
            shared_memory_doorbells, shared_memory_sleeps, shared_memory_vain_spins, shared_memory_failures,
            shared_memory_connections, in_flight_requests, pending_requests, active_connections, healthy_connections, paused_connections,
            connecting_connections, open_circuit_breakers);
        self.buffer_utilization = self.buffer_utilization.max(more.buffer_utilization);
        self.request_duration += &more.request_duration;
        self.stages += &more.stages;
    }
}

/// Snapshot of a pool's metrics: the totals that `zentinel-agent-protocol` exposes, and details for
/// each agent.
///
/// While calls run, the metrics are read one after another and may be off by calls that just ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProtocolMetricsSnapshot {
    /// Number of calls made.
    pub requests_total: u64,
    /// Number of calls that the agent answered.
    pub responses_total: u64,
    /// Number of calls that ended by their deadline.
    pub timeouts_total: u64,
    /// Number of calls whose connection ended, or that found no usable connection.
    pub connection_errors_total: u64,
    /// Number of calls whose event was too large or whose answer could not be decoded.
    pub serialization_errors_total: u64,
    /// Number of pauses that agents asked for.
    pub flow_control_pauses_total: u64,
    /// Number of pauses that ended.
    pub flow_control_resumes_total: u64,
    /// Number of calls rejected, or allowed without the agent, because of a pause.
    pub flow_control_rejections_total: u64,
    /// Number of pinned correlation ids that were evicted because no event came.
    pub affinity_evictions_total: u64,
    /// Number of exchanges that were not pinned because the limit was reached.
    pub affinity_rejections_total: u64,
    /// Current number of calls that were made and have not ended.
    pub in_flight_requests: u64,
    /// Current number of pinned correlation ids.
    pub correlation_affinities: u64,
    /// Current fill level of the fullest send queue, in percent.
    pub buffer_utilization_percent: u64,
    /// Current number of connections that take new exchanges.
    pub healthy_connections: u64,
    /// Current number of connections that their agent paused.
    pub paused_connections: u64,
    /// Time to encode an event, of timed calls.
    pub serialization_time: HistogramSnapshot,
    /// Duration of calls. See [`AgentMetrics::request_duration`].
    pub request_duration: HistogramSnapshot,
    /// Current number of sticky sessions. The pool has none; `tollgate-zentinel` adds its own.
    pub sticky_sessions: u64,
    /// Memory that agents make the pool hold, in bytes.
    pub memory_bytes: u64,
    /// Limit of `memory_bytes`: the setting `max_memory`.
    pub memory_limit_bytes: u64,
    /// Number of connections that were closed because the memory limit was exceeded and they held
    /// most.
    pub connections_ended_for_memory_total: u64,
    /// Numbers of HTTP messages that were not forwarded, by reason.
    pub rejections: RejectionCounts,
    /// Metrics of all agents together, including removed ones.
    pub total: AgentMetrics,
    /// Metrics of each agent in the pool, by agent id.
    pub agents: BTreeMap<String, AgentMetrics>,
}
