//! The handler of `tollgate agent`: simple rules for paths, bodies and headers.

mod body_search;

use body_search::{BodySearch, Verdict};
use std::time::Duration;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, BodyChunk, CancelReason, EventType, HeaderOp,
    RequestComplete, RequestHeadersView, ResponseHeadersView,
    control::{AgentFeatures, AgentLimits},
    events::{Configure, GuardrailInspect, WebSocketFrame},
    response::AuditMetadata,
};

/// The agent's rules.
pub(crate) struct Rules {
    blocked_paths: Vec<String>,
    request_body: Option<BodySearch>,
    response_body: Option<BodySearch>,
    request_headers: Vec<HeaderOp>,
    /// Path prefixes of the requests that get header changes; empty means all requests.
    changed_paths: Vec<String>,
    delay: Duration,
}

impl Rules {
    /// Creates rules that allow everything.
    pub(crate) fn new() -> Self {
        Self {
            blocked_paths: Vec::new(),
            request_body: None,
            response_body: None,
            request_headers: Vec::new(),
            changed_paths: Vec::new(),
            delay: Duration::ZERO,
        }
    }

    /// Blocks requests whose path starts with one of these prefixes.
    pub(crate) fn block_paths(mut self, prefixes: Vec<String>) -> Self {
        self.blocked_paths = prefixes;
        self
    }

    /// Blocks requests and responses whose body contains one of these texts.
    pub(crate) fn block_bodies(mut self, texts: &[String]) -> Self {
        self.request_body = BodySearch::new(texts);
        self.response_body = BodySearch::new(texts);
        self
    }

    /// Applies these header changes to every allowed request.
    pub(crate) fn change_request_headers(mut self, changes: Vec<HeaderOp>) -> Self {
        self.request_headers = changes;
        self
    }

    /// Limits header changes to requests whose path starts with one of these prefixes, if there are
    /// any.
    pub(crate) fn change_headers_below(mut self, prefixes: Vec<String>) -> Self {
        self.changed_paths = prefixes;
        self
    }

    /// Delays each answer by this much.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn decide_path(&self, uri: &str) -> AgentResponse {
        let path = path_of(uri);
        if begins_with_any(path, &self.blocked_paths) {
            return blocked("blocked_path");
        }
        if !self.changed_paths.is_empty() && !begins_with_any(path, &self.changed_paths) {
            return AgentResponse::default_allow();
        }
        AgentResponse {
            request_headers: self.request_headers.clone(),
            ..AgentResponse::default_allow()
        }
    }

    fn forget(&self, correlation_id: &str) {
        for search in [&self.request_body, &self.response_body]
            .into_iter()
            .flatten()
        {
            search.forget(correlation_id);
        }
    }

    /// Waits for the configured delay. Called after deciding, so that chunks are searched in the
    /// order of their arrival.
    async fn wait(&self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

impl AgentHandler for Rules {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities {
            supported_events: EventType::ALL.to_vec(),
            ..AgentCapabilities::new("tollgate", "tollgate agent", env!("CARGO_PKG_VERSION"))
        }
        .with_features(AgentFeatures {
            streaming_body: true,
            concurrent_requests: 100,
            cancellation: true,
            ..AgentFeatures::simple()
        })
        // Bodies are searched as they arrive and not stored, so their size needs no real limit.
        .with_limits(AgentLimits {
            max_body_size: 1 << 40,
            max_concurrency: 1024,
            ..AgentLimits::default()
        })
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let response = self.decide_path(event.uri);
        self.wait().await;
        response
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let response = decide_body(self.request_body.as_ref(), event);
        self.wait().await;
        response
    }

    async fn on_response_headers(&self, _event: ResponseHeadersView<'_>) -> AgentResponse {
        self.wait().await;
        AgentResponse::default_allow()
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let response = decide_body(self.response_body.as_ref(), event);
        self.wait().await;
        response
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.forget(event.correlation_id);
        self.wait().await;
        AgentResponse::default_allow()
    }

    async fn on_websocket_frame(&self, _event: WebSocketFrame<'_>) -> AgentResponse {
        self.wait().await;
        AgentResponse::websocket_allow()
    }

    async fn on_guardrail_inspect(&self, _event: GuardrailInspect<'_>) -> AgentResponse {
        self.wait().await;
        AgentResponse::default_allow()
    }

    async fn on_configure(&self, _event: Configure<'_>) -> Result<(), String> {
        self.wait().await;
        Ok(())
    }

    fn on_cancel(&self, correlation_id: &str, _reason: CancelReason) {
        self.forget(correlation_id);
    }
}

fn decide_body(search: Option<&BodySearch>, chunk: BodyChunk<'_>) -> AgentResponse {
    let Some(search) = search else {
        return AgentResponse::default_allow();
    };
    match search.search(&chunk) {
        Verdict::Clean => AgentResponse::default_allow(),
        Verdict::Found => blocked("blocked_body"),
        Verdict::Incomplete => blocked("body_without_beginning"),
    }
}

fn blocked(reason: &str) -> AgentResponse {
    AgentResponse::block(403, Some("Forbidden".to_owned())).with_audit(AuditMetadata {
        reason_codes: vec![reason.to_owned()],
        ..AuditMetadata::default()
    })
}

fn begins_with_any(path: &str, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .any(|prefix| path.starts_with(prefix.as_str()))
}

/// Returns the path and query of a URI, which may have the absolute form that clients send to
/// proxies.
fn path_of(uri: &str) -> &str {
    if uri.starts_with('/') {
        return uri;
    }
    match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => uri,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_found_in_all_uri_forms() {
        assert_eq!(path_of("/admin?x=http://a/b"), "/admin?x=http://a/b");
        assert_eq!(path_of("http://example.com/admin"), "/admin");
        assert_eq!(path_of("http://example.com"), "/");
        assert_eq!(path_of("*"), "*");
    }

    #[test]
    fn headers_change_only_for_given_path_prefixes() {
        let rules = Rules::new()
            .change_request_headers(vec![HeaderOp::Remove {
                name: "x".to_owned(),
            }])
            .change_headers_below(vec!["/account".to_owned()]);
        assert!(rules.decide_path("/").request_headers.is_empty());
        assert_eq!(rules.decide_path("/account/1").request_headers.len(), 1);
    }

    #[test]
    fn blocked_path_gets_403_and_no_header_changes() {
        let rules = Rules::new()
            .block_paths(vec!["/admin".to_owned()])
            .change_request_headers(vec![HeaderOp::Remove {
                name: "x".to_owned(),
            }]);
        let response = rules.decide_path("/admin/users");
        assert_eq!(response.decision.as_str(), "block");
        assert!(response.request_headers.is_empty());
        assert_eq!(rules.decide_path("/").request_headers.len(), 1);
    }
}
