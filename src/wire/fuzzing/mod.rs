//! Fuzz tests of all decoders. `scripts/fuzz` runs them with libFuzzer; see docs/testing.md.
//!
//! They check of each decoder that it never panics, that its memory is bounded by a small multiple
//! of the input's length, and that decoded messages can be encoded and decode to an equal message.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod input;
#[cfg(feature = "grpc")]
mod protobuf;
mod seeds;

use super::control;
use super::owned_event::OwnedEvent;
use super::response::{AnswerTo, decode_answer, encode_answer};
use super::{
    Dialect, Encoding, Extension, FrameBuffer, HandshakeRequest, HandshakeResponse, JsonParser,
    MAX_FRAME_LEN, Payload, RegistrationRequest, RegistrationResponse,
};
use crate::protocol::{AgentResponse, EventType};
use bytes::Bytes;
use input::{Engine, Input, fuzz};

/// Bytes that a decoder may allocate regardless of the input's length.
///
/// They are for capacity reserved for up to 64 items in each of 127 nested arrays, and for the JSON
/// parser's initial buffers.
const ALLOWED_BYTES: u64 = 1024 * 1024;

/// Bytes that a decoder may have allocated at a time for each byte of its input.
///
/// The worst case is a list of one-byte values: each becomes a `serde_json::Value`, in a `Vec` that
/// doubles its capacity as it grows.
const ALLOWED_PER_BYTE: u64 = 256;

#[test]
fn frames() {
    fuzz(bolero::check!(), &seeds::streams(), |input| {
        let whole = split_frames(&input.bytes, input.bytes.len().max(1));
        let pieces = split_frames(&input.bytes, usize::from(input.choice) + 1);
        assert_eq!(whole, pieces);
    });
}

#[test]
fn handshakes() {
    fuzz(bolero::check!(), &seeds::handshakes(), |input| {
        if let Ok(request) = bounded(&input, HandshakeRequest::decode) {
            assert_round_trip(&request, HandshakeRequest::decode(&request.encode()));
            let _ = request.negotiate(&[Encoding::MessagePack, Encoding::Json]);
        }
        if let Ok(response) = bounded(&input, HandshakeResponse::decode) {
            assert_round_trip(&response, HandshakeResponse::decode(&response.encode()));
        }
    });
}

#[test]
fn registrations() {
    const ENCODINGS: [Encoding; 2] = [Encoding::MessagePack, Encoding::Json];
    fuzz(bolero::check!(), &seeds::registrations(), |input| {
        if let Ok(request) = bounded(&input, RegistrationRequest::decode) {
            assert_round_trip(&request, RegistrationRequest::decode(&request.encode()));
            let _ = request.negotiate(&ENCODINGS, Some(Extension::V1));
        }
        if let Ok(response) = bounded(&input, RegistrationResponse::decode) {
            assert_round_trip(&response, RegistrationResponse::decode(&response.encode()));
            let _ = response.dialect(&ENCODINGS);
        }
    });
}

#[test]
fn events_in_json() {
    fuzz_events(bolero::check!(), Encoding::Json);
}

#[test]
fn events_in_messagepack() {
    fuzz_events(bolero::check!(), Encoding::MessagePack);
}

#[test]
fn responses_in_json() {
    fuzz_responses(bolero::check!(), Encoding::Json);
}

#[test]
fn responses_in_messagepack() {
    fuzz_responses(bolero::check!(), Encoding::MessagePack);
}

#[cfg(feature = "grpc")]
#[test]
fn events_in_protobuf() {
    let seeds = seeds::protobuf::events();
    fuzz(bolero::check!(), &seeds, |input| protobuf::event(&input));
}

#[cfg(feature = "grpc")]
#[test]
fn responses_in_protobuf() {
    let seeds = seeds::protobuf::responses();
    fuzz(bolero::check!(), &seeds, |input| protobuf::response(&input));
}

#[cfg(feature = "grpc")]
#[test]
fn control_messages_in_protobuf() {
    let seeds = seeds::protobuf::control_messages();
    fuzz(bolero::check!(), &seeds, |input| {
        protobuf::control_message(&input);
    });
}

#[cfg(feature = "grpc")]
#[test]
fn handshakes_in_protobuf() {
    let seeds = seeds::protobuf::handshakes();
    fuzz(bolero::check!(), &seeds, |input| {
        protobuf::handshake(&input);
    });
}

#[cfg(feature = "grpc")]
#[test]
fn grpc_messages() {
    let seeds = seeds::protobuf::streams();
    fuzz(bolero::check!(), &seeds, |input| protobuf::messages(&input));
}

#[test]
fn control_messages() {
    fuzz(bolero::check!(), &seeds::control_messages(), |input| {
        let payload = &Bytes::from(input.bytes.clone());
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let written =
                |message: &_| Bytes::from(control::encode_flow_control(message, encoding));
            if let Ok(message) =
                bounded(&input, |_| control::decode_flow_control(payload, encoding))
            {
                let read = control::decode_flow_control(&written(&message), encoding).unwrap();
                assert_eq!(
                    (&message.action, &message.correlation_id),
                    (&read.action, &read.correlation_id)
                );
            }
            if let Ok(status) = bounded(&input, |_| control::decode_health(payload, encoding)) {
                let [_, full]: [_; 2] = control::encode_health(&status, encoding)
                    .try_into()
                    .unwrap();
                assert_round_trip(&status, control::decode_health(&full.into(), encoding));
            }
            if let Ok(report) = bounded(&input, |_| {
                control::decode_metrics_report(payload, encoding)
            }) {
                let written = Bytes::from(control::encode_metrics_report(&report, encoding));
                // The encoded forms are compared, since NaN does not equal itself.
                let read = control::decode_metrics_report(&written, encoding).unwrap();
                assert_eq!(written, control::encode_metrics_report(&read, encoding));
            }
            if let Ok(request) =
                bounded(&input, |_| control::decode_config_update(payload, encoding))
            {
                let written = control::encode_config_update(&request, encoding);
                assert_round_trip(
                    &request,
                    control::decode_config_update(&written.into(), encoding),
                );
            }
            if let Ok(response) = bounded(&input, |_| {
                control::decode_config_response(payload, encoding)
            }) {
                let written = control::encode_extension(&response, encoding);
                assert_round_trip(
                    &response,
                    control::decode_config_response(&written.into(), encoding),
                );
            }
            if let Ok(drain) = bounded(&input, |_| control::decode_drain(payload, encoding)) {
                let written = control::encode_extension(&drain, encoding);
                assert_round_trip(&drain, control::decode_drain(&written.into(), encoding));
            }
            if let Ok(shutdown) = bounded(&input, |_| control::decode_shutdown(payload, encoding)) {
                let written = control::encode_extension(&shutdown, encoding);
                assert_round_trip(
                    &shutdown,
                    control::decode_shutdown(&written.into(), encoding),
                );
            }
            if let Ok(message) = bounded(&input, |_| control::decode_log(payload, encoding)) {
                let written = control::encode_extension(&message, encoding);
                assert_round_trip(&message, control::decode_log(&written.into(), encoding));
            }
        }
        let _ = bounded(&input, |_| control::decode_pong(payload, Encoding::Json));
        let _ = bounded(&input, |_| control::decode_cancel(payload, Encoding::Json));
    });
}

fn fuzz_events(engine: Engine, encoding: Encoding) {
    fuzz(engine, &seeds::events(encoding), |input| {
        let event_type = EventType::ALL[usize::from(input.choice) % EventType::ALL.len()];
        let read = bounded(&input, |bytes| read_event(event_type, encoding, bytes));
        let Some(event) = read else { return };
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let read = read_event(
                event_type,
                encoding,
                &event.payload(Dialect::zentinel(encoding)),
            );
            assert_eq!(read.as_ref(), Some(&event));
        }
    });
}

fn read_event(event_type: EventType, encoding: Encoding, bytes: &[u8]) -> Option<OwnedEvent> {
    OwnedEvent::from_payload(event_type, encoding, bytes.to_vec()).ok()
}

fn fuzz_responses(engine: Engine, encoding: Encoding) {
    fuzz(engine, &seeds::responses(encoding), |input| {
        let read = bounded(&input, |bytes| read_answer(encoding, bytes));
        let Some((id, response)) = read else { return };
        let id = id.unwrap_or_default();
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let mut frame = Vec::new();
            let to = AnswerTo::CorrelationId(&id);
            encode_answer(&response, to, Dialect::zentinel(encoding), &mut frame).unwrap();
            let (read_id, read) = read_answer(encoding, &frame[5..]).unwrap();
            assert_eq!(read_id.as_ref(), Some(&id));
            assert_round_trip(&response, Ok::<_, ()>(read));
        }
    });
}

fn read_answer(encoding: Encoding, bytes: &[u8]) -> Option<(Option<String>, AgentResponse)> {
    let (mut parser, mut json) = (JsonParser::default(), bytes.to_vec());
    let payload = Bytes::copy_from_slice(bytes);
    let payload = match encoding {
        Encoding::Json => Payload::Json(&mut json, &mut parser),
        Encoding::MessagePack => Payload::MessagePack(&payload),
        #[cfg(feature = "grpc")]
        Encoding::Protobuf => Payload::Protobuf(&payload),
    };
    decode_answer(payload, |answer| {
        (answer.correlation_id.map(str::to_owned), answer.response)
    })
    .ok()
}

/// Returns the frames of a stream that arrives in pieces of `size` bytes, and the error that ends
/// it.
fn split_frames(stream: &[u8], size: usize) -> (Vec<(u8, Vec<u8>)>, Option<super::FrameError>) {
    let mut buffer = FrameBuffer::default();
    let mut frames = Vec::new();
    for piece in stream.chunks(size) {
        buffer.spare().extend_from_slice(piece);
        loop {
            match buffer.next_frame(MAX_FRAME_LEN) {
                Ok(Some((message, payload))) => frames.push((message, payload.to_vec())),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Decodes an input, and fails if that takes more memory than its length allows.
fn bounded<T>(input: &Input, decode: impl FnOnce(&[u8]) -> T) -> T {
    let mut decoded = None;
    let allocated = allocation_counter::measure(|| decoded = Some(decode(&input.bytes)));
    let allowed = ALLOWED_BYTES + ALLOWED_PER_BYTE * input.bytes.len() as u64;
    assert!(
        allocated.bytes_max <= allowed,
        "{} bytes for an input of {}",
        allocated.bytes_max,
        input.bytes.len()
    );
    decoded.expect("the decoder was called")
}

fn assert_round_trip<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    value: &T,
    read: Result<T, E>,
) {
    assert_eq!(read.as_ref().ok(), Some(value), "{read:?}");
}
