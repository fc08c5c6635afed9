//! Answers of the agent, which depend on what a test sends.

use crate::bodies::Direction;
use crate::events::every_byte;
use base64::{engine::general_purpose::STANDARD, Engine as _};
use serde_json::json;
use std::collections::HashMap;
use zentinel_agent_protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};

/// Returns the answer to request headers with this URI.
pub fn to_uri(uri: &str) -> AgentResponse {
    let path = uri.split_once('?').map_or(uri, |(path, _)| path);
    match path {
        "/block" => with_decision(Decision::Block {
            status: 403,
            body: Some("no".to_owned()),
            headers: Some(strings(&[("x-block", "1"), ("x-reason", "test")])),
        }),
        "/block-bare" => AgentResponse::block(451, None),
        "/redirect" => AgentResponse::redirect("https://example.com/login".to_owned(), 302),
        "/challenge" => with_decision(Decision::Challenge {
            challenge_type: "captcha".to_owned(),
            params: strings(&[("site_key", "abc")]),
        }),
        "/headers" => AgentResponse {
            request_headers: header_ops("x-agent"),
            response_headers: header_ops("x-resp"),
            ..AgentResponse::default_allow()
        },
        "/routing" => AgentResponse {
            routing_metadata: strings(&[("pool", "canary")]),
            ..AgentResponse::default_allow()
        },
        "/audit" => AgentResponse::default_allow().with_audit(audit()),
        "/needs-more" => AgentResponse::needs_more_data(),
        _ => AgentResponse::default_allow(),
    }
}

/// Returns the answer to a path that the command line blocks.
pub fn blocked_by_path() -> AgentResponse {
    AgentResponse::block(403, Some("blocked by path".to_owned()))
}

/// Returns the answer to a body with the blocked text.
pub fn blocked_by_body() -> AgentResponse {
    AgentResponse::block(403, Some("blocked by body".to_owned()))
}

/// Returns the answer to a body chunk with this decoded content.
pub fn to_chunk(direction: Direction, data: &[u8], index: u32) -> AgentResponse {
    let mutation = match data {
        b"REPLACE" => BodyMutation::replace(index, STANDARD.encode(b"replaced")),
        b"REPLACE-BYTES" => BodyMutation::replace(index, STANDARD.encode(every_byte())),
        b"DROP" => BodyMutation::drop_chunk(index),
        b"PASS" => BodyMutation::pass_through(index),
        _ => return AgentResponse::default_allow(),
    };
    let allow = AgentResponse::default_allow();
    match direction {
        Direction::Request => allow.with_request_body_mutation(mutation),
        Direction::Response => allow.with_response_body_mutation(mutation),
    }
}

/// Returns the answer to a websocket frame with this payload: base64 text, or plain
/// text from a sender that did not encode it.
pub fn to_frame(data: &str) -> AgentResponse {
    let payload = STANDARD
        .decode(data)
        .unwrap_or_else(|_| data.as_bytes().to_vec());
    AgentResponse::default_allow().with_websocket_decision(match payload.as_slice() {
        b"drop" => WebSocketDecision::Drop,
        b"close" => WebSocketDecision::Close {
            code: 4001,
            reason: "bye".to_owned(),
        },
        _ => WebSocketDecision::Allow,
    })
}

fn with_decision(decision: Decision) -> AgentResponse {
    AgentResponse {
        decision,
        ..AgentResponse::default_allow()
    }
}

/// Returns one of each header operation. `name` is the header that is set.
fn header_ops(name: &str) -> Vec<HeaderOp> {
    vec![
        HeaderOp::Set {
            name: name.to_owned(),
            value: "yes".to_owned(),
        },
        HeaderOp::Add {
            name: "x-multi".to_owned(),
            value: "1".to_owned(),
        },
        HeaderOp::Remove {
            name: "x-drop".to_owned(),
        },
    ]
}

fn audit() -> AuditMetadata {
    AuditMetadata {
        tags: vec!["t1".to_owned(), "t2".to_owned()],
        rule_ids: vec!["r1".to_owned()],
        confidence: Some(0.75),
        reason_codes: vec!["RC".to_owned()],
        custom: HashMap::from([("k".to_owned(), json!({"nested": [1, 2.5, "x", null, true]}))]),
    }
}

fn strings(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
