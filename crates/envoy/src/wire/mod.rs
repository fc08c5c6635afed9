//! The wire: protobuf messages of Envoy's services, read in place and written from borrowed data.

mod answer;
mod attributes;
mod check;
mod head;
mod metadata;
mod reader;
mod request;
mod writer;

pub(crate) use answer::{
    Answer, Body, HeadChange, Immediate, ModeOverride, SendMode, SetMode, frame, more_time,
};
pub(crate) use attributes::Attributes;
pub(crate) use check::{CheckAnswer, CheckRequest};
#[cfg(feature = "caller")]
pub(crate) use head::read_header;
pub(crate) use head::{Head, parse_socket_address};
pub(crate) use metadata::Metadata;
pub(crate) use reader::{Fields, Value, set_once};
pub use request::BodyMode;
pub(crate) use request::{HttpHeaders, Phase, ProcessingRequest};
pub(crate) use writer::Writer;

/// Reason why a message cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The message ends inside a field.
    #[error("the message is cut short")]
    CutShort,
    /// A tag, a number or a wire type is invalid.
    #[error("the message is not protobuf")]
    Syntax,
    /// A known field has another type.
    #[error("a field has another type")]
    WireType,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A field or a `oneof` that may be set once is set twice.
    #[error("a field is set twice")]
    Repeated,
    /// The message has none of the phases of a request.
    #[error("the message has no phase")]
    NoPhase,
}

#[cfg(test)]
#[path = "../../tests/unit/wire.rs"]
mod tests;
