//! Settings of agents, and requests to drain and to shut down.

use super::AgentPool;
use crate::AgentProtocolError;
use crate::v2::{DrainReason, ShutdownReason};
use serde_json::Value;
use std::time::Duration;

impl AgentPool {
    /// Sets an agent's settings and sends them. Returns the number of connections on which the
    /// agent accepted them. See [`tollgate::Agent::configure`].
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if no agent has this name;
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) with the reason if the agent
    /// rejects the settings; otherwise as for [`AgentPool::send_request_headers`].
    pub async fn configure_agent(
        &self,
        agent_id: &str,
        config: Value,
        version: Option<String>,
    ) -> Result<usize, AgentProtocolError> {
        let agent = self.agent(agent_id)?;
        Ok(agent.configure(config, version).await?)
    }

    /// Asks an agent to take no new work for a while. Returns `false` if the agent does not speak
    /// tollgate's extension of the protocol and cannot be asked.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if no agent has this name, and as for
    /// [`AgentPool::cancel_request`].
    pub async fn send_drain(
        &self,
        agent_id: &str,
        duration_ms: u64,
        reason: DrainReason,
    ) -> Result<bool, AgentProtocolError> {
        let duration = Duration::from_millis(duration_ms);
        let agent = self.agent(agent_id)?;
        Ok(agent.request_drain(duration, reason).await?)
    }

    /// Asks an agent to shut down within `grace_period_ms`. Returns `false` if the agent does not
    /// speak tollgate's extension of the protocol and cannot be asked.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send_drain`].
    pub async fn send_shutdown(
        &self,
        agent_id: &str,
        reason: ShutdownReason,
        grace_period_ms: u64,
    ) -> Result<bool, AgentProtocolError> {
        let grace_period = Duration::from_millis(grace_period_ms);
        let agent = self.agent(agent_id)?;
        Ok(agent.request_shutdown(grace_period, reason).await?)
    }
}
