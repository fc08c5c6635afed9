//! Control messages with forms of their own in JSON and MessagePack.

use super::{ControlMessage, encode, encode_value, from_value, in_message, read_value};
use crate::protocol::{
    CancelReason, CancelRequest, FlowControl, FlowControlAction, HealthState, HealthStatus, Ping,
    now_ms,
};
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded};
#[cfg(feature = "grpc")]
use crate::wire::protobuf::control as protobuf;
use crate::wire::{Encoding, MessageType};
use bytes::Bytes;
use serde_json::{Value, json};

/// The full form, or one with an integer `state`.
impl ControlMessage for HealthStatus {
    const MESSAGE: MessageType = MessageType::HealthStatus;
    const NAME: &'static str = "health status";

    fn from_value(value: Value) -> Decoded<Self> {
        let Some(number) = value.get("state").and_then(Value::as_i64) else {
            return from_value(value).and_then(check_finite);
        };
        HealthState::from_number(number)
            .map(|state| Self::new("", state))
            .ok_or(DecodeErrorKind::UnknownName("state"))
    }
}

/// Rejects infinities, which serde makes of numbers that are too large for an `f32`.
fn check_finite(status: HealthStatus) -> Decoded<HealthStatus> {
    let multiplier = match status.state {
        HealthState::Degraded {
            timeout_multiplier, ..
        } => Some(timeout_multiplier),
        _ => None,
    };
    let latencies = status.load.iter().flat_map(|load| {
        [
            load.avg_latency_ms,
            load.p50_latency_ms,
            load.p95_latency_ms,
            load.p99_latency_ms,
        ]
    });
    let cpu = status.resources.as_ref().and_then(|used| used.cpu_percent);
    let mut numbers = multiplier.into_iter().chain(latencies).chain(cpu);
    if numbers.all(f32::is_finite) {
        return Ok(status);
    }
    Err(DecodeErrorKind::OutOfRange)
}

/// Encodes a health status as one or two payloads.
///
/// `zentinel-agent-protocol` reads only the integer form, so that comes first and the full form
/// follows. In protobuf, one form serves all peers.
pub(crate) fn encode_health(status: &HealthStatus, encoding: Encoding) -> Vec<Vec<u8>> {
    let full = encode(status, encoding);
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return vec![full];
    }
    let state = json!({"state": status.state.number()});
    vec![encode_value(&state, encoding), full]
}

/// The full form, or one with an integer `action`.
///
/// `zentinel-agent-protocol` reads only the integer form, so that is used where it can express the
/// message.
impl ControlMessage for FlowControl {
    const MESSAGE: MessageType = MessageType::FlowControl;
    const NAME: &'static str = "flow control message";

    fn to_value(&self) -> Value {
        match (self.action, &self.correlation_id) {
            (FlowControlAction::Pause, None) => json!({"action": 1}),
            (FlowControlAction::Resume, None) => json!({"action": 2}),
            _ => serde_json::to_value(self).unwrap_or_default(),
        }
    }

    fn from_value(value: Value) -> Decoded<Self> {
        match value.get("action").and_then(Value::as_i64) {
            None => from_value(value),
            Some(1) => Ok(Self::for_all(FlowControlAction::Pause)),
            Some(2) => Ok(Self::for_all(FlowControlAction::Resume)),
            Some(_) => Err(DecodeErrorKind::UnknownName("action")),
        }
    }
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
    let message = json!({
        "correlation_id": correlation_id, "reason": reason.number(), "timestamp_ms": now_ms(),
    });
    message.to_string().into_bytes()
}

/// Decodes a cancel message. An unknown reason counts as [`CancelReason::Manual`].
pub(crate) fn decode_cancel(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<CancelRequest, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("cancel message", protobuf::decode_cancel(payload));
    }
    in_message("cancel message", read_value(payload).and_then(to_cancel))
}

fn to_cancel(value: Value) -> Decoded<CancelRequest> {
    let correlation_id = value.get("correlation_id").and_then(Value::as_str);
    let reason = value.get("reason").and_then(Value::as_i64);
    let timestamp_ms = value.get("timestamp_ms").and_then(Value::as_u64);
    Ok(CancelRequest {
        correlation_id: correlation_id
            .ok_or(DecodeErrorKind::Missing("correlation_id"))?
            .to_owned(),
        reason: reason
            .and_then(CancelReason::from_number)
            .unwrap_or(CancelReason::Manual),
        timestamp_ms: timestamp_ms.unwrap_or_default(),
    })
}

/// Encodes a ping. It is JSON even on connections that use MessagePack.
pub(crate) fn encode_ping(sequence: u64, encoding: Encoding) -> Vec<u8> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return protobuf::encode_ping(sequence);
    }
    let message = json!({"sequence": sequence, "timestamp_ms": now_ms()});
    message.to_string().into_bytes()
}

/// Returns the payload of the pong for a ping.
pub(crate) fn pong(ping: &[u8], encoding: Encoding) -> Result<Vec<u8>, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("ping", protobuf::pong(ping));
    }
    Ok(ping.to_vec())
}

/// Decodes a pong.
pub(crate) fn decode_pong(payload: &Bytes, encoding: Encoding) -> Result<Ping, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("pong", protobuf::decode_pong(payload));
    }
    in_message("pong", read_value(payload).and_then(from_value))
}
