//! Frames and rare messages, for the benchmarks and for the tests of the codecs.

use super::codec::{CallId, Codec, Decoder};
use super::control::ControlMessage;
use super::{
    DecodeError, DecodeErrorKind, Encoding, Event, EventScratch, EventTarget, Extension,
    FrameBuffer, HandshakeRequest, HandshakeResponse, IncomingEvent, JsonParser, MAX_FRAME_LEN,
    MessageType, RegistrationRequest, RegistrationResponse, control, encode_answer, encode_event,
    event_of, value,
};
use crate::protocol::{AgentResponse, CancelReason, CancelRequest, EventType, Ping};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::hint::black_box;
use std::time::Duration;

/// Call that all frames belong to.
const CALL: CallId<'static> = CallId {
    correlation_id: "0f8fad5b-d9cb-469f-a165-70867728950e",
    stream_id: 1 << 32 | 7,
};

/// Appends the frame of an event to `out`. Returns the rest of the frame, which is not copied.
pub fn encode_event_frame<E: Event>(codec: Codec, event: &E, out: &mut Vec<u8>) -> Bytes {
    encode_event(event, CALL.target(), codec.0, out).unwrap_or_default()
}

/// Appends the frame of an event whose call has `time_left` to `out`.
pub fn encode_event_within<E: Event>(
    codec: Codec,
    event: &E,
    call: CallId<'_>,
    time_left: Duration,
    out: &mut Vec<u8>,
) -> Bytes {
    let target = EventTarget {
        time_left: Some(time_left),
        ..call.target()
    };
    encode_event(event, target, codec.0, out).unwrap_or_default()
}

/// Returns the time that is left for the call of an event in version 2 of the extension.
pub fn time_left(event_type: EventType, payload: &Bytes) -> Option<Duration> {
    let (mut scratch, mut time_left) = (EventScratch::default(), None);
    let read = IncomingEvent::from_compact(event_type, payload, &mut scratch, &mut time_left);
    read.ok()?;
    time_left
}

/// Appends the frame of an answer to `out`. Returns the rest of the frame, which is not copied.
pub fn encode_answer_frame(codec: Codec, response: &AgentResponse, out: &mut Vec<u8>) -> Bytes {
    encode_answer(response, codec.answer_to(CALL), codec.0, out).unwrap_or_default()
}

/// Appends the frame of the answer of a call to `out`.
pub fn encode_answer_frame_to(
    codec: Codec,
    response: &AgentResponse,
    call: CallId<'_>,
    out: &mut Vec<u8>,
) -> Bytes {
    encode_answer(response, codec.answer_to(call), codec.0, out).unwrap_or_default()
}

/// Received bytes, split into frames and decoded in place.
#[derive(Debug)]
pub struct FrameReceiver {
    codec: Codec,
    buffer: FrameBuffer,
    decoder: Decoder,
}

impl FrameReceiver {
    /// Returns a receiver for frames of this codec.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            buffer: FrameBuffer::default(),
            decoder: codec.decoder(),
        }
    }

    /// Appends received bytes.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.spare().extend_from_slice(bytes);
    }

    /// Returns the message type and the payload of the next frame, if it is complete.
    ///
    /// # Errors
    ///
    /// Describes the error if the bytes are no frame.
    pub fn next_frame(&mut self) -> Result<Option<(u8, BytesMut)>, String> {
        let next = self.buffer.next_frame(MAX_FRAME_LEN);
        next.map_err(|error| error.to_string())
    }

    /// Decodes the next frame as an agent does. Returns whether it was an event.
    pub fn decode_event(&mut self) -> bool {
        let Some((message, payload)) = self.next_message() else {
            return false;
        };
        let Some(event_type) = event_of(message) else {
            return false;
        };
        // The black box keeps the compiler from optimising the event away.
        let decoded = self.decoder.decode_event(event_type, payload, |event| {
            black_box(event);
        });
        decoded.is_ok()
    }

    /// Decodes the next frame as a proxy with a pending call does.
    pub fn decode_answer(&mut self) -> Option<AgentResponse> {
        let (_, payload) = self.next_message()?;
        let response = self
            .decoder
            .decode_answer(payload, |answer| answer.response);
        response.ok()
    }

    fn next_message(&mut self) -> Option<(MessageType, BytesMut)> {
        let (number, mut payload) = self.buffer.next_frame(MAX_FRAME_LEN).ok()??;
        black_box(self.codec.take_stream_id(&mut payload).ok()?);
        Some((MessageType::from_number(number)?, payload))
    }
}

/// Reads free-form JSON, such as the settings of an agent.
///
/// # Errors
///
/// Fails if the text is no JSON or exceeds a limit.
pub fn json_value(text: &mut [u8]) -> Result<Value, DecodeErrorKind> {
    let document = JsonParser::default().parse(text)?;
    value::read(&mut document.reader(), &mut value::Budget::new())
}

/// A message about the connection rather than a request, in any encoding.
pub trait Control: Sized {
    /// Decodes a payload.
    ///
    /// # Errors
    ///
    /// Fails if the payload is no such message.
    fn decode(payload: &Bytes, encoding: Encoding) -> Result<Self, DecodeError>;

    /// Returns the payload of the message.
    fn encode(&self, encoding: Encoding) -> Vec<u8>;
}

impl<M: ControlMessage> Control for M {
    fn decode(payload: &Bytes, encoding: Encoding) -> Result<Self, DecodeError> {
        control::decode(payload, encoding)
    }

    fn encode(&self, encoding: Encoding) -> Vec<u8> {
        control::encode(self, encoding)
    }
}

/// Encodes a cancel message.
pub fn encode_cancel(correlation_id: &str, reason: CancelReason, encoding: Encoding) -> Vec<u8> {
    control::encode_cancel(correlation_id, reason, encoding)
}

/// Decodes a cancel message.
///
/// # Errors
///
/// Fails if the payload is no such message.
pub fn decode_cancel(payload: &Bytes, encoding: Encoding) -> Result<CancelRequest, DecodeError> {
    control::decode_cancel(payload, encoding)
}

/// Encodes a ping.
pub fn encode_ping(sequence: u64, encoding: Encoding) -> Vec<u8> {
    control::encode_ping(sequence, encoding)
}

/// Returns the pong for a ping.
///
/// # Errors
///
/// Fails if the payload is no ping.
pub fn pong(ping: &[u8], encoding: Encoding) -> Result<Vec<u8>, DecodeError> {
    control::pong(ping, encoding)
}

/// Decodes a pong.
///
/// # Errors
///
/// Fails if the payload is no pong.
pub fn decode_pong(payload: &Bytes, encoding: Encoding) -> Result<Ping, DecodeError> {
    control::decode_pong(payload, encoding)
}

/// Kind of a [`Setup`].
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "named like the messages")]
pub enum SetupKind {
    HandshakeRequest,
    HandshakeResponse,
    RegistrationRequest,
    RegistrationResponse,
}

/// A message that begins a connection.
#[derive(Debug, PartialEq)]
pub struct Setup(SetupMessage);

#[derive(Debug, PartialEq)]
enum SetupMessage {
    HandshakeRequest(HandshakeRequest),
    HandshakeResponse(HandshakeResponse),
    RegistrationRequest(RegistrationRequest),
    RegistrationResponse(RegistrationResponse),
}

impl Setup {
    /// Decodes a message on a connection that supports these encodings.
    ///
    /// # Errors
    ///
    /// Fails if the payload is no message of this kind.
    pub fn decode(
        kind: SetupKind,
        encodings: &[Encoding],
        payload: &[u8],
    ) -> Result<Self, DecodeError> {
        Ok(Self(match kind {
            SetupKind::HandshakeRequest => {
                SetupMessage::HandshakeRequest(HandshakeRequest::decode_for(encodings, payload)?)
            }
            SetupKind::HandshakeResponse => {
                SetupMessage::HandshakeResponse(HandshakeResponse::decode_for(encodings, payload)?)
            }
            SetupKind::RegistrationRequest => {
                SetupMessage::RegistrationRequest(RegistrationRequest::decode(payload)?)
            }
            SetupKind::RegistrationResponse => {
                SetupMessage::RegistrationResponse(RegistrationResponse::decode(payload)?)
            }
        }))
    }

    /// Encodes the message.
    pub fn encode(&self, encodings: &[Encoding]) -> Vec<u8> {
        match &self.0 {
            SetupMessage::HandshakeRequest(request) => request.encode_for(encodings),
            SetupMessage::HandshakeResponse(response) => response.encode_for(encodings),
            SetupMessage::RegistrationRequest(request) => request.encode(),
            SetupMessage::RegistrationResponse(response) => response.encode(),
        }
    }

    /// Chooses among what the message offers, as its receiver does.
    pub fn negotiate(&self, encodings: &[Encoding]) {
        match &self.0 {
            SetupMessage::HandshakeRequest(request) => {
                black_box(request.negotiate(encodings));
            }
            SetupMessage::HandshakeResponse(_) => {}
            SetupMessage::RegistrationRequest(request) => {
                black_box(request.negotiate(encodings, &Extension::ALL));
            }
            SetupMessage::RegistrationResponse(response) => {
                let _ = black_box(response.dialect(encodings));
            }
        }
    }
}
