//! Every kind of message that a proxy can send, in the order of the peers' client.

mod call;

pub use call::{Call, Step};

use crate::answers::{blocked_by_body, rejected_settings, to_chunk, to_frame, to_uri};
use crate::events;
use serde_json::json;
use tollgate::{
    AgentResponse, CancelReason,
    events::{RequestBodyChunkEvent, WebSocketOpcode},
};

/// URIs to which the peers' agent gives a special answer, and one that it allows.
pub const URIS: [&str; 9] = [
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
pub const CANCEL_REASONS: [CancelReason; 6] = [
    CancelReason::ClientDisconnect,
    CancelReason::Timeout,
    CancelReason::BlockedByAgent,
    CancelReason::UpstreamError,
    CancelReason::ProxyShutdown,
    CancelReason::Manual,
];

/// Returns all steps of the peers' client after it has connected, in order.
///
/// When the call `request_headers:/last` is answered, the agent has read everything before it.
/// Rejected settings come after that, since over gRPC they may end the connection.
pub fn script() -> Vec<Step> {
    let mut script = Script::default();
    script.request_headers();
    script.text_bodies();
    script.byte_bodies();
    script.responses();
    script.websocket_frames();
    script.guardrail_and_settings();
    script.cancels_and_ping();
    script.one_request("/last", |id| events::request_headers(id, "/last"));
    script.one("configure:rejected", rejected_settings(), |_| {
        Call::Configure(json!({"config": {"reject": true}}))
    });
    script.one_request("/after", |id| events::request_headers(id, "/after"));
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

    fn push(
        &mut self,
        name: impl Into<String>,
        id: &str,
        call: Call,
        answer: impl Into<Option<AgentResponse>>,
    ) {
        self.steps.push(Step {
            name: name.into(),
            id: id.to_owned(),
            call,
            answer: answer.into(),
        });
    }

    /// Adds an exchange with a single step.
    fn one(
        &mut self,
        name: impl Into<String>,
        answer: impl Into<Option<AgentResponse>>,
        call: impl FnOnce(&str) -> Call,
    ) {
        let id = self.new_id();
        self.push(name, &id, call(&id), answer);
    }

    fn one_request(
        &mut self,
        name: &str,
        event: impl FnOnce(&str) -> tollgate::RequestHeadersEvent,
    ) {
        let id = self.new_id();
        let event = event(&id);
        let answer = to_uri(&event.uri);
        self.push(
            format!("request_headers:{name}"),
            &id,
            Call::RequestHeaders(event),
            answer,
        );
    }

    fn request_headers(&mut self) {
        for uri in URIS {
            self.one_request(uri, |id| events::request_headers(id, uri));
        }
        let full = |id: &str| events::request_headers(id, "/allow");
        let bare = |id: &str| events::bare_request_headers(id, "/allow");
        self.one_request("untraced", |id| events::untraced(full(id)));
        self.one_request("bare", bare);
        self.one_request("bare-traced", |id| events::traced(bare(id)));
    }

    fn text_bodies(&mut self) {
        self.text_body(&[b"hello", b""], Some(5));
        let id = self.new_id();
        let chunks = events::request_chunks(&id, &[b"BLOCK-", b"ME"], None);
        let answers = [AgentResponse::default_allow(), blocked_by_body()];
        for (event, answer) in chunks.into_iter().zip(answers) {
            self.push(
                text_name(&event),
                &id,
                Call::RequestBodyChunk(event),
                answer,
            );
        }
        for text in ["REPLACE", "REPLACE-BYTES", "DROP", "PASS"] {
            self.text_body(&[text.as_bytes()], Some(text.len()));
        }
    }

    fn text_body(&mut self, parts: &[&[u8]], total: Option<usize>) {
        let id = self.new_id();
        for event in events::request_chunks(&id, parts, total) {
            let answer = answer_to(&event);
            self.push(
                text_name(&event),
                &id,
                Call::RequestBodyChunk(event),
                answer,
            );
        }
    }

    fn byte_bodies(&mut self) {
        let allow = AgentResponse::default_allow;
        let id = self.new_id();
        // These bytes are valid base64 text as well.
        let event = RequestBodyChunkEvent::new(&id, &b"DROP"[..], 0, true);
        let answer = answer_to(&event);
        let call = Call::RequestBodyChunkBinary(event);
        self.push("request_body_chunk_binary:DROP", &id, call, answer);
        self.one("request_body_chunk:bytes", allow(), |id| {
            Call::RequestBodyChunk(chunk_of_every_byte(id))
        });
        self.one("request_body_chunk_binary:sized", allow(), |id| {
            Call::RequestBodyChunkBinary(chunk_of_every_byte(id))
        });
        let id = self.new_id();
        let chunks = events::request_chunks(&id, &[&events::every_byte(), b"BLOCK-ME"], None);
        for (event, answer) in chunks.into_iter().zip([allow(), blocked_by_body()]) {
            let name = format!("request_body_chunk_binary:{}", event.chunk_index);
            self.push(name, &id, Call::RequestBodyChunkBinary(event), answer);
        }
    }

    fn responses(&mut self) {
        let allow = AgentResponse::default_allow;
        self.one("response_headers", allow(), |id| {
            Call::ResponseHeaders(events::response_headers(id))
        });
        for text in ["REPLACE", "REPLACE-BYTES", "DROP", "PASS"] {
            let answer = AgentResponse {
                response_body_mutation: to_chunk(text.as_bytes(), 0),
                ..allow()
            };
            self.one(format!("response_body_chunk:{text}"), answer, |id| {
                Call::ResponseBodyChunk(events::response_chunk(id, text.as_bytes()))
            });
        }
        let bytes = events::every_byte();
        self.one("response_body_chunk:bytes", allow(), |id| {
            Call::ResponseBodyChunk(events::response_chunk(id, &bytes))
        });
        self.one("response_body_chunk_binary", allow(), |id| {
            Call::ResponseBodyChunkBinary(events::response_chunk(id, &bytes))
        });
        self.one("request_complete", allow(), |id| {
            Call::RequestComplete(events::request_complete(id))
        });
        self.one("request_complete:failed", allow(), |id| {
            Call::RequestComplete(events::failed_request(id))
        });
    }

    fn websocket_frames(&mut self) {
        for text in ["hi", "drop", "close"] {
            self.frame(text, WebSocketOpcode::Text, text.as_bytes());
        }
        let bytes = events::every_byte();
        for (name, opcode) in [
            ("binary-frame", WebSocketOpcode::Binary),
            ("ping-frame", WebSocketOpcode::Ping),
            ("pong-frame", WebSocketOpcode::Pong),
            ("close-frame", WebSocketOpcode::Close),
            ("continuation-frame", WebSocketOpcode::Continuation),
        ] {
            self.frame(name, opcode, &bytes);
        }
    }

    fn frame(&mut self, name: &str, opcode: WebSocketOpcode, data: &[u8]) {
        self.one(format!("websocket_frame:{name}"), to_frame(data), |id| {
            Call::WebSocketFrame(events::websocket_frame(id, opcode, data))
        });
    }

    fn guardrail_and_settings(&mut self) {
        let allow = AgentResponse::default_allow;
        self.one("guardrail_inspect", allow(), |id| {
            Call::GuardrailInspect(events::guardrail_inspect(id))
        });
        self.one("guardrail_inspect:bare", allow(), |id| {
            Call::GuardrailInspect(events::bare_guardrail_inspect(id))
        });
        self.one("configure", allow(), |_| {
            Call::Configure(json!({
                "config": {"mode": "strict", "limits": [1, 2.5, null]},
                "config_version": "7",
            }))
        });
    }

    fn cancels_and_ping(&mut self) {
        for reason in CANCEL_REASONS {
            let name = format!("cancel_request:{}", reason.number());
            self.one(name, None, |_| Call::CancelRequest(reason));
        }
        let everything = CancelReason::ProxyShutdown;
        self.one("cancel_all", None, |_| Call::CancelAll(everything));
        self.one("ping", None, |_| Call::Ping);
    }
}

fn chunk_of_every_byte(id: &str) -> RequestBodyChunkEvent {
    let bytes = events::every_byte();
    let total = bytes.len();
    RequestBodyChunkEvent::new(id, bytes, 0, true).with_total_size(total)
}

fn text_name(event: &RequestBodyChunkEvent) -> String {
    let text = String::from_utf8_lossy(&event.data);
    format!("request_body_chunk:{text}")
}

fn answer_to(event: &RequestBodyChunkEvent) -> AgentResponse {
    AgentResponse {
        request_body_mutation: to_chunk(&event.data, event.chunk_index),
        ..AgentResponse::default_allow()
    }
}
