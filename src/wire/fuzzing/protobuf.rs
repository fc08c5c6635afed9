//! Fuzz tests of the protobuf decoders.
//!
//! Events and responses are also decoded by types that prost generated. If both decoders accept an
//! input, their results must be equal.

use super::input::Input;
use super::{assert_round_trip, bounded, read_answer, read_event};
use crate::protocol::EventType;
use crate::transport::grpc::Unframer;
use crate::wire::events::message_of;
use crate::wire::protobuf::{by_prost, stream_id};
use crate::wire::response::{AnswerTo, encode_answer};
use crate::wire::{
    Dialect, Direction, Encoding, FrameBuffer, HandshakeRequest, HandshakeResponse, MAX_FRAME_LEN,
    StreamId, control,
};
use bytes::Bytes;

const ONLY: &[Encoding] = &[Encoding::Protobuf];
const PLAIN: Dialect = Dialect::zentinel(Encoding::Protobuf);

pub(super) fn event(input: &Input) {
    let event_type = EventType::ALL[usize::from(input.choice) % EventType::ALL.len()];
    let read = bounded(input, |bytes| {
        read_event(event_type, Encoding::Protobuf, bytes)
    });
    let Some(event) = read else { return };
    let decoded = read_event(event_type, Encoding::Protobuf, &event.payload(PLAIN));
    assert_eq!(decoded.as_ref(), Some(&event));
    if let Some(by_prost) = by_prost::event(&input.bytes) {
        let actual = by_prost.message.event_type();
        let message = Direction::ToAgent.message_type(&input.bytes);
        assert_eq!(message, Some(message_of(actual)));
        // If an envelope holds several messages, the last one counts.
        if actual == event_type {
            assert_eq!(by_prost.message, event);
            assert_eq!(by_prost.stream_id, stream_of(input));
        }
    }
}

pub(super) fn response(input: &Input) {
    let read = bounded(input, |bytes| read_answer(Encoding::Protobuf, bytes));
    let Some((id, response)) = read else { return };
    let id = id.unwrap_or_default();
    let mut frame = Vec::new();
    let to = AnswerTo::CorrelationId(&id);
    let body = encode_answer(&response, to, PLAIN, &mut frame).unwrap();
    frame.extend(body);
    let (decoded_id, decoded) = read_answer(Encoding::Protobuf, &frame[5..]).unwrap();
    assert_eq!(
        (&decoded_id.unwrap_or_default(), &decoded),
        (&id, &response)
    );
    if let Some(by_prost) = by_prost::response(&input.bytes) {
        assert_eq!(by_prost.message, (id, response));
        assert_eq!(by_prost.stream_id, stream_of(input));
    }
}

/// Returns the stream id of an input.
fn stream_of(input: &Input) -> Option<u64> {
    stream_id(&input.bytes).ok().map(|StreamId(id)| id)
}

pub(super) fn handshake(input: &Input) {
    if let Ok(request) = bounded(input, |bytes| HandshakeRequest::decode_for(ONLY, bytes)) {
        let written = request.encode_for(ONLY);
        assert_round_trip(&request, HandshakeRequest::decode_for(ONLY, &written));
        let _ = request.negotiate(ONLY);
    }
    if let Ok(response) = bounded(input, |bytes| HandshakeResponse::decode_for(ONLY, bytes)) {
        let written = response.encode_for(ONLY);
        assert_round_trip(&response, HandshakeResponse::decode_for(ONLY, &written));
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
pub(super) fn messages(input: &Input) {
    let limit = 1000 * (usize::from(input.choice) + 1);
    for direction in [Direction::ToAgent, Direction::ToProxy] {
        let expected = expected_frames(direction, limit, &input.bytes);
        let whole = bounded(input, |bytes| {
            unframed(direction, limit, bytes, bytes.len())
        });
        assert_eq!(whole, expected);
        let size = usize::from(input.choice) + 1;
        let pieces = unframed(direction, limit, &input.bytes, size);
        assert_eq!(pieces, expected);
    }
}

/// Splits a complete stream into frames.
fn expected_frames(direction: Direction, limit: usize, mut rest: &[u8]) -> (Frames, End) {
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
        let number = direction
            .message_type(message)
            .map_or(0, |message| message as u8);
        frames.push((number, message.to_vec()));
        rest = after;
    }
    (frames, End::Complete)
}

/// Passes a stream to an [`Unframer`] in pieces of `size` bytes.
fn unframed(direction: Direction, limit: usize, stream: &[u8], size: usize) -> (Frames, End) {
    let mut unframer = Unframer::new(direction, limit);
    let mut buffer = FrameBuffer::default();
    let mut frames = Vec::new();
    for piece in stream.chunks(size.max(1)) {
        let added = unframer.add(Bytes::copy_from_slice(piece), buffer.spare());
        while let Some((message, payload)) = buffer.next_frame(MAX_FRAME_LEN).unwrap() {
            frames.push((message, payload.to_vec()));
        }
        if added.is_err() {
            return (frames, End::Invalid);
        }
    }
    let end = match unframer.ended() {
        Ok(()) => End::Complete,
        Err(_) => End::Truncated,
    };
    (frames, end)
}

pub(super) fn control_message(input: &Input) {
    const PROTOBUF: Encoding = Encoding::Protobuf;
    let payload = &Bytes::from(input.bytes.clone());
    macro_rules! round_trips {
        ($decode:ident, $encode:expr) => {
            if let Ok(message) = bounded(input, |_| control::$decode(payload, PROTOBUF)) {
                // A message that holds NaN does not equal itself.
                if message == message.clone() {
                    let written = Bytes::from($encode(&message));
                    assert_round_trip(&message, control::$decode(&written, PROTOBUF));
                }
            }
        };
    }
    round_trips!(decode_flow_control, |message| control::encode_flow_control(
        message, PROTOBUF
    ));
    round_trips!(decode_health, |status| control::encode_health(
        status, PROTOBUF
    )
    .concat());
    round_trips!(decode_metrics_report, |report| {
        control::encode_metrics_report(report, PROTOBUF)
    });
    round_trips!(decode_config_update, |request| {
        control::encode_config_update(request, PROTOBUF)
    });
    round_trips!(decode_config_response, |response| {
        control::encode_extension(response, PROTOBUF)
    });
    round_trips!(decode_drain, |drain| control::encode_extension(
        drain, PROTOBUF
    ));
    round_trips!(decode_shutdown, |shutdown| control::encode_extension(
        shutdown, PROTOBUF
    ));
    round_trips!(decode_log, |line| control::encode_extension(line, PROTOBUF));
    let _ = bounded(input, |_| control::decode_cancel(payload, PROTOBUF));
    let _ = bounded(input, |_| control::decode_pong(payload, PROTOBUF));
    let _ = bounded(input, |bytes| control::pong(bytes, PROTOBUF));
}
