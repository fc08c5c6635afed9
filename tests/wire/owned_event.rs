//! One type for owned events of all kinds.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use tollgate::codec::{CallId, Codec, Decoder, IncomingEvent, Undecodable};
use tollgate::events::{
    Configure, GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use tollgate::{AgentResponse, Encoding, Event, EventType};

pub const CODECS: [Codec; 4] = [
    Codec::zentinel(Encoding::Json),
    Codec::zentinel(Encoding::MessagePack),
    Codec::extended(Encoding::Json),
    Codec::extended(Encoding::MessagePack),
];

#[derive(Debug, Clone, PartialEq)]
pub enum OwnedEvent {
    RequestHeaders(RequestHeadersEvent),
    RequestBodyChunk(RequestBodyChunkEvent),
    ResponseHeaders(ResponseHeadersEvent),
    ResponseBodyChunk(ResponseBodyChunkEvent),
    RequestComplete(RequestCompleteEvent),
    WebSocketFrame(WebSocketFrameEvent),
    GuardrailInspect(GuardrailInspectEvent),
    Configure(String, Map<String, Value>),
}

/// An encoded message: the written part, and the body if it was not copied there.
pub struct Encoded {
    pub written: Vec<u8>,
    pub detached: Bytes,
}

impl Encoded {
    /// Encodes an answer.
    pub fn answer(response: &AgentResponse, codec: Codec, call: CallId<'_>) -> Self {
        let mut written = Vec::new();
        let detached = codec.encode_answer(response, call, &mut written);
        Self { written, detached }
    }

    /// Returns the message as it is received, with its stream id.
    pub fn joined(self) -> Vec<u8> {
        [&self.written[..], &self.detached].concat()
    }
}

/// Stream id of all events that are encoded.
pub const STREAM_ID: u64 = 7;

/// Returns the call of a correlation id.
pub const fn call(correlation_id: &str) -> CallId<'_> {
    CallId {
        correlation_id,
        stream_id: STREAM_ID,
    }
}

impl OwnedEvent {
    pub const fn event_type(&self) -> EventType {
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

    /// Encodes the event, with the stream id if the codec has one.
    pub fn encode(&self, codec: Codec) -> Encoded {
        match self {
            Self::RequestHeaders(event) => encode(event, &event.metadata.correlation_id, codec),
            Self::RequestBodyChunk(event) => encode(event, &event.correlation_id, codec),
            Self::ResponseHeaders(event) => encode(event, &event.correlation_id, codec),
            Self::ResponseBodyChunk(event) => encode(event, &event.correlation_id, codec),
            Self::RequestComplete(event) => encode(event, &event.correlation_id, codec),
            Self::WebSocketFrame(event) => encode(event, &event.correlation_id, codec),
            Self::GuardrailInspect(event) => encode(event, &event.correlation_id, codec),
            Self::Configure(correlation_id, settings) => {
                let settings = settings.clone();
                let configure = Configure {
                    correlation_id,
                    settings,
                };
                encode(&configure, correlation_id, codec)
            }
        }
    }

    /// Returns the message without the stream id. In protobuf the id is a part of the message.
    pub fn payload(&self, codec: Codec) -> Vec<u8> {
        let mut message = BytesMut::from(&self.encode(codec).joined()[..]);
        codec.take_stream_id(&mut message).unwrap();
        message.into()
    }

    /// Decodes a received message.
    pub fn from_payload(
        event_type: EventType,
        encoding: Encoding,
        payload: &[u8],
    ) -> Result<Self, Undecodable> {
        Decoder::new(encoding).decode_event(event_type, payload.into(), owned)
    }

    /// Decodes a received message of a codec.
    pub fn read(codec: Codec, event_type: EventType, payload: &[u8]) -> Result<Self, Undecodable> {
        codec
            .decoder()
            .decode_event(event_type, payload.into(), owned)
    }
}

fn encode(event: &impl Event, correlation_id: &str, codec: Codec) -> Encoded {
    let mut written = Vec::new();
    let detached = codec.encode_event(event, call(correlation_id), &mut written);
    Encoded { written, detached }
}

fn owned(event: &IncomingEvent<'_>) -> OwnedEvent {
    match event {
        IncomingEvent::RequestHeaders(event) => OwnedEvent::RequestHeaders(event.to_event()),
        IncomingEvent::RequestBodyChunk(event) => {
            OwnedEvent::RequestBodyChunk(event.to_request_event())
        }
        IncomingEvent::ResponseHeaders(event) => OwnedEvent::ResponseHeaders(event.to_event()),
        IncomingEvent::ResponseBodyChunk(event) => {
            OwnedEvent::ResponseBodyChunk(event.to_response_event())
        }
        IncomingEvent::RequestComplete(event) => OwnedEvent::RequestComplete(event.to_event()),
        IncomingEvent::WebSocketFrame(event) => OwnedEvent::WebSocketFrame(event.to_event()),
        IncomingEvent::GuardrailInspect(event) => OwnedEvent::GuardrailInspect(event.to_event()),
        IncomingEvent::Configure(event) => {
            OwnedEvent::Configure(event.correlation_id.to_owned(), event.settings.clone())
        }
        other => panic!("the test knows no such event: {other:?}"),
    }
}

/// Decodes an answer of a codec.
pub fn read_answer(codec: Codec, payload: &[u8]) -> Result<AgentResponse, Undecodable> {
    codec
        .decoder()
        .decode_answer(payload.into(), |answer| answer.response)
}

/// Decodes an answer and the correlation id that it carries.
pub fn decode_answer(
    encoding: Encoding,
    payload: &[u8],
) -> Result<(Option<String>, AgentResponse), Undecodable> {
    Decoder::new(encoding).decode_answer(payload.into(), |answer| {
        (answer.correlation_id.map(str::to_owned), answer.response)
    })
}
