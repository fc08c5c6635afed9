//! Encoding of responses.

use super::{AUDIT_FIELDS, CORRELATION_ID};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};
use crate::wire::dialect::Dialect;
use crate::wire::encode::{Content, Sink};
use crate::wire::frame::{FrameError, MessageType, write_frame};
use crate::wire::stream::StreamId;
use crate::wire::value;
#[cfg(feature = "grpc")]
use crate::wire::{Encoding, protobuf};
use bytes::Bytes;
use std::collections::HashMap;

/// Identifies the event that a response answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnswerTo<'a> {
    CorrelationId(&'a str),
    Stream(StreamId),
}

/// Appends the frame of a response to `out`.
///
/// Returns the last part of the frame if it was not copied to `out`; it is sent after `out`.
pub(crate) fn encode_answer(
    response: &AgentResponse,
    to: AnswerTo<'_>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Result<Bytes, FrameError> {
    write_frame(out, MessageType::AgentResponse, dialect.max_frame, |out| {
        #[cfg(feature = "grpc")]
        if dialect.encoding == Encoding::Protobuf {
            return protobuf::write_answer(response, to, out);
        }
        let correlation_id = match to {
            AnswerTo::CorrelationId(id) => Some(id),
            AnswerTo::Stream(stream) => {
                stream.write(out);
                None
            }
        };
        ResponseWithId {
            response,
            correlation_id,
        }
        .write(dialect, out)
    })
}

/// A response and the correlation id to send with it, if any.
struct ResponseWithId<'a> {
    response: &'a AgentResponse,
    correlation_id: Option<&'a str>,
}

impl Content for ResponseWithId<'_> {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        let response = self.response;
        // Peers that match responses by correlation id may expect every field.
        let is_written = |is_set: bool| self.correlation_id.is_some() || is_set;
        let request_headers = is_written(!response.request_headers.is_empty());
        let response_headers = is_written(!response.response_headers.is_empty());
        let routing_metadata = is_written(!response.routing_metadata.is_empty());
        let audit = is_written(!response.audit.is_empty());
        let needs_more = is_written(response.needs_more);
        let websocket_decision = is_written(response.websocket_decision.is_some());
        let request_body = is_written(response.request_body_mutation.is_some());
        let response_body = is_written(response.response_body_mutation.is_some());
        let optional_fields = [
            request_headers,
            response_headers,
            routing_metadata,
            audit,
            needs_more,
            websocket_decision,
            request_body,
            response_body,
        ];
        sink.begin_map(2 + optional_fields.iter().filter(|field| **field).count());
        sink.uint_field("version", u64::from(response.version));
        sink.key("decision");
        write_decision(&response.decision, sink);
        if request_headers {
            sink.key("request_headers");
            write_header_ops(&response.request_headers, sink);
        }
        if response_headers {
            sink.key("response_headers");
            write_header_ops(&response.response_headers, sink);
        }
        if routing_metadata {
            sink.key("routing_metadata");
            write_str_map(&response.routing_metadata, sink);
        }
        if audit {
            sink.key("audit");
            write_audit(&response.audit, self.correlation_id, sink);
        }
        if needs_more {
            sink.key("needs_more");
            sink.bool(response.needs_more);
        }
        if websocket_decision {
            sink.key("websocket_decision");
            write_websocket_decision(response.websocket_decision.as_ref(), sink);
        }
        if request_body {
            sink.key("request_body_mutation");
            // Only the last value of the message need not be copied.
            let body = if response_body { S::body } else { S::last_body };
            write_mutation(response.request_body_mutation.as_ref(), body, sink);
        }
        if response_body {
            sink.key("response_body_mutation");
            write_mutation(response.response_body_mutation.as_ref(), S::last_body, sink);
        }
        sink.end_map();
    }
}

fn write_decision<S: Sink>(decision: &Decision, sink: &mut S) {
    if *decision == Decision::Allow {
        return sink.str(decision.as_str());
    }
    sink.begin_map(1);
    sink.key(decision.as_str());
    match decision {
        Decision::Allow => {}
        Decision::Block {
            status,
            body,
            headers,
        } => {
            sink.begin_map(3);
            sink.uint_field("status", u64::from(*status));
            sink.optional_str_field("body", body.as_deref());
            sink.key("headers");
            match headers {
                Some(headers) => write_str_map(headers, sink),
                None => sink.null(),
            }
            sink.end_map();
        }
        Decision::Redirect { url, status } => {
            sink.begin_map(2);
            sink.str_field("url", url);
            sink.uint_field("status", u64::from(*status));
            sink.end_map();
        }
        Decision::Challenge {
            challenge_type,
            params,
        } => {
            sink.begin_map(2);
            sink.str_field("challenge_type", challenge_type);
            sink.key("params");
            write_str_map(params, sink);
            sink.end_map();
        }
    }
    sink.end_map();
}

fn write_header_ops<S: Sink>(ops: &[HeaderOp], sink: &mut S) {
    sink.begin_array(ops.len());
    for op in ops {
        let (kind, name, value) = match op {
            HeaderOp::Set { name, value } => ("set", name, Some(value)),
            HeaderOp::Add { name, value } => ("add", name, Some(value)),
            HeaderOp::Remove { name } => ("remove", name, None),
        };
        sink.begin_map(1);
        sink.key(kind);
        sink.begin_map(1 + usize::from(value.is_some()));
        sink.str_field("name", name);
        if let Some(value) = value {
            sink.str_field("value", value);
        }
        sink.end_map();
        sink.end_map();
    }
    sink.end_array();
}

fn write_audit<S: Sink>(audit: &AuditMetadata, correlation_id: Option<&str>, sink: &mut S) {
    sink.begin_map(AUDIT_FIELDS.len());
    sink.key("tags");
    sink.str_list(&audit.tags);
    sink.key("rule_ids");
    sink.str_list(&audit.rule_ids);
    sink.key("confidence");
    match audit.confidence {
        Some(confidence) => sink.float32(confidence),
        None => sink.null(),
    }
    sink.key("reason_codes");
    sink.str_list(&audit.reason_codes);
    sink.key("custom");
    let custom = audit
        .custom
        .iter()
        .filter(|(key, _)| *key != CORRELATION_ID);
    sink.begin_map(usize::from(correlation_id.is_some()) + custom.clone().count());
    if let Some(correlation_id) = correlation_id {
        sink.str_field(CORRELATION_ID, correlation_id);
    }
    for (key, custom) in custom {
        sink.key(key);
        value::write(custom, sink);
    }
    sink.end_map();
    sink.end_map();
}

fn write_mutation<S: Sink>(
    mutation: Option<&BodyMutation>,
    write_body: fn(&mut S, &Bytes),
    sink: &mut S,
) {
    let Some(mutation) = mutation else {
        return sink.null();
    };
    sink.begin_map(2);
    sink.uint_field("chunk_index", u64::from(mutation.chunk_index));
    sink.key("data");
    match &mutation.data {
        Some(data) => write_body(sink, data),
        None => sink.null(),
    }
    sink.end_map();
}

fn write_websocket_decision<S: Sink>(decision: Option<&WebSocketDecision>, sink: &mut S) {
    match decision {
        None => sink.null(),
        Some(WebSocketDecision::Allow) => sink.str("allow"),
        Some(WebSocketDecision::Drop) => sink.str("drop"),
        Some(WebSocketDecision::Close { code, reason }) => {
            sink.begin_map(1);
            sink.key("close");
            sink.begin_map(2);
            sink.uint_field("code", u64::from(*code));
            sink.str_field("reason", reason);
            sink.end_map();
            sink.end_map();
        }
    }
}

fn write_str_map<S: Sink>(map: &HashMap<String, String>, sink: &mut S) {
    sink.str_map(
        map.iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    );
}
