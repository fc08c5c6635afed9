//! State and statistics of agents, and cancelling.

use super::{AgentPool, AgentPoolStats};
use crate::AgentProtocolError;
use crate::v2::{AgentCapabilities, CancelReason};
use tollgate::{Agent, CallError};

impl AgentPool {
    /// Returns the capabilities that an agent announced when it was connected.
    pub async fn agent_capabilities(&self, agent_id: &str) -> Option<AgentCapabilities> {
        self.pool.agent(agent_id)?.capabilities()
    }

    /// Returns whether a call to an agent would be attempted: at least one connection takes new
    /// exchanges, and the circuit breaker is not open.
    pub fn is_agent_healthy(&self, agent_id: &str) -> bool {
        let agent = self.pool.agent(agent_id);
        agent.is_some_and(|agent| agent.is_healthy())
    }

    /// Returns statistics of one agent.
    pub async fn agent_stats(&self, agent_id: &str) -> Option<AgentPoolStats> {
        self.pool.agent(agent_id).map(|agent| agent.stats())
    }

    /// Returns statistics of every agent.
    pub async fn stats(&self) -> Vec<AgentPoolStats> {
        self.pool.agents().iter().map(Agent::stats).collect()
    }

    /// Tells an agent to abandon an exchange, and fails its pending call, if there is one, with
    /// [`Cancelled`](tollgate::CallError::Cancelled). Succeeds if the agent cannot be told, as it
    /// then has no such exchange.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if no agent has this name.
    pub async fn cancel_request(
        &self,
        agent_id: &str,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        let agent = self.agent(agent_id)?;
        match agent.cancel(correlation_id, reason).await {
            Err(
                CallError::Unavailable { .. }
                | CallError::ConnectionClosed { .. }
                | CallError::FlowControlPaused { .. },
            ) => Ok(()),
            told => Ok(told?),
        }
    }
}
