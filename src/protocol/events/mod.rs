//! Events that a proxy sends to an agent, in owned and borrowed form.

mod body;
mod complete;
mod configure;
mod forms;
mod guardrail;
mod head;
mod target;
mod websocket;

pub use body::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, BodyChunk, RequestBodyChunk,
    RequestBodyChunkEvent, ResponseBodyChunk, ResponseBodyChunkEvent,
};
pub use complete::{RequestComplete, RequestCompleteEvent};
pub use configure::Configure;
pub use guardrail::{GuardrailInspect, GuardrailInspectEvent};
pub use head::{
    Metadata, RequestHeaders, RequestHeadersEvent, RequestMetadata, ResponseHeaders,
    ResponseHeadersEvent,
};
pub use target::normal_path;
pub use websocket::{WebSocketFrame, WebSocketFrameEvent, WebSocketOpcode};

pub(crate) use complete::request_complete;
pub(crate) use guardrail::guardrail_inspect;
pub(crate) use head::request_metadata;
pub(crate) use websocket::websocket_frame;
