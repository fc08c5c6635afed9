use crate::connection::CircuitBreakerState;
use crate::metrics::{CallCounts, FaultCounts};
use std::time::Duration;

/// What happened to one agent's calls and connections so far.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AgentPoolStats {
    /// Name of the agent.
    pub agent_id: String,
    /// Where it is; `reverse` for an agent that connects to the proxy and is not connected to.
    pub endpoint: String,
    /// Open connections.
    pub active_connections: usize,
    /// Open connections that take new exchanges: they are not failing, and the agent has not reported that it
    /// is unhealthy or draining.
    pub healthy_connections: usize,
    /// Calls that wait for an answer.
    pub total_in_flight: u64,
    /// Calls made.
    pub total_requests: u64,
    /// Calls that failed, except those that their callers gave up.
    pub total_errors: u64,
    /// Failed calls by calls made, 0.0 to 1.0.
    pub error_rate: f64,
    /// Whether a connection takes new exchanges and the circuit breaker is not open.
    pub is_healthy: bool,
    /// How long ago the last call was made, if a connection is open.
    pub idle_for: Option<Duration>,
    /// The calls by how they ended.
    pub calls: CallCounts,
    /// Failed calls that were allowed by [`FailureMode::Open`](super::FailureMode::Open).
    pub failed_open: u64,
    /// Calls that were allowed by [`FlowControlMode::FailOpen`](super::FlowControlMode::FailOpen).
    pub allowed_while_paused: u64,
    /// Exchanges that were dropped before they were over, of which the agent was told.
    pub exchanges_cancelled: u64,
    /// Connections that took the place of lost ones, or that came up after the agent was added without.
    pub reconnects: u64,
    /// What the circuit breaker lets through.
    pub circuit_breaker: CircuitBreakerState,
    /// How often the circuit breaker opened.
    pub circuit_breaker_trips: u64,
    /// Requests of the agent for changes of configuration that the proxy's handler accepted; one that comes again counts
    /// again.
    pub config_updates_accepted: u64,
    /// The same that were refused.
    pub config_updates_refused: u64,
    /// Lines that the agent wrote to the proxy's log.
    pub log_messages: u64,
    /// The same that were left out because there were too many.
    pub log_messages_left_out: u64,
    /// What went wrong without being the fault of any one call.
    pub faults: FaultCounts,
}
