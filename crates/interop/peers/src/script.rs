//! The calls of `client`: every kind of message that zentinel-agent-protocol can send,
//! in a fixed order. Each step has its own correlation id, except for the chunks of one
//! body.

use crate::events;
use serde_json::{json, Value};
use zentinel_agent_protocol::v2::CancelReason;
use zentinel_agent_protocol::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, GuardrailInspectEvent,
    RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent, ResponseBodyChunkEvent,
    ResponseHeadersEvent, WebSocketFrameEvent,
};

/// A call of the client.
pub enum Call {
    RequestHeaders(RequestHeadersEvent),
    RequestBodyChunk(RequestBodyChunkEvent),
    RequestBodyChunkBinary(BinaryRequestBodyChunkEvent),
    ResponseHeaders(ResponseHeadersEvent),
    ResponseBodyChunk(ResponseBodyChunkEvent),
    ResponseBodyChunkBinary(BinaryResponseBodyChunkEvent),
    RequestComplete(RequestCompleteEvent),
    WebSocketFrame(WebSocketFrameEvent),
    GuardrailInspect(GuardrailInspectEvent),
    Configure(Value),
    CancelRequest(CancelReason),
    CancelAll(CancelReason),
    Ping,
}

impl Call {
    /// Returns whether the agent answers the call.
    pub fn is_answered(&self) -> bool {
        !matches!(
            self,
            Self::CancelRequest(_) | Self::CancelAll(_) | Self::Ping
        )
    }
}

/// A call, the name it is printed under, and the exchange it belongs to.
pub struct Step {
    pub name: String,
    pub id: String,
    pub call: Call,
}

/// URIs to which the peers' agent gives a special answer, and one that it allows.
const URIS: [&str; 9] = [
    "/allow",
    "/block",
    "/block-bare",
    "/redirect",
    "/challenge",
    "/headers",
    "/routing",
    "/audit",
    "/needs-more",
];

/// All cancel reasons.
const REASONS: [CancelReason; 6] = [
    CancelReason::ClientDisconnect,
    CancelReason::Timeout,
    CancelReason::BlockedByAgent,
    CancelReason::UpstreamError,
    CancelReason::ProxyShutdown,
    CancelReason::Manual,
];

/// Returns all steps. Cancels and pings are not answered, so a call that is follows them:
/// when its answer arrives, the agent has read everything before it. Rejected settings
/// come after that, since over gRPC they end the connection, and another call that the
/// agent reads after them.
pub fn steps() -> Vec<Step> {
    let mut script = Script::default();
    script.request_headers();
    script.request_bodies();
    script.responses();
    script.websocket_frames();
    script.control();
    script.one("request_headers:/last", |id| {
        Call::RequestHeaders(events::request_headers(id, "/last"))
    });
    script.one("configure:rejected", |_| {
        Call::Configure(json!({"config": {"reject": true}}))
    });
    script.one("request_headers:/after", |id| {
        Call::RequestHeaders(events::request_headers(id, "/after"))
    });
    script.steps
}

#[derive(Default)]
struct Script {
    exchanges: usize,
    steps: Vec<Step>,
}

impl Script {
    fn new_id(&mut self) -> String {
        self.exchanges += 1;
        format!("c-{}", self.exchanges)
    }

    fn push(&mut self, name: impl Into<String>, id: &str, call: Call) {
        self.steps.push(Step {
            name: name.into(),
            id: id.to_owned(),
            call,
        });
    }

    /// Adds an exchange with a single step.
    fn one(&mut self, name: impl Into<String>, call: impl FnOnce(&str) -> Call) {
        let id = self.new_id();
        self.push(name, &id, call(&id));
    }

    fn request_headers(&mut self) {
        for uri in URIS {
            self.one(format!("request_headers:{uri}"), |id| {
                Call::RequestHeaders(events::request_headers(id, uri))
            });
        }
        self.one("request_headers:untraced", |id| {
            Call::RequestHeaders(events::untraced(events::request_headers(id, "/allow")))
        });
        self.one("request_headers:bare", |id| {
            Call::RequestHeaders(events::bare_request_headers(id, "/allow"))
        });
        self.one("request_headers:bare-traced", |id| {
            Call::RequestHeaders(events::traced(events::bare_request_headers(id, "/allow")))
        });
    }

    fn request_bodies(&mut self) {
        self.text_body(&[b"hello", b""], Some(5));
        self.text_body(&[b"BLOCK-", b"ME"], None);
        for text in ["REPLACE", "REPLACE-BYTES", "DROP", "PASS"] {
            self.text_body(&[text.as_bytes()], Some(text.len()));
        }
        // These bytes are valid base64 text as well.
        self.one("request_body_chunk_binary:DROP", |id| {
            let mut chunks = events::request_chunks(id, &[b"DROP"], None);
            Call::RequestBodyChunkBinary(chunks.remove(0))
        });
        let bytes = events::every_byte();
        self.one("request_body_chunk:bytes", |id| {
            let mut chunks = events::request_chunks(id, &[&bytes], Some(bytes.len()));
            Call::RequestBodyChunk(chunks.remove(0).into())
        });
        self.one("request_body_chunk_binary:sized", |id| {
            let mut chunks = events::request_chunks(id, &[&bytes], Some(bytes.len()));
            Call::RequestBodyChunkBinary(chunks.remove(0))
        });
        let id = self.new_id();
        for chunk in events::request_chunks(&id, &[&bytes, b"BLOCK-ME"], None) {
            let name = format!("request_body_chunk_binary:{}", chunk.chunk_index);
            self.push(name, &id, Call::RequestBodyChunkBinary(chunk));
        }
    }

    /// A request body whose chunks are sent as base64 text.
    fn text_body(&mut self, parts: &[&[u8]], total: Option<usize>) {
        let id = self.new_id();
        let chunks = events::request_chunks(&id, parts, total);
        for (chunk, part) in chunks.into_iter().zip(parts) {
            let name = format!("request_body_chunk:{}", String::from_utf8_lossy(part));
            self.push(name, &id, Call::RequestBodyChunk(chunk.into()));
        }
    }

    fn responses(&mut self) {
        self.one("response_headers", |id| {
            Call::ResponseHeaders(events::response_headers(id))
        });
        for text in ["REPLACE", "REPLACE-BYTES", "DROP", "PASS"] {
            self.one(format!("response_body_chunk:{text}"), |id| {
                Call::ResponseBodyChunk(events::response_chunk(id, text.as_bytes()).into())
            });
        }
        let bytes = events::every_byte();
        self.one("response_body_chunk:bytes", |id| {
            Call::ResponseBodyChunk(events::response_chunk(id, &bytes).into())
        });
        self.one("response_body_chunk_binary", |id| {
            Call::ResponseBodyChunkBinary(events::response_chunk(id, &bytes))
        });
        self.one("request_complete", |id| {
            Call::RequestComplete(events::request_complete(id))
        });
        self.one("request_complete:failed", |id| {
            Call::RequestComplete(events::failed_request(id))
        });
    }

    fn websocket_frames(&mut self) {
        for text in ["hi", "drop", "close"] {
            self.one(format!("websocket_frame:{text}"), |id| {
                Call::WebSocketFrame(events::websocket_frame(id, "text", text.as_bytes()))
            });
        }
        let bytes = events::every_byte();
        for opcode in ["binary", "ping", "pong", "close", "continuation"] {
            self.one(format!("websocket_frame:{opcode}-frame"), |id| {
                Call::WebSocketFrame(events::websocket_frame(id, opcode, &bytes))
            });
        }
    }

    fn control(&mut self) {
        self.one("guardrail_inspect", |id| {
            Call::GuardrailInspect(events::guardrail_inspect(id))
        });
        self.one("guardrail_inspect:bare", |id| {
            Call::GuardrailInspect(events::bare_guardrail_inspect(id))
        });
        self.one("configure", |_| {
            Call::Configure(json!({
                "config": {"mode": "strict", "limits": [1, 2.5, null]},
                "config_version": "7",
            }))
        });
        for reason in REASONS {
            self.one(format!("cancel_request:{}", reason as i32), |_| {
                Call::CancelRequest(reason)
            });
        }
        self.one("cancel_all", |_| {
            Call::CancelAll(CancelReason::ProxyShutdown)
        });
        self.one("ping", |_| Call::Ping);
    }
}
