use super::notice::Notice;

/// Row of the table.
#[derive(Debug)]
pub struct Row {
    /// First cell of the row.
    pub label: &'static str,
    pub(super) subject: Subject,
}

/// Subject of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The two sides connect, with the encoding of the column.
    Handshake,
    /// An event, as these steps of the script send it.
    Event(&'static [&'static str]),
    /// A field of the answer to a step of the script, as a JSON pointer.
    Answer(&'static str, &'static str),
    /// Settings that a new connection begins with.
    FirstSettings(FirstSettings),
    /// Calls are cancelled, for each reason.
    Cancel,
    /// The proxy pings the agent.
    PingFromProxy,
    /// The agent pings the proxy.
    PingFromAgent,
    /// The agent sends an unsolicited message.
    Notice(Notice),
}

/// Decision of the agent about the settings of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstSettings {
    /// The agent accepts them: it has them before the first event.
    Accepted,
    /// The agent rejects them: the proxy does not use the connection.
    Rejected,
}

impl Row {
    /// Returns the steps of the script that the row evaluates.
    pub fn steps(&self) -> Vec<&'static str> {
        match self.subject {
            Subject::Event(steps) => steps.to_vec(),
            Subject::Answer(step, _) => vec![step],
            _ => Vec::new(),
        }
    }
}

/// All rows of the table, by part.
pub const PARTS: [(&str, &[Row]); 4] = [
    ("Events", EVENTS),
    ("Answers", ANSWERS),
    ("From the proxy", FROM_PROXY),
    ("From the agent", FROM_AGENT),
];

const EVENTS: &[Row] = &[
    event("request headers: every field", &["request_headers:/allow"]),
    event(
        "request headers: every field but `traceparent`",
        &["request_headers:untraced"],
    ),
    event(
        "request headers: required fields and `traceparent`",
        &["request_headers:bare-traced"],
    ),
    event(
        "request headers: required fields only",
        &["request_headers:bare"],
    ),
    event(
        "request body chunk: text, size known",
        &["request_body_chunk:hello"],
    ),
    event(
        "request body chunk: text, size unknown",
        &["request_body_chunk:BLOCK-", "request_body_chunk:ME"],
    ),
    event("request body chunk: empty", &["request_body_chunk:"]),
    event(
        "request body chunk: every byte value",
        &["request_body_chunk:bytes"],
    ),
    event(
        "request body chunk: every byte value, by the binary call, size known",
        &["request_body_chunk_binary:sized"],
    ),
    event(
        "request body chunk: every byte value, by the binary call, size unknown",
        &["request_body_chunk_binary:0"],
    ),
    event(
        "request body chunk: text that could be base64, by the binary call",
        &["request_body_chunk_binary:DROP"],
    ),
    event(
        "request body chunk: text that is not base64, by the binary call",
        &["request_body_chunk_binary:1"],
    ),
    event("response headers", &["response_headers"]),
    event(
        "response body chunk: text",
        &["response_body_chunk:REPLACE"],
    ),
    event(
        "response body chunk: every byte value",
        &["response_body_chunk:bytes"],
    ),
    event(
        "response body chunk: every byte value, by the binary call",
        &["response_body_chunk_binary"],
    ),
    event("request complete: successful", &["request_complete"]),
    event("request complete: failed", &["request_complete:failed"]),
    event("websocket frame: text", &["websocket_frame:hi"]),
    event(
        "websocket frame: binary, every byte value",
        &["websocket_frame:binary-frame"],
    ),
    event(
        "websocket frame: ping, pong, close, continuation",
        &[
            "websocket_frame:ping-frame",
            "websocket_frame:pong-frame",
            "websocket_frame:close-frame",
            "websocket_frame:continuation-frame",
        ],
    ),
    event("guardrail inspect: every field", &["guardrail_inspect"]),
    event(
        "guardrail inspect: required fields only",
        &["guardrail_inspect:bare"],
    ),
    event("configure: settings accepted", &["configure"]),
];

const ANSWERS: &[Row] = &[
    answer("allow", "request_headers:/allow", ""),
    answer(
        "block with body and headers",
        "request_headers:/block",
        "/decision",
    ),
    answer(
        "block without body or headers",
        "request_headers:/block-bare",
        "/decision",
    ),
    answer("redirect", "request_headers:/redirect", "/decision"),
    answer("challenge", "request_headers:/challenge", "/decision"),
    answer(
        "request header: set",
        "request_headers:/headers",
        "/request_headers/0",
    ),
    answer(
        "request header: add",
        "request_headers:/headers",
        "/request_headers/1",
    ),
    answer(
        "request header: remove",
        "request_headers:/headers",
        "/request_headers/2",
    ),
    answer(
        "response header: set",
        "request_headers:/headers",
        "/response_headers/0",
    ),
    answer(
        "response header: add",
        "request_headers:/headers",
        "/response_headers/1",
    ),
    answer(
        "response header: remove",
        "request_headers:/headers",
        "/response_headers/2",
    ),
    answer(
        "routing metadata",
        "request_headers:/routing",
        "/routing_metadata",
    ),
    answer("audit: tags", "request_headers:/audit", "/audit/tags"),
    answer(
        "audit: rule ids",
        "request_headers:/audit",
        "/audit/rule_ids",
    ),
    answer(
        "audit: confidence",
        "request_headers:/audit",
        "/audit/confidence",
    ),
    answer(
        "audit: reason codes",
        "request_headers:/audit",
        "/audit/reason_codes",
    ),
    answer("audit: custom", "request_headers:/audit", "/audit/custom"),
    answer("needs more", "request_headers:/needs-more", "/needs_more"),
    answer(
        "request body: pass",
        "request_body_chunk:PASS",
        "/request_body_mutation",
    ),
    answer(
        "request body: drop",
        "request_body_chunk:DROP",
        "/request_body_mutation",
    ),
    answer(
        "request body: replace with text",
        "request_body_chunk:REPLACE",
        "/request_body_mutation",
    ),
    answer(
        "request body: replace with every byte value",
        "request_body_chunk:REPLACE-BYTES",
        "/request_body_mutation",
    ),
    answer(
        "response body: pass",
        "response_body_chunk:PASS",
        "/response_body_mutation",
    ),
    answer(
        "response body: drop",
        "response_body_chunk:DROP",
        "/response_body_mutation",
    ),
    answer(
        "response body: replace with text",
        "response_body_chunk:REPLACE",
        "/response_body_mutation",
    ),
    answer(
        "response body: replace with every byte value",
        "response_body_chunk:REPLACE-BYTES",
        "/response_body_mutation",
    ),
    answer(
        "websocket: allow",
        "websocket_frame:hi",
        "/websocket_decision",
    ),
    answer(
        "websocket: drop",
        "websocket_frame:drop",
        "/websocket_decision",
    ),
    answer(
        "websocket: close",
        "websocket_frame:close",
        "/websocket_decision",
    ),
    answer(
        "configure: settings rejected",
        "configure:rejected",
        "/decision",
    ),
];

const FROM_PROXY: &[Row] = &[
    row("handshake", Subject::Handshake),
    row(
        "settings of a new connection: accepted",
        Subject::FirstSettings(FirstSettings::Accepted),
    ),
    row(
        "settings of a new connection: rejected",
        Subject::FirstSettings(FirstSettings::Rejected),
    ),
    row("cancel, for each reason", Subject::Cancel),
    row(
        "ping of the proxy and pong of the agent",
        Subject::PingFromProxy,
    ),
];

const FROM_AGENT: &[Row] = &[
    notice("health: unhealthy", Notice::Unhealthy),
    notice("health: degraded", Notice::Degraded),
    notice("health: draining", Notice::Draining),
    notice("health: healthy", Notice::Healthy),
    notice("metrics report", Notice::Metrics),
    notice("config update request, of each kind", Notice::ConfigUpdates),
    notice("flow control: pause and resume", Notice::Pause),
    notice(
        "flow control: pause and resume one exchange",
        Notice::PauseOne,
    ),
    notice("flow control: capacity 0, then more", Notice::NoCapacity),
    notice(
        "flow control: capacity 0, then more, for one exchange",
        Notice::NoCapacityForOne,
    ),
    row(
        "ping of the agent and pong of the proxy",
        Subject::PingFromAgent,
    ),
];

const fn row(label: &'static str, subject: Subject) -> Row {
    Row { label, subject }
}

const fn event(label: &'static str, steps: &'static [&'static str]) -> Row {
    row(label, Subject::Event(steps))
}

const fn answer(label: &'static str, step: &'static str, field: &'static str) -> Row {
    row(label, Subject::Answer(step, field))
}

const fn notice(label: &'static str, notice: Notice) -> Row {
    row(label, Subject::Notice(notice))
}
