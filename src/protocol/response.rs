use super::{BodyMutation, Decision, HeaderOp, PROTOCOL_VERSION, WebSocketDecision};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// An agent's answer to one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentResponse {
    /// Protocol version, [`PROTOCOL_VERSION`].
    pub version: u32,
    /// What to do with the request.
    pub decision: Decision,
    /// Changes to the request's headers.
    #[serde(default)]
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the response's headers.
    #[serde(default)]
    pub response_headers: Vec<HeaderOp>,
    /// Hints for choosing an upstream.
    #[serde(default)]
    pub routing_metadata: HashMap<String, String>,
    /// Why this was decided.
    #[serde(default)]
    pub audit: AuditMetadata,
    /// The agent wants more of the body before it decides.
    #[serde(default)]
    pub needs_more: bool,
    /// What becomes of the request body chunk that was asked about.
    #[serde(default)]
    pub request_body_mutation: Option<BodyMutation>,
    /// What becomes of the response body chunk that was asked about.
    #[serde(default)]
    pub response_body_mutation: Option<BodyMutation>,
    /// What becomes of the websocket frame that was asked about.
    #[serde(default)]
    pub websocket_decision: Option<WebSocketDecision>,
}

impl AgentResponse {
    /// Allows without any change. Allocates nothing.
    pub fn default_allow() -> Self {
        Self::decided(Decision::Allow)
    }

    /// Blocks with an HTTP status and a body.
    pub fn block(status: u16, body: Option<String>) -> Self {
        Self::decided(Decision::Block {
            status,
            body,
            headers: None,
        })
    }

    /// Sends the client to `url`.
    pub fn redirect(url: String, status: u16) -> Self {
        Self::decided(Decision::Redirect { url, status })
    }

    /// Allows for now and asks for more of the body.
    pub fn needs_more_data() -> Self {
        Self::default_allow().set_needs_more(true)
    }

    /// Forwards a websocket frame.
    pub fn websocket_allow() -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Allow)
    }

    /// Swallows a websocket frame.
    pub fn websocket_drop() -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Drop)
    }

    /// Closes a websocket connection.
    pub fn websocket_close(code: u16, reason: String) -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Close { code, reason })
    }

    /// A response with this decision and nothing else.
    pub fn decided(decision: Decision) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            decision,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            routing_metadata: HashMap::new(),
            audit: AuditMetadata::default(),
            needs_more: false,
            request_body_mutation: None,
            response_body_mutation: None,
            websocket_decision: None,
        }
    }

    /// Sets the websocket decision.
    #[must_use]
    pub fn with_websocket_decision(mut self, decision: WebSocketDecision) -> Self {
        self.websocket_decision = Some(decision);
        self
    }

    /// Sets what becomes of a request body chunk.
    #[must_use]
    pub fn with_request_body_mutation(mut self, mutation: BodyMutation) -> Self {
        self.request_body_mutation = Some(mutation);
        self
    }

    /// Sets what becomes of a response body chunk.
    #[must_use]
    pub fn with_response_body_mutation(mut self, mutation: BodyMutation) -> Self {
        self.response_body_mutation = Some(mutation);
        self
    }

    /// Sets whether the agent wants more of the body before it decides.
    #[must_use]
    pub fn set_needs_more(mut self, needs_more: bool) -> Self {
        self.needs_more = needs_more;
        self
    }

    /// Adds a change to the request's headers.
    #[must_use]
    pub fn add_request_header(mut self, op: HeaderOp) -> Self {
        self.request_headers.push(op);
        self
    }

    /// Adds a change to the response's headers.
    #[must_use]
    pub fn add_response_header(mut self, op: HeaderOp) -> Self {
        self.response_headers.push(op);
        self
    }

    /// Sets why this was decided.
    #[must_use]
    pub fn with_audit(mut self, audit: AuditMetadata) -> Self {
        self.audit = audit;
        self
    }
}

impl Default for AgentResponse {
    fn default() -> Self {
        Self::default_allow()
    }
}

/// Why an agent decided as it did.
///
/// On the wire `custom` also carries the correlation id that matches a response to its event. That
/// entry belongs to the transport: it is added when a response is sent and taken out when one arrives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AuditMetadata {
    /// Free labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The rules that matched.
    #[serde(default)]
    pub rule_ids: Vec<String>,
    /// How sure the agent is, 0.0 to 1.0.
    #[serde(default)]
    pub confidence: Option<f32>,
    /// Codes for the reason, such as `invalid_event`.
    #[serde(default)]
    pub reason_codes: Vec<String>,
    /// Anything else.
    #[serde(default)]
    pub custom: HashMap<String, serde_json::Value>,
}

impl AuditMetadata {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
            && self.rule_ids.is_empty()
            && self.confidence.is_none()
            && self.reason_codes.is_empty()
            && self.custom.is_empty()
    }
}
