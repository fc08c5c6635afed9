//! Decoding of control messages.

use crate::protocol::{
    CancelReason, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest,
    FlowControl, FlowControlAction, HealthState, HealthStatus, LogMessage, MetricsReport, Ping,
    ShutdownRequest,
};
use crate::wire::decode::{DecodeError, DecodeErrorKind};
#[cfg(feature = "grpc")]
use crate::wire::protobuf::control as protobuf;
use crate::wire::value::{self, Budget};
use crate::wire::{Encoding, msgpack};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Decodes a health status in its full form or with an integer `state`.
pub(crate) fn decode_health(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<HealthStatus, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("health status", protobuf::decode_health(payload));
    }
    decode("health status", payload, |value| {
        let Some(number) = value.get("state").and_then(Value::as_i64) else {
            return from_value(value).and_then(check_finite);
        };
        HealthState::from_number(number)
            .map(|state| HealthStatus::new("", state))
            .ok_or(DecodeErrorKind::UnknownName("state"))
    })
}

/// Rejects infinities, which serde makes of numbers that are too large for an `f32`.
fn check_finite(status: HealthStatus) -> Result<HealthStatus, DecodeErrorKind> {
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
    if multiplier
        .into_iter()
        .chain(latencies)
        .chain(cpu)
        .all(f32::is_finite)
    {
        return Ok(status);
    }
    Err(DecodeErrorKind::OutOfRange)
}

/// Decodes a flow control message in its full form or with an integer `action`.
pub(crate) fn decode_flow_control(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<FlowControl, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message(
            "flow control message",
            protobuf::decode_flow_control(payload),
        );
    }
    decode("flow control message", payload, |value| {
        match value.get("action").and_then(Value::as_i64) {
            None => from_value(value),
            Some(1) => Ok(FlowControl::for_all(FlowControlAction::Pause)),
            Some(2) => Ok(FlowControl::for_all(FlowControlAction::Resume)),
            Some(_) => Err(DecodeErrorKind::UnknownName("action")),
        }
    })
}

/// Decodes a metrics report.
pub(crate) fn decode_metrics_report(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<MetricsReport, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("metrics report", protobuf::decode_metrics_report(payload));
    }
    decode("metrics report", payload, from_value)
}

/// Decodes an agent's config update request.
pub(crate) fn decode_config_update(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<ConfigUpdateRequest, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message(
            "config update request",
            protobuf::decode_config_update(payload),
        );
    }
    decode("config update request", payload, from_value)
}

/// Decodes a proxy's response to a config update request.
pub(crate) fn decode_config_response(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<ConfigUpdateResponse, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message(
            "config update response",
            protobuf::decode_config_response(payload),
        );
    }
    decode("config update response", payload, from_value)
}

/// Decodes a request to drain.
pub(crate) fn decode_drain(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<DrainRequest, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("drain request", protobuf::decode_drain(payload));
    }
    decode("drain request", payload, from_value)
}

/// Decodes a request to shut down.
pub(crate) fn decode_shutdown(
    payload: &Bytes,
    encoding: Encoding,
) -> Result<ShutdownRequest, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("shutdown request", protobuf::decode_shutdown(payload));
    }
    decode("shutdown request", payload, from_value)
}

/// Decodes a log message.
pub(crate) fn decode_log(payload: &Bytes, encoding: Encoding) -> Result<LogMessage, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("log message", protobuf::decode_log(payload));
    }
    decode("log message", payload, from_value)
}

/// Decodes a pong.
pub(crate) fn decode_pong(payload: &Bytes, encoding: Encoding) -> Result<Ping, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("pong", protobuf::decode_pong(payload));
    }
    decode("pong", payload, from_value)
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
    decode("cancel message", payload, |value| {
        let correlation_id = value
            .get("correlation_id")
            .and_then(Value::as_str)
            .ok_or(DecodeErrorKind::Missing("correlation_id"))?;
        let reason = value.get("reason").and_then(Value::as_i64);
        Ok(CancelRequest {
            correlation_id: correlation_id.to_owned(),
            reason: reason
                .and_then(CancelReason::from_number)
                .unwrap_or(CancelReason::Manual),
            timestamp_ms: value
                .get("timestamp_ms")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
        })
    })
}

fn decode<T>(
    message: &'static str,
    payload: &Bytes,
    read: impl FnOnce(Value) -> Result<T, DecodeErrorKind>,
) -> Result<T, DecodeError> {
    in_message(message, to_value(payload).and_then(read))
}

pub(super) fn in_message<T>(
    message: &'static str,
    decoded: Result<T, DecodeErrorKind>,
) -> Result<T, DecodeError> {
    decoded.map_err(DecodeError::in_message(message))
}

/// Reads a control message in JSON or MessagePack.
///
/// A control message may be JSON on any connection. All control messages are maps, and no
/// MessagePack map begins like a JSON object, so the first byte identifies the encoding.
fn to_value(payload: &Bytes) -> Result<Value, DecodeErrorKind> {
    match payload.first() {
        Some(b'{' | b' ' | b'\t' | b'\r' | b'\n') => {
            serde_json::from_slice(payload).map_err(|_| DecodeErrorKind::Syntax)
        }
        _ => value::read(&mut msgpack::Reader::new(payload), &mut Budget::new()),
    }
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DecodeErrorKind> {
    serde_json::from_value(value).map_err(|_| DecodeErrorKind::WrongType)
}
