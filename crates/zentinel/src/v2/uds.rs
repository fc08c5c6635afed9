//! The client of one agent on a Unix socket, and the messages on the socket.

use super::client::{ConfigUpdateCallback, MetricsCallback};
use super::connection::{Connection, forward_sends};
use super::pool::endpoint_of;
use super::{AgentCapabilities, CancelReason};
use crate::{
    AgentProtocolError, AgentResponse, BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent,
    GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent,
    ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use serde_json::Value;
use std::time::Duration;
use tollgate::Encoding;

pub use super::messages::{
    MAX_UDS_MESSAGE_SIZE, MessageType, UdsCapabilities, UdsEncoding, UdsFeatures,
    UdsHandshakeRequest, UdsHandshakeResponse, UdsLimits, read_message, write_message,
};

/// Default time limit for connecting, including the handshake.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
pub struct AgentClientV2Uds(Connection);

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
        Ok(Self(Connection::new(
            agent_id.into(),
            socket_path.into(),
            timeout,
        )))
    }

    /// Sets the agent's settings, which go out with the handshake and before any request.
    pub fn set_config(&mut self, config: Option<Value>) {
        self.0.config = config;
    }

    /// Sets the time limit for connecting, including the handshake.
    pub fn set_connect_timeout(&mut self, timeout: Duration) {
        self.0.connect_timeout = timeout;
    }

    /// Sets what to do with the metrics that the agent reports.
    pub fn set_metrics_callback(&mut self, callback: MetricsCallback) {
        self.0.metrics_callback = Some(callback);
    }

    /// Sets what to do with the agent's requests for config updates.
    pub fn set_config_update_callback(&mut self, callback: ConfigUpdateCallback) {
        self.0.config_update_callback = Some(callback);
    }

    /// Connects to the agent. A client that is connected connects again.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2::connect`](super::AgentClientV2::connect).
    pub async fn connect(&self) -> Result<(), AgentProtocolError> {
        let endpoint = endpoint_of(&format!("unix:{}", self.0.endpoint));
        self.0.connect(endpoint).await
    }

    /// Closes the connection, if the client is connected. Pending calls fail.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn close(&self) -> Result<(), AgentProtocolError> {
        self.0.close();
        Ok(())
    }

    /// Returns the encoding of payloads; JSON while the client is not connected.
    pub async fn encoding(&self) -> UdsEncoding {
        let agent = self.0.agent().ok();
        match agent.and_then(|agent| agent.encoding()) {
            Some(Encoding::MessagePack) => UdsEncoding::MessagePack,
            _ => UdsEncoding::Json,
        }
    }

    /// Returns the capabilities that the agent announced.
    pub async fn capabilities(&self) -> Option<AgentCapabilities> {
        self.0.capabilities()
    }

    /// Returns whether the client has a connection.
    pub async fn is_connected(&self) -> bool {
        self.0.is_connected()
    }

    /// Returns the number of pending calls.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight()
    }

    /// Returns the name of the agent.
    pub fn agent_id(&self) -> &str {
        &self.0.agent_id
    }

    /// Returns whether the agent has asked the proxy to pause.
    pub async fn is_paused(&self) -> bool {
        self.0.flow_state() == super::FlowState::Paused
    }

    /// Returns whether a request would be sent now.
    pub async fn can_accept_requests(&self) -> bool {
        self.0.flow_state() == super::FlowState::Normal && self.0.is_connected()
    }

    /// Tells the agent to abandon a request, and fails its pending call, if there is one.
    ///
    /// # Errors
    ///
    /// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed).
    pub async fn cancel_request(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        self.0.cancel_request(correlation_id, reason).await
    }

    /// Cancels every pending call, and returns their number.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2Uds::cancel_request`].
    pub async fn cancel_all(&self, reason: CancelReason) -> Result<usize, AgentProtocolError> {
        self.0.cancel_all(reason).await
    }

    /// Pings the agent and waits for the pong.
    ///
    /// # Errors
    ///
    /// [`Timeout`](AgentProtocolError::Timeout), or
    /// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed).
    pub async fn ping(&self) -> Result<(), AgentProtocolError> {
        self.0.ping().await.map(drop)
    }

    /// Sends settings to the agent, which reads `config` and `config_version` from the object.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2Uds::send_request_headers`].
    pub async fn send_configure(
        &self,
        correlation_id: &str,
        event: &Value,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.0.send_configure(correlation_id, event).await
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
        self.0.send(&event.correlation_id, event).await
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
        self.0.send(&event.correlation_id, event).await
    }
}

forward_sends! {
    AgentClientV2Uds, |client| (client.0);
    send_request_headers(RequestHeadersEvent) "Sends the headers of a request.",
    send_request_body_chunk(RequestBodyChunkEvent) "Sends a chunk of a request body.",
    send_response_headers(ResponseHeadersEvent) "Sends the headers of a response.",
    send_response_body_chunk(ResponseBodyChunkEvent) "Sends a chunk of a response body.",
    send_request_complete(RequestCompleteEvent) "Tells the agent that a request is over.",
    send_websocket_frame(WebSocketFrameEvent) "Sends a WebSocket frame.",
    send_guardrail_inspect(GuardrailInspectEvent) "Sends text that the agent is to inspect.",
}
