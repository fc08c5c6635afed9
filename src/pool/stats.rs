use crate::metrics::FaultCounts;

/// What happened on one agent's connections so far.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AgentPoolStats {
    /// Name of the agent.
    pub agent_id: String,
    /// Where it is.
    pub endpoint: String,
    /// Open connections.
    pub active_connections: usize,
    /// Open connections whose agent has not reported that it is unhealthy or draining.
    pub healthy_connections: usize,
    /// Calls that wait for an answer.
    pub total_in_flight: u64,
    /// Calls made.
    pub total_requests: u64,
    /// Calls that failed.
    pub total_errors: u64,
    /// Failed calls by calls made, 0.0 to 1.0.
    pub error_rate: f64,
    /// Whether a connection is open.
    pub is_healthy: bool,
    /// What went wrong without being the fault of any one call.
    pub faults: FaultCounts,
}
