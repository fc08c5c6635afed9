//! Fuzz tests of the protobuf decoders.
//!
//! Events and responses are also decoded by types that prost generated. If both decoders accept an
//! input, their results must be equal.

use super::input::Input;
use super::{bounded, read_answer, read_event, reread, round_trip_control};
use crate::by_prost;
use crate::owned_event::{Encoded, call};
use crate::protobuf::{message_of, message_types, stream_id};
use bytes::Bytes;
use std::fmt::Debug;
use tollgate::bench::{Control, GrpcMessages, decode_cancel, decode_pong, pong};
use tollgate::codec::Codec;
use tollgate::control::{
    ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest, FlowControl, HealthStatus, LogMessage,
    MetricsReport, ShutdownRequest,
};
use tollgate::{Encoding, EventType};

const PLAIN: Codec = Codec::zentinel(Encoding::Protobuf);

pub fn event(input: &Input) {
    let event_type = EventType::ALL[usize::from(input.choice) % EventType::ALL.len()];
    let read = bounded(input, |bytes| {
        read_event(event_type, Encoding::Protobuf, bytes)
    });
    let Some(event) = read else { return };
    let decoded = read_event(event_type, Encoding::Protobuf, &event.payload(PLAIN));
    assert_eq!(decoded.as_ref(), Some(&event));
    if let Some(by_prost) = by_prost::event(&input.bytes) {
        let actual = by_prost.message.event_type();
        assert_eq!(message_types(&input.bytes)[0], message_of(actual));
        // If an envelope holds several messages, the last one counts.
        if actual == event_type {
            assert_eq!(by_prost.message, event);
            assert_eq!(by_prost.stream_id, stream_id(&input.bytes));
        }
    }
}

pub fn response(input: &Input) {
    let read = bounded(input, |bytes| read_answer(Encoding::Protobuf, bytes));
    let Some((id, response)) = read else { return };
    let id = id.unwrap_or_default();
    let written = Encoded::answer(&response, PLAIN, call(&id)).joined();
    let (decoded_id, decoded) = read_answer(Encoding::Protobuf, &written).unwrap();
    assert_eq!(
        (&decoded_id.unwrap_or_default(), &decoded),
        (&id, &response)
    );
    if let Some(by_prost) = by_prost::response(&input.bytes) {
        assert_eq!(by_prost.message, (id, response));
        assert_eq!(by_prost.stream_id, stream_id(&input.bytes));
    }
}

/// End of a stream of messages.
#[derive(Debug, PartialEq)]
enum End {
    /// After a message.
    Complete,
    /// Within a message.
    Truncated,
    /// At an invalid message header.
    Invalid,
}

/// Message numbers and payloads of frames.
type Frames = Vec<(u8, Vec<u8>)>;

/// Checks that messages are converted to the expected frames, whether they arrive in one piece or
/// many.
pub fn messages(input: &Input) {
    let limit = 1000 * (usize::from(input.choice) + 1);
    for (direction, received) in [GrpcMessages::to_agent, GrpcMessages::to_proxy]
        .into_iter()
        .enumerate()
    {
        let expected = expected_frames(direction, limit, &input.bytes);
        let whole = bounded(input, |bytes| unframed(received(limit), bytes, bytes.len()));
        assert_eq!(whole, expected);
        let size = usize::from(input.choice) + 1;
        let pieces = unframed(received(limit), &input.bytes, size);
        assert_eq!(pieces, expected);
    }
}

/// Splits a complete stream into frames. `direction` is the index of its message types.
fn expected_frames(direction: usize, limit: usize, mut rest: &[u8]) -> (Frames, End) {
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let Some((&[flag, len @ ..], after)) = rest.split_first_chunk::<5>() else {
            return (frames, End::Truncated);
        };
        let len = u32::from_be_bytes(len) as usize;
        if flag != 0 || len > limit {
            return (frames, End::Invalid);
        }
        let Some((message, after)) = after.split_at_checked(len) else {
            return (frames, End::Truncated);
        };
        let number = message_types(message)[direction];
        frames.push((number, message.to_vec()));
        rest = after;
    }
    (frames, End::Complete)
}

/// Passes a stream to a receiver in pieces of `size` bytes.
fn unframed(mut messages: GrpcMessages, stream: &[u8], size: usize) -> (Frames, End) {
    let mut frames = Vec::new();
    for piece in stream.chunks(size.max(1)) {
        let is_valid = messages.receive(Bytes::copy_from_slice(piece));
        while let Some((message, payload)) = messages.next_frame() {
            frames.push((message, payload.to_vec()));
        }
        if !is_valid {
            return (frames, End::Invalid);
        }
    }
    let end = match messages.ended() {
        Ok(()) => End::Complete,
        Err(_) => End::Truncated,
    };
    (frames, end)
}

pub fn control_message(input: &Input) {
    const PROTOBUF: Encoding = Encoding::Protobuf;
    round_trip_control::<FlowControl>(input, PROTOBUF);
    round_trip_with_nan::<HealthStatus>(input);
    round_trip_with_nan::<MetricsReport>(input);
    round_trip_control::<ConfigUpdateRequest>(input, PROTOBUF);
    round_trip_control::<ConfigUpdateResponse>(input, PROTOBUF);
    round_trip_control::<DrainRequest>(input, PROTOBUF);
    round_trip_control::<ShutdownRequest>(input, PROTOBUF);
    round_trip_control::<LogMessage>(input, PROTOBUF);
    let payload = &Bytes::from(input.bytes.clone());
    let _ = bounded(input, |_| decode_cancel(payload, PROTOBUF));
    let _ = bounded(input, |_| decode_pong(payload, PROTOBUF));
    let _ = bounded(input, |bytes| pong(bytes, PROTOBUF));
}

/// Like [`round_trip_control`], for messages that may hold NaN and then do not equal themselves.
fn round_trip_with_nan<M: Control + Clone + PartialEq + Debug>(input: &Input) {
    if let Some((message, read)) = reread::<M>(input, Encoding::Protobuf)
        && message == message.clone()
    {
        assert_eq!(read, message);
    }
}
