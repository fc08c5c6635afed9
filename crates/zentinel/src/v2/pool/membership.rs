//! Adds and removes agents.

use super::AgentPool;
use crate::AgentProtocolError;
use tollgate::CallError;
use tollgate::{AddError, AgentConfig};

impl AgentPool {
    /// Adds an agent under a name and connects to it.
    ///
    /// An agent that cannot be reached yet is added all the same; the pool keeps trying to connect.
    ///
    /// An agent that already has the name is replaced. Its counters continue, new exchanges go to
    /// the new endpoint, and exchanges in progress finish on the old connections within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout). Its sticky sessions end.
    ///
    /// For endpoints, see [`AgentConfig::new`].
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint). Otherwise
    /// [`Unavailable`](tollgate::CallError::Unavailable), with the cause in the log: the name is
    /// not 1 to 128 bytes of visible ASCII, or the pool is shutting down.
    pub async fn add_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let agent_id = agent_id.into();
        let config = AgentConfig::new(&agent_id, endpoint);
        self.add_or_replace(&agent_id, config).await
    }

    /// Like [`AgentPool::add_agent`], but adds the agent only if every connection can be opened.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::add_agent`], and [`Unavailable`](tollgate::CallError::Unavailable), with
    /// the cause in the log, if a connection cannot be opened within
    /// [`connect_timeout`](super::AgentPoolConfig::connect_timeout). Connections are opened one
    /// after another, and the first failure ends the attempt.
    pub async fn connect_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let agent_id = agent_id.into();
        let config = AgentConfig::new(&agent_id, endpoint).require_connection();
        self.add_or_replace(&agent_id, config).await
    }

    async fn add_or_replace(
        &self,
        agent_id: &str,
        config: AgentConfig,
    ) -> Result<(), AgentProtocolError> {
        let replaced = self.pool.replace(config).await;
        replaced.map_err(|error| call_error(agent_id, error))?;
        self.sessions.end_all_of(agent_id);
        Ok(())
    }

    /// Removes an agent. Its sticky sessions end.
    ///
    /// Its exchanges finish in the background within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout); those that are left then are
    /// cancelled.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent) if no agent has this name.
    pub async fn remove_agent(&self, agent_id: &str) -> Result<(), AgentProtocolError> {
        let removed = self.pool.remove(agent_id);
        // Afterwards, because no session with the removed agent can begin any more. The removal
        // itself waits for nothing.
        self.sessions.end_all_of(agent_id);
        removed.map_err(|unknown| AgentProtocolError::UnknownAgent {
            agent_id: unknown.agent_id().into(),
        })
    }

    /// Returns the names of all agents.
    pub fn agent_ids(&self) -> Vec<String> {
        let agents = self.pool.agents();
        agents.iter().map(|agent| agent.id().to_owned()).collect()
    }

    /// Shuts the pool down: ends all sticky sessions, waits for the work in progress, then closes
    /// all connections and removes all agents. See [`tollgate::AgentPool::shutdown`].
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn shutdown(&self) -> Result<(), AgentProtocolError> {
        // A session counts as work in progress, so none may begin until the pool is shut down.
        let _closed = self.sessions.close();
        self.pool.shutdown().await;
        Ok(())
    }
}

/// Converts an error to one that callers of this API know. Logs the cause if that does not say it.
fn call_error(agent_id: &str, error: AddError) -> AgentProtocolError {
    match error {
        AddError::InvalidEndpoint(error) => error.into(),
        error => {
            // The error may repeat text of the agent.
            let error: String = error.to_string().escape_debug().take(1024).collect();
            tracing::warn!(agent = agent_id, error, "cannot add the agent");
            let agent_id = agent_id.into();
            CallError::Unavailable { agent_id }.into()
        }
    }
}
