//! Encoding and decoding of single messages, without a connection.

use super::events::write_event;
use super::frame::FRAME_HEADER_LEN;
#[cfg(feature = "grpc")]
use super::protobuf;
use super::response::{self, Answer, AnswerTo, encode_answer};
use super::{
    DecodeError, DecodeErrorKind, Dialect, Encoding, Event, EventScratch, EventTarget, Extension,
    Form, IncomingEvent, JsonParser, StreamId, Undecodable, compact,
};
#[cfg(feature = "grpc")]
use crate::protocol::Timestamp;
use crate::protocol::{AgentResponse, EventType};
use bytes::{Bytes, BytesMut};

/// An encoding of messages, with or without the extension between two tollgates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec(pub(super) Dialect);

/// The ids that join an event and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId<'a> {
    /// Joins all events of an exchange. Answers carry it only without the extension.
    pub correlation_id: &'a str,
    /// Joins an event and its answer. Written only with the extension.
    pub stream_id: u64,
}

impl<'a> CallId<'a> {
    pub(super) const fn target(self) -> EventTarget<'a> {
        EventTarget {
            correlation_id: self.correlation_id,
            stream: StreamId(self.stream_id),
            time_left: None,
        }
    }
}

impl Codec {
    /// Returns the codec of `zentinel-agent-protocol`, which has no stream ids and writes bodies as
    /// base64 text, except in protobuf.
    pub const fn zentinel(encoding: Encoding) -> Self {
        Self(Dialect::zentinel(encoding))
    }

    /// Returns the codec between two tollgates: messages have stream ids, and bodies in MessagePack
    /// are bytes.
    pub const fn extended(encoding: Encoding) -> Self {
        Self(Dialect::new(encoding, Some(Extension::V1)))
    }

    /// Returns the codec of version 2 of the extension in MessagePack: messages have stream ids and
    /// are arrays instead of maps.
    pub const fn compact() -> Self {
        Self(Dialect::new(Encoding::MessagePack, Some(Extension::V2)))
    }

    /// Returns a decoder for the messages that this codec encodes.
    pub fn decoder(self) -> Decoder {
        Decoder::of(self.0.form())
    }

    /// Appends an event to `out`. Returns the end of the message, a large body that was not copied
    /// to `out`; it is often empty.
    pub fn encode_event<E: Event>(self, event: &E, call: CallId<'_>, out: &mut Vec<u8>) -> Bytes {
        write_event(event, call.target(), self.0, out)
    }

    /// Appends an answer to `out`. Returns the end of the message, as
    /// [`encode_event`](Self::encode_event) does. Writes nothing if the answer exceeds 4 GiB.
    pub fn encode_answer(
        self,
        answer: &AgentResponse,
        call: CallId<'_>,
        out: &mut Vec<u8>,
    ) -> Bytes {
        // Written as a frame, so that agents, who need one, have the only copy of the code.
        let start = out.len();
        let dialect = self.0.within(u32::MAX as usize);
        match encode_answer(answer, self.answer_to(call), dialect, out) {
            Ok(body) => {
                out.drain(start..start + FRAME_HEADER_LEN);
                body
            }
            Err(_) => Bytes::new(),
        }
    }

    pub(super) const fn answer_to(self, call: CallId<'_>) -> AnswerTo<'_> {
        if self.0.has_streams() {
            AnswerTo::Stream(StreamId(call.stream_id))
        } else {
            AnswerTo::CorrelationId(call.correlation_id)
        }
    }

    /// Removes the stream id from a message, which is then ready to be decoded. Returns `None`
    /// without the extension.
    ///
    /// # Errors
    ///
    /// Fails if the message has no stream id.
    pub fn take_stream_id(self, message: &mut BytesMut) -> Result<Option<u64>, DecodeErrorKind> {
        if !self.0.has_streams() {
            return Ok(None);
        }
        StreamId::take_from(message, self.0.encoding).map(|StreamId(id)| Some(id))
    }
}

/// Decodes messages of one encoding, and keeps the memory that this takes.
///
/// With the extension, [`Codec::take_stream_id`] comes first.
#[derive(Debug)]
pub struct Decoder {
    form: Form,
    parser: JsonParser,
    scratch: EventScratch,
}

impl Decoder {
    /// Creates a decoder for an encoding, with or without version 1 of the extension.
    pub fn new(encoding: Encoding) -> Self {
        Self::of(Dialect::zentinel(encoding).form())
    }

    pub(crate) fn of(form: Form) -> Self {
        Self {
            form,
            parser: JsonParser::default(),
            scratch: EventScratch::default(),
        }
    }

    /// Decodes an event, which borrows from the message, and passes it to `accept`.
    ///
    /// # Errors
    ///
    /// Fails if the message is no valid event of this kind.
    pub fn decode_event<T>(
        &mut self,
        event_type: EventType,
        mut message: BytesMut,
        accept: impl FnOnce(&IncomingEvent<'_>) -> T,
    ) -> Result<T, Undecodable> {
        // The event is large, so it is not moved.
        match self.form {
            Form::MessagePack => match IncomingEvent::from_msgpack(event_type, &message.freeze()) {
                Ok(event) => Ok(accept(&event)),
                Err(undecodable) => Err(undecodable),
            },
            Form::Compact => {
                let (message, scratch) = (message.freeze(), &mut self.scratch);
                let read =
                    match IncomingEvent::from_compact(event_type, &message, scratch, &mut None) {
                        Ok(event) => Ok(accept(&event)),
                        Err(undecodable) => Err(undecodable),
                    };
                self.scratch.release();
                read
            }
            #[cfg(feature = "grpc")]
            Form::Protobuf => {
                let mut timestamp = Timestamp::default();
                match IncomingEvent::from_protobuf(event_type, &message.freeze(), &mut timestamp) {
                    Ok(event) => Ok(accept(&event)),
                    Err(undecodable) => Err(undecodable),
                }
            }
            Form::Json => match self.parser.parse(&mut message) {
                Ok(document) => {
                    let decoded = match IncomingEvent::from_json(event_type, &document) {
                        Ok(event) => Ok(accept(&event)),
                        Err(undecodable) => Err(undecodable),
                    };
                    self.parser.reclaim(document);
                    decoded
                }
                Err(kind) => {
                    let error = DecodeError::in_message(event_type.as_str())(kind);
                    Err(self.parser.undecodable(error, &message))
                }
            },
        }
    }

    /// Decodes an answer and passes it to `accept`.
    ///
    /// # Errors
    ///
    /// Fails if the message is no valid answer.
    pub fn decode_answer<T>(
        &mut self,
        mut message: BytesMut,
        accept: impl FnOnce(Answer<'_>) -> T,
    ) -> Result<T, Undecodable> {
        match self.form {
            Form::Json => response::from_json(&mut message, &mut self.parser, accept),
            Form::MessagePack => response::from_msgpack(&message.freeze(), accept),
            Form::Compact => compact::decode_answer(&message.freeze(), accept),
            #[cfg(feature = "grpc")]
            Form::Protobuf => protobuf::decode_answer(&message.freeze(), accept),
        }
    }
}
