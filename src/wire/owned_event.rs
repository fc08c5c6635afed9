//! One type for owned events of all kinds, for tests.

use super::events::encode_event;
use super::{Dialect, Encoding, EventTarget, IncomingEvent, JsonParser, StreamId, Undecodable};
use crate::protocol::EventType;
use crate::protocol::events::{
    Configure, GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use bytes::Bytes;
use serde_json::{Map, Value};

pub(super) const DIALECTS: [Dialect; 4] = {
    let extension = Some(super::Extension::V1);
    [
        Dialect::zentinel(Encoding::Json),
        Dialect::zentinel(Encoding::MessagePack),
        Dialect::new(Encoding::Json, extension),
        Dialect::new(Encoding::MessagePack, extension),
    ]
};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum OwnedEvent {
    RequestHeaders(RequestHeadersEvent),
    RequestBodyChunk(RequestBodyChunkEvent),
    ResponseHeaders(ResponseHeadersEvent),
    ResponseBodyChunk(ResponseBodyChunkEvent),
    RequestComplete(RequestCompleteEvent),
    WebSocketFrame(WebSocketFrameEvent),
    GuardrailInspect(GuardrailInspectEvent),
    Configure(String, Map<String, Value>),
}

/// An encoded payload: the written part, and the body if it was not copied there.
pub(super) struct Encoded {
    pub(super) written: Vec<u8>,
    pub(super) detached: Bytes,
}

impl Encoded {
    /// Returns the payload as it is received, without the stream id.
    pub(super) fn joined(self) -> Vec<u8> {
        [&self.written[..], &self.detached].concat()
    }
}

const STREAM: StreamId = StreamId(7);

/// Returns the length of what precedes the payload: the frame header, and the stream id if there is
/// one outside the payload.
pub(super) const fn head_len(dialect: Dialect) -> usize {
    #[cfg(feature = "grpc")]
    if matches!(dialect.encoding, Encoding::Protobuf) {
        return 5;
    }
    if dialect.has_streams() { 13 } else { 5 }
}

impl OwnedEvent {
    pub(super) const fn event_type(&self) -> EventType {
        match self {
            Self::RequestHeaders(_) => EventType::RequestHeaders,
            Self::RequestBodyChunk(_) => EventType::RequestBodyChunk,
            Self::ResponseHeaders(_) => EventType::ResponseHeaders,
            Self::ResponseBodyChunk(_) => EventType::ResponseBodyChunk,
            Self::RequestComplete(_) => EventType::RequestComplete,
            Self::WebSocketFrame(_) => EventType::WebSocketFrame,
            Self::GuardrailInspect(_) => EventType::GuardrailInspect,
            Self::Configure(..) => EventType::Configure,
        }
    }

    fn correlation_id(&self) -> &str {
        match self {
            Self::RequestHeaders(event) => &event.metadata.correlation_id,
            Self::RequestBodyChunk(event) => &event.correlation_id,
            Self::ResponseHeaders(event) => &event.correlation_id,
            Self::ResponseBodyChunk(event) => &event.correlation_id,
            Self::RequestComplete(event) => &event.correlation_id,
            Self::WebSocketFrame(event) => &event.correlation_id,
            Self::GuardrailInspect(event) => &event.correlation_id,
            Self::Configure(correlation_id, _) => correlation_id,
        }
    }

    pub(super) fn encode(&self, dialect: Dialect) -> Encoded {
        let target = EventTarget {
            correlation_id: self.correlation_id(),
            stream: STREAM,
        };
        let mut frame = Vec::new();
        let out = &mut frame;
        let detached = match self {
            Self::RequestHeaders(event) => encode_event(event, target, dialect, out),
            Self::RequestBodyChunk(event) => encode_event(event, target, dialect, out),
            Self::ResponseHeaders(event) => encode_event(event, target, dialect, out),
            Self::ResponseBodyChunk(event) => encode_event(event, target, dialect, out),
            Self::RequestComplete(event) => encode_event(event, target, dialect, out),
            Self::WebSocketFrame(event) => encode_event(event, target, dialect, out),
            Self::GuardrailInspect(event) => encode_event(event, target, dialect, out),
            Self::Configure(correlation_id, settings) => {
                let settings = settings.clone();
                let configure = Configure {
                    correlation_id,
                    settings,
                };
                encode_event(&configure, target, dialect, out)
            }
        };
        Encoded {
            detached: detached.unwrap(),
            written: frame.split_off(head_len(dialect)),
        }
    }

    pub(super) fn payload(&self, dialect: Dialect) -> Vec<u8> {
        self.encode(dialect).joined()
    }

    /// Decodes a received payload.
    pub(super) fn from_payload(
        event_type: EventType,
        encoding: Encoding,
        mut payload: Vec<u8>,
    ) -> Result<Self, Undecodable> {
        match encoding {
            Encoding::Json => {
                let mut parser = JsonParser::default();
                let document = parser.parse(&mut payload).map_err(|kind| {
                    Undecodable::without_id(super::DecodeError {
                        message: event_type.as_str(),
                        kind,
                    })
                })?;
                IncomingEvent::from_json(event_type, &document).map(|event| event.owned())
            }
            #[cfg(feature = "grpc")]
            Encoding::Protobuf => {
                let mut timestamp = crate::protocol::Timestamp::default();
                IncomingEvent::from_protobuf(event_type, &Bytes::from(payload), &mut timestamp)
                    .map(|event| event.owned())
            }
            Encoding::MessagePack => IncomingEvent::from_msgpack(event_type, &Bytes::from(payload))
                .map(|event| event.owned()),
        }
    }
}

impl IncomingEvent<'_> {
    pub(super) fn owned(self) -> OwnedEvent {
        match self {
            Self::RequestHeaders(event) => OwnedEvent::RequestHeaders(event.to_event()),
            Self::RequestBodyChunk(event) => OwnedEvent::RequestBodyChunk(event.to_request_event()),
            Self::ResponseHeaders(event) => OwnedEvent::ResponseHeaders(event.to_event()),
            Self::ResponseBodyChunk(event) => {
                OwnedEvent::ResponseBodyChunk(event.to_response_event())
            }
            Self::RequestComplete(event) => OwnedEvent::RequestComplete(event.to_event()),
            Self::WebSocketFrame(event) => OwnedEvent::WebSocketFrame(event.to_event()),
            Self::GuardrailInspect(event) => OwnedEvent::GuardrailInspect(event.to_event()),
            Self::Configure(event) => {
                OwnedEvent::Configure(event.correlation_id.to_owned(), event.settings)
            }
        }
    }
}
