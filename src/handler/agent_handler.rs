//! The trait that agents implement.

use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, RequestComplete, WebSocketFrame,
};
use crate::protocol::{
    AgentCapabilities, AgentResponse, CancelReason, ConfigUpdateResponse, DrainReason,
    ShutdownReason,
};
use crate::wire::{RequestHeadersView, ResponseHeadersView};
use serde_json::Value;

/// A proxy's side of the handshake.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Handshake<'a> {
    /// Name by which the proxy identifies itself.
    pub proxy_id: &'a str,
    /// Version of the proxy's software.
    pub proxy_version: &'a str,
    /// Versions of the protocol that the proxy supports.
    pub supported_versions: &'a [u32],
    /// Settings of the agent; null if the proxy has none for it.
    pub config: &'a Value,
}

/// Decides on the events that proxies send.
///
/// Implement the methods as `async fn`. Methods that are not implemented allow the event. A method
/// that completes without waiting is answered at once, without a task or a heap allocation. One
/// that waits delays only the later events of its own exchange, whose order is kept.
///
/// Events borrow from the frame that they arrived in, or from what holds them in the same process;
/// `to_event` returns owned ones. A method that panics ends the connection that it was called for,
/// and no other. The proxy's calls on that connection fail.
///
/// ```
/// use tollgate::{AgentCapabilities, AgentHandler, AgentResponse, RequestHeadersView};
///
/// struct NoAdmin;
///
/// impl AgentHandler for NoAdmin {
///     fn capabilities(&self) -> AgentCapabilities {
///         AgentCapabilities::new("no-admin", "Blocks /admin", "1.0.0")
///     }
///
///     async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
///         if event.path().starts_with("/admin") {
///             return AgentResponse::block(403, None);
///         }
///         AgentResponse::default_allow()
///     }
/// }
/// ```
#[allow(
    unused_variables,
    reason = "methods that are not implemented allow the event"
)]
pub trait AgentHandler: Send + Sync + 'static {
    /// Returns the capabilities that the agent announces in the handshake.
    fn capabilities(&self) -> AgentCapabilities;

    /// Accepts the handshake of a proxy, or refuses it. Called once for each connection that a
    /// proxy opens, before anything else. It is not called on connections that the agent dials.
    ///
    /// The settings in the handshake follow as an event of their own
    /// ([`on_configure`](Self::on_configure)), so there is no need to apply them here.
    ///
    /// # Errors
    ///
    /// The reason why the agent refuses the proxy, which the proxy is told.
    fn on_handshake(
        &self,
        handshake: Handshake<'_>,
    ) -> impl Future<Output = Result<(), String>> + Send {
        std::future::ready(Ok(()))
    }

    /// Decides on the headers of a request.
    fn on_request_headers(
        &self,
        event: RequestHeadersView<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        allow()
    }

    /// Decides on a chunk of a request body.
    fn on_request_body_chunk(
        &self,
        event: BodyChunk<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        allow()
    }

    /// Decides on the headers of a response.
    fn on_response_headers(
        &self,
        event: ResponseHeadersView<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        allow()
    }

    /// Decides on a chunk of a response body.
    fn on_response_body_chunk(
        &self,
        event: BodyChunk<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        allow()
    }

    /// Called when a request is complete.
    fn on_request_complete(
        &self,
        event: RequestComplete<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        allow()
    }

    /// Decides on a WebSocket frame.
    fn on_websocket_frame(
        &self,
        event: WebSocketFrame<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        async { AgentResponse::websocket_allow() }
    }

    /// Decides on text that is to be inspected.
    fn on_guardrail_inspect(
        &self,
        event: GuardrailInspect<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        allow()
    }

    /// Applies settings from the proxy.
    ///
    /// # Errors
    ///
    /// The reason why the agent rejects them. The proxy gets it as
    /// [`SettingsRefused`](crate::CallError::SettingsRefused).
    fn on_configure(
        &self,
        event: Configure<'_>,
    ) -> impl Future<Output = Result<(), String>> + Send {
        std::future::ready(Ok(()))
    }

    /// Called with what the proxy tells again of a request's head, before an event about its
    /// response. Another process may have judged the request.
    ///
    /// HAProxy tells it with the response. What it does not tell is empty.
    fn on_request_recalled(&self, event: RequestHeadersView<'_>) {}

    /// Called when the proxy cancels an exchange, after the handlers that were running for it were
    /// dropped.
    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {}

    /// Called with a proxy's response to a config update request
    /// ([`AgentControl::request_config_update`](crate::AgentControl::request_config_update)). Only
    /// proxies with tollgate's extension respond.
    fn on_config_update_response(&self, response: ConfigUpdateResponse) {}

    /// Called when a proxy asks the agent to take no new work for a while. Only proxies with
    /// tollgate's extension ask. The agent can tell all its proxies by reporting that it drains
    /// ([`AgentControl::report_health`](crate::AgentControl::report_health)).
    fn on_drain(&self, duration_ms: u64, reason: DrainReason) {}

    /// Called when a proxy asks the agent to shut down. Only proxies with tollgate's extension ask.
    fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {}

    /// Called when the connection to a proxy has ended, for whatever reason.
    fn on_connection_closed(&self) {}
}

async fn allow() -> AgentResponse {
    AgentResponse::default_allow()
}
