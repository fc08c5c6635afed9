//! Encoding and decoding of events, from and to their borrowed forms.

mod body;
mod configure;
mod head;
mod tables;

pub(super) use body::decode_chunk;
pub(crate) use configure::SettingsEvent;
pub(super) use configure::decode as decode_configure;
pub(super) use head::{decode_request_headers, decode_response_headers};

use super::StreamId;
use super::borrowed_headers::BorrowedHeaders;
use super::dialect::{Dialect, Form};
use super::encode::{Content, Sink};
use super::frame::{FrameError, MessageType, write_frame};
use super::incoming_event::IncomingEvent;
use super::msgpack;
use super::views::HeadersView;
#[cfg(feature = "grpc")]
use super::{protobuf, protobuf::Writer as ProtobufWriter};
use crate::protocol::EventType;
use crate::protocol::events::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, Configure, GuardrailInspect,
    GuardrailInspectEvent, RequestBodyChunk, RequestComplete, RequestCompleteEvent, RequestHeaders,
    RequestHeadersEvent, ResponseBodyChunk, ResponseHeaders, ResponseHeadersEvent, WebSocketFrame,
    WebSocketFrameEvent,
};
use crate::protocol::headers::HeaderSource;
use bytes::Bytes;
use std::time::Duration;

/// An event that can be sent to an agent, owned or borrowed.
///
/// This trait is sealed. It is implemented by the owned events of this crate (`…Event`), and by its
/// borrowed events whose type determines the kind of event.
pub trait Event: Encode + Sync {}

impl<H: HeaderSource> Event for RequestHeaders<'_, H> {}
impl<H: HeaderSource> Event for ResponseHeaders<'_, H> {}
impl Event for SettingsEvent<'_> {}

/// Lists the events. A blanket implementation would hide them from the documentation.
macro_rules! events {
    ($($event:ty),*) => {
        $(impl Event for $event {})*
    };
}

events! {
    RequestHeadersEvent, RequestBodyChunk<'_>, BinaryRequestBodyChunkEvent,
    ResponseHeadersEvent, ResponseBodyChunk<'_>,
    BinaryResponseBodyChunkEvent, RequestComplete<'_>, RequestCompleteEvent, WebSocketFrame<'_>,
    WebSocketFrameEvent, GuardrailInspect<'_>, GuardrailInspectEvent, Configure<'_>
}

/// Encoding of an event. Not for use outside this crate.
#[allow(
    unnameable_types,
    reason = "seals `Event`: it can be used but not implemented"
)]
pub trait Encode {
    /// Kind of the event.
    const EVENT_TYPE: EventType;

    /// Returns the number of body bytes that the event carries.
    fn body_len(&self) -> usize {
        0
    }

    /// Returns the progress of the body, if the event carries a chunk of one.
    fn body_progress(&self) -> Option<BodyProgress> {
        None
    }

    /// Returns the W3C `traceparent` that the event carries.
    fn traceparent(&self) -> Option<&str> {
        None
    }

    /// Adds the headers of the event, if it has any.
    fn headers<'e>(&'e self, _headers: &mut BorrowedHeaders<'e>) {}

    /// Returns the event as an agent sees it, with `correlation_id` instead of its own. `headers`
    /// are those of [`headers`](Self::headers).
    fn view<'v>(&'v self, correlation_id: &'v str, headers: HeadersView<'v>) -> IncomingEvent<'v>;

    /// Writes the event with `correlation_id` instead of its own.
    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S);

    /// Writes the event as an array in MessagePack.
    fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>);

    /// Writes the event as the protobuf message of its kind.
    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut ProtobufWriter<'_>);
}

/// Progress of the body of a request or response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(unnameable_types, reason = "belongs to a sealed trait")]
pub struct BodyProgress {
    /// Size of the whole body in bytes: as announced, or as seen so far if that is more.
    pub size: usize,
    /// Set for the last chunk of the body.
    pub is_last: bool,
}

/// Buffer size that suffices for the headers of a typical request, and for a body chunk without its
/// data.
const EXPECTED_LEN: usize = 1024;

/// Estimates the size of an event's frame in bytes, to choose a buffer of the right size.
pub(crate) fn expected_len<E: Event>(event: &E, dialect: Dialect) -> usize {
    EXPECTED_LEN + dialect.bodies().written_len(event.body_len())
}

/// Body that a borrowed chunk belongs to: that of the request or that of the response.
#[derive(Debug, Clone, Copy)]
pub(super) enum BodyDirection {
    Request,
    Response,
}

impl BodyDirection {
    /// Returns the name of the field that counts the bytes so far.
    const fn count_field(self) -> &'static str {
        match self {
            Self::Request => "bytes_received",
            Self::Response => "bytes_sent",
        }
    }
}

/// The ids that an event is sent with, and the time that is left for its call.
#[derive(Debug, Clone, Copy)]
#[allow(unnameable_types, reason = "belongs to a sealed trait")]
pub struct EventTarget<'a> {
    pub(crate) correlation_id: &'a str,
    /// Written if the dialect has stream ids.
    pub(crate) stream: StreamId,
    /// Time after which nobody waits for the answer. Only the compact form has it.
    pub(crate) time_left: Option<Duration>,
}

/// Appends the frame of an event to `out`.
///
/// Returns the last part of the frame if it was not copied to `out`; it is sent after `out`.
pub(crate) fn encode_event<E: Event>(
    event: &E,
    target: EventTarget<'_>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Result<Bytes, FrameError> {
    write_frame(out, message_of(E::EVENT_TYPE), dialect.max_frame, |out| {
        write_event(event, target, dialect, out)
    })
}

/// Appends the payload of an event to `out`. Returns its last part if it was not copied there.
#[inline(always)]
pub(super) fn write_event<E: Event>(
    event: &E,
    target: EventTarget<'_>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Bytes {
    let form = dialect.form();
    #[cfg(feature = "grpc")]
    if form == Form::Protobuf {
        return protobuf::write_event(event, target, dialect, out);
    }
    if dialect.has_streams() {
        target.stream.write(out);
    }
    if form == Form::Compact {
        let mut writer = msgpack::Writer::new(out, dialect.bodies());
        event.encode_compact(&target, &mut writer);
        return writer.into_detached();
    }
    let content = EventWithId {
        event,
        correlation_id: target.correlation_id,
    };
    content.write(dialect, out)
}

/// An event and the correlation id to send with it.
struct EventWithId<'a, E> {
    event: &'a E,
    correlation_id: &'a str,
}

impl<E: Event> Content for EventWithId<'_, E> {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        self.event.encode(self.correlation_id, sink);
    }
}

/// Defines which message carries which kind of event: the one of the same name.
macro_rules! event_messages {
    ($($event:ident),*) => {
        /// Returns the message type of a kind of event.
        pub(super) const fn message_of(event: EventType) -> MessageType {
            match event {
                $(EventType::$event => MessageType::$event,)*
            }
        }

        /// Returns the kind of event that a message type carries, or `None` if it is no event.
        pub(crate) const fn event_of(message: MessageType) -> Option<EventType> {
            Some(match message {
                $(MessageType::$event => EventType::$event,)*
                _ => return None,
            })
        }
    };
}

event_messages! {
    RequestHeaders, RequestBodyChunk, ResponseHeaders, ResponseBodyChunk, RequestComplete,
    WebSocketFrame, GuardrailInspect, Configure
}
