//! Answers of agents, encoded from and decoded to their owned form.

use super::events::recover_str;
use super::numbered::{ReadNumbered, WriteNumbered, read_message, write_message};
use super::reader::{Reader, Value, header, set_once};
use super::writer::Writer;
use super::{envelope, json_text};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, PROTOCOL_VERSION,
    WebSocketDecision,
};
use crate::wire::MessageType;
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded};
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
    response.routing_metadata.write(1000, writer);
    if response.version != PROTOCOL_VERSION {
        writer.some_uint(1004, u64::from(response.version));
    }
    if let Some(decision) = &response.websocket_decision {
        writer.message(1003, |writer| write_websocket_decision(decision, writer));
    }
    // Only the last value of the message need not be copied.
    let write_request_bytes = match &response.response_body_mutation {
        Some(_) => Writer::copied_bytes,
        None => Writer::last_bytes,
    };
    if let Some(mutation) = &response.request_body_mutation {
        let write = |writer: &mut _| write_mutation(mutation, write_request_bytes, writer);
        writer.message(1001, write);
    }
    if let Some(mutation) = &response.response_body_mutation {
        let write = |writer: &mut _| write_mutation(mutation, Writer::last_bytes, writer);
        writer.message(1002, write);
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
            let is_empty = headers.as_ref().is_some_and(HashMap::is_empty);
            write_message!(writer; status => 1, body => 2, headers => 3, &is_empty => 1000);
        }),
        Decision::Redirect { url, status } => writer.message(4, |writer| {
            write_message!(writer; url => 1, status => 2);
        }),
        Decision::Challenge {
            challenge_type,
            params,
        } => writer.message(5, |writer| {
            write_message!(writer; challenge_type => 1, params => 2);
        }),
    }
}

fn write_header_op(op: &HeaderOp, writer: &mut Writer<'_>) {
    let (field, name, value) = match op {
        HeaderOp::Set { name, value } => (1, name, value),
        HeaderOp::Add { name, value } => (2, name, value),
        HeaderOp::Remove { name } => return writer.some_str(3, name),
    };
    writer.message(
        field,
        |writer| write_message!(writer; name => 1, value => 2),
    );
}

fn write_audit(audit: &AuditMetadata, writer: &mut Writer<'_>) {
    write_message!(writer;
        &audit.tags => 1, &audit.rule_ids => 2, &audit.reason_codes => 4, &audit.confidence => 3,
    );
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
            write_message!(writer; code => 1, reason => 2);
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

fn read<'a>(message: &'a [u8], envelope: &Bytes) -> Decoded<Answer<'a>> {
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
            2..=5 => set_once(&mut decision, read_decision(field, value, envelope)?)?,
            10 => response.request_headers.push(read_header_op(value)?),
            11 => response.response_headers.push(read_header_op(value)?),
            12 => set_once(&mut audit, read_audit(value)?)?,
            14 => response.needs_more = value.bool()?,
            1000 => response.routing_metadata.read(value, envelope)?,
            1001 => set_once(
                &mut response.request_body_mutation,
                read_mutation(value, envelope)?,
            )?,
            1002 => set_once(
                &mut response.response_body_mutation,
                read_mutation(value, envelope)?,
            )?,
            1003 => {
                let decision = read_websocket_decision(value, envelope)?;
                set_once(&mut response.websocket_decision, decision)?;
            }
            1004 => {
                response.version = value.number()?;
                if response.version != PROTOCOL_VERSION {
                    return Err(DecodeErrorKind::UnknownName("version"));
                }
            }
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

fn read_decision(field: u32, value: Value<'_>, envelope: &Bytes) -> Decoded<Decision> {
    let message = value.bytes()?;
    match field {
        2 => Reader::new(message)
            .each(|_, _| Ok(()))
            .map(|()| Decision::Allow),
        3 => read_block(message, envelope),
        4 => read_message!(message, envelope => Decision::Redirect { url = 1, status = 2 }),
        _ => {
            read_message!(message, envelope => Decision::Challenge { challenge_type = 1, params = 2 })
        }
    }
}

fn read_block(message: &[u8], envelope: &Bytes) -> Decoded<Decision> {
    struct Block {
        status: u16,
        body: Option<String>,
        headers: HashMap<String, String>,
        /// Set for headers without entries, which could not be told from absent ones.
        has_headers: bool,
    }
    let block: Decoded<_> = read_message!(message, envelope => Block {
        status = 1, body = 2, headers = 3, has_headers = 1000,
    });
    let block = block?;
    let has_headers = block.has_headers || !block.headers.is_empty();
    Ok(Decision::Block {
        status: block.status,
        body: block.body,
        headers: has_headers.then_some(block.headers),
    })
}

fn read_header_op(value: Value<'_>) -> Decoded<HeaderOp> {
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

fn read_audit(value: Value<'_>) -> Decoded<AuditMetadata> {
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

/// The fields of a mutation, which are bytes whatever the agent wrote.
struct Mutation {
    data: Option<Bytes>,
    chunk_index: u32,
}

fn read_parts(message: &[u8], envelope: &Bytes) -> Decoded<Mutation> {
    read_message!(message, envelope => Mutation { data = 1, chunk_index = 2 })
}

fn read_mutation(value: Value<'_>, envelope: &Bytes) -> Decoded<BodyMutation> {
    let Mutation { data, chunk_index } = read_parts(value.bytes()?, envelope)?;
    Ok(match data {
        Some(data) => BodyMutation::replace(chunk_index, data),
        None => BodyMutation::pass_through(chunk_index),
    })
}

fn read_websocket_decision(value: Value<'_>, envelope: &Bytes) -> Decoded<WebSocketDecision> {
    let mut decision = None;
    Reader::new(value.bytes()?).each(|field, value| {
        let read = match field {
            1 => WebSocketDecision::Allow,
            2 => WebSocketDecision::Drop,
            3 => read_close(value.bytes()?, envelope)?,
            _ => return Ok(()),
        };
        set_once(&mut decision, read)
    })?;
    decision.ok_or(DecodeErrorKind::UnknownName("websocket decision"))
}

fn read_close(message: &[u8], envelope: &Bytes) -> Decoded<WebSocketDecision> {
    read_message!(message, envelope => WebSocketDecision::Close { code = 1, reason = 2 })
}
