//! Answers of the peers' agent with tollgate's types. Tests expect them from the pool, and the
//! recording server gives the same answers.

use crate::events::every_byte;
use serde_json::json;
use std::collections::HashMap;
use tollgate::{
    AgentResponse, Bytes, Decision, HeaderOp,
    response::{AuditMetadata, BodyMutation, WebSocketDecision},
};

/// Bodies with this text are blocked.
pub const BLOCKED_TEXT: &str = "BLOCK-ME";

/// Returns the answer to request headers with this URI.
pub fn to_uri(uri: &str) -> AgentResponse {
    let allow = AgentResponse::default_allow();
    match uri {
        "/block" => AgentResponse::decided(Decision::Block {
            status: 403,
            body: Some("no".to_owned()),
            headers: Some(strings(&[("x-block", "1"), ("x-reason", "test")])),
        }),
        "/block-bare" => AgentResponse::block(451, None),
        "/redirect" => AgentResponse::redirect("https://example.com/login".to_owned(), 302),
        "/challenge" => AgentResponse::decided(Decision::Challenge {
            challenge_type: "captcha".to_owned(),
            params: strings(&[("site_key", "abc")]),
        }),
        "/headers" => AgentResponse {
            request_headers: header_ops("x-agent"),
            response_headers: header_ops("x-resp"),
            ..allow
        },
        "/routing" => AgentResponse {
            routing_metadata: strings(&[("pool", "canary")]),
            ..allow
        },
        "/audit" => allow.with_audit(audit()),
        "/needs-more" => AgentResponse::needs_more_data(),
        _ => allow,
    }
}

/// Returns the body mutation for a chunk with this content.
pub fn to_chunk(data: &[u8], index: u32) -> Option<BodyMutation> {
    match data {
        b"REPLACE" => Some(BodyMutation::replace(
            index,
            Bytes::from_static(b"replaced"),
        )),
        b"REPLACE-BYTES" => Some(BodyMutation::replace(index, every_byte())),
        b"DROP" => Some(BodyMutation::drop_chunk(index)),
        b"PASS" => Some(BodyMutation::pass_through(index)),
        _ => None,
    }
}

/// Returns the answer to rejected settings.
pub fn rejected_settings() -> AgentResponse {
    AgentResponse::block(500, Some("Configuration rejected".to_owned()))
}

/// Returns the answer to a body with [`BLOCKED_TEXT`].
pub fn blocked_by_body() -> AgentResponse {
    AgentResponse::block(403, Some("blocked by body".to_owned()))
}

/// Returns the answer to a websocket frame with this payload.
pub fn to_frame(data: &[u8]) -> AgentResponse {
    AgentResponse::default_allow().with_websocket_decision(match data {
        b"drop" => WebSocketDecision::Drop,
        b"close" => WebSocketDecision::Close {
            code: 4001,
            reason: "bye".to_owned(),
        },
        _ => WebSocketDecision::Allow,
    })
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
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}
