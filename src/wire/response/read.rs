//! Decoding of responses.

use super::{AUDIT_FIELDS, CORRELATION_ID, RESPONSE_FIELDS};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};
use crate::wire::decode::{DecodeError, DecodeErrorKind, Field, Kind, Source, is_new};
use crate::wire::incoming::Payload;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;
use crate::wire::recover_id::Undecodable;
use crate::wire::{msgpack, value};
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;

/// The `allow` of an agent that uses stream ids, which is by far the most frequent response.
pub(super) const ENCODED_ALLOW: &[u8] = b"\x82\xa7version\x02\xa8decision\xa5allow";

/// A received response and the correlation id it carries, if any.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) response: AgentResponse,
}

/// Decodes a response and passes it to `accept`.
///
/// The response is decoded directly to its owned form: an `allow` owns nothing, and all others have
/// to outlive the frame anyway.
pub(crate) fn decode_answer<T>(
    payload: Payload<'_>,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, Undecodable> {
    let to_error = DecodeError::in_message("agent response");
    match payload {
        Payload::Json(bytes, parser) => {
            let document = match parser.parse(bytes) {
                Ok(document) => document,
                Err(kind) => return Err(parser.undecodable(to_error(kind), bytes)),
            };
            let read = match read(&mut document.reader()) {
                Ok(answer) => Ok(accept(answer)),
                Err(kind) => Err(Undecodable::from_values(to_error(kind), document.reader())),
            };
            parser.reclaim(document);
            read
        }
        #[cfg(feature = "grpc")]
        Payload::Protobuf(bytes) => protobuf::decode_answer(bytes, accept),
        Payload::MessagePack(bytes) if **bytes == *ENCODED_ALLOW => Ok(accept(Answer {
            correlation_id: None,
            response: AgentResponse::default_allow(),
        })),
        Payload::MessagePack(bytes) => {
            let start = msgpack::Reader::new(bytes);
            let mut source = start;
            match read(&mut source).and_then(|answer| source.expect_end().map(|()| answer)) {
                Ok(answer) => Ok(accept(answer)),
                Err(kind) => Err(Undecodable::from_values(to_error(kind), start)),
            }
        }
    }
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
        correlation_id,
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

/// Reads the variant name of an enum. The fields of a struct variant follow.
fn read_variant<'a, S: Source<'a>>(source: &mut S) -> Result<Variant<'a>, DecodeErrorKind> {
    if source.peek()? == Kind::Str {
        return source.str().map(Variant::Unit);
    }
    match source.map()? {
        1 => source.str().map(Variant::Struct),
        _ => Err(DecodeErrorKind::WrongType),
    }
}

/// Name of an enum variant.
enum Variant<'a> {
    Unit(&'a str),
    Struct(&'a str),
}

fn read_decision<'a, S: Source<'a>>(source: &mut S) -> Result<Decision, DecodeErrorKind> {
    match read_variant(source)? {
        Variant::Unit("allow") => Ok(Decision::Allow),
        Variant::Struct("block") => read_block(source),
        Variant::Struct("redirect") => read_redirect(source),
        Variant::Struct("challenge") => read_challenge(source),
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
    let Variant::Struct(kind) = read_variant(source)? else {
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
        2 => confidence.set(source.optional(read_confidence)?),
        3 => reason_codes.set(source.list(read_string)?),
        _ => custom.set(read_custom(source)?),
    })?;
    let (custom, correlation_id) = custom.or_default();
    let audit = AuditMetadata {
        tags: tags.or_default(),
        rule_ids: rule_ids.or_default(),
        confidence: confidence.or_default().flatten(),
        reason_codes: reason_codes.or_default(),
        custom,
    };
    Ok((audit, correlation_id))
}

/// Reads a confidence. A number that is not finite counts as `None`.
///
/// JSON cannot express such numbers, and serde writes null for them.
fn read_confidence<'a, S: Source<'a>>(source: &mut S) -> Result<Option<f32>, DecodeErrorKind> {
    let confidence = source.float()? as f32;
    Ok(confidence.is_finite().then_some(confidence))
}

type Custom<'a> = (HashMap<String, Value>, Option<&'a str>);

fn read_custom<'a, S: Source<'a>>(source: &mut S) -> Result<Custom<'a>, DecodeErrorKind> {
    let mut custom = HashMap::new();
    let mut correlation_id = Field::new();
    let mut budget = value::Budget::new();
    source.pairs(|key, source| {
        if key == CORRELATION_ID {
            return correlation_id.set(Some(source.str()?));
        }
        insert_once(&mut custom, key, value::read(source, &mut budget)?)
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
        Variant::Struct("close") => {
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
    source.pairs(|key, source| insert_once(&mut map, key, read_string(source)?))?;
    Ok(map)
}

/// Inserts a value. A key may be repeated if its values are equal.
fn insert_once<T: PartialEq>(
    map: &mut HashMap<String, T>,
    key: &str,
    value: T,
) -> Result<(), DecodeErrorKind> {
    if is_new(map.get(key), &value)? {
        map.insert(key.to_owned(), value);
    }
    Ok(())
}

fn read_string<'a, S: Source<'a>>(source: &mut S) -> Result<String, DecodeErrorKind> {
    source.str().map(str::to_owned)
}
