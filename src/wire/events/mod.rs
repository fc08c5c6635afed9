//! Events on the wire: each is encoded from its borrowed form and decoded to it.

mod body;
mod complete;
mod configure;
mod guardrail;
mod head;
mod websocket;

pub(super) use body::decode_chunk;
pub(super) use complete::decode as decode_complete;
pub(super) use configure::decode as decode_configure;
pub(super) use guardrail::decode as decode_guardrail;
pub(super) use head::{decode_request_headers, decode_response_headers};
pub(super) use websocket::decode as decode_websocket;

use super::dialect::Dialect;
use super::encode::{Content, Sink};
use super::frame::{FrameError, MessageType, write_frame};
use super::stream::StreamId;
#[cfg(feature = "grpc")]
use super::{Encoding, protobuf, protobuf::Writer as ProtobufWriter};
use crate::protocol::EventType;
use bytes::Bytes;

/// An event that can be put to an agent, owned or borrowed.
///
/// Implemented by this crate's events only: the owned ones (`…Event`), and of the borrowed ones those
/// that say by themselves which event they are.
pub trait Event: Encode {}

impl<E: Encode> Event for E {}

/// How an event is written. Not for use outside this crate.
#[allow(
    unnameable_types,
    reason = "seals `Event`: it can be used but not implemented"
)]
pub trait Encode {
    /// What kind of event it is.
    const EVENT_TYPE: EventType;

    /// Bytes of the body that the event carries.
    fn body_len(&self) -> usize {
        0
    }

    /// How far the body has come that the event carries a piece of.
    fn body_progress(&self) -> Option<BodyProgress> {
        None
    }

    /// The W3C trace context that the event carries.
    fn traceparent(&self) -> Option<&str> {
        None
    }

    /// Writes the event, with `correlation_id` in the place of its own.
    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S);

    /// Writes it as the protobuf message of its kind.
    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut ProtobufWriter<'_>);
}

/// How far the body of a request or a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(unnameable_types, reason = "belongs to a sealed trait")]
pub struct BodyProgress {
    /// Bytes of the whole body, as announced or as seen so far.
    pub size: usize,
    /// Whether this is the end of it.
    pub is_last: bool,
}

/// Enough for the head of a common request, and for everything about a body but its data.
const EXPECTED_LEN: usize = 1024;

/// About how many bytes the frame of an event takes, so that a buffer of the right size is chosen.
pub(crate) fn expected_len<E: Event>(event: &E, dialect: Dialect) -> usize {
    EXPECTED_LEN + dialect.bodies().written_len(event.body_len())
}

/// Which body, of the two that one borrowed chunk stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum BodyDirection {
    Request,
    Response,
}

impl BodyDirection {
    /// The field that counts the bytes so far.
    const fn count_field(self) -> &'static str {
        match self {
            Self::Request => "bytes_received",
            Self::Response => "bytes_sent",
        }
    }
}

/// Which exchange an event belongs to, and what its answer is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address<'a> {
    pub(crate) correlation_id: &'a str,
    /// Written where the dialect has streams.
    pub(crate) stream: StreamId,
}

/// Writes the frame of an event to the end of `out`. Returns the part of it that is not written there.
pub(crate) fn encode_event<E: Event>(
    event: &E,
    address: Address<'_>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Result<Bytes, FrameError> {
    write_frame(out, message_of(E::EVENT_TYPE), dialect.max_frame, |out| {
        #[cfg(feature = "grpc")]
        if dialect.encoding == Encoding::Protobuf {
            return protobuf::write_event(event, address, dialect, out);
        }
        if dialect.has_streams() {
            address.stream.write(out);
        }
        let content = Named {
            event,
            correlation_id: address.correlation_id,
        };
        content.write(dialect, out)
    })
}

/// An event under the correlation id that it is sent with.
struct Named<'a, E> {
    event: &'a E,
    correlation_id: &'a str,
}

impl<E: Event> Content for Named<'_, E> {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        self.event.encode(self.correlation_id, sink);
    }
}

pub(super) const fn message_of(event: EventType) -> MessageType {
    match event {
        EventType::RequestHeaders => MessageType::RequestHeaders,
        EventType::RequestBodyChunk => MessageType::RequestBodyChunk,
        EventType::ResponseHeaders => MessageType::ResponseHeaders,
        EventType::ResponseBodyChunk => MessageType::ResponseBodyChunk,
        EventType::RequestComplete => MessageType::RequestComplete,
        EventType::WebSocketFrame => MessageType::WebSocketFrame,
        EventType::GuardrailInspect => MessageType::GuardrailInspect,
        EventType::Configure => MessageType::Configure,
    }
}

/// The kind of event that a message is.
pub(crate) const fn event_of(message: MessageType) -> Option<EventType> {
    Some(match message {
        MessageType::RequestHeaders => EventType::RequestHeaders,
        MessageType::RequestBodyChunk => EventType::RequestBodyChunk,
        MessageType::ResponseHeaders => EventType::ResponseHeaders,
        MessageType::ResponseBodyChunk => EventType::ResponseBodyChunk,
        MessageType::RequestComplete => EventType::RequestComplete,
        MessageType::WebSocketFrame => EventType::WebSocketFrame,
        MessageType::GuardrailInspect => EventType::GuardrailInspect,
        MessageType::Configure => EventType::Configure,
        _ => return None,
    })
}
