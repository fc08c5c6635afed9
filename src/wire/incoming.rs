//! Received payloads.

use super::decode::{DecodeError, DecodeErrorKind, Source};
use super::events::{
    BodyDirection, decode_chunk, decode_complete, decode_configure, decode_guardrail,
    decode_request_headers, decode_response_headers, decode_websocket,
};
use super::salvage::Undecodable;
use super::views::{Cursor, RequestHeadersView, ResponseHeadersView};
use super::{json, msgpack};
use crate::protocol::EventType;
use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, RequestComplete, WebSocketFrame,
};
use bytes::Bytes;

pub(crate) use json::{Document as JsonDocument, Tape as JsonTape};

/// A payload, with what reading its encoding needs.
#[derive(Debug)]
pub(crate) enum Payload<'p> {
    /// Parsed in place, which destroys it.
    Json(&'p mut [u8], &'p mut JsonTape),
    MessagePack(&'p Bytes),
    /// In its envelope.
    #[cfg(feature = "grpc")]
    Protobuf(&'p Bytes),
}

/// An event as an agent gets it: it borrows the frame it came in.
#[derive(Debug)]
pub(crate) enum IncomingEvent<'a> {
    RequestHeaders(RequestHeadersView<'a>),
    RequestBodyChunk(BodyChunk<'a>),
    ResponseHeaders(ResponseHeadersView<'a>),
    ResponseBodyChunk(BodyChunk<'a>),
    RequestComplete(RequestComplete<'a>),
    WebSocketFrame(WebSocketFrame<'a>),
    GuardrailInspect(GuardrailInspect<'a>),
    Configure(Configure<'a>),
}

impl<'a> IncomingEvent<'a> {
    /// Reads an event from parsed JSON.
    pub(crate) fn from_json(
        event_type: EventType,
        document: &'a JsonDocument<'_>,
    ) -> Result<Self, Undecodable> {
        Self::read(event_type, &mut document.reader()).map_err(|kind| {
            let error = DecodeError::in_message(event_type.as_str())(kind);
            Undecodable::in_values(error, document.reader())
        })
    }

    /// Reads an event from a MessagePack payload.
    pub(crate) fn from_msgpack(
        event_type: EventType,
        payload: &'a Bytes,
    ) -> Result<Self, Undecodable> {
        let start = msgpack::Reader::new(payload);
        let mut source = start;
        // Not handed from closure to closure: an event is large, and would be copied each time.
        let kind = match Self::read(event_type, &mut source) {
            Ok(event) => match source.ended() {
                Ok(()) => return Ok(event),
                Err(kind) => kind,
            },
            Err(kind) => kind,
        };
        let error = DecodeError::in_message(event_type.as_str())(kind);
        Err(Undecodable::in_values(error, start))
    }

    fn read<S>(event_type: EventType, source: &mut S) -> Result<Self, DecodeErrorKind>
    where
        S: Source<'a> + Into<Cursor<'a>>,
    {
        Ok(match event_type {
            EventType::RequestHeaders => Self::RequestHeaders(decode_request_headers(source)?),
            EventType::RequestBodyChunk => {
                Self::RequestBodyChunk(decode_chunk(BodyDirection::Request, source)?)
            }
            EventType::ResponseHeaders => Self::ResponseHeaders(decode_response_headers(source)?),
            EventType::ResponseBodyChunk => {
                Self::ResponseBodyChunk(decode_chunk(BodyDirection::Response, source)?)
            }
            EventType::RequestComplete => Self::RequestComplete(decode_complete(source)?),
            EventType::WebSocketFrame => Self::WebSocketFrame(decode_websocket(source)?),
            EventType::GuardrailInspect => Self::GuardrailInspect(decode_guardrail(source)?),
            EventType::Configure => Self::Configure(decode_configure(source)?),
        })
    }

    /// The id that joins the events of one exchange.
    pub(crate) fn correlation_id(&self) -> &'a str {
        match self {
            Self::RequestHeaders(event) => event.metadata.correlation_id,
            Self::RequestBodyChunk(event) | Self::ResponseBodyChunk(event) => event.correlation_id,
            Self::ResponseHeaders(event) => event.correlation_id,
            Self::RequestComplete(event) => event.correlation_id,
            Self::WebSocketFrame(event) => event.correlation_id,
            Self::GuardrailInspect(event) => event.correlation_id,
            Self::Configure(event) => event.correlation_id,
        }
    }
}
