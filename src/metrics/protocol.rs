//! What the pool counts, at one moment.

use super::calls::{CallCounts, DecisionCounts, add_fields};
use super::counters::FaultCounts;
use super::histogram::HistogramSnapshot;
use super::stages::StageHistograms;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// What was counted of one agent, or of all together.
///
/// Counts never fall; what describes the present says so.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct AgentMetrics {
    /// Calls by how they ended.
    pub calls: CallCounts,
    /// Answers by what they decided.
    pub decisions: DecisionCounts,
    /// What went wrong without being the fault of any one call.
    pub faults: FaultCounts,
    /// Failed calls that were allowed by [`FailureMode::Open`](crate::FailureMode::Open).
    pub failed_open: u64,
    /// Calls that were allowed by [`FlowControlMode::FailOpen`](crate::FlowControlMode::FailOpen).
    pub allowed_while_paused: u64,
    /// Exchanges that were dropped before they were over, of which the agent was told.
    pub exchanges_cancelled: u64,
    /// Connections that took the place of lost ones.
    pub reconnects: u64,
    /// How often the circuit breaker opened.
    pub circuit_breaker_trips: u64,
    /// Pauses that the agent asked for.
    pub flow_control_pauses: u64,
    /// Ends of pauses.
    pub flow_control_resumes: u64,
    /// Calls made and not ended, at present.
    pub in_flight_requests: u64,
    /// Of these, calls that have a slot and so may be with the agent.
    pub pending_requests: u64,
    /// Open connections, at present.
    pub active_connections: u64,
    /// Connections that take new exchanges, at present.
    pub healthy_connections: u64,
    /// Connections that the agent asked to send nothing on, at present.
    pub paused_connections: u64,
    /// Connections that are missing and being made, at present.
    pub connecting_connections: u64,
    /// Agents whose circuit breaker is open or lets one call try, at present.
    pub open_circuit_breakers: u64,
    /// How full the ring of frames that wait to be sent is, at present, 0.0 to 1.0: the fullest, where there are
    /// several connections.
    pub buffer_utilization: f64,
    /// How long calls took that were put to the agent, from being made to their answer being received or their
    /// failure. Calls that were refused, cut short by their caller or not sent are not among them.
    pub request_duration: HistogramSnapshot,
    /// Where the time of timed calls went.
    pub stages: StageHistograms,
}

impl AddAssign<&Self> for AgentMetrics {
    fn add_assign(&mut self, more: &Self) {
        add_fields!(self += more: calls, decisions, faults, failed_open, allowed_while_paused,
            exchanges_cancelled, reconnects, circuit_breaker_trips, flow_control_pauses, flow_control_resumes,
            in_flight_requests, pending_requests, active_connections, healthy_connections, paused_connections,
            connecting_connections, open_circuit_breakers);
        self.buffer_utilization = self.buffer_utilization.max(more.buffer_utilization);
        self.request_duration += &more.request_duration;
        self.stages += &more.stages;
    }
}

/// What belongs to no one agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poolwide {
    pub(crate) affinity_evictions: u64,
    pub(crate) affinity_rejections: u64,
    pub(crate) correlation_affinities: u64,
    pub(crate) sticky_sessions: u64,
}

/// What a pool has counted, at one moment: the published figures, and everything behind them.
///
/// While calls run, figures are read one after another and may differ by those that just ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProtocolMetricsSnapshot {
    /// Calls made.
    pub requests_total: u64,
    /// Calls answered by their agent.
    pub responses_total: u64,
    /// Calls ended by their deadline.
    pub timeouts_total: u64,
    /// Calls that lost their connection or found none.
    pub connection_errors_total: u64,
    /// Calls whose event could not be sent for its size, or whose answer did not decode.
    pub serialization_errors_total: u64,
    /// Pauses that agents asked for.
    pub flow_control_pauses_total: u64,
    /// Ends of pauses.
    pub flow_control_resumes_total: u64,
    /// Calls refused, or allowed unasked, because of a pause.
    pub flow_control_rejections_total: u64,
    /// Exchanges that were forgotten because no event came.
    pub affinity_evictions_total: u64,
    /// Exchanges whose connection could not be remembered because too many were.
    pub affinity_rejections_total: u64,
    /// Calls made and not ended.
    pub in_flight_requests: u64,
    /// Exchanges whose connections are remembered by correlation id.
    pub correlation_affinities: u64,
    /// How full the fullest ring of frames that wait to be sent is, 0 to 100.
    pub buffer_utilization_percent: u64,
    /// Connections that take new exchanges.
    pub healthy_connections: u64,
    /// Connections that their agent asked to send nothing on.
    pub paused_connections: u64,
    /// How long writing an event took, of the calls that were timed.
    pub serialization_time: HistogramSnapshot,
    /// How long calls took: see [`AgentMetrics::request_duration`].
    pub request_duration: HistogramSnapshot,
    /// Sticky sessions.
    pub sticky_sessions: u64,
    /// All agents together, also those that were removed.
    pub total: AgentMetrics,
    /// The agents that the pool has, by name.
    pub agents: BTreeMap<String, AgentMetrics>,
}

impl ProtocolMetricsSnapshot {
    pub(crate) fn new(
        poolwide: Poolwide,
        total: AgentMetrics,
        agents: BTreeMap<String, AgentMetrics>,
    ) -> Self {
        let calls = &total.calls;
        Self {
            requests_total: calls.made,
            responses_total: calls.answered,
            timeouts_total: calls.timed_out,
            connection_errors_total: calls.connection_closed + calls.unavailable,
            serialization_errors_total: calls.undecodable + calls.too_large,
            flow_control_pauses_total: total.flow_control_pauses,
            flow_control_resumes_total: total.flow_control_resumes,
            flow_control_rejections_total: calls.paused,
            affinity_evictions_total: poolwide.affinity_evictions,
            affinity_rejections_total: poolwide.affinity_rejections,
            in_flight_requests: total.in_flight_requests,
            correlation_affinities: poolwide.correlation_affinities,
            buffer_utilization_percent: (total.buffer_utilization * 100.0).round() as u64,
            healthy_connections: total.healthy_connections,
            paused_connections: total.paused_connections,
            serialization_time: total.stages.encode.clone(),
            request_duration: total.request_duration.clone(),
            sticky_sessions: poolwide.sticky_sessions,
            total,
            agents,
        }
    }
}
