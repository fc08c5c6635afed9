//! Encoding of control messages.

#[cfg(feature = "grpc")]
use super::decode::in_message;
use crate::protocol::{
    CancelReason, ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest, FlowControl,
    FlowControlAction, HealthStatus, LogMessage, MetricsReport, ShutdownRequest, now_ms,
};
use crate::wire::decode::DecodeError;
use crate::wire::dialect::Dialect;
use crate::wire::encode::{Content, Sink};
#[cfg(feature = "grpc")]
use crate::wire::protobuf::control as protobuf;
use crate::wire::{Encoding, MessageType, value};
use serde::Serialize;
use serde_json::{Value, json};

/// Returns the payload of the pong for a ping.
pub(crate) fn pong(ping: &[u8], encoding: Encoding) -> Result<Vec<u8>, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("ping", protobuf::pong(ping));
    }
    Ok(ping.to_vec())
}

/// Encodes a cancel message. It is JSON even on connections that use MessagePack.
pub(crate) fn encode_cancel(
    correlation_id: &str,
    reason: CancelReason,
    encoding: Encoding,
) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::encode_cancel(correlation_id, reason);
    }
    json!({
        "correlation_id": correlation_id,
        "reason": reason.number(),
        "timestamp_ms": now_ms(),
    })
    .to_string()
    .into_bytes()
}

/// Encodes a ping. It is JSON even on connections that use MessagePack.
pub(crate) fn encode_ping(sequence: u64, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::encode_ping(sequence);
    }
    json!({"sequence": sequence, "timestamp_ms": now_ms()})
        .to_string()
        .into_bytes()
}

/// Encodes a health status as one or two payloads.
///
/// `zentinel-agent-protocol` reads only the integer form, so that comes first and the full form
/// follows. In protobuf, one form serves all peers.
pub(crate) fn encode_health(status: &HealthStatus, encoding: Encoding) -> Vec<Vec<u8>> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return vec![protobuf::encode_health(status)];
    }
    vec![
        encode_value(&json!({"state": status.state.number()}), encoding),
        encode_control(status, encoding),
    ]
}

/// Encodes a flow control message.
///
/// `zentinel-agent-protocol` reads only the integer form, so that is used where it can express the
/// message.
pub(crate) fn encode_flow_control(message: &FlowControl, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::encode_flow_control(message);
    }
    let number = match message.action {
        FlowControlAction::Pause => 1,
        FlowControlAction::Resume => 2,
        FlowControlAction::UpdateCapacity { .. } => return encode_control(message, encoding),
    };
    if message.correlation_id.is_some() {
        return encode_control(message, encoding);
    }
    encode_value(&json!({"action": number}), encoding)
}

/// Encodes a metrics report.
pub(crate) fn encode_metrics_report(report: &MetricsReport, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::encode_metrics_report(report);
    }
    encode_control(report, encoding)
}

/// Encodes a config update request.
pub(crate) fn encode_config_update(request: &ConfigUpdateRequest, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::encode_config_update(request);
    }
    encode_control(request, encoding)
}

/// A message of the tollgate extension.
pub(crate) trait ExtensionMessage: Serialize {
    const MESSAGE: MessageType;

    /// Encodes the message as protobuf.
    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self) -> Vec<u8>;
}

macro_rules! extension_message {
    ($content:ty, $message:ident, $encode:ident) => {
        impl ExtensionMessage for $content {
            const MESSAGE: MessageType = MessageType::$message;

            #[cfg(feature = "grpc")]
            fn encode_protobuf(&self) -> Vec<u8> {
                protobuf::$encode(self)
            }
        }
    };
}

extension_message!(
    ConfigUpdateResponse,
    ConfigUpdateResponse,
    encode_config_response
);
extension_message!(DrainRequest, Drain, encode_drain);
extension_message!(ShutdownRequest, Shutdown, encode_shutdown);
extension_message!(LogMessage, Log, encode_log);

/// Encodes a message of the tollgate extension.
pub(crate) fn encode_extension(content: &impl ExtensionMessage, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return content.encode_protobuf();
    }
    encode_control(content, encoding)
}

/// Encodes a serializable message as JSON or MessagePack.
pub(super) fn encode_control(message: &impl Serialize, encoding: Encoding) -> Vec<u8> {
    // Converting a plain struct with string keys to a JSON value cannot fail.
    let value = serde_json::to_value(message).unwrap_or_default();
    encode_value(&value, encoding)
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
