//! What benchmarks reach of the encodings.

use super::events::encode_event;
use super::{
    Address, AnswerTo, Dialect, Encoding, Event, Extension, FrameBuffer, IncomingEvent, JsonTape,
    MAX_FRAME_LEN, MessageType, Payload, StreamId, decode_answer, encode_response, event_of,
};
use crate::protocol::{AgentResponse, EventType};
use bytes::{Bytes, BytesMut};
use std::hint::black_box;

/// How messages are written on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Codec(Dialect);

/// The call that messages belong to.
const ADDRESS: Address<'static> = Address {
    correlation_id: "0f8fad5b-d9cb-469f-a165-70867728950e",
    stream: StreamId(1 << 32 | 7),
};

impl Codec {
    /// As two tollgates speak, with stream ids, and bodies in MessagePack as bytes.
    pub const fn extended(encoding: Encoding) -> Self {
        Self(Dialect::new(encoding, Some(Extension::V1)))
    }

    /// As the published crate speaks, with bodies in base64.
    pub const fn published(encoding: Encoding) -> Self {
        Self(Dialect::published(encoding))
    }

    /// Writes the frame of an event to the end of `out`. Returns the end of it that is not written there.
    pub fn encode_event<E: Event>(self, event: &E, out: &mut Vec<u8>) -> Bytes {
        encode_event(event, ADDRESS, self.0, out).unwrap_or_default()
    }

    /// The same for the answer to an event.
    pub fn encode_response(self, response: &AgentResponse, out: &mut Vec<u8>) -> Bytes {
        let to = if self.0.has_streams() {
            AnswerTo::Stream(ADDRESS.stream)
        } else {
            AnswerTo::CorrelationId(ADDRESS.correlation_id)
        };
        encode_response(response, to, self.0, out).unwrap_or_default()
    }

    /// Where frames are received that are written like this.
    pub fn receiver(self) -> FrameReceiver {
        FrameReceiver {
            dialect: self.0,
            buffer: FrameBuffer::default(),
            tape: JsonTape::default(),
        }
    }
}

/// Received bytes, taken apart into frames and decoded where they stand.
#[derive(Debug)]
pub struct FrameReceiver {
    dialect: Dialect,
    buffer: FrameBuffer,
    tape: JsonTape,
}

impl FrameReceiver {
    /// Takes bytes in.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.spare().extend_from_slice(bytes);
    }

    /// Decodes the next frame as an agent does. Says whether it was an event.
    pub fn decode_event(&mut self) -> bool {
        self.next_event().is_some()
    }

    fn next_event(&mut self) -> Option<()> {
        let (message, mut payload) = self.next_frame()?;
        let kind = event_of(message)?;
        match self.dialect.encoding {
            Encoding::MessagePack => {
                let payload = payload.freeze();
                look_at(IncomingEvent::from_msgpack(kind, &payload).ok()?);
            }
            Encoding::Json => self.event_in_json(kind, &mut payload)?,
            #[cfg(feature = "grpc")]
            Encoding::Protobuf => {
                let payload = payload.freeze();
                let mut timestamp = crate::protocol::Timestamp::default();
                look_at(IncomingEvent::from_protobuf(kind, &payload, &mut timestamp).ok()?);
            }
        }
        Some(())
    }

    fn event_in_json(&mut self, kind: EventType, payload: &mut [u8]) -> Option<()> {
        let document = self.tape.open(payload).ok()?;
        let decoded = IncomingEvent::from_json(kind, &document).map(look_at);
        self.tape.close(document);
        decoded.ok()
    }

    /// Decodes the next frame as a proxy does that has asked.
    pub fn decode_response(&mut self) -> Option<AgentResponse> {
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
                decode_answer(Payload::Json(&mut payload, &mut self.tape), |answer| {
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

/// Keeps the whole event from being optimised away.
fn look_at(event: IncomingEvent<'_>) {
    black_box(&event);
}
