//! The wire format: frames, handshakes and the encodings of all messages. Bytes in, bytes out, no
//! I/O.
//!
//! Each message has one encoder, written against [`Sink`](encode::Sink), and one decoder, written
//! against [`Source`](decode::Source). JSON and MessagePack implement both traits. Protobuf numbers
//! its fields instead of naming them, so it has functions of its own for each message.
//!
//! Decoding borrows from the frame: strings and headers are read in place, and a body is a slice of
//! the frame's buffer.

#[cfg(feature = "__bench")]
#[path = "../../benches/internals/wire.rs"]
pub(crate) mod bench;
mod borrowed;
mod borrowed_headers;
pub(crate) mod codec;
mod compact;
pub(crate) mod control;
mod decode;
mod dialect;
mod encode;
mod encoding;
mod events;
mod fields;
mod frame;
mod handshake;
mod handshake_encoding;
mod incoming;
mod incoming_event;
mod json;
mod msgpack;
#[cfg(feature = "grpc")]
mod protobuf;
mod recover_id;
mod registration;
mod response;
mod scratch;
mod shared_memory;
mod stream;
mod stream_id;
mod value;
mod views;

pub(crate) use borrowed::NotAccepted;
pub(crate) use borrowed_headers::BorrowedHeaders;
pub(crate) use codec::Decoder;
pub use decode::{DecodeError, DecodeErrorKind};
pub(crate) use dialect::{Dialect, Extension, Form};
pub use encoding::{Encoding, UnknownEncoding};
pub use events::Event;
pub(crate) use events::{EventTarget, SettingsEvent, encode_event, event_of, expected_len};
pub(crate) use frame::{
    DEFAULT_FRAME_TIMEOUT, FrameBuffer, FrameError, MAX_FRAME_LEN, MessageType, OutgoingFrame,
    frame_of, write_message,
};
pub(crate) use handshake::{HandshakeRequest, HandshakeResponse, MAX_HANDSHAKE_LEN};
pub use incoming_event::IncomingEvent;
pub(crate) use json::JsonParser;

#[cfg(feature = "grpc")]
pub(crate) use protobuf::Direction;
pub use recover_id::Undecodable;
pub(crate) use registration::{NotOffered, RegistrationRequest, RegistrationResponse};
pub use response::Answer;
pub(crate) use response::{AnswerTo, encode_answer};
pub(crate) use scratch::EventScratch;
pub(crate) use shared_memory::{SHARED_MEMORY, SharedMemoryOffer, TollgateObject};
pub(crate) use stream_id::StreamId;
pub use value::MAX_DEPTH;
pub use views::{HeadersView, RequestHeadersView, ResponseHeadersView};
