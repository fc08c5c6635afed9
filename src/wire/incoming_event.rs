//! Received events.

use super::views::{RequestHeadersView, ResponseHeadersView};
use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, RequestComplete, WebSocketFrame,
};

/// A received event of any kind. It borrows from the received message.
#[derive(Debug)]
#[non_exhaustive]
pub enum IncomingEvent<'a> {
    /// The head of an HTTP request.
    RequestHeaders(RequestHeadersView<'a>),
    /// A chunk of a request body.
    RequestBodyChunk(BodyChunk<'a>),
    /// The head of the upstream's response.
    ResponseHeaders(ResponseHeadersView<'a>),
    /// A chunk of a response body.
    ResponseBodyChunk(BodyChunk<'a>),
    /// The end of a request.
    RequestComplete(RequestComplete<'a>),
    /// A frame of a websocket connection.
    WebSocketFrame(WebSocketFrame<'a>),
    /// Text to be inspected.
    GuardrailInspect(GuardrailInspect<'a>),
    /// Settings for the agent.
    Configure(Configure<'a>),
}

impl<'a> IncomingEvent<'a> {
    /// Returns the correlation id of the exchange that the event belongs to.
    pub fn correlation_id(&self) -> &'a str {
        match self {
            Self::RequestHeaders(event) => event.metadata.correlation_id,
            Self::RequestBodyChunk(event) | Self::ResponseBodyChunk(event) => event.correlation_id,
            Self::ResponseHeaders(event) => event.correlation_id,
            Self::RequestComplete(event) => event.correlation_id,
            Self::WebSocketFrame(event) => event.correlation_id,
            Self::GuardrailInspect(event) => event.correlation_id,
            Self::Configure(event) => event.correlation_id,
        }
    }
}
