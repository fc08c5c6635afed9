//! The events that a proxy puts to an agent, owned and borrowed.

mod body;
mod complete;
mod configure;
mod guardrail;
mod head;
mod websocket;

pub use body::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, BodyChunk, RequestBodyChunkEvent,
    ResponseBodyChunkEvent,
};
pub use complete::{RequestComplete, RequestCompleteEvent};
pub use configure::Configure;
pub use guardrail::{GuardrailInspect, GuardrailInspectEvent};
pub use head::{
    Metadata, RequestHeaders, RequestHeadersEvent, RequestMetadata, ResponseHeaders,
    ResponseHeadersEvent,
};
pub use websocket::{WebSocketFrame, WebSocketFrameEvent, WebSocketOpcode};
