//! Makes a handler of tollgate of one of this crate.

use super::{AgentHandlerV2, DrainReason, ShutdownReason};
use crate::v2::{AgentCapabilities, HandshakeRequest};
use crate::{AgentResponse, RequestBodyChunkEvent, ResponseBodyChunkEvent, WebSocketFrameEvent};
use std::sync::Arc;
use tokio::runtime::Handle;
use tollgate::control::PROTOCOL_VERSION;
use tollgate::events::{Configure, WebSocketFrame};
use tollgate::{
    AgentHandler, BodyChunk, Handshake, RequestComplete, RequestHeadersView, ResponseHeadersView,
};

/// A handler of this crate as one of tollgate.
#[derive(Clone)]
pub(in crate::v2) struct Adapter(pub(in crate::v2) Arc<dyn AgentHandlerV2>);

impl Adapter {
    /// Runs a method that nobody waits for.
    fn spawn<F>(&self, notify: impl FnOnce(Arc<dyn AgentHandlerV2>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Without a runtime, the server and its connections are being dropped.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(notify(Arc::clone(&self.0)));
        }
    }
}

/// Returns an answer in the form of tollgate, which has one version of the protocol.
fn answer(response: AgentResponse) -> tollgate::AgentResponse {
    let mut answer = tollgate::AgentResponse::from(response);
    answer.version = PROTOCOL_VERSION;
    answer
}

impl AgentHandler for Adapter {
    fn capabilities(&self) -> AgentCapabilities {
        self.0.capabilities()
    }

    async fn on_handshake(&self, handshake: Handshake<'_>) -> Result<(), String> {
        let request = HandshakeRequest {
            supported_versions: handshake.supported_versions.to_vec(),
            proxy_id: handshake.proxy_id.to_owned(),
            proxy_version: handshake.proxy_version.to_owned(),
            config: handshake.config.clone(),
        };
        let response = self.0.on_handshake(request).await;
        if response.success {
            return Ok(());
        }
        Err(response
            .error
            .unwrap_or_else(|| "no reason given".to_owned()))
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> tollgate::AgentResponse {
        answer(self.0.on_request_headers(event.to_event()).await)
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> tollgate::AgentResponse {
        let event = RequestBodyChunkEvent::of(event);
        answer(self.0.on_request_body_chunk(event).await)
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> tollgate::AgentResponse {
        answer(self.0.on_response_headers(event.to_event()).await)
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> tollgate::AgentResponse {
        let event = ResponseBodyChunkEvent::of(event);
        answer(self.0.on_response_body_chunk(event).await)
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> tollgate::AgentResponse {
        answer(self.0.on_request_complete(event.to_event()).await)
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> tollgate::AgentResponse {
        let event = WebSocketFrameEvent::of(event);
        answer(self.0.on_websocket_frame(event).await)
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        if event.update().is_some() {
            // The handler would take it for its settings, and reset those to their defaults.
            return Err("the agent accepts whole settings only".to_owned());
        }
        let config = event.config().cloned().unwrap_or_default();
        let version = event.config_version().map(str::to_owned);
        let accepts = self.0.on_configure(config, version).await;
        accepts
            .then_some(())
            .ok_or_else(|| "Configuration rejected".to_owned())
    }

    fn on_drain(&self, duration_ms: u64, reason: DrainReason) {
        self.spawn(|handler| async move { handler.on_drain(duration_ms, reason).await });
    }

    fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {
        self.spawn(|handler| async move { handler.on_shutdown(reason, grace_period_ms).await });
    }

    fn on_connection_closed(&self) {
        self.spawn(|handler| async move { handler.on_stream_closed().await });
    }
}
