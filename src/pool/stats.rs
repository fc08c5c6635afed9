//! Statistics of one agent.

use crate::connection::{CircuitBreakerState, SharedMemoryRefusal};
use crate::metrics::{CallCounts, FaultCounts};
use std::time::Duration;

/// Use of shared memory by an agent's connections: see [`SharedMemory`](crate::SharedMemory).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedMemoryStats {
    /// Number of open connections whose frames go through shared memory.
    pub connections: usize,
    /// Reason why the frames of another open connection do not, if there is one.
    pub refusal: Option<SharedMemoryRefusal>,
    /// Number of connections that stayed on their socket because shared memory failed, although
    /// this side allows it.
    pub failed: u64,
    /// Number of times that the sleeping agent was woken.
    pub doorbells: u64,
    /// Number of times that the proxy's side went to sleep.
    pub sleeps: u64,
    /// Number of times that the proxy's side waited without sleeping, and nothing came.
    pub vain_spins: u64,
}

/// Statistics of one agent's calls and connections.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AgentPoolStats {
    /// Name of the agent.
    pub agent_id: String,
    /// Endpoint of the agent; `reverse` for an agent that only connects to the proxy.
    pub endpoint: String,
    /// Number of open connections.
    pub active_connections: usize,
    /// Number of open connections that take new exchanges: they are not failing, and the agent has
    /// not reported that it is unhealthy or draining.
    pub healthy_connections: usize,
    /// Use of shared memory.
    pub shared_memory: SharedMemoryStats,
    /// Number of calls that wait for an answer.
    pub total_in_flight: u64,
    /// Number of calls made.
    pub total_requests: u64,
    /// Number of failed calls. Calls dropped by the caller are not counted.
    pub total_errors: u64,
    /// Ratio of failed calls to calls made, 0.0 to 1.0.
    pub error_rate: f64,
    /// `true` if a connection takes new exchanges and the circuit breaker is not open.
    pub is_healthy: bool,
    /// Time since the last call was made, if a connection is open.
    pub idle_for: Option<Duration>,
    /// Numbers of calls by how they ended.
    pub calls: CallCounts,
    /// Number of failed calls that [`FailureMode::Open`](super::FailureMode::Open) allowed.
    pub failed_open: u64,
    /// Number of calls that [`FlowControlMode::FailOpen`](super::FlowControlMode::FailOpen)
    /// allowed.
    pub allowed_while_paused: u64,
    /// Number of exchanges that were dropped or cancelled before they were over and of which the
    /// agent was told.
    pub exchanges_cancelled: u64,
    /// Number of connections that replaced lost ones, or that were opened after the agent was added
    /// without them.
    pub reconnects: u64,
    /// State of the circuit breaker.
    pub circuit_breaker: CircuitBreakerState,
    /// Number of times that the circuit breaker opened.
    pub circuit_breaker_trips: u64,
    /// Number of config update requests from the agent that the proxy accepted. Repeated requests
    /// count each time.
    pub config_updates_accepted: u64,
    /// Number of config update requests from the agent that the proxy rejected.
    pub config_updates_refused: u64,
    /// Number of lines that the agent wrote to the proxy's log.
    pub log_messages: u64,
    /// Number of log lines from the agent that were dropped because there were too many.
    pub log_messages_left_out: u64,
    /// Numbers of faults that do not belong to a single call.
    pub faults: FaultCounts,
}
