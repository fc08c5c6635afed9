//! Types of streams: flow control, chunks with the room that is left, and the state of a stream.

use crate::{AuditMetadata, Decision, HeaderOp};
use serde::{Deserialize, Serialize};
use tollgate::events::now_ms;

/// Request of an agent to pause or to resume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowControlSignal {
    /// Id of the request that it applies to; `None` for all.
    pub correlation_id: Option<String>,
    /// Action that the agent asks for.
    pub action: FlowAction,
    /// Time of the message in milliseconds since 1970.
    pub timestamp_ms: u64,
}

impl FlowControlSignal {
    /// Creates a request to send nothing.
    pub fn pause_all() -> Self {
        Self::of_all(FlowAction::Pause)
    }

    /// Creates a request to go on.
    pub fn resume_all() -> Self {
        Self::of_all(FlowAction::Resume)
    }

    fn of_all(action: FlowAction) -> Self {
        Self {
            correlation_id: None,
            action,
            timestamp_ms: now_ms(),
        }
    }

    /// Returns whether the signal applies to all requests.
    pub fn is_global(&self) -> bool {
        self.correlation_id.is_none()
    }
}

/// Action that an agent asks for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FlowAction {
    /// Send nothing.
    Pause,
    /// Go on.
    Resume,
    /// Send as much as there is room for.
    UpdateCapacity {
        /// Room in bytes.
        buffer_available: usize,
    },
}

/// Chunk of a body, with the room that the proxy has left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BodyChunkEventV2 {
    /// Id that joins the events of one HTTP request.
    pub correlation_id: String,
    /// Index of the chunk, counted from 0.
    pub chunk_index: u32,
    /// The chunk, in base64.
    pub data: String,
    /// Set for the last chunk of the body.
    pub is_last: bool,
    /// Size of the whole body in bytes, if it is known.
    pub total_size: Option<usize>,
    /// Bytes of the body so far, this chunk included.
    pub bytes_transferred: usize,
    /// Room that the proxy has left, in bytes.
    pub proxy_buffer_available: usize,
    /// Time of the message in milliseconds since 1970.
    pub timestamp_ms: u64,
}

/// Answer of an agent on a stream. Handlers return
/// [`crate::AgentResponse`], which is another type.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentResponse {
    /// Id of the request.
    pub correlation_id: String,
    /// The decision.
    pub decision: Decision,
    /// Changes to the headers of the request.
    #[serde(default)]
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the headers of the response.
    #[serde(default)]
    pub response_headers: Vec<HeaderOp>,
    /// Remarks for the log.
    #[serde(default)]
    pub audit: AuditMetadata,
    /// Time that the decision took, in milliseconds.
    pub processing_time_ms: Option<u64>,
    /// Set if the agent wants more of the body before it decides.
    pub needs_more: bool,
}

impl AgentResponse {
    /// Creates an answer that allows.
    pub fn allow(correlation_id: impl Into<String>) -> Self {
        Self::decided(correlation_id.into(), Decision::Allow)
    }

    /// Creates an answer that blocks the request.
    pub fn block(correlation_id: impl Into<String>, status: u16) -> Self {
        let decision = Decision::Block {
            status,
            body: None,
            headers: None,
        };
        Self::decided(correlation_id.into(), decision)
    }

    fn decided(correlation_id: String, decision: Decision) -> Self {
        Self {
            correlation_id,
            decision,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            audit: AuditMetadata::default(),
            processing_time_ms: None,
            needs_more: false,
        }
    }

    /// Adds a change to the headers of the request.
    pub fn with_request_header(mut self, op: HeaderOp) -> Self {
        self.request_headers.push(op);
        self
    }

    /// Sets the time that the decision took, in milliseconds.
    pub fn with_processing_time(mut self, ms: u64) -> Self {
        self.processing_time_ms = Some(ms);
        self
    }

    /// Sets what to log.
    pub fn with_audit(mut self, audit: AuditMetadata) -> Self {
        self.audit = audit;
        self
    }
}

/// State of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamState {
    /// There is no connection.
    #[default]
    Disconnected,
    /// The handshake is not complete.
    Handshaking,
    /// Requests are sent.
    Active,
    /// The agent has asked the proxy to pause.
    Paused,
    /// The agent takes no new requests.
    Draining,
    /// The stream has ended.
    Closed,
}

impl StreamState {
    /// Returns whether new requests are sent.
    pub fn can_accept_requests(&self) -> bool {
        matches!(self, Self::Active)
    }

    /// Returns whether there is a connection.
    pub fn is_connected(&self) -> bool {
        !matches!(self, Self::Disconnected | Self::Closed)
    }
}
