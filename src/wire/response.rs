//! The answer to an event.

use super::decode::{DecodeError, DecodeErrorKind, Field, Kind, Source};
use super::encode::Sink;
use super::frame::{FrameError, MessageType, write_frame};
use super::{Encoding, incoming::Payload, json, msgpack, value};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;

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

/// A received response and the event it names.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    pub(crate) correlation_id: &'a str,
    pub(crate) response: AgentResponse,
}

/// Reads a response and passes it on.
///
/// It is read to its owned form at once: an `allow` owns nothing, and everything else has to outlive
/// the frame anyway.
pub(crate) fn decode_answer<T>(
    payload: Payload<'_>,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, DecodeError> {
    match payload {
        Payload::Json(bytes, tape) => tape.parse(bytes, |mut source| read(&mut source).map(accept)),
        Payload::MessagePack(bytes) => {
            let mut source = msgpack::Reader::new(bytes);
            read(&mut source).and_then(|answer| match source.rest() {
                [] => Ok(accept(answer)),
                _ => Err(DecodeErrorKind::Surplus),
            })
        }
    }
    .map_err(DecodeError::in_message("agent response"))
}

fn read<'a, S: Source<'a>>(source: &mut S) -> Result<Answer<'a>, DecodeErrorKind> {
    let mut version = Field::new();
    let mut decision = Field::new();
    let mut request_headers = Field::new();
    let mut response_headers = Field::new();
    let mut routing_metadata = Field::new();
    let mut audit = Field::new();
    let mut needs_more = Field::new();
    let mut request_body_mutation = Field::new();
    let mut response_body_mutation = Field::new();
    let mut websocket_decision = Field::new();
    source.fields(RESPONSE_FIELDS, |field, source| match field {
        0 => version.set(source.number()?),
        1 => decision.set(read_decision(source)?),
        2 => request_headers.set(source.list(read_header_op)?),
        3 => response_headers.set(source.list(read_header_op)?),
        4 => routing_metadata.set(read_str_map(source)?),
        5 => audit.set(source.optional(read_audit)?),
        6 => needs_more.set(source.bool()?),
        7 => request_body_mutation.set(source.optional(read_mutation)?),
        8 => response_body_mutation.set(source.optional(read_mutation)?),
        _ => websocket_decision.set(source.optional(read_websocket_decision)?),
    })?;
    let (audit, correlation_id) = audit.or_default().unwrap_or_default();
    Ok(Answer {
        correlation_id: correlation_id
            .ok_or(DecodeErrorKind::Missing("audit.custom.correlation_id"))?,
        response: AgentResponse {
            version: version.required("version")?,
            decision: decision.required("decision")?,
            request_headers: request_headers.or_default(),
            response_headers: response_headers.or_default(),
            routing_metadata: routing_metadata.or_default(),
            audit,
            needs_more: needs_more.or_default(),
            request_body_mutation: request_body_mutation.or_default(),
            response_body_mutation: response_body_mutation.or_default(),
            websocket_decision: websocket_decision.or_default(),
        },
    })
}

/// Reads the one name of an enum's variant; what the variant holds follows, unless it is `unit`.
fn read_variant<'a, S: Source<'a>>(source: &mut S) -> Result<Variant<'a>, DecodeErrorKind> {
    if source.peek()? == Kind::Str {
        return source.str().map(Variant::Unit);
    }
    match source.map()? {
        1 => source.str().map(Variant::Holding),
        _ => Err(DecodeErrorKind::WrongType),
    }
}

enum Variant<'a> {
    Unit(&'a str),
    Holding(&'a str),
}

fn read_decision<'a, S: Source<'a>>(source: &mut S) -> Result<Decision, DecodeErrorKind> {
    match read_variant(source)? {
        Variant::Unit("allow") => Ok(Decision::Allow),
        Variant::Holding("block") => read_block(source),
        Variant::Holding("redirect") => read_redirect(source),
        Variant::Holding("challenge") => read_challenge(source),
        _ => Err(DecodeErrorKind::UnknownName("decision")),
    }
}

fn read_block<'a, S: Source<'a>>(source: &mut S) -> Result<Decision, DecodeErrorKind> {
    let mut status = Field::new();
    let mut body = Field::new();
    let mut headers = Field::new();
    source.fields(
        &["status", "body", "headers"],
        |field, source| match field {
            0 => status.set(source.number()?),
            1 => body.set(source.optional(read_string)?),
            _ => headers.set(source.optional(read_str_map)?),
        },
    )?;
    Ok(Decision::Block {
        status: status.required("status")?,
        body: body.or_default(),
        headers: headers.or_default(),
    })
}

fn read_redirect<'a, S: Source<'a>>(source: &mut S) -> Result<Decision, DecodeErrorKind> {
    let mut url = Field::new();
    let mut status = Field::new();
    source.fields(&["url", "status"], |field, source| match field {
        0 => url.set(read_string(source)?),
        _ => status.set(source.number()?),
    })?;
    Ok(Decision::Redirect {
        url: url.required("url")?,
        status: status.required("status")?,
    })
}

fn read_challenge<'a, S: Source<'a>>(source: &mut S) -> Result<Decision, DecodeErrorKind> {
    let mut challenge_type = Field::new();
    let mut params = Field::new();
    source.fields(&["challenge_type", "params"], |field, source| match field {
        0 => challenge_type.set(read_string(source)?),
        _ => params.set(read_str_map(source)?),
    })?;
    Ok(Decision::Challenge {
        challenge_type: challenge_type.required("challenge_type")?,
        params: params.or_default(),
    })
}

fn read_header_op<'a, S: Source<'a>>(source: &mut S) -> Result<HeaderOp, DecodeErrorKind> {
    let Variant::Holding(kind) = read_variant(source)? else {
        return Err(DecodeErrorKind::WrongType);
    };
    let mut name = Field::new();
    let mut value = Field::new();
    source.fields(&["name", "value"], |field, source| match field {
        0 => name.set(read_string(source)?),
        _ => value.set(read_string(source)?),
    })?;
    let name = name.required("name")?;
    match kind {
        "set" => value
            .required("value")
            .map(|value| HeaderOp::Set { name, value }),
        "add" => value
            .required("value")
            .map(|value| HeaderOp::Add { name, value }),
        "remove" => Ok(HeaderOp::Remove { name }),
        _ => Err(DecodeErrorKind::UnknownName("header operation")),
    }
}

fn read_audit<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<(AuditMetadata, Option<&'a str>), DecodeErrorKind> {
    let mut tags = Field::new();
    let mut rule_ids = Field::new();
    let mut confidence = Field::new();
    let mut reason_codes = Field::new();
    let mut custom = Field::new();
    source.fields(AUDIT_FIELDS, |field, source| match field {
        0 => tags.set(source.list(read_string)?),
        1 => rule_ids.set(source.list(read_string)?),
        2 => confidence.set(source.optional(|source| source.float().map(|value| value as f32))?),
        3 => reason_codes.set(source.list(read_string)?),
        _ => custom.set(read_custom(source)?),
    })?;
    let (custom, correlation_id) = custom.or_default();
    let audit = AuditMetadata {
        tags: tags.or_default(),
        rule_ids: rule_ids.or_default(),
        confidence: confidence.or_default(),
        reason_codes: reason_codes.or_default(),
        custom,
    };
    Ok((audit, correlation_id))
}

type Custom<'a> = (HashMap<String, Value>, Option<&'a str>);

fn read_custom<'a, S: Source<'a>>(source: &mut S) -> Result<Custom<'a>, DecodeErrorKind> {
    let mut custom = HashMap::new();
    let mut correlation_id = Field::new();
    source.pairs(|key, source| {
        if key == CORRELATION_ID {
            return correlation_id.set(Some(source.str()?));
        }
        custom.insert(key.to_owned(), value::read(source)?);
        Ok(())
    })?;
    Ok((custom, correlation_id.or_default()))
}

fn read_mutation<'a, S: Source<'a>>(source: &mut S) -> Result<BodyMutation, DecodeErrorKind> {
    let mut data = Field::<Option<Bytes>>::new();
    let mut chunk_index = Field::new();
    source.fields(&["data", "chunk_index"], |field, source| match field {
        0 => data.set(source.optional(S::body)?),
        _ => chunk_index.set(source.number()?),
    })?;
    Ok(BodyMutation {
        data: data.or_default(),
        chunk_index: chunk_index.or_default(),
    })
}

fn read_websocket_decision<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<WebSocketDecision, DecodeErrorKind> {
    match read_variant(source)? {
        Variant::Unit("allow") => Ok(WebSocketDecision::Allow),
        Variant::Unit("drop") => Ok(WebSocketDecision::Drop),
        Variant::Holding("close") => {
            let mut code = Field::new();
            let mut reason = Field::new();
            source.fields(&["code", "reason"], |field, source| match field {
                0 => code.set(source.number()?),
                _ => reason.set(read_string(source)?),
            })?;
            Ok(WebSocketDecision::Close {
                code: code.required("code")?,
                reason: reason.or_default(),
            })
        }
        _ => Err(DecodeErrorKind::UnknownName("websocket decision")),
    }
}

fn read_str_map<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<HashMap<String, String>, DecodeErrorKind> {
    let mut map = HashMap::new();
    source.pairs(|key, source| {
        map.insert(key.to_owned(), read_string(source)?);
        Ok(())
    })?;
    Ok(map)
}

fn read_string<'a, S: Source<'a>>(source: &mut S) -> Result<String, DecodeErrorKind> {
    source.str().map(str::to_owned)
}
