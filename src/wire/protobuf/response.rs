//! Answers of agents, encoded from and decoded to their owned form.

use super::events::{body, recover_str};
use super::reader::{Reader, Value, header, set_once};
use super::writer::Writer;
use super::{envelope, json_text};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, PROTOCOL_VERSION,
    WebSocketDecision,
};
use crate::wire::MessageType;
use crate::wire::decode::{DecodeError, DecodeErrorKind};
use crate::wire::recover_id::Undecodable;
use crate::wire::response::{Answer, AnswerTo, CORRELATION_ID};
use crate::wire::value::Budget;
use bytes::Bytes;
use std::collections::HashMap;

/// Appends an answer in its envelope to `out`. Returns the body with which the message ends if it
/// was not copied to `out`.
pub(in crate::wire) fn write_answer(
    response: &AgentResponse,
    to: AnswerTo<'_>,
    out: &mut Vec<u8>,
) -> Bytes {
    let (stream, correlation_id) = match to {
        AnswerTo::Stream(stream) => (Some(stream), ""),
        AnswerTo::CorrelationId(id) => (None, id),
    };
    let mut writer = Writer::new(out);
    envelope::write(MessageType::AgentResponse, stream, &mut writer, |writer| {
        write(response, correlation_id, writer);
    });
    writer.into_detached()
}

fn write(response: &AgentResponse, correlation_id: &str, writer: &mut Writer<'_>) {
    writer.str(1, correlation_id);
    write_decision(&response.decision, writer);
    for (field, ops) in [
        (10, &response.request_headers),
        (11, &response.response_headers),
    ] {
        for op in ops {
            writer.message(field, |writer| write_header_op(op, writer));
        }
    }
    if !response.audit.is_empty() {
        writer.message(12, |writer| write_audit(&response.audit, writer));
    }
    writer.bool(14, response.needs_more);
    writer.str_pairs(1000, as_strs(&response.routing_metadata));
    if response.version != PROTOCOL_VERSION {
        writer.some_uint(1004, u64::from(response.version));
    }
    if let Some(decision) = &response.websocket_decision {
        writer.message(1003, |writer| write_websocket_decision(decision, writer));
    }
    match (
        &response.request_body_mutation,
        &response.response_body_mutation,
    ) {
        (Some(request), Some(response)) => {
            writer.message(1001, |writer| {
                write_mutation(request, Writer::copied_bytes, writer);
            });
            writer.message(1002, |writer| {
                write_mutation(response, Writer::last_bytes, writer);
            });
        }
        (Some(only), None) => {
            writer.message(1001, |writer| {
                write_mutation(only, Writer::last_bytes, writer);
            });
        }
        (None, Some(only)) => {
            writer.message(1002, |writer| {
                write_mutation(only, Writer::last_bytes, writer);
            });
        }
        (None, None) => {}
    }
}

fn write_decision(decision: &Decision, writer: &mut Writer<'_>) {
    match decision {
        Decision::Allow => writer.message(2, |_| {}),
        Decision::Block {
            status,
            body,
            headers,
        } => writer.message(3, |writer| {
            writer.uint(1, u64::from(*status));
            writer.optional_str(2, body.as_deref());
            if let Some(headers) = headers {
                writer.str_pairs(3, as_strs(headers));
                writer.bool(1000, headers.is_empty());
            }
        }),
        Decision::Redirect { url, status } => writer.message(4, |writer| {
            writer.str(1, url);
            writer.uint(2, u64::from(*status));
        }),
        Decision::Challenge {
            challenge_type,
            params,
        } => writer.message(5, |writer| {
            writer.str(1, challenge_type);
            writer.str_pairs(2, as_strs(params));
        }),
    }
}

fn write_header_op(op: &HeaderOp, writer: &mut Writer<'_>) {
    let (field, name, value) = match op {
        HeaderOp::Set { name, value } => (1, name, value),
        HeaderOp::Add { name, value } => (2, name, value),
        HeaderOp::Remove { name } => return writer.some_str(3, name),
    };
    writer.message(field, |writer| {
        writer.str(1, name);
        writer.str(2, value);
    });
}

fn write_audit(audit: &AuditMetadata, writer: &mut Writer<'_>) {
    for (field, items) in [
        (1, &audit.tags),
        (2, &audit.rule_ids),
        (4, &audit.reason_codes),
    ] {
        for item in items {
            writer.some_str(field, item);
        }
    }
    if let Some(confidence) = audit.confidence {
        writer.some_float(3, confidence);
    }
    for (key, custom) in &audit.custom {
        if key != CORRELATION_ID {
            writer.str_pairs(5, [(key.as_str(), custom.to_string().as_str())]);
        }
    }
}

fn write_websocket_decision(decision: &WebSocketDecision, writer: &mut Writer<'_>) {
    match decision {
        WebSocketDecision::Allow => writer.message(1, |_| {}),
        WebSocketDecision::Drop => writer.message(2, |_| {}),
        WebSocketDecision::Close { code, reason } => writer.message(3, |writer| {
            writer.uint(1, u64::from(*code));
            writer.str(2, reason);
        }),
    }
}

fn write_mutation<'b>(
    mutation: &BodyMutation,
    write_bytes: fn(&mut Writer<'b>, u32, &Bytes),
    writer: &mut Writer<'b>,
) {
    writer.uint(2, u64::from(mutation.chunk_index));
    if let Some(data) = &mutation.data {
        write_bytes(writer, 1, data);
    }
}

fn as_strs(map: &HashMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

/// Decodes an answer from its envelope and passes it to `accept`.
pub(in crate::wire) fn decode_answer<T>(
    payload: &Bytes,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, Undecodable> {
    let opened = envelope::open(MessageType::AgentResponse, payload);
    opened
        .and_then(|message| read(message, payload))
        .map(accept)
        .map_err(|kind| Undecodable {
            error: DecodeError::in_message("agent response")(kind),
            correlation_id: opened.ok().and_then(|message| recover_str(message, 1)),
        })
}

/// Encoded form of an `allow` without changes, which most answers are.
const ENCODED_ALLOW: &[u8] = b"\x12\0";

fn read<'a>(message: &'a [u8], envelope: &Bytes) -> Result<Answer<'a>, DecodeErrorKind> {
    if message == ENCODED_ALLOW {
        return Ok(Answer {
            correlation_id: None,
            response: AgentResponse::default_allow(),
        });
    }
    let mut correlation_id = None;
    let (mut decision, mut audit) = (None, None);
    let mut response = AgentResponse::default_allow();
    Reader::new(message).each(|field, value| {
        match field {
            1 => correlation_id = Some(value.str()?),
            2..=5 => set_once(&mut decision, read_decision(field, value)?)?,
            10 => response.request_headers.push(read_header_op(value)?),
            11 => response.response_headers.push(read_header_op(value)?),
            12 => set_once(&mut audit, read_audit(value)?)?,
            14 => response.needs_more = value.bool()?,
            1000 => insert(&mut response.routing_metadata, value)?,
            1001 => {
                let mutation = read_mutation(value, envelope)?;
                set_once(&mut response.request_body_mutation, mutation)?;
            }
            1002 => {
                let mutation = read_mutation(value, envelope)?;
                set_once(&mut response.response_body_mutation, mutation)?;
            }
            1003 => {
                let decision = read_websocket_decision(value)?;
                set_once(&mut response.websocket_decision, decision)?;
            }
            1004 => response.version = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    response.audit = audit.unwrap_or_default();
    // The client of `zentinel-agent-protocol` allows if the decision is absent; this one does not.
    response.decision = decision.ok_or(DecodeErrorKind::Missing("decision"))?;
    Ok(Answer {
        correlation_id,
        response,
    })
}

fn read_decision(field: u32, value: Value<'_>) -> Result<Decision, DecodeErrorKind> {
    let message = Reader::new(value.bytes()?);
    match field {
        2 => message.each(|_, _| Ok(())).map(|()| Decision::Allow),
        3 => read_block(message),
        4 => {
            let (mut url, mut status) = (String::new(), 0);
            message.each(|field, value| {
                match field {
                    1 => url = value.string()?,
                    2 => status = value.number()?,
                    _ => {}
                }
                Ok(())
            })?;
            Ok(Decision::Redirect { url, status })
        }
        _ => {
            let (mut challenge_type, mut params) = (String::new(), HashMap::new());
            message.each(|field, value| {
                match field {
                    1 => challenge_type = value.string()?,
                    2 => insert(&mut params, value)?,
                    _ => {}
                }
                Ok(())
            })?;
            Ok(Decision::Challenge {
                challenge_type,
                params,
            })
        }
    }
}

fn read_block(message: Reader<'_>) -> Result<Decision, DecodeErrorKind> {
    let (mut status, mut body) = (0, None);
    let (mut headers, mut has_headers) = (HashMap::new(), false);
    message.each(|field, value| {
        match field {
            1 => status = value.number()?,
            2 => body = Some(value.string()?),
            3 => insert(&mut headers, value)?,
            1000 => has_headers = value.bool()?,
            _ => {}
        }
        Ok(())
    })?;
    let has_headers = has_headers || !headers.is_empty();
    Ok(Decision::Block {
        status,
        body,
        headers: has_headers.then_some(headers),
    })
}

fn read_header_op(value: Value<'_>) -> Result<HeaderOp, DecodeErrorKind> {
    let mut op = None;
    Reader::new(value.bytes()?).each(|field, value| {
        let read = match field {
            1 | 2 => {
                let (name, value) = header(value.bytes()?)?;
                let (name, value) = (name.to_owned(), value.to_owned());
                if field == 1 {
                    HeaderOp::Set { name, value }
                } else {
                    HeaderOp::Add { name, value }
                }
            }
            3 => HeaderOp::Remove {
                name: value.string()?,
            },
            _ => return Ok(()),
        };
        set_once(&mut op, read)
    })?;
    op.ok_or(DecodeErrorKind::UnknownName("header operation"))
}

fn read_audit(value: Value<'_>) -> Result<AuditMetadata, DecodeErrorKind> {
    let mut audit = AuditMetadata::default();
    let mut budget = Budget::new();
    Reader::new(value.bytes()?).each(|field, value| {
        match field {
            1 => audit.tags.push(value.string()?),
            2 => audit.rule_ids.push(value.string()?),
            3 => audit.confidence = Some(value.float()?).filter(|number| number.is_finite()),
            4 => audit.reason_codes.push(value.string()?),
            5 => {
                let (key, text) = header(value.bytes()?)?;
                if key == CORRELATION_ID {
                    return Ok(());
                }
                // Agents on `zentinel-agent-protocol` write JSON; others may write any text.
                let custom = match json_text::read_within(text, &mut budget) {
                    Err(DecodeErrorKind::TooMany) => return Err(DecodeErrorKind::TooMany),
                    result => result.unwrap_or_else(|_| text.into()),
                };
                audit.custom.insert(key.to_owned(), custom);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(audit)
}

fn read_mutation(value: Value<'_>, envelope: &Bytes) -> Result<BodyMutation, DecodeErrorKind> {
    let mut mutation = BodyMutation::pass_through(0);
    Reader::new(value.bytes()?).each(|field, value| {
        match field {
            1 => mutation.data = Some(body(value, envelope)?),
            2 => mutation.chunk_index = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(mutation)
}

fn read_websocket_decision(value: Value<'_>) -> Result<WebSocketDecision, DecodeErrorKind> {
    let mut decision = None;
    Reader::new(value.bytes()?).each(|field, value| {
        let read = match field {
            1 => WebSocketDecision::Allow,
            2 => WebSocketDecision::Drop,
            3 => {
                let (mut code, mut reason) = (0, String::new());
                Reader::new(value.bytes()?).each(|field, value| {
                    match field {
                        1 => code = value.number()?,
                        2 => reason = value.string()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                WebSocketDecision::Close { code, reason }
            }
            _ => return Ok(()),
        };
        set_once(&mut decision, read)
    })?;
    decision.ok_or(DecodeErrorKind::UnknownName("websocket decision"))
}

/// Adds an entry to a map. Of several with one key the last counts, as protobuf specifies.
fn insert(map: &mut HashMap<String, String>, value: Value<'_>) -> Result<(), DecodeErrorKind> {
    let (key, value) = header(value.bytes()?)?;
    map.insert(key.to_owned(), value.to_owned());
    Ok(())
}
