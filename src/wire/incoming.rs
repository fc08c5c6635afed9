//! Reading of received events.

use super::decode::{DecodeError, Decoded, Source};
use super::events::{
    BodyDirection, decode_chunk, decode_configure, decode_request_headers, decode_response_headers,
};
use super::fields::ReadField;
use super::incoming_event::IncomingEvent;
use super::recover_id::Undecodable;
use super::views::Cursor;
use super::{json, msgpack};
use crate::protocol::EventType;
use bytes::Bytes;

/// Reads an event by what stands behind its type.
macro_rules! read_event {
    ($event_type:expr => $($event:ident: $read:expr,)*) => {
        match $event_type {
            $(EventType::$event => IncomingEvent::$event($read?),)*
        }
    };
}
#[cfg(feature = "grpc")]
pub(super) use read_event;

impl<'a> IncomingEvent<'a> {
    /// Reads an event from parsed JSON.
    pub(crate) fn from_json(
        event_type: EventType,
        document: &'a json::Document<'_>,
    ) -> Result<Self, Undecodable> {
        Self::read(event_type, &mut document.reader()).map_err(|kind| {
            let error = DecodeError::in_message(event_type.as_str())(kind);
            Undecodable::from_values(error, document.reader())
        })
    }

    /// Reads an event from a MessagePack payload.
    pub(crate) fn from_msgpack(
        event_type: EventType,
        payload: &'a Bytes,
    ) -> Result<Self, Undecodable> {
        let start = msgpack::Reader::new(payload);
        let mut source = start;
        // A chain of closures would copy the event, which is large, at each step.
        let kind = match Self::read(event_type, &mut source) {
            Ok(event) => match source.expect_end() {
                Ok(()) => return Ok(event),
                Err(kind) => kind,
            },
            Err(kind) => kind,
        };
        let error = DecodeError::in_message(event_type.as_str())(kind);
        Err(Undecodable::from_values(error, start))
    }

    fn read<S>(event_type: EventType, source: &mut S) -> Decoded<Self>
    where
        S: Source<'a> + Into<Cursor<'a>>,
    {
        Ok(read_event!(event_type =>
            RequestHeaders: decode_request_headers(source),
            RequestBodyChunk: decode_chunk(BodyDirection::Request, source),
            ResponseHeaders: decode_response_headers(source),
            ResponseBodyChunk: decode_chunk(BodyDirection::Response, source),
            RequestComplete: ReadField::read(source),
            WebSocketFrame: ReadField::read(source),
            GuardrailInspect: ReadField::read(source),
            Configure: decode_configure(source),
        ))
    }
}
