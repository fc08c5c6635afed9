//! Adds and removes agents.

use super::AgentPool;
use crate::AgentProtocolError;
use crate::v2::{AgentCapabilities, ReverseConnectionClient};
use serde_json::Value;
use std::borrow::Cow;
use tollgate::{AddError, AgentConfig};

impl AgentPool {
    /// Adds an agent under a name and connects to it. See
    /// [`AgentPool::add_agent_with_config`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::add_agent_with_config`].
    pub async fn add_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        self.add_agent_with_config(agent_id, endpoint, None).await
    }

    /// Adds an agent under a name, with its settings, and connects to it. The settings go out on
    /// every connection, with the handshake and before any request; a connection on which the agent
    /// refuses them is not used.
    ///
    /// A socket is `unix:/path`, a path that begins with `/`, or one that ends with `.sock`.
    /// Anything else is the address of a gRPC server, such as `http://host:port`. An agent that
    /// cannot be reached is added all the same, and the pool keeps trying to connect; so is one
    /// whose endpoint is invalid, which stays unhealthy.
    ///
    /// An agent that already has the name is replaced. Its counters continue, new requests go to
    /// the new endpoint, and those in progress finish on the old connections within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout). Its sticky sessions end.
    ///
    /// # Errors
    ///
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) if the name is not 1 to 128 bytes
    /// of visible ASCII, or the pool is shutting down.
    pub async fn add_agent_with_config(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
        config: Option<Value>,
    ) -> Result<(), AgentProtocolError> {
        let (agent_id, endpoint) = (agent_id.into(), endpoint.into());
        let with_settings = |agent: AgentConfig| match &config {
            Some(settings) => agent.settings(settings.clone(), None),
            None => agent,
        };
        let agent = AgentConfig::new(&agent_id, endpoint_of(&endpoint));
        match self.add_or_replace(&agent_id, with_settings(agent)).await {
            Err(AddError::InvalidEndpoint(error)) => {
                tracing::warn!(agent = agent_id, %error, "the agent cannot be reached");
                // Has the name, and no connection.
                let agent = AgentConfig::reverse(&agent_id);
                Ok(self.add_or_replace(&agent_id, with_settings(agent)).await?)
            }
            added => Ok(added?),
        }
    }

    /// Like [`AgentPool::add_agent`], but adds the agent only if every connection can be opened.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::add_agent`];
    /// [`Timeout`](AgentProtocolError::Timeout) after
    /// [`connect_timeout`](super::AgentPoolConfig::connect_timeout), or
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) with the reason. Connections are
    /// opened one after another, and the first failure ends the attempt.
    pub async fn connect_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let agent_id = agent_id.into();
        let endpoint = endpoint_of(&endpoint.into());
        let config = AgentConfig::new(&agent_id, endpoint).require_connection();
        Ok(self.add_or_replace(&agent_id, config).await?)
    }

    async fn add_or_replace(&self, agent_id: &str, config: AgentConfig) -> Result<(), AddError> {
        self.pool.replace(config).await?;
        self.sessions.end_all_of(agent_id);
        Ok(())
    }

    /// Makes the connections of an agent that has connected to the proxy those of an agent of the
    /// pool. [`ReverseConnectionListener`](crate::v2::ReverseConnectionListener) has done so before
    /// it returns, so this only checks it.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if the pool does not have the agent,
    /// or [`WrongConnectionType`](AgentProtocolError::WrongConnectionType) if the client or the
    /// capabilities are those of another.
    pub async fn add_reverse_connection(
        &self,
        agent_id: &str,
        client: ReverseConnectionClient,
        capabilities: AgentCapabilities,
    ) -> Result<(), AgentProtocolError> {
        let agent = self.agent(agent_id)?;
        let announced = agent.capabilities();
        if client.agent_id() != agent_id || announced.is_some_and(|known| known != capabilities) {
            let fault = format!("the connection is not one of agent {agent_id}");
            return Err(AgentProtocolError::WrongConnectionType(fault));
        }
        Ok(())
    }

    /// Removes an agent. Its sticky sessions end.
    ///
    /// Its requests finish in the background within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout); those that are left then are
    /// cancelled.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if no agent has this name.
    pub async fn remove_agent(&self, agent_id: &str) -> Result<(), AgentProtocolError> {
        let removed = self.pool.remove(agent_id);
        // Afterwards, because no session with the removed agent can begin any more. The removal
        // itself waits for nothing.
        self.sessions.end_all_of(agent_id);
        removed.map_err(|_| AgentProtocolError::not_found(agent_id))
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

/// Returns an endpoint in a form of tollgate: a socket is an absolute path.
pub(in crate::v2) fn endpoint_of(endpoint: &str) -> String {
    let path = match endpoint.strip_prefix("unix:") {
        Some(path) => Cow::Borrowed(path.strip_prefix("//").unwrap_or(path)),
        None if endpoint.starts_with('/') || endpoint.ends_with(".sock") => endpoint.into(),
        None => return endpoint.to_owned(),
    };
    // Fails only without a working directory; the relative path is an error in the pool then.
    let absolute = std::path::absolute(&*path).ok();
    let absolute = absolute.as_ref().and_then(|path| path.to_str());
    format!("unix:{}", absolute.unwrap_or(&path))
}
