//! Kinds of events.

use super::wire_forms::wire_forms;
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

// The numbers in the `supported_events` of a handshake. Older agents write 0 for the settings.
wire_forms! {
    EventType: number -> i64, from_number(number: i64) {
        RequestHeaders = 1,
        RequestBodyChunk = 2,
        ResponseHeaders = 3,
        ResponseBodyChunk = 4,
        RequestComplete = 5,
        WebSocketFrame = 6,
        GuardrailInspect = 7,
        Configure = 8 | 0,
    }
}
