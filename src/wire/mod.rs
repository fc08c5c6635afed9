//! How messages are written: frames, the handshake, MessagePack and JSON. Bytes in, bytes out.
//!
//! Every message is written once, against [`Sink`](encode::Sink), and read once, against
//! [`Source`](decode::Source); JSON and MessagePack implement both. Protobuf, which has numbers for names,
//! has its own functions for each message. Reading borrows: strings and headers
//! stay in the frame, a body is a slice of it.

#[cfg(feature = "__bench")]
pub(crate) mod bench;
pub(crate) mod control;
mod decode;
mod dialect;
mod encode;
mod encoding;
mod events;
mod frame;
#[cfg(all(test, not(tollgate_loom)))]
mod fuzzing;
mod handshake;
mod incoming;
mod json;
mod msgpack;
#[cfg(test)]
mod owned_event;
#[cfg(feature = "grpc")]
mod protobuf;
mod registration;
mod response;
#[cfg(test)]
mod round_trips;
mod salvage;
mod stream;
mod value;
mod views;

pub use decode::{DecodeError, DecodeErrorKind};
pub(crate) use dialect::{Dialect, Extension};
pub use encoding::{Encoding, UnknownEncoding};
pub use events::Event;
pub(crate) use events::{Address, encode_event, event_of, expected_len};
pub(crate) use frame::{
    FrameBuffer, FrameError, MAX_FRAME_LEN, MessageType, OutgoingFrame, frame_of, write_message,
};
pub(crate) use handshake::{HandshakeRequest, HandshakeResponse, MAX_HANDSHAKE_LEN};
pub(crate) use incoming::{IncomingEvent, JsonTape, Payload};
#[cfg(feature = "grpc")]
pub(crate) use protobuf::Direction;
pub(crate) use registration::{NotOffered, RegistrationRequest, RegistrationResponse};
pub(crate) use response::{Answer, AnswerTo, decode_answer, encode_response};
pub(crate) use salvage::Undecodable;
pub(crate) use stream::StreamId;
pub use value::MAX_DEPTH;
pub use views::{HeadersView, RequestHeadersView, ResponseHeadersView};
