//! The client of one agent over gRPC, and what both clients have in common.

use super::connection::Connection;
use super::{AgentCapabilities, ConfigUpdateRequest, ConfigUpdateResponse, MetricsReport};
use crate::{
    AgentProtocolError, AgentResponse, EventType, GuardrailInspectEvent, RequestBodyChunkEvent,
    RequestCompleteEvent, RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent,
    WebSocketFrameEvent,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub use tollgate::{
    CancelReason,
    control::{DrainReason, ShutdownReason},
};

/// State of an agent's connections as far as new requests are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowState {
    /// The agent takes requests.
    #[default]
    Normal,
    /// The agent has asked the proxy to pause.
    Paused,
    /// The agent takes no new requests.
    Draining,
}

/// Called with each report of metrics that an agent sends.
pub type MetricsCallback = Arc<dyn Fn(MetricsReport) + Send + Sync>;

/// Called with the name of an agent and its request for a config update; returns the response.
pub type ConfigUpdateCallback =
    Arc<dyn Fn(String, ConfigUpdateRequest) -> ConfigUpdateResponse + Send + Sync>;

/// Interval at which [`AgentClientV2::wait_for_flow_control`] looks again.
const FLOW_INTERVAL: Duration = Duration::from_millis(5);

/// Client of one agent over gRPC, with one connection.
///
/// A connection that is lost is replaced until [`AgentClientV2::close`] is called.
#[derive(Debug)]
pub struct AgentClientV2(Connection);

impl AgentClientV2 {
    /// Creates a client that is not connected. `timeout` is that of a call.
    ///
    /// # Errors
    ///
    /// None at present: [`AgentClientV2::connect`] checks the endpoint.
    pub async fn new(
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
        timeout: Duration,
    ) -> Result<Self, AgentProtocolError> {
        Ok(Self(Connection::new(
            agent_id.into(),
            endpoint.into(),
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
    /// [`Timeout`](AgentProtocolError::Timeout),
    /// [`VersionMismatch`](AgentProtocolError::VersionMismatch), or
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) with the reason, also if the
    /// agent refuses its settings.
    pub async fn connect(&self) -> Result<(), AgentProtocolError> {
        self.0.connect(self.0.endpoint.clone()).await
    }

    /// Sends an event of any kind, under its own correlation id.
    ///
    /// # Errors
    ///
    /// [`Serialization`](AgentProtocolError::Serialization) if the value is no such event,
    /// otherwise as for [`AgentClientV2::send_request_headers`].
    pub async fn send_event<T: Serialize>(
        &self,
        event_type: EventType,
        event: &T,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let value = serde_json::to_value(event).map_err(serialization)?;
        let id = correlation_id_of(&value);
        match event_type {
            EventType::Configure => self.0.send_configure(&id, &value).await,
            EventType::RequestHeaders => {
                let event: RequestHeadersEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
            EventType::RequestBodyChunk => {
                let event: RequestBodyChunkEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
            EventType::ResponseHeaders => {
                let event: ResponseHeadersEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
            EventType::ResponseBodyChunk => {
                let event: ResponseBodyChunkEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
            EventType::RequestComplete => {
                let event: RequestCompleteEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
            EventType::WebSocketFrame => {
                let event: WebSocketFrameEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
            EventType::GuardrailInspect => {
                let event: GuardrailInspectEvent = parse(value)?;
                self.0.send(&id, &event).await
            }
        }
    }

    /// Pings the agent and returns the round-trip time.
    ///
    /// # Errors
    ///
    /// [`Timeout`](AgentProtocolError::Timeout), or
    /// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed).
    pub async fn ping(&self) -> Result<Duration, AgentProtocolError> {
        self.0.ping().await
    }

    /// Returns the version of the protocol.
    pub fn protocol_version(&self) -> u32 {
        super::PROTOCOL_VERSION_2
    }

    /// Returns the capabilities that the agent announced.
    pub async fn capabilities(&self) -> Option<AgentCapabilities> {
        self.0.capabilities()
    }

    /// Returns whether the client has a connection.
    pub async fn is_connected(&self) -> bool {
        self.0.is_connected()
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
    /// As for [`AgentClientV2::cancel_request`].
    pub async fn cancel_all(&self, reason: CancelReason) -> Result<usize, AgentProtocolError> {
        self.0.cancel_all(reason).await
    }

    /// Returns whether the agent takes requests.
    pub async fn flow_state(&self) -> FlowState {
        self.0.flow_state()
    }

    /// Returns whether a request would be sent now.
    pub async fn can_accept_requests(&self) -> bool {
        self.0.flow_state() == FlowState::Normal && self.0.is_connected()
    }

    /// Waits until the agent takes requests.
    ///
    /// # Errors
    ///
    /// [`Timeout`](AgentProtocolError::Timeout).
    pub async fn wait_for_flow_control(&self, timeout: Duration) -> Result<(), AgentProtocolError> {
        let normal = async {
            while self.0.flow_state() != FlowState::Normal {
                tokio::time::sleep(FLOW_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, normal)
            .await
            .map_err(|_| AgentProtocolError::Timeout(timeout))
    }

    /// Returns the agent's health as a number: 1 if it takes requests, otherwise 4.
    pub async fn health_state(&self) -> i32 {
        if self.0.is_healthy() { 1 } else { 4 }
    }

    /// Returns whether the agent takes requests.
    pub async fn is_healthy(&self) -> bool {
        self.0.is_healthy()
    }

    /// Returns the number of pending calls.
    pub fn in_flight_count(&self) -> u64 {
        self.0.in_flight()
    }

    /// Sends settings and waits until the agent has accepted them.
    ///
    /// # Errors
    ///
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) with the reason if it refuses
    /// them, otherwise as for [`AgentClientV2::send_request_headers`].
    pub async fn send_configure(
        &self,
        config: Value,
        version: Option<String>,
    ) -> Result<(), AgentProtocolError> {
        let agent = self.0.agent()?;
        agent.configure(config, version).await?;
        Ok(())
    }

    /// Asks the agent to shut down within a grace period. Agents that do not speak tollgate's
    /// extension of the protocol are not asked.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2::cancel_request`].
    pub async fn send_shutdown(
        &self,
        reason: ShutdownReason,
        grace_period_ms: u64,
    ) -> Result<(), AgentProtocolError> {
        let grace_period = Duration::from_millis(grace_period_ms);
        let agent = self.0.agent()?;
        agent.request_shutdown(grace_period, reason).await?;
        Ok(())
    }

    /// Asks the agent to take no new work for a while. Agents that do not speak tollgate's
    /// extension of the protocol are not asked.
    ///
    /// # Errors
    ///
    /// As for [`AgentClientV2::cancel_request`].
    pub async fn send_drain(
        &self,
        duration_ms: u64,
        reason: DrainReason,
    ) -> Result<(), AgentProtocolError> {
        let duration = Duration::from_millis(duration_ms);
        let agent = self.0.agent()?;
        agent.request_drain(duration, reason).await?;
        Ok(())
    }

    /// Returns the name of the agent.
    pub fn agent_id(&self) -> &str {
        &self.0.agent_id
    }
}

super::connection::forward_sends! {
    AgentClientV2, |client| (client.0);
    send_request_headers(RequestHeadersEvent) "Sends the headers of a request.",
    send_request_body_chunk(RequestBodyChunkEvent) "Sends a chunk of a request body.",
    send_response_headers(ResponseHeadersEvent) "Sends the headers of a response.",
    send_response_body_chunk(ResponseBodyChunkEvent) "Sends a chunk of a response body.",
    send_websocket_frame(WebSocketFrameEvent) "Sends a WebSocket frame.",
    send_guardrail_inspect(GuardrailInspectEvent) "Sends text that the agent is to inspect.",
}

fn serialization(error: serde_json::Error) -> AgentProtocolError {
    AgentProtocolError::Serialization(error.to_string())
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, AgentProtocolError> {
    serde_json::from_value(value).map_err(serialization)
}

/// Returns the correlation id of an event: its own, or that of its metadata.
fn correlation_id_of(event: &Value) -> String {
    let ids = [
        event.get("correlation_id"),
        event.pointer("/metadata/correlation_id"),
    ];
    let id = ids.into_iter().flatten().find_map(Value::as_str);
    id.unwrap_or_default().to_owned()
}
