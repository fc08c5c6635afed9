//! Access to the encodings for benchmarks.

use super::events::encode_event;
use super::{
    AnswerTo, Dialect, Encoding, Event, EventTarget, Extension, FrameBuffer, IncomingEvent,
    JsonParser, MAX_FRAME_LEN, MessageType, Payload, StreamId, decode_answer, encode_answer,
    event_of,
};
use crate::protocol::{AgentResponse, EventType};
use bytes::{Bytes, BytesMut};
use std::hint::black_box;

/// The codec of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Codec(Dialect);

/// Call that all messages belong to.
const TARGET: EventTarget<'static> = EventTarget {
    correlation_id: "0f8fad5b-d9cb-469f-a165-70867728950e",
    stream: StreamId(1 << 32 | 7),
};

impl Codec {
    /// Returns the codec between two tollgates: stream ids, and binary bodies in MessagePack.
    pub const fn extended(encoding: Encoding) -> Self {
        Self(Dialect::new(encoding, Some(Extension::V1)))
    }

    /// Returns the codec of `zentinel-agent-protocol`: no stream ids, bodies in base64.
    pub const fn zentinel(encoding: Encoding) -> Self {
        Self(Dialect::zentinel(encoding))
    }

    /// Appends the frame of an event to `out`. Returns the rest of the frame, which is not copied.
    pub fn encode_event<E: Event>(self, event: &E, out: &mut Vec<u8>) -> Bytes {
        encode_event(event, TARGET, self.0, out).unwrap_or_default()
    }

    /// Appends the frame of an answer to `out`. Returns the rest of the frame, which is not copied.
    pub fn encode_answer(self, response: &AgentResponse, out: &mut Vec<u8>) -> Bytes {
        let to = if self.0.has_streams() {
            AnswerTo::Stream(TARGET.stream)
        } else {
            AnswerTo::CorrelationId(TARGET.correlation_id)
        };
        encode_answer(response, to, self.0, out).unwrap_or_default()
    }

    /// Returns a receiver for frames of this codec.
    pub fn receiver(self) -> FrameReceiver {
        FrameReceiver {
            dialect: self.0,
            buffer: FrameBuffer::default(),
            parser: JsonParser::default(),
        }
    }
}

/// Received bytes, split into frames and decoded in place.
#[derive(Debug)]
pub struct FrameReceiver {
    dialect: Dialect,
    buffer: FrameBuffer,
    parser: JsonParser,
}

impl FrameReceiver {
    /// Appends received bytes.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.spare().extend_from_slice(bytes);
    }

    /// Decodes the next frame as an agent does. Returns whether it was an event.
    pub fn decode_event(&mut self) -> bool {
        self.next_event().is_some()
    }

    fn next_event(&mut self) -> Option<()> {
        let (message, mut payload) = self.next_frame()?;
        let kind = event_of(message)?;
        match self.dialect.encoding {
            Encoding::MessagePack => {
                let payload = payload.freeze();
                consume(IncomingEvent::from_msgpack(kind, &payload).ok()?);
            }
            Encoding::Json => self.event_in_json(kind, &mut payload)?,
            #[cfg(feature = "grpc")]
            Encoding::Protobuf => {
                let payload = payload.freeze();
                let mut timestamp = crate::protocol::Timestamp::default();
                consume(IncomingEvent::from_protobuf(kind, &payload, &mut timestamp).ok()?);
            }
        }
        Some(())
    }

    fn event_in_json(&mut self, kind: EventType, payload: &mut [u8]) -> Option<()> {
        let document = self.parser.parse(payload).ok()?;
        let decoded = IncomingEvent::from_json(kind, &document).map(consume);
        self.parser.reclaim(document);
        decoded.ok()
    }

    /// Decodes the next frame as a proxy with a pending call does.
    pub fn decode_answer(&mut self) -> Option<AgentResponse> {
        let (_, mut payload) = self.next_frame()?;
        let answer = match self.dialect.encoding {
            Encoding::MessagePack => {
                let payload = payload.freeze();
                decode_answer(Payload::MessagePack(&payload), |answer| answer.response)
            }
            #[cfg(feature = "grpc")]
            Encoding::Protobuf => {
                let payload = payload.freeze();
                decode_answer(Payload::Protobuf(&payload), |answer| answer.response)
            }
            Encoding::Json => {
                decode_answer(Payload::Json(&mut payload, &mut self.parser), |answer| {
                    answer.response
                })
            }
        };
        answer.ok()
    }

    fn next_frame(&mut self) -> Option<(MessageType, BytesMut)> {
        let (number, mut payload) = self.buffer.next_frame(MAX_FRAME_LEN).ok()??;
        if self.dialect.has_streams() {
            black_box(StreamId::take_from(&mut payload, self.dialect.encoding).ok()?);
        }
        Some((MessageType::from_number(number)?, payload))
    }
}

/// Keeps the compiler from optimising the event away.
fn consume(event: IncomingEvent<'_>) {
    black_box(&event);
}
