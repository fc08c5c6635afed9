//! The trait that agents implement.

use super::{DrainReason, ShutdownReason};
use crate::v2::{
    AgentCapabilities, HandshakeRequest, HandshakeResponse, HealthStatus, MetricsReport,
};
use crate::{
    AgentResponse, RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent,
    ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use async_trait::async_trait;
use serde_json::Value;

/// Decides on the events that proxies send.
///
/// Methods that are not implemented allow the event. A method that waits delays only the later
/// events of its own request. One that panics ends the connection that it was called for, and no
/// other.
///
/// There is no method for guardrail inspections: they are answered by a block.
#[async_trait]
#[allow(
    unused_variables,
    reason = "methods that are not implemented allow the event"
)]
pub trait AgentHandlerV2: Send + Sync {
    /// Returns the capabilities that the agent announces in the handshake.
    fn capabilities(&self) -> AgentCapabilities;

    /// Accepts the handshake of a proxy, or refuses it. The capabilities that the proxy gets are
    /// those of [`AgentHandlerV2::capabilities`], whatever the response holds.
    async fn on_handshake(&self, request: HandshakeRequest) -> HandshakeResponse {
        HandshakeResponse::success(self.capabilities())
    }

    /// Decides on the headers of a request.
    async fn on_request_headers(&self, event: RequestHeadersEvent) -> AgentResponse {
        AgentResponse::default_allow()
    }

    /// Decides on a chunk of a request body.
    async fn on_request_body_chunk(&self, event: RequestBodyChunkEvent) -> AgentResponse {
        AgentResponse::default_allow()
    }

    /// Decides on the headers of a response.
    async fn on_response_headers(&self, event: ResponseHeadersEvent) -> AgentResponse {
        AgentResponse::default_allow()
    }

    /// Decides on a chunk of a response body.
    async fn on_response_body_chunk(&self, event: ResponseBodyChunkEvent) -> AgentResponse {
        AgentResponse::default_allow()
    }

    /// Called when a request is complete.
    async fn on_request_complete(&self, event: RequestCompleteEvent) -> AgentResponse {
        AgentResponse::default_allow()
    }

    /// Decides on a WebSocket frame.
    async fn on_websocket_frame(&self, event: WebSocketFrameEvent) -> AgentResponse {
        AgentResponse::websocket_allow()
    }

    /// Returns the agent's health. The servers do not call it, as those of the published crate do
    /// not; an agent may call it from a page of its own.
    fn health_status(&self) -> HealthStatus {
        HealthStatus::healthy(self.capabilities().agent_id)
    }

    /// Returns the agent's metrics. The servers do not call it, as those of the published crate do
    /// not.
    fn metrics_report(&self) -> Option<MetricsReport> {
        None
    }

    /// Applies settings from the proxy. `false` rejects them: the proxy then sends no request on
    /// the connection.
    async fn on_configure(&self, config: Value, version: Option<String>) -> bool {
        true
    }

    /// Called when a proxy asks the agent to shut down.
    async fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {}

    /// Called when a proxy asks the agent to take no new work for a while.
    async fn on_drain(&self, duration_ms: u64, reason: DrainReason) {}

    /// Called when the connection to a proxy has ended.
    async fn on_stream_closed(&self) {}
}
