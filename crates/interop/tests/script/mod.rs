//! What the peers' client does, call by call: what the agent must be given, and what the client must print.

use serde::Serialize;
use serde_json::{Value, json};
use tollgate::{AgentResponse, CancelReason, RequestBodyChunkEvent, WebSocketOpcode};
use tollgate_interop::{Logged, Via, blocked_by_body, events, to_chunk, to_frame, to_uri};

/// One call of the client.
pub(crate) struct Step {
    call: String,
    /// What the call returns; `None` if this client has no such call.
    response: Option<Value>,
    /// What the agent is given.
    pub(crate) logged: Option<Logged>,
}

impl Step {
    /// The line that the client prints.
    pub(crate) fn line(&self) -> Value {
        match &self.response {
            Some(response) => json!({"call": self.call, "ok": true, "response": response}),
            None => json!({"call": self.call, "ok": false, "kind": "Unsupported"}),
        }
    }

    /// Takes the prose out of a line that says that there is no such call.
    pub(crate) fn keep_what_matters(&self, line: &mut Value) {
        if let (None, Some(line)) = (&self.response, line.as_object_mut()) {
            line.remove("error");
        }
    }
}

/// Everything that a client does after it has connected.
pub(crate) fn script(via: Via) -> Vec<Step> {
    let mut script = Script {
        via,
        exchanges: 0,
        steps: Vec::new(),
    };
    script.request_headers();
    script.request_bodies();
    script.responses();
    script.websocket_frames();
    script.guardrail_and_settings();
    script.cancels_and_ping();
    script.one_request("/last", "/last");
    script.steps
}

struct Script {
    via: Via,
    exchanges: usize,
    steps: Vec<Step>,
}

impl Script {
    fn new_id(&mut self) -> String {
        self.exchanges += 1;
        format!("c-{}", self.exchanges)
    }

    /// A call that both clients have.
    fn call(&mut self, call: &str, id: &str, event: impl Serialize, answer: &AgentResponse) {
        // The part of the name before the colon says which event it is.
        let (name, _) = call.split_once(':').unwrap_or((call, ""));
        let name = name.trim_end_matches("_binary");
        self.steps.push(Step {
            call: call.to_owned(),
            response: Some(as_printed(id, answer)),
            logged: Some(Logged {
                event: name.to_owned(),
                value: serde_json::to_value(event).expect("an event is JSON"),
            }),
        });
    }

    /// A call that the published pool lacks.
    fn client_call(&mut self, call: &str, id: &str, event: impl Serialize, answer: &AgentResponse) {
        match self.via {
            Via::Client => self.call(call, id, event, answer),
            Via::Pool => self.unsupported(call),
        }
    }

    fn unsupported(&mut self, call: &str) {
        self.steps.push(Step {
            call: call.to_owned(),
            response: None,
            logged: None,
        });
    }

    fn request_headers(&mut self) {
        for uri in [
            "/allow",
            "/block",
            "/redirect",
            "/challenge",
            "/headers",
            "/routing",
            "/audit",
            "/needs-more",
        ] {
            self.one_request(uri, uri);
        }
        let id = self.new_id();
        let event = events::bare_request_headers(&id, "/allow");
        self.call("request_headers:bare", &id, event, &to_uri("/allow"));
    }

    fn one_request(&mut self, name: &str, uri: &str) {
        let id = self.new_id();
        let event = events::request_headers(&id, uri);
        self.call(&format!("request_headers:{name}"), &id, event, &to_uri(uri));
    }

    fn request_bodies(&mut self) {
        let id = self.new_id();
        let parts: [&[u8]; 5] = [b"REPLACE", b"DROP", b"PASS", b"hello", b""];
        for event in events::request_chunks(&id, &parts, Some(20)) {
            self.call(&text_name(&event), &id, &event, &answer_to(&event));
        }
        let id = self.new_id();
        let chunks = events::request_chunks(&id, &[b"BLOCK-", b"ME"], None);
        let answers = [AgentResponse::default_allow(), blocked_by_body()];
        for (event, answer) in chunks.iter().zip(&answers) {
            self.call(&text_name(event), &id, event, answer);
        }
        let id = self.new_id();
        let chunks = events::request_chunks(&id, &[&every_byte(), b"BLOCK-ME"], None);
        for (event, answer) in chunks.iter().zip(&answers) {
            let call = format!("request_body_chunk_binary:{}", event.chunk_index);
            self.client_call(&call, &id, event, answer);
        }
    }

    fn responses(&mut self) {
        let allow = AgentResponse::default_allow();
        let id = self.new_id();
        self.call(
            "response_headers",
            &id,
            events::response_headers(&id),
            &allow,
        );
        let id = self.new_id();
        let replaced = AgentResponse {
            response_body_mutation: to_chunk(b"REPLACE", 0),
            ..AgentResponse::default_allow()
        };
        let event = events::response_chunk(&id, b"REPLACE");
        self.call("response_body_chunk:REPLACE", &id, event, &replaced);
        let id = self.new_id();
        let event = events::response_chunk(&id, &every_byte());
        self.client_call("response_body_chunk_binary", &id, event, &allow);
        let id = self.new_id();
        self.client_call(
            "request_complete",
            &id,
            events::request_complete(&id),
            &allow,
        );
    }

    fn websocket_frames(&mut self) {
        let binary: &[u8] = &[0, 159, 146, 150];
        for (name, opcode, data) in [
            ("hi", WebSocketOpcode::Text, &b"hi"[..]),
            ("drop", WebSocketOpcode::Text, b"drop"),
            ("close", WebSocketOpcode::Text, b"close"),
            ("binary", WebSocketOpcode::Binary, binary),
        ] {
            let id = self.new_id();
            let event = events::websocket_frame(&id, opcode, data);
            let call = format!("websocket_frame:{name}");
            self.client_call(&call, &id, event, &to_frame(data));
        }
    }

    fn guardrail_and_settings(&mut self) {
        let allow = AgentResponse::default_allow();
        let id = self.new_id();
        self.call(
            "guardrail_inspect",
            &id,
            events::guardrail_inspect(&id),
            &allow,
        );
        let id = self.new_id();
        let settings = json!({
            "config": {"mode": "strict", "limits": [1, 2.5, null]},
            "config_version": "7",
        });
        self.client_call("configure", &id, settings, &allow);
    }

    fn cancels_and_ping(&mut self) {
        let id = self.new_id();
        let cancelled = json!([id, CancelReason::ClientDisconnect.number()]);
        self.steps.push(Step {
            call: "cancel_request".to_owned(),
            response: Some(Value::Null),
            logged: Some(Logged {
                event: "cancel".to_owned(),
                value: cancelled,
            }),
        });
        // Nothing is pending, so there is nothing to tell the agent.
        for (call, response) in [
            ("cancel_all", json!({"cancelled": 0})),
            ("ping", Value::Null),
        ] {
            self.new_id();
            match self.via {
                Via::Pool => self.unsupported(call),
                Via::Client => self.steps.push(Step {
                    call: call.to_owned(),
                    response: Some(response),
                    logged: None,
                }),
            }
        }
    }
}

fn every_byte() -> Vec<u8> {
    (0..=255).collect()
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

/// The published client leaves the correlation id where it came.
fn as_printed(id: &str, answer: &AgentResponse) -> Value {
    let mut printed = serde_json::to_value(answer).expect("an answer is JSON");
    printed["audit"]["custom"]["correlation_id"] = json!(id);
    printed
}
