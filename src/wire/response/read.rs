//! Decoding of responses.

use super::parts::read_audit;
use crate::protocol::{AgentResponse, PROTOCOL_VERSION};
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded, Source};
use crate::wire::fields::read_fields;
use crate::wire::recover_id::Undecodable;
use crate::wire::{JsonParser, msgpack};
use bytes::Bytes;

/// The `allow` of an agent that uses stream ids, which is by far the most frequent response.
pub(super) const ENCODED_ALLOW: &[u8] = b"\x82\xa7version\x02\xa8decision\xa5allow";

/// A received answer.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer<'a> {
    /// Correlation id of the event, if the answer carries one.
    pub correlation_id: Option<&'a str>,
    /// The answer itself.
    pub response: AgentResponse,
}

/// Decodes a response in JSON and passes it to `accept`. Overwrites the payload.
///
/// The response is decoded directly to its owned form: an `allow` owns nothing, and all others have
/// to outlive the frame anyway.
pub(in crate::wire) fn from_json<T>(
    payload: &mut [u8],
    parser: &mut JsonParser,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, Undecodable> {
    let document = match parser.parse(payload) {
        Ok(document) => document,
        Err(kind) => return Err(parser.undecodable(invalid(kind), payload)),
    };
    let read = match read(&mut document.reader()) {
        Ok(answer) => Ok(accept(answer)),
        Err(kind) => Err(Undecodable::from_values(invalid(kind), document.reader())),
    };
    parser.reclaim(document);
    read
}

/// Decodes a response in MessagePack and passes it to `accept`.
pub(in crate::wire) fn from_msgpack<T>(
    payload: &Bytes,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, Undecodable> {
    if **payload == *ENCODED_ALLOW {
        return Ok(accept(Answer {
            correlation_id: None,
            response: AgentResponse::default_allow(),
        }));
    }
    let start = msgpack::Reader::new(payload);
    let mut source = start;
    match read(&mut source).and_then(|answer| source.expect_end().map(|()| answer)) {
        Ok(answer) => Ok(accept(answer)),
        Err(kind) => Err(Undecodable::from_values(invalid(kind), start)),
    }
}

fn invalid(kind: DecodeErrorKind) -> DecodeError {
    DecodeError::in_message("agent response")(kind)
}

fn read<'a, S: Source<'a>>(source: &mut S) -> Decoded<Answer<'a>> {
    read_fields!(source =>
        version,
        decision,
        request_headers [default],
        response_headers [default],
        routing_metadata [default],
        audit [default] by read_audit,
        needs_more [default],
        request_body_mutation [default],
        response_body_mutation [default],
        websocket_decision [default],
    );
    if version != PROTOCOL_VERSION {
        return Err(DecodeErrorKind::UnknownName("version"));
    }
    let (audit, correlation_id) = audit;
    Ok(Answer {
        correlation_id,
        response: AgentResponse {
            version,
            decision,
            request_headers,
            response_headers,
            routing_metadata,
            audit,
            needs_more,
            request_body_mutation,
            response_body_mutation,
            websocket_decision,
        },
    })
}
