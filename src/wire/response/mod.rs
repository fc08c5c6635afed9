//! Encoding and decoding of an agent's response to an event.

mod read;
mod write;

pub(crate) use read::{Answer, decode_answer};
pub(crate) use write::{AnswerTo, encode_answer};

/// Key of `audit.custom` that holds the correlation id of a response.
pub(super) const CORRELATION_ID: &str = "correlation_id";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AgentResponse;
    use crate::wire::{Dialect, Encoding, Extension, StreamId};

    #[test]
    fn bare_allow_is_what_agents_send() {
        let dialect = Dialect::new(Encoding::MessagePack, Some(Extension::V1));
        let mut frame = Vec::new();
        let response = AgentResponse::default_allow();
        encode_answer(
            &response,
            AnswerTo::Stream(StreamId(7)),
            dialect,
            &mut frame,
        )
        .unwrap();
        assert!(frame.ends_with(read::ENCODED_ALLOW));
        let payload = bytes::Bytes::from_static(read::ENCODED_ALLOW);
        let decoded = decode_answer(crate::wire::Payload::MessagePack(&payload), |answer| {
            answer.response
        });
        assert_eq!(decoded.unwrap(), response);
    }
}
