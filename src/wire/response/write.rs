use super::{AUDIT_FIELDS, CORRELATION_ID, RESPONSE_FIELDS};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};
use crate::wire::encode::Sink;
use crate::wire::frame::{FrameError, MessageType, write_frame};
use crate::wire::{Encoding, json, msgpack, value};
use std::collections::HashMap;

/// Writes the frame of a response to the event with this correlation id to the end of `out`.
pub(crate) fn encode_response(
    response: &AgentResponse,
    correlation_id: &str,
    encoding: Encoding,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    write_frame(out, MessageType::AgentResponse, |out| match encoding {
        Encoding::Json => write(response, correlation_id, &mut json::Writer::new(out)),
        Encoding::MessagePack => write(response, correlation_id, &mut msgpack::Writer::new(out)),
    })
}

fn write<S: Sink>(response: &AgentResponse, correlation_id: &str, sink: &mut S) {
    sink.begin_map(RESPONSE_FIELDS.len());
    sink.uint_field("version", u64::from(response.version));
    sink.key("decision");
    write_decision(&response.decision, sink);
    sink.key("request_headers");
    write_header_ops(&response.request_headers, sink);
    sink.key("response_headers");
    write_header_ops(&response.response_headers, sink);
    sink.key("routing_metadata");
    write_str_map(&response.routing_metadata, sink);
    sink.key("audit");
    write_audit(&response.audit, correlation_id, sink);
    sink.key("needs_more");
    sink.bool(response.needs_more);
    sink.key("websocket_decision");
    write_websocket_decision(response.websocket_decision.as_ref(), sink);
    sink.key("request_body_mutation");
    write_mutation(response.request_body_mutation.as_ref(), sink);
    sink.key("response_body_mutation");
    write_mutation(response.response_body_mutation.as_ref(), sink);
    sink.end_map();
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

fn write_audit<S: Sink>(audit: &AuditMetadata, correlation_id: &str, sink: &mut S) {
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
    sink.begin_map(1 + custom.clone().count());
    sink.str_field(CORRELATION_ID, correlation_id);
    for (key, custom) in custom {
        sink.key(key);
        value::write(custom, sink);
    }
    sink.end_map();
    sink.end_map();
}

fn write_mutation<S: Sink>(mutation: Option<&BodyMutation>, sink: &mut S) {
    let Some(mutation) = mutation else {
        return sink.null();
    };
    sink.begin_map(2);
    sink.uint_field("chunk_index", u64::from(mutation.chunk_index));
    sink.key("data");
    match &mutation.data {
        Some(data) => sink.body(data),
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
