//! Kinds of events.

use serde::{Deserialize, Serialize};

/// Kind of an event that a proxy sends to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// Settings for the agent.
    Configure,
    /// The head of an HTTP request.
    RequestHeaders,
    /// A chunk of a request body.
    RequestBodyChunk,
    /// The head of the upstream's response.
    ResponseHeaders,
    /// A chunk of a response body.
    ResponseBodyChunk,
    /// The end of a request, on which nothing is decided any more.
    RequestComplete,
    /// A frame of a websocket connection.
    #[serde(rename = "websocket_frame", alias = "web_socket_frame")]
    WebSocketFrame,
    /// Text to be inspected, such as the prompt of a language model.
    GuardrailInspect,
}

impl EventType {
    /// Every kind of event.
    pub const ALL: [Self; 8] = [
        Self::RequestHeaders,
        Self::RequestBodyChunk,
        Self::ResponseHeaders,
        Self::ResponseBodyChunk,
        Self::RequestComplete,
        Self::WebSocketFrame,
        Self::GuardrailInspect,
        Self::Configure,
    ];

    /// Returns the number of this kind in the `supported_events` of a handshake.
    pub const fn number(self) -> i64 {
        match self {
            Self::RequestHeaders => 1,
            Self::RequestBodyChunk => 2,
            Self::ResponseHeaders => 3,
            Self::ResponseBodyChunk => 4,
            Self::RequestComplete => 5,
            Self::WebSocketFrame => 6,
            Self::GuardrailInspect => 7,
            Self::Configure => 8,
        }
    }

    /// Returns the kind with this number in `supported_events`; `None` if it is unknown.
    ///
    /// Older agents write 0 for [`EventType::Configure`].
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::RequestHeaders,
            2 => Self::RequestBodyChunk,
            3 => Self::ResponseHeaders,
            4 => Self::ResponseBodyChunk,
            5 => Self::RequestComplete,
            6 => Self::WebSocketFrame,
            7 => Self::GuardrailInspect,
            8 | 0 => Self::Configure,
            _ => return None,
        })
    }

    /// Returns the name of this kind in logs and reports, such as `request_headers`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::RequestHeaders => "request_headers",
            Self::RequestBodyChunk => "request_body_chunk",
            Self::ResponseHeaders => "response_headers",
            Self::ResponseBodyChunk => "response_body_chunk",
            Self::RequestComplete => "request_complete",
            Self::WebSocketFrame => "websocket_frame",
            Self::GuardrailInspect => "guardrail_inspect",
        }
    }
}
