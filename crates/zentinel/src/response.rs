//! Answers of agents, whose body mutations are texts.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tollgate::response::{AuditMetadata, Decision, HeaderOp, WebSocketDecision};
use tollgate::{control::PROTOCOL_VERSION, response};

/// Answer of an agent to an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentResponse {
    /// Version of the protocol.
    pub version: u32,
    /// The decision.
    pub decision: Decision,
    /// Changes to the headers of the request.
    #[serde(default)]
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the headers of the response.
    #[serde(default)]
    pub response_headers: Vec<HeaderOp>,
    /// Hints for choosing an upstream.
    #[serde(default)]
    pub routing_metadata: HashMap<String, String>,
    /// Remarks for the log.
    #[serde(default)]
    pub audit: AuditMetadata,
    /// Set if the agent wants more of the body before it decides.
    #[serde(default)]
    pub needs_more: bool,
    /// Change to the chunk of a request body.
    #[serde(default)]
    pub request_body_mutation: Option<BodyMutation>,
    /// Change to the chunk of a response body.
    #[serde(default)]
    pub response_body_mutation: Option<BodyMutation>,
    /// Decision on a WebSocket frame.
    #[serde(default)]
    pub websocket_decision: Option<WebSocketDecision>,
}

impl AgentResponse {
    /// Creates an answer that allows.
    pub fn default_allow() -> Self {
        Self::decided(Decision::Allow)
    }

    /// Creates an answer that blocks the request.
    pub fn block(status: u16, body: Option<String>) -> Self {
        Self::decided(Decision::Block {
            status,
            body,
            headers: None,
        })
    }

    /// Creates an answer that redirects the client.
    pub fn redirect(url: String, status: u16) -> Self {
        Self::decided(Decision::Redirect { url, status })
    }

    /// Creates an answer that asks for more of the body.
    pub fn needs_more_data() -> Self {
        Self::default_allow().set_needs_more(true)
    }

    /// Creates an answer that lets a WebSocket frame pass.
    pub fn websocket_allow() -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Allow)
    }

    /// Creates an answer that drops a WebSocket frame.
    pub fn websocket_drop() -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Drop)
    }

    /// Creates an answer that closes a WebSocket connection.
    pub fn websocket_close(code: u16, reason: String) -> Self {
        Self::default_allow().with_websocket_decision(WebSocketDecision::Close { code, reason })
    }

    fn decided(decision: Decision) -> Self {
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

    /// Sets the decision on a WebSocket frame.
    pub fn with_websocket_decision(mut self, decision: WebSocketDecision) -> Self {
        self.websocket_decision = Some(decision);
        self
    }

    /// Sets the change to the chunk of a request body.
    pub fn with_request_body_mutation(mut self, mutation: BodyMutation) -> Self {
        self.request_body_mutation = Some(mutation);
        self
    }

    /// Sets the change to the chunk of a response body.
    pub fn with_response_body_mutation(mut self, mutation: BodyMutation) -> Self {
        self.response_body_mutation = Some(mutation);
        self
    }

    /// Sets whether the agent wants more of the body.
    pub fn set_needs_more(mut self, needs_more: bool) -> Self {
        self.needs_more = needs_more;
        self
    }

    /// Adds a change to the headers of the request.
    pub fn add_request_header(mut self, op: HeaderOp) -> Self {
        self.request_headers.push(op);
        self
    }

    /// Adds a change to the headers of the response.
    pub fn add_response_header(mut self, op: HeaderOp) -> Self {
        self.response_headers.push(op);
        self
    }

    /// Sets what to log.
    pub fn with_audit(mut self, audit: AuditMetadata) -> Self {
        self.audit = audit;
        self
    }
}

/// Change to one body chunk: keep, replace or drop it.
///
/// The text is passed on as the agent wrote it. The proxy decodes that of a response body from
/// base64, and forwards that of a request body as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyMutation {
    /// New content of the chunk. `None` keeps the chunk, an empty text drops it.
    pub data: Option<String>,
    /// Index of the chunk in the body, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
}

impl BodyMutation {
    /// Creates a mutation that keeps a chunk.
    pub fn pass_through(chunk_index: u32) -> Self {
        Self {
            data: None,
            chunk_index,
        }
    }

    /// Creates a mutation that removes a chunk from the body.
    pub fn drop_chunk(chunk_index: u32) -> Self {
        Self::replace(chunk_index, String::new())
    }

    /// Creates a mutation that replaces a chunk.
    pub fn replace(chunk_index: u32, data: String) -> Self {
        Self {
            data: Some(data),
            chunk_index,
        }
    }

    /// Returns whether the chunk is kept unchanged.
    pub fn is_pass_through(&self) -> bool {
        self.data.is_none()
    }

    /// Returns whether the chunk is removed.
    pub fn is_drop(&self) -> bool {
        self.data.as_ref().is_some_and(String::is_empty)
    }
}

impl From<BodyMutation> for response::BodyMutation {
    fn from(mutation: BodyMutation) -> Self {
        match mutation.data {
            Some(text) => Self::from_text(mutation.chunk_index, &text),
            None => Self::pass_through(mutation.chunk_index),
        }
    }
}

impl From<response::BodyMutation> for BodyMutation {
    fn from(mutation: response::BodyMutation) -> Self {
        Self {
            data: mutation.text().map(Into::into),
            chunk_index: mutation.chunk_index,
        }
    }
}

/// Converts between the two forms of an answer, which differ in their body mutations.
macro_rules! convert {
    ($($from:ty => $to:ty),*) => {$(
        impl From<$from> for $to {
            fn from(answer: $from) -> Self {
                Self {
                    version: answer.version,
                    decision: answer.decision,
                    request_headers: answer.request_headers,
                    response_headers: answer.response_headers,
                    routing_metadata: answer.routing_metadata,
                    audit: answer.audit,
                    needs_more: answer.needs_more,
                    request_body_mutation: answer.request_body_mutation.map(Into::into),
                    response_body_mutation: answer.response_body_mutation.map(Into::into),
                    websocket_decision: answer.websocket_decision,
                }
            }
        }
    )*};
}

convert!(
    AgentResponse => response::AgentResponse,
    response::AgentResponse => AgentResponse
);
