//! Encoding and decoding of control messages.
//!
//! Control messages are rare, so they are converted through free-form values in JSON and
//! MessagePack, and through generated types in protobuf.

#![cfg_attr(
    not(feature = "grpc"),
    allow(
        unused_variables,
        reason = "JSON and MessagePack are distinguished by their first byte"
    )
)]

mod special;

pub(crate) use special::{
    decode_cancel, decode_pong, encode_cancel, encode_health, encode_ping, pong,
};

use super::decode::{DecodeError, DecodeErrorKind, Decoded};
use super::dialect::Dialect;
use super::encode::{Content, Sink};
use super::value::{self, Budget};
use super::{Encoding, MessageType, msgpack};
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest, LogMessage, MetricsReport,
    ShutdownRequest,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[cfg(feature = "grpc")]
use super::protobuf::control::{self as protobuf, InProtobuf};

/// Without protobuf, every message does without a form in it.
#[cfg(not(feature = "grpc"))]
pub(crate) trait InProtobuf {}

#[cfg(not(feature = "grpc"))]
impl<M> InProtobuf for M {}

/// A message about a connection or an agent, rather than about a request.
pub(crate) trait ControlMessage: Serialize + DeserializeOwned + InProtobuf {
    const MESSAGE: MessageType;
    /// Name of the message in errors.
    const NAME: &'static str;

    /// Returns what the message is in JSON and MessagePack.
    fn to_value(&self) -> Value {
        // Converting a plain struct with string keys to a JSON value cannot fail.
        serde_json::to_value(self).unwrap_or_default()
    }

    fn from_value(value: Value) -> Decoded<Self> {
        from_value(value)
    }
}

/// Implements [`ControlMessage`] for messages that serde writes as they are sent.
macro_rules! control_messages {
    ($($content:ident is $message:ident, $name:literal;)*) => {
        $(impl ControlMessage for $content {
            const MESSAGE: MessageType = MessageType::$message;
            const NAME: &'static str = $name;
        })*
    };
}

control_messages! {
    MetricsReport is MetricsReport, "metrics report";
    ConfigUpdateRequest is ConfigUpdateRequest, "config update request";
    ConfigUpdateResponse is ConfigUpdateResponse, "config update response";
    DrainRequest is Drain, "drain request";
    ShutdownRequest is Shutdown, "shutdown request";
    LogMessage is Log, "log message";
}

/// Encodes a control message.
pub(crate) fn encode<M: ControlMessage>(message: &M, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::wrap(M::MESSAGE, &message.to_proto());
    }
    encode_value(&message.to_value(), encoding)
}

/// Decodes a control message.
pub(crate) fn decode<M: ControlMessage>(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<M, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        let message = protobuf::unwrap(M::MESSAGE, payload);
        return in_message(M::NAME, message.and_then(M::from_proto));
    }
    in_message(M::NAME, read_value(payload).and_then(M::from_value))
}

fn in_message<T>(message: &'static str, decoded: Decoded<T>) -> Result<T, DecodeError> {
    decoded.map_err(DecodeError::in_message(message))
}

/// Reads a control message in JSON or MessagePack.
///
/// A control message may be JSON on any connection. All control messages are maps, and no
/// MessagePack map begins like a JSON object, so the first byte identifies the encoding.
fn read_value(payload: &Bytes) -> Decoded<Value> {
    match payload.first() {
        Some(b'{' | b' ' | b'\t' | b'\r' | b'\n') => {
            serde_json::from_slice(payload).map_err(|_| DecodeErrorKind::Syntax)
        }
        _ => value::read(&mut msgpack::Reader::new(payload), &mut Budget::new()),
    }
}

fn from_value<T: DeserializeOwned>(value: Value) -> Decoded<T> {
    serde_json::from_value(value).map_err(|_| DecodeErrorKind::WrongType)
}

fn encode_value(message: &Value, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(Dialect::zentinel(encoding), &mut out);
    out
}

impl Content for Value {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        value::write(self, sink);
    }
}
