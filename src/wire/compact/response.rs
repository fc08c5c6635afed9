//! Answers.

use super::items::Items;
use super::numbers::{read_header_name, write_header_name};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded, Field, Kind, Source};
use crate::wire::encode::Sink;
use crate::wire::fields::{ReadField, WriteField};
use crate::wire::msgpack::{Reader, Writer};
use crate::wire::recover_id::Undecodable;
use crate::wire::response::{Answer, Custom, read_confidence, read_custom};
use bytes::Bytes;

/// The `allow`, which is by far the most frequent answer.
const ENCODED_ALLOW: &[u8] = &[0x91, 0x00];

/// Writes the numbers and values of those fields that are set, as a map.
macro_rules! write_set_fields {
    ($writer:ident, $($number:literal if $is_set:expr => $write:expr;)+) => {
        $writer.begin_map(0 $(+ usize::from($is_set))+);
        $(if $is_set {
            $writer.short_uint($number);
            $write;
        })+
    };
}

/// Reads a map of fields by number. Those that this version does not know are skipped.
macro_rules! read_set_fields {
    ($source:expr => $($number:literal = $field:ident by $read:expr;)+) => {
        $(let mut $field = Field::new();)+
        for _ in 0..$source.map()? {
            match $source.uint()? {
                $($number => $field.set($read)?,)+
                _ => $source.skip()?,
            }
        }
    };
}

pub(in crate::wire) fn write_answer(response: &AgentResponse, writer: &mut Writer<'_>) {
    let has_fields = !response.request_headers.is_empty()
        || !response.response_headers.is_empty()
        || !response.routing_metadata.is_empty()
        || !response.audit.is_empty()
        || response.needs_more
        || response.websocket_decision.is_some()
        || response.request_body_mutation.is_some()
        || response.response_body_mutation.is_some();
    writer.begin_array(1 + usize::from(has_fields));
    write_decision(&response.decision, writer);
    if has_fields {
        write_fields(response, writer);
    }
}

fn write_fields(response: &AgentResponse, writer: &mut Writer<'_>) {
    let (request_body, response_body) = (
        &response.request_body_mutation,
        &response.response_body_mutation,
    );
    write_set_fields!(writer,
        0 if !response.request_headers.is_empty() => write_ops(&response.request_headers, writer);
        1 if !response.response_headers.is_empty() => write_ops(&response.response_headers, writer);
        2 if !response.routing_metadata.is_empty() => response.routing_metadata.write(writer);
        3 if !response.audit.is_empty() => write_audit(&response.audit, writer);
        4 if response.needs_more => writer.bool(true);
        5 if response.websocket_decision.is_some() =>
            write_websocket_decision(response.websocket_decision.as_ref(), writer);
        // Only the last value of the message need not be copied.
        6 if request_body.is_some() =>
            write_mutation(request_body.as_ref(), writer, match response_body {
                Some(_) => Writer::body,
                None => Writer::last_body,
            });
        7 if response_body.is_some() =>
            write_mutation(response_body.as_ref(), writer, Writer::last_body);
    );
}

fn write_decision(decision: &Decision, writer: &mut Writer<'_>) {
    match decision {
        Decision::Allow => writer.short_uint(0),
        Decision::Block {
            status,
            body,
            headers,
        } => {
            writer.begin_array(4);
            writer.short_uint(1);
            writer.uint(u64::from(*status));
            body.write(writer);
            headers.write(writer);
        }
        Decision::Redirect { url, status } => {
            writer.begin_array(3);
            writer.short_uint(2);
            writer.uint(u64::from(*status));
            writer.str(url);
        }
        Decision::Challenge {
            challenge_type,
            params,
        } => {
            writer.begin_array(3);
            writer.short_uint(3);
            writer.str(challenge_type);
            params.write(writer);
        }
    }
}

fn write_ops(ops: &[HeaderOp], writer: &mut Writer<'_>) {
    writer.begin_array(ops.len());
    for op in ops {
        let (number, name, value) = match op {
            HeaderOp::Set { name, value } => (0, name, Some(value)),
            HeaderOp::Add { name, value } => (1, name, Some(value)),
            HeaderOp::Remove { name } => (2, name, None),
        };
        writer.begin_array(2 + usize::from(value.is_some()));
        writer.short_uint(number);
        write_header_name(name, writer);
        if let Some(value) = value {
            writer.str(value);
        }
    }
}

fn write_audit(audit: &AuditMetadata, writer: &mut Writer<'_>) {
    write_set_fields!(writer,
        0 if !audit.tags.is_empty() => audit.tags.write(writer);
        1 if !audit.rule_ids.is_empty() => audit.rule_ids.write(writer);
        2 if audit.confidence.is_some() => audit.confidence.write(writer);
        3 if !audit.reason_codes.is_empty() => audit.reason_codes.write(writer);
        4 if !audit.custom.is_empty() => Custom(&audit.custom, None).write(writer);
    );
}

fn write_websocket_decision(decision: Option<&WebSocketDecision>, writer: &mut Writer<'_>) {
    match decision {
        None => writer.null(),
        Some(WebSocketDecision::Allow) => writer.short_uint(0),
        Some(WebSocketDecision::Drop) => writer.short_uint(1),
        Some(WebSocketDecision::Close { code, reason }) => {
            writer.begin_array(3);
            writer.short_uint(2);
            writer.uint(u64::from(*code));
            writer.str(reason);
        }
    }
}

fn write_mutation<'b>(
    mutation: Option<&BodyMutation>,
    writer: &mut Writer<'b>,
    write_body: fn(&mut Writer<'b>, &Bytes),
) {
    let Some(mutation) = mutation else {
        return writer.null();
    };
    writer.begin_array(2);
    writer.uint(u64::from(mutation.chunk_index));
    match (&mutation.data, mutation.plain_text()) {
        (_, Some(text)) => writer.str(text),
        (Some(data), None) => write_body(writer, data),
        (None, None) => writer.null(),
    }
}

/// Decodes an answer and passes it to `accept`.
pub(in crate::wire) fn decode_answer<T>(
    payload: &Bytes,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, Undecodable> {
    if **payload == *ENCODED_ALLOW {
        return Ok(accept(answer(AgentResponse::default_allow())));
    }
    let start = Reader::new(payload);
    let mut source = start;
    match read(&mut source).and_then(|response| source.expect_end().map(|()| response)) {
        Ok(response) => Ok(accept(answer(response))),
        Err(kind) => {
            let error = DecodeError::in_message("agent response")(kind);
            Err(Undecodable::from_values(error, start))
        }
    }
}

const fn answer(response: AgentResponse) -> Answer<'static> {
    Answer {
        correlation_id: None,
        response,
    }
}

fn read(source: &mut Reader<'_>) -> Decoded<AgentResponse> {
    let mut items = Items::begin(source)?;
    let mut response = AgentResponse::decided(read_decision(items.next("decision")?)?);
    if let Some(source) = items.optional() {
        read_fields(source, &mut response)?;
    }
    items.end()?;
    Ok(response)
}

fn read_fields(source: &mut Reader<'_>, response: &mut AgentResponse) -> Decoded<()> {
    read_set_fields!(source =>
        0 = request_headers by source.list(read_op)?;
        1 = response_headers by source.list(read_op)?;
        2 = routing_metadata by ReadField::read(source)?;
        3 = audit by read_audit(source)?;
        4 = needs_more by source.bool()?;
        5 = websocket_decision by source.optional(read_websocket_decision)?;
        6 = request_body_mutation by source.optional(read_mutation)?;
        7 = response_body_mutation by source.optional(read_mutation)?;
    );
    response.request_headers = request_headers.or_default();
    response.response_headers = response_headers.or_default();
    response.routing_metadata = routing_metadata.or_default();
    response.audit = audit.or_default();
    response.needs_more = needs_more.or_default();
    response.websocket_decision = websocket_decision.or_default();
    response.request_body_mutation = request_body_mutation.or_default();
    response.response_body_mutation = response_body_mutation.or_default();
    Ok(())
}

/// Reads a value that is a number, or an array that begins with one. Its other items follow.
fn read_variant<'r, 'a>(source: &'r mut Reader<'a>) -> Decoded<(u64, Option<Items<'r, 'a>>)> {
    if source.peek()? == Kind::Integer {
        return Ok((source.uint()?, None));
    }
    let mut items = Items::begin(source)?;
    let number = items.next("number")?.uint()?;
    Ok((number, Some(items)))
}

fn read_decision(source: &mut Reader<'_>) -> Decoded<Decision> {
    let (number, items) = read_variant(source)?;
    let Some(mut items) = items else {
        return match number {
            0 => Ok(Decision::Allow),
            1..=3 => Err(DecodeErrorKind::WrongType),
            _ => Err(DecodeErrorKind::UnknownName("decision")),
        };
    };
    let decision = match number {
        0 => Decision::Allow,
        1 => Decision::Block {
            status: ReadField::read(items.next("status")?)?,
            body: ReadField::read(items.next("body")?)?,
            headers: ReadField::read(items.next("headers")?)?,
        },
        2 => Decision::Redirect {
            status: ReadField::read(items.next("status")?)?,
            url: ReadField::read(items.next("url")?)?,
        },
        3 => Decision::Challenge {
            challenge_type: ReadField::read(items.next("challenge_type")?)?,
            params: ReadField::read(items.next("params")?)?,
        },
        _ => return Err(DecodeErrorKind::UnknownName("decision")),
    };
    items.end()?;
    Ok(decision)
}

fn read_op(source: &mut Reader<'_>) -> Decoded<HeaderOp> {
    let mut items = Items::begin(source)?;
    let number = items.next("number")?.uint()?;
    let name = read_header_name(items.next("name")?)?.to_owned();
    let op = match number {
        0 => HeaderOp::Set {
            name,
            value: ReadField::read(items.next("value")?)?,
        },
        1 => HeaderOp::Add {
            name,
            value: ReadField::read(items.next("value")?)?,
        },
        2 => HeaderOp::Remove { name },
        _ => return Err(DecodeErrorKind::UnknownName("header operation")),
    };
    items.end()?;
    Ok(op)
}

fn read_audit(source: &mut Reader<'_>) -> Decoded<AuditMetadata> {
    read_set_fields!(source =>
        0 = tags by ReadField::read(source)?;
        1 = rule_ids by ReadField::read(source)?;
        2 = confidence by read_confidence(source)?;
        3 = reason_codes by ReadField::read(source)?;
        4 = custom by read_custom(source)?.0;
    );
    Ok(AuditMetadata {
        tags: tags.or_default(),
        rule_ids: rule_ids.or_default(),
        confidence: confidence.or_default(),
        reason_codes: reason_codes.or_default(),
        custom: custom.or_default(),
    })
}

fn read_websocket_decision(source: &mut Reader<'_>) -> Decoded<WebSocketDecision> {
    let (number, items) = read_variant(source)?;
    let decision = match (number, items) {
        (0, None) => return Ok(WebSocketDecision::Allow),
        (1, None) => return Ok(WebSocketDecision::Drop),
        (2, Some(mut items)) => {
            let decision = WebSocketDecision::Close {
                code: ReadField::read(items.next("code")?)?,
                reason: ReadField::read(items.next("reason")?)?,
            };
            items.end()?;
            decision
        }
        (0..=2, _) => return Err(DecodeErrorKind::WrongType),
        _ => return Err(DecodeErrorKind::UnknownName("websocket decision")),
    };
    Ok(decision)
}

fn read_mutation(source: &mut Reader<'_>) -> Decoded<BodyMutation> {
    let mut items = Items::begin(source)?;
    let chunk_index = ReadField::read(items.next("chunk_index")?)?;
    let data = items.next("data")?.optional(read_mutated)?;
    items.end()?;
    Ok(BodyMutation::from_parts(data, chunk_index))
}

/// Reads the bytes of a mutation, or a text that is not base64, and whether it is one.
fn read_mutated(source: &mut Reader<'_>) -> Decoded<(Bytes, bool)> {
    if source.is_at_bin() {
        return Ok((source.bin_slice()?, false));
    }
    let text = source.str()?;
    Ok((Bytes::copy_from_slice(text.as_bytes()), true))
}
