use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, RequestComplete, WebSocketFrame,
};
use crate::protocol::{
    AgentCapabilities, AgentResponse, CancelReason, ConfigUpdateResponse, DrainReason,
    ShutdownReason,
};
use crate::wire::{RequestHeadersView, ResponseHeadersView};

/// What an agent does with events.
///
/// Implement the methods as `async fn`; those left out allow. A method that does not wait for anything
/// is answered on the spot: no task, no box, no allocation. One that waits holds up nobody but later
/// events of its own exchange, whose order is kept.
///
/// Events borrow the frame they came in; `to_event` makes owned ones. A method that panics ends the
/// connection it was called for, and no other; the proxy's calls on it fail.
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
///         if event.uri.starts_with("/admin") {
///             return AgentResponse::block(403, None);
///         }
///         AgentResponse::default_allow()
///     }
/// }
/// ```
pub trait AgentHandler: Send + Sync + 'static {
    /// What the agent says of itself when a proxy connects.
    fn capabilities(&self) -> AgentCapabilities;

    /// Decides on the head of a request.
    fn on_request_headers(
        &self,
        event: RequestHeadersView<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        allow()
    }

    /// Decides on a piece of a request body.
    fn on_request_body_chunk(
        &self,
        event: BodyChunk<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        allow()
    }

    /// Decides on the head of a response.
    fn on_response_headers(
        &self,
        event: ResponseHeadersView<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        allow()
    }

    /// Decides on a piece of a response body.
    fn on_response_body_chunk(
        &self,
        event: BodyChunk<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        allow()
    }

    /// Learns that a request is over.
    fn on_request_complete(
        &self,
        event: RequestComplete<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        allow()
    }

    /// Decides on a websocket frame.
    fn on_websocket_frame(
        &self,
        event: WebSocketFrame<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        async { AgentResponse::websocket_allow() }
    }

    /// Inspects text.
    fn on_guardrail_inspect(
        &self,
        event: GuardrailInspect<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let _ = event;
        allow()
    }

    /// Takes settings. `false` refuses them.
    fn on_configure(&self, event: Configure<'_>) -> impl Future<Output = bool> + Send {
        let _ = event;
        std::future::ready(true)
    }

    /// Learns that nobody waits for answers to an exchange any more. Its unfinished events are dropped
    /// before.
    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        let _ = (correlation_id, reason);
    }

    /// Learns what a proxy says to a request for a change of configuration
    /// ([`AgentControl::request_config_update`](super::AgentControl::request_config_update)). Only proxies with
    /// tollgate's extension say something.
    fn on_config_update_response(&self, response: ConfigUpdateResponse) {
        let _ = response;
    }

    /// Learns that a proxy wants the agent to take no new work for a while. Only proxies with tollgate's extension say
    /// so. The agent may tell all its proxies by reporting that it drains
    /// ([`AgentControl::report_health`](super::AgentControl::report_health)).
    fn on_drain(&self, duration_ms: u64, reason: DrainReason) {
        let _ = (duration_ms, reason);
    }

    /// Learns that a proxy wants the agent to shut down. Only proxies with tollgate's extension say so.
    fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {
        let _ = (reason, grace_period_ms);
    }

    /// Learns that a proxy's connection has ended, for whatever reason.
    fn on_connection_closed(&self) {}
}

async fn allow() -> AgentResponse {
    AgentResponse::default_allow()
}
