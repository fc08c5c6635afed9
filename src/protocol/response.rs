//! Answers of agents.

use super::{BodyMutation, Decision, HeaderOp, PROTOCOL_VERSION, WebSocketDecision};
use crate::configuration::setters;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// An agent's answer to one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentResponse {
    /// Protocol version, [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Decision on the request or response.
    pub decision: Decision,
    /// Changes to the request headers.
    #[serde(default)]
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the response headers.
    #[serde(default)]
    pub response_headers: Vec<HeaderOp>,
    /// Hints for choosing an upstream.
    #[serde(default)]
    pub routing_metadata: HashMap<String, String>,
    /// Reasons for the decision, for audit logs.
    #[serde(default)]
    pub audit: AuditMetadata,
    /// Set if the agent wants more of the body before it decides.
    #[serde(default)]
    pub needs_more: bool,
    /// Change to a request body chunk.
    #[serde(default)]
    pub request_body_mutation: Option<BodyMutation>,
    /// Change to a response body chunk.
    #[serde(default)]
    pub response_body_mutation: Option<BodyMutation>,
    /// Decision on a websocket frame.
    #[serde(default)]
    pub websocket_decision: Option<WebSocketDecision>,
}

impl AgentResponse {
    /// Creates an answer that allows without changes. Does not allocate.
    pub fn default_allow() -> Self {
        Self::decided(Decision::Allow)
    }

    /// Creates an answer that blocks with an HTTP status and a body.
    pub fn block(status: u16, body: Option<String>) -> Self {
        Self::decided(Decision::Block {
            status,
            body,
            headers: None,
        })
    }

    /// Creates an answer that redirects the client to `url` with a 3xx status.
    pub fn redirect(url: String, status: u16) -> Self {
        Self::decided(Decision::Redirect { url, status })
    }

    /// Creates an answer that allows for now and asks for more of the body.
    pub fn needs_more_data() -> Self {
        Self::default_allow().set_needs_more(true)
    }

    /// Creates an answer that forwards a websocket frame.
    pub fn websocket_allow() -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Allow)
    }

    /// Creates an answer that drops a websocket frame.
    pub fn websocket_drop() -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Drop)
    }

    /// Creates an answer that closes a websocket connection with a close code of RFC 6455.
    pub fn websocket_close(code: u16, reason: String) -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Close { code, reason })
    }

    /// Creates an answer with this decision and no changes.
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

    setters! {
        /// Sets the decision on a websocket frame.
        with_websocket_decision(self, decision: WebSocketDecision) =>
            self.websocket_decision = Some(decision);

        /// Sets the change to a request body chunk.
        with_request_body_mutation(self, mutation: BodyMutation) =>
            self.request_body_mutation = Some(mutation);

        /// Sets the change to a response body chunk.
        with_response_body_mutation(self, mutation: BodyMutation) =>
            self.response_body_mutation = Some(mutation);

        /// Sets whether the agent wants more of the body before it decides.
        set_needs_more(self, needs_more: bool) => self.needs_more = needs_more;

        /// Adds a change to the request headers.
        add_request_header(self, op: HeaderOp) => self.request_headers.push(op);

        /// Adds a change to the response headers.
        add_response_header(self, op: HeaderOp) => self.response_headers.push(op);

        /// Sets the reasons for the decision.
        with_audit(self, audit: AuditMetadata) => self.audit = audit;
    }
}

impl Default for AgentResponse {
    fn default() -> Self {
        Self::default_allow()
    }
}

/// Reasons for an agent's decision, for audit logs.
///
/// On the wire `custom` also carries the correlation id that matches an answer to its event. That
/// entry belongs to the transport: it is added when an answer is sent and removed when one is
/// received.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AuditMetadata {
    /// Arbitrary labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Ids of the rules that matched.
    #[serde(default)]
    pub rule_ids: Vec<String>,
    /// Confidence of the agent, from 0.0 to 1.0.
    #[serde(default)]
    pub confidence: Option<f32>,
    /// Codes of the reasons, such as `invalid_event`.
    #[serde(default)]
    pub reason_codes: Vec<String>,
    /// Additional values by name.
    #[serde(default)]
    pub custom: HashMap<String, serde_json::Value>,
}

impl AuditMetadata {
    /// Returns whether all fields are empty.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
            && self.rule_ids.is_empty()
            && self.confidence.is_none()
            && self.reason_codes.is_empty()
            && self.custom.is_empty()
    }
}
