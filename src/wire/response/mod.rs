//! The answer to an event.

mod read;
mod write;

pub(crate) use read::{Answer, decode_answer};
pub(crate) use write::{AnswerTo, encode_response};

/// Where a response names the event it answers.
const CORRELATION_ID: &str = "correlation_id";

const RESPONSE_FIELDS: &[&str] = &[
    "version",
    "decision",
    "request_headers",
    "response_headers",
    "routing_metadata",
    "audit",
    "needs_more",
    "request_body_mutation",
    "response_body_mutation",
    "websocket_decision",
];

const AUDIT_FIELDS: &[&str] = &["tags", "rule_ids", "confidence", "reason_codes", "custom"];
