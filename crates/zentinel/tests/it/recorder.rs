//! An agent that records what it is sent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tollgate::{
    AgentHandler, AgentResponse, AgentServer, BodyChunk, RequestComplete, RequestHeadersView,
    ResponseHeadersView,
    events::{Configure, GuardrailInspect, WebSocketFrame},
};
use zentinel_agent_protocol::EventType;
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentFeatures, CancelReason, DrainReason, ShutdownReason,
};

/// A running agent that records each event as its kind and correlation id, and everything else as
/// text.
pub(crate) struct Recorder {
    pub(crate) path: PathBuf,
    seen: Arc<Mutex<Vec<String>>>,
    _dir: TempDir,
}

impl Recorder {
    pub(crate) async fn serve() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let seen = Arc::default();
        let handler = Handler(Arc::clone(&seen));
        let server = AgentServer::builder(handler)
            .listen(path.display().to_string())
            .bind()
            .await
            .unwrap();
        tokio::spawn(server.serve());
        let _dir = dir;
        Self { path, seen, _dir }
    }

    /// Returns what was recorded since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub(crate) fn has_seen(&self, text: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|seen| seen == text)
    }
}

/// Allows everything but settings whose `config` is `false`. Does not answer chunks of the data
/// "wait".
struct Handler(Arc<Mutex<Vec<String>>>);

impl Handler {
    fn record(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn event(&self, kind: &str, correlation_id: &str) -> AgentResponse {
        self.record(format!("{kind} {correlation_id}"));
        AgentResponse::default_allow()
    }

    async fn body(&self, kind: &str, event: BodyChunk<'_>) -> AgentResponse {
        let answer = self.event(kind, event.correlation_id);
        if &event.data[..] == b"wait" {
            std::future::pending::<()>().await;
        }
        answer
    }
}

impl AgentHandler for Handler {
    fn capabilities(&self) -> AgentCapabilities {
        EventType::ALL
            .into_iter()
            .fold(
                AgentCapabilities::new("recorder", "Recorder", "1.0.0"),
                AgentCapabilities::with_event,
            )
            .with_features(AgentFeatures::full())
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.event("request headers", event.metadata.correlation_id)
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.body("request body", event).await
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        self.event("response headers", event.correlation_id)
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.body("response body", event).await
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.event("complete", event.correlation_id)
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> AgentResponse {
        self.event("frame", event.correlation_id)
    }

    async fn on_guardrail_inspect(&self, event: GuardrailInspect<'_>) -> AgentResponse {
        self.event("prompt", event.correlation_id)
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let config = event.config().cloned().unwrap_or_default();
        self.record(format!("configure {config}"));
        if config == false {
            return Err("Configuration rejected".to_owned());
        }
        Ok(())
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.record(format!("cancel {correlation_id} {reason:?}"));
    }

    fn on_drain(&self, duration_ms: u64, reason: DrainReason) {
        self.record(format!("drain {duration_ms} {reason:?}"));
    }

    fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {
        self.record(format!("shutdown {grace_period_ms} {reason:?}"));
    }
}
