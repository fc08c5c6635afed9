//! The client of one agent on a Unix socket.

use super::{AgentCapabilities, AgentPool, AgentPoolConfig};
use crate::{
    AgentProtocolError, AgentResponse, BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent,
    GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent,
    ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use std::time::Duration;
use tollgate::CallError;
use tollgate::Event;

/// Client of one agent on a Unix socket, with one connection.
///
/// A connection that is lost is replaced until [`AgentClientV2Uds::close`] is called.
///
/// ```no_run
/// # async fn example(
/// #     client: zentinel_agent_protocol::v2::AgentClientV2Uds,
/// # ) -> Result<(), zentinel_agent_protocol::AgentProtocolError> {
/// use zentinel_agent_protocol::{BinaryRequestBodyChunkEvent, Bytes};
///
/// // Create binary body chunk
/// let chunk = BinaryRequestBodyChunkEvent::new(
///     "correlation-123",
///     Bytes::from_static(b"binary data"),
///     0,  // chunk_index
///     false,  // is_last
/// );
///
/// // Send via UDS (uses raw bytes with MessagePack encoding)
/// client.send_request_body_chunk_binary(&chunk).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AgentClientV2Uds {
    agent_id: String,
    socket_path: String,
    pool: AgentPool,
}

impl AgentClientV2Uds {
    /// Creates a client that is not connected. `timeout` is that of a call.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn new(
        agent_id: impl Into<String>,
        socket_path: impl Into<String>,
        timeout: Duration,
    ) -> Result<Self, AgentProtocolError> {
        Ok(Self {
            agent_id: agent_id.into(),
            socket_path: socket_path.into(),
            pool: AgentPool::with_config(AgentPoolConfig {
                connections_per_agent: 1,
                request_timeout: timeout,
                ..AgentPoolConfig::default()
            }),
        })
    }

    /// Connects to the agent. A client that is connected connects again.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::connect_agent`].
    pub async fn connect(&self) -> Result<(), AgentProtocolError> {
        let endpoint = format!("unix:{}", self.socket_path);
        self.pool.connect_agent(&self.agent_id, endpoint).await
    }

    /// Closes the connection once the pending calls are answered, if the client is connected.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn close(&self) -> Result<(), AgentProtocolError> {
        self.pool.remove_agent(&self.agent_id).await.or(Ok(()))
    }

    /// Returns the capabilities that the agent announced.
    pub async fn capabilities(&self) -> Option<AgentCapabilities> {
        self.pool.agent_capabilities(&self.agent_id).await
    }

    /// Returns the id of the agent.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// Sends a chunk of a request body under the event's own correlation id.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2Uds::send_request_body_chunk`].
    pub async fn send_request_body_chunk_binary(
        &self,
        event: &BinaryRequestBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(&event.correlation_id, event).await
    }

    /// Sends a chunk of a response body under the event's own correlation id.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2Uds::send_response_body_chunk`].
    pub async fn send_response_body_chunk_binary(
        &self,
        event: &BinaryResponseBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(&event.correlation_id, event).await
    }

    async fn send<E: Event>(
        &self,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let sent = self.pool.send(&self.agent_id, correlation_id, event);
        sent.await.map_err(|error| match error {
            AgentProtocolError::UnknownAgent { agent_id } => {
                CallError::ConnectionClosed { agent_id }.into()
            }
            error => error,
        })
    }
}

/// Declares a method for each kind of event.
macro_rules! send_methods {
    ($($(#[$doc:meta])* $name:ident: $event:ty;)*) => {
        impl AgentClientV2Uds {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// [`ConnectionClosed`](tollgate::CallError::ConnectionClosed) before
                /// [`AgentClientV2Uds::connect`], and as for [`tollgate::Agent::send`].
                pub async fn $name(
                    &self,
                    correlation_id: &str,
                    event: &$event,
                ) -> Result<AgentResponse, AgentProtocolError> {
                    self.send(correlation_id, event).await
                }
            )*
        }
    };
}

send_methods! {
    /// Sends the headers of a request.
    send_request_headers: RequestHeadersEvent;
    /// Sends a chunk of a request body.
    send_request_body_chunk: RequestBodyChunkEvent;
    /// Sends the headers of a response.
    send_response_headers: ResponseHeadersEvent;
    /// Sends a chunk of a response body.
    send_response_body_chunk: ResponseBodyChunkEvent;
    /// Tells the agent that a request is over.
    send_request_complete: RequestCompleteEvent;
    /// Sends a WebSocket frame.
    send_websocket_frame: WebSocketFrameEvent;
    /// Sends text that the agent is to inspect.
    send_guardrail_inspect: GuardrailInspectEvent;
}
