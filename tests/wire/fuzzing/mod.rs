//! Fuzz tests of all decoders. `scripts/fuzz` runs them with libFuzzer; see docs/testing.md.
//!
//! They check of each decoder that it never panics, that its memory is bounded by a small multiple
//! of the input's length, and that decoded messages can be encoded and decode to an equal message.

#[cfg(feature = "codings")]
mod bodies;
mod input;
mod protobuf;
mod seeds;

use crate::owned_event::{
    Encoded, OwnedEvent, STREAM_ID, call, decode_answer, read_answer as read_answer_of,
};
use bytes::Bytes;
use input::{Engine, Input, fuzz};
use std::fmt::Debug;
use tollgate::bench::{Control, FrameReceiver, Setup, SetupKind, decode_cancel, decode_pong};
use tollgate::codec::Codec;
use tollgate::control::{
    ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest, FlowControl, HealthStatus, LogMessage,
    MetricsReport, ShutdownRequest,
};
use tollgate::{AgentResponse, Encoding, EventType};

const BOTH: [Encoding; 2] = [Encoding::MessagePack, Encoding::Json];

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
        round_trip_setup(&input, SetupKind::HandshakeRequest, &BOTH);
        round_trip_setup(&input, SetupKind::HandshakeResponse, &BOTH);
    });
}

#[test]
fn registrations() {
    fuzz(bolero::check!(), &seeds::registrations(), |input| {
        round_trip_setup(&input, SetupKind::RegistrationRequest, &BOTH);
        round_trip_setup(&input, SetupKind::RegistrationResponse, &BOTH);
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

#[test]
fn compact_events() {
    let codec = Codec::compact();
    fuzz(bolero::check!(), &seeds::compact_events(), |input| {
        let event_type = EventType::ALL[usize::from(input.choice) % EventType::ALL.len()];
        let read = bounded(&input, |bytes| OwnedEvent::read(codec, event_type, bytes));
        let Ok(event) = read else { return };
        let again = OwnedEvent::read(codec, event_type, &event.payload(codec));
        assert_eq!(again.as_ref(), Ok(&event));
        // What can be said in version 2 can be said without the extension.
        let payload = event.payload(Codec::zentinel(Encoding::MessagePack));
        let read = read_event(event_type, Encoding::MessagePack, &payload);
        assert_eq!(read.as_ref(), Some(&event));
    });
}

#[test]
fn compact_responses() {
    let codec = Codec::compact();
    fuzz(bolero::check!(), &seeds::compact_responses(), |input| {
        let read = bounded(&input, |bytes| read_answer_of(codec, bytes));
        let Ok(response) = read else { return };
        let written = Encoded::answer(&response, codec, call("")).joined();
        let read = read_answer_of(codec, &written[size_of_val(&STREAM_ID)..]);
        assert_round_trip(&response, read);
    });
}

#[test]
fn events_in_protobuf() {
    let seeds = seeds::protobuf::events();
    fuzz(bolero::check!(), &seeds, |input| protobuf::event(&input));
}

#[test]
fn responses_in_protobuf() {
    let seeds = seeds::protobuf::responses();
    fuzz(bolero::check!(), &seeds, |input| protobuf::response(&input));
}

#[test]
fn control_messages_in_protobuf() {
    let seeds = seeds::protobuf::control_messages();
    fuzz(bolero::check!(), &seeds, |input| {
        protobuf::control_message(&input);
    });
}

#[test]
fn handshakes_in_protobuf() {
    let only = [Encoding::Protobuf];
    fuzz(bolero::check!(), &seeds::protobuf::handshakes(), |input| {
        round_trip_setup(&input, SetupKind::HandshakeRequest, &only);
        round_trip_setup(&input, SetupKind::HandshakeResponse, &only);
    });
}

#[test]
fn grpc_messages() {
    let seeds = seeds::protobuf::streams();
    fuzz(bolero::check!(), &seeds, |input| protobuf::messages(&input));
}

#[cfg(feature = "codings")]
#[test]
fn encoded_bodies() {
    fuzz(bolero::check!(), &seeds::bodies(), |input| {
        bodies::decode(&input);
    });
}

#[test]
fn control_messages() {
    fuzz(bolero::check!(), &seeds::control_messages(), |input| {
        for encoding in BOTH {
            if let Some((message, read)) = reread::<FlowControl>(&input, encoding) {
                assert_eq!(
                    (&message.action, &message.correlation_id),
                    (&read.action, &read.correlation_id)
                );
            }
            if let Some((report, read)) = reread::<MetricsReport>(&input, encoding) {
                // The encoded forms are compared, since NaN does not equal itself.
                assert_eq!(report.encode(encoding), read.encode(encoding));
            }
            round_trip_control::<HealthStatus>(&input, encoding);
            round_trip_control::<ConfigUpdateRequest>(&input, encoding);
            round_trip_control::<ConfigUpdateResponse>(&input, encoding);
            round_trip_control::<DrainRequest>(&input, encoding);
            round_trip_control::<ShutdownRequest>(&input, encoding);
            round_trip_control::<LogMessage>(&input, encoding);
        }
        let payload = &Bytes::from(input.bytes.clone());
        let _ = bounded(&input, |_| decode_pong(payload, Encoding::Json));
        let _ = bounded(&input, |_| decode_cancel(payload, Encoding::Json));
    });
}

/// Decodes a message that begins a connection, and checks that it reads back as the same.
fn round_trip_setup(input: &Input, kind: SetupKind, encodings: &[Encoding]) {
    let decode = |bytes: &[u8]| Setup::decode(kind, encodings, bytes);
    if let Ok(setup) = bounded(input, decode) {
        assert_round_trip(&setup, decode(&setup.encode(encodings)));
        setup.negotiate(encodings);
    }
}

/// Decodes a control message, and checks that it reads back as the same.
fn round_trip_control<M: Control + PartialEq + Debug>(input: &Input, encoding: Encoding) {
    if let Some((message, read)) = reread::<M>(input, encoding) {
        assert_round_trip(&message, Ok::<_, ()>(read));
    }
}

/// Decodes a control message. Returns it, and what is read after it is written.
fn reread<M: Control>(input: &Input, encoding: Encoding) -> Option<(M, M)> {
    let payload = Bytes::from(input.bytes.clone());
    let message = bounded(input, |_| M::decode(&payload, encoding)).ok()?;
    let written = message.encode(encoding);
    let read = M::decode(&written.into(), encoding).unwrap();
    Some((message, read))
}

fn fuzz_events(engine: Engine, encoding: Encoding) {
    fuzz(engine, &seeds::events(encoding), |input| {
        let event_type = EventType::ALL[usize::from(input.choice) % EventType::ALL.len()];
        let read = bounded(&input, |bytes| read_event(event_type, encoding, bytes));
        let Some(event) = read else { return };
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let payload = event.payload(Codec::zentinel(encoding));
            let read = read_event(event_type, encoding, &payload);
            assert_eq!(read.as_ref(), Some(&event));
        }
    });
}

fn read_event(event_type: EventType, encoding: Encoding, bytes: &[u8]) -> Option<OwnedEvent> {
    OwnedEvent::from_payload(event_type, encoding, bytes).ok()
}

fn fuzz_responses(engine: Engine, encoding: Encoding) {
    fuzz(engine, &seeds::responses(encoding), |input| {
        let read = bounded(&input, |bytes| read_answer(encoding, bytes));
        let Some((id, response)) = read else { return };
        let id = id.unwrap_or_default();
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let written = Encoded::answer(&response, Codec::zentinel(encoding), call(&id)).joined();
            let (read_id, read) = read_answer(encoding, &written).unwrap();
            assert_eq!(read_id.as_ref(), Some(&id));
            assert_round_trip(&response, Ok::<_, ()>(read));
        }
    });
}

fn read_answer(encoding: Encoding, bytes: &[u8]) -> Option<(Option<String>, AgentResponse)> {
    decode_answer(encoding, bytes).ok()
}

/// Returns the frames of a stream that arrives in pieces of `size` bytes, and the error that ends
/// it.
fn split_frames(stream: &[u8], size: usize) -> (Vec<(u8, Vec<u8>)>, Option<String>) {
    let mut receiver = FrameReceiver::new(Codec::zentinel(Encoding::Json));
    let mut frames = Vec::new();
    for piece in stream.chunks(size) {
        receiver.receive(piece);
        loop {
            match receiver.next_frame() {
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

fn assert_round_trip<T: PartialEq + Debug, E: Debug>(value: &T, read: Result<T, E>) {
    assert_eq!(read.as_ref().ok(), Some(value), "{read:?}");
}
