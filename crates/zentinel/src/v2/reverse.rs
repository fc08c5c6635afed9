//! Agents that connect to the proxy.

use super::connection::forward_sends;
use super::send::Sendable;
use super::{AgentCapabilities, AgentPool, CancelReason, UdsCapabilities};
use crate::{
    AgentProtocolError, AgentResponse, GuardrailInspectEvent, RequestBodyChunkEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tollgate::Agent;

/// Settings of a [`ReverseConnectionListener`].
///
/// Processes of the proxy's own user and of root may connect.
#[derive(Debug, Clone)]
pub struct ReverseConnectionConfig {
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: u32,
    /// Time limit for the registration.
    pub handshake_timeout: Duration,
    /// Maximum number of connections of one agent.
    pub max_connections_per_agent: usize,
    /// Names of the agents that may register. Empty: all names.
    pub allowed_agents: HashSet<String>,
    /// `true` if agents must present a token.
    pub require_auth: bool,
    /// Tokens that are accepted.
    pub auth_tokens: HashSet<String>,
    /// Timeout of a call. The pool's own timeout is in force instead.
    pub request_timeout: Duration,
}

impl Default for ReverseConnectionConfig {
    fn default() -> Self {
        Self {
            backlog: 128,
            handshake_timeout: Duration::from_secs(10),
            max_connections_per_agent: 4,
            allowed_agents: HashSet::new(),
            require_auth: false,
            auth_tokens: HashSet::new(),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl From<ReverseConnectionConfig> for tollgate::ReverseConnectionConfig {
    fn from(config: ReverseConnectionConfig) -> Self {
        Self::default()
            .backlog(config.backlog)
            .handshake_timeout(config.handshake_timeout)
            .max_connections_per_agent(config.max_connections_per_agent)
            .allowed_agents(config.allowed_agents)
            .require_auth(config.require_auth)
            .auth_tokens(config.auth_tokens)
    }
}

/// First message of an agent that connects to the proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegistrationRequest {
    /// Version of the protocol that the agent speaks.
    pub protocol_version: u32,
    /// Name of the agent.
    pub agent_id: String,
    /// Capabilities of the agent.
    pub capabilities: UdsCapabilities,
    /// Token that authenticates the agent.
    pub auth_token: Option<String>,
    /// Anything else that the agent wants to say.
    pub metadata: Option<serde_json::Value>,
}

/// Response to a [`RegistrationRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegistrationResponse {
    /// Set if the proxy accepts the agent.
    pub success: bool,
    /// Reason why it does not.
    pub error: Option<String>,
    /// Name of the proxy.
    pub proxy_id: String,
    /// Version of the proxy's software.
    pub proxy_version: String,
    /// Id of the connection.
    pub connection_id: String,
}

/// Accepts agents that connect to the proxy.
///
/// A registered connection joins its agent in the pool. The socket file is removed when the
/// listener is dropped.
#[derive(Debug)]
pub struct ReverseConnectionListener {
    listener: Arc<tollgate::ReverseConnectionListener>,
    socket_path: String,
}

impl ReverseConnectionListener {
    /// Listens on a Unix socket. Whatever file lies at the path is removed before.
    ///
    /// # Errors
    ///
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) if tokens are required and there
    /// are none, or [`Io`](AgentProtocolError::Io).
    pub async fn bind_uds(
        path: impl AsRef<Path>,
        config: ReverseConnectionConfig,
    ) -> Result<Self, AgentProtocolError> {
        if config.require_auth && config.auth_tokens.is_empty() {
            let reason = "require_auth is set, but there are no auth_tokens";
            return Err(AgentProtocolError::ConnectionFailed(reason.to_owned()));
        }
        let socket_path = path.as_ref().to_string_lossy().into_owned();
        let path = std::path::absolute(path)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = tollgate::ReverseConnectionListener::bind_uds(path, config.into()).await?;
        Ok(Self {
            listener: Arc::new(listener),
            socket_path,
        })
    }

    /// Returns the path of the socket, as it was given.
    pub fn socket_path(&self) -> &str {
        &self.socket_path
    }

    /// Accepts one connection and registers it. Returns the name of the agent.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) with the reason if the agent is
    /// rejected; [`VersionMismatch`](AgentProtocolError::VersionMismatch);
    /// [`Timeout`](AgentProtocolError::Timeout) if it does not register in time;
    /// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed).
    pub async fn accept_one(&self, pool: &AgentPool) -> Result<String, AgentProtocolError> {
        let agent = self.listener.accept_one(pool.tollgate()).await?;
        Ok(agent.id().to_owned())
    }

    /// Accepts connections forever.
    pub async fn accept_loop(self: Arc<Self>, pool: Arc<AgentPool>) {
        let listener = Arc::clone(&self.listener);
        listener
            .accept_loop(Arc::new(pool.tollgate().clone()))
            .await;
    }
}

/// The connections of an agent that has connected to the proxy.
///
/// [`ReverseConnectionListener`] takes such agents into its pool, through which they are called.
/// This is for code that calls one without the pool's look-up by name.
#[derive(Debug)]
pub struct ReverseConnectionClient {
    agent: Agent,
    connection_id: String,
}

impl ReverseConnectionClient {
    /// Returns the client of an agent of a pool.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if the pool does not have the agent.
    pub fn of(pool: &AgentPool, agent_id: &str) -> Result<Self, AgentProtocolError> {
        let agent = pool.tollgate().agent(agent_id);
        Ok(Self {
            connection_id: format!("{agent_id}-reverse"),
            agent: agent.ok_or_else(|| AgentProtocolError::not_found(agent_id))?,
        })
    }

    /// Returns the name of the agent.
    pub fn agent_id(&self) -> &str {
        self.agent.id()
    }

    /// Returns a name of the agent's connections.
    pub fn connection_id(&self) -> &str {
        &self.connection_id
    }

    /// Returns whether the agent is connected.
    pub async fn is_connected(&self) -> bool {
        self.agent.stats().active_connections > 0
    }

    /// Returns the capabilities that the agent announced.
    pub async fn capabilities(&self) -> Option<AgentCapabilities> {
        self.agent.capabilities()
    }

    /// Returns whether the agent is connected and takes no new requests.
    pub async fn is_paused(&self) -> bool {
        self.is_connected().await && !self.agent.is_healthy()
    }

    /// Returns whether a request would be sent now.
    pub async fn can_accept_requests(&self) -> bool {
        self.agent.is_healthy()
    }

    /// Tells the agent to abandon a request, and fails its pending call, if there is one.
    ///
    /// # Errors
    ///
    /// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed), or
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) if the agent is not connected.
    pub async fn cancel_request(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        Ok(self.agent.cancel(correlation_id, reason).await?)
    }

    /// Cancels every pending call, and returns their number.
    ///
    /// # Errors
    ///
    /// As for [`ReverseConnectionClient::cancel_request`].
    pub async fn cancel_all(&self, reason: CancelReason) -> Result<usize, AgentProtocolError> {
        Ok(self.agent.cancel_all(reason).await?)
    }

    /// Removes the agent from its pool, which closes the connections once the pending calls are
    /// answered.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if it was removed before.
    pub async fn close(&self) -> Result<(), AgentProtocolError> {
        Ok(self.agent.remove()?)
    }

    /// Returns the number of pending calls.
    pub fn in_flight(&self) -> u64 {
        self.agent.stats().total_in_flight
    }

    pub(super) async fn send<E: Sendable>(
        &self,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, AgentProtocolError> {
        Ok(event.send_to(&self.agent, correlation_id).await?)
    }
}

forward_sends! {
    ReverseConnectionClient, |client| (client);
    send_request_headers(RequestHeadersEvent) "Sends the headers of a request.",
    send_request_body_chunk(RequestBodyChunkEvent) "Sends a chunk of a request body.",
    send_response_headers(ResponseHeadersEvent) "Sends the headers of a response.",
    send_response_body_chunk(ResponseBodyChunkEvent) "Sends a chunk of a response body.",
    send_websocket_frame(WebSocketFrameEvent) "Sends a WebSocket frame.",
    send_guardrail_inspect(GuardrailInspectEvent) "Sends text that the agent is to inspect.",
}
