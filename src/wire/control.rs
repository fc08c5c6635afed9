//! Encoding and decoding of control messages.
//!
//! Control messages are rare, so in JSON and MessagePack they are converted through free-form
//! values.

#![cfg_attr(
    not(feature = "grpc"),
    allow(
        unused_variables,
        reason = "JSON and MessagePack are distinguished by their first byte"
    )
)]

use super::decode::{DecodeError, DecodeErrorKind};
use super::dialect::Dialect;
use super::encode::{Content, Sink};
#[cfg(feature = "grpc")]
use super::protobuf::control as protobuf;
use super::value::Budget;
use super::{Encoding, MessageType, msgpack, value};
use crate::protocol::{
    CancelReason, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest,
    FlowControl, FlowControlAction, HealthState, HealthStatus, LogMessage, MetricsReport, Ping,
    ShutdownRequest, now_ms,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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

/// Decodes an agent's request to update its configuration.
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

/// Returns the payload of the pong for a ping.
pub(crate) fn pong(ping: &[u8], encoding: Encoding) -> Result<Vec<u8>, DecodeError> {
    #[cfg(feature = "grpc")]
    if encoding == Encoding::Protobuf {
        return in_message("ping", protobuf::pong(ping));
    }
    Ok(ping.to_vec())
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

/// Encodes a request to update the configuration.
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
fn encode_control(message: &impl Serialize, encoding: Encoding) -> Vec<u8> {
    // Converting a plain struct with string keys to a JSON value cannot fail.
    let value = serde_json::to_value(message).unwrap_or_default();
    encode_value(&value, encoding)
}

fn encode_value(message: &Value, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(Dialect::published(encoding), &mut out);
    out
}

impl Content for Value {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        value::write(self, sink);
    }
}

fn decode<T>(
    message: &'static str,
    payload: &Bytes,
    read: impl FnOnce(Value) -> Result<T, DecodeErrorKind>,
) -> Result<T, DecodeError> {
    in_message(message, to_value(payload).and_then(read))
}

fn in_message<T>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{GaugeMetric, HistogramBucket, HistogramMetric};
    use std::collections::HashMap;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn both_forms_of_flow_control_are_decoded() {
        let pause = decode_flow_control(&bytes(r#"{"action":1}"#), Encoding::Json).unwrap();
        assert_eq!(pause.action, FlowControlAction::Pause);
        let capacity = decode_flow_control(&bytes(
            r#"{"correlation_id":"a","action":{"type":"update_capacity","buffer_available":7},"timestamp_ms":1}"#,
        ), Encoding::Json)
        .unwrap();
        assert_eq!(
            capacity.action,
            FlowControlAction::UpdateCapacity {
                buffer_available: 7
            }
        );
        assert!(decode_flow_control(&bytes(r#"{"action":3}"#), Encoding::Json).is_err());
    }

    #[test]
    fn messages_round_trip_in_json_and_messagepack() {
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let degraded = HealthStatus::degraded("waf", vec!["ml".into()], 2.5);
            let [short, full]: [_; 2] = encode_health(&degraded, encoding).try_into().unwrap();
            assert_eq!(
                decode_health(&short.into(), Encoding::Json)
                    .unwrap()
                    .state
                    .number(),
                2
            );
            assert_eq!(
                decode_health(&full.into(), Encoding::Json).unwrap(),
                degraded
            );

            let resume = FlowControl::for_all(FlowControlAction::Resume);
            let read = decode_flow_control(
                &encode_flow_control(&resume, encoding).into(),
                Encoding::Json,
            )
            .unwrap();
            assert_eq!(read.action, FlowControlAction::Resume);

            let report = MetricsReport::new("waf", 1000);
            let read =
                decode_metrics_report(&encode_control(&report, encoding).into(), Encoding::Json)
                    .unwrap();
            assert_eq!(read, report);
        }
    }

    #[test]
    fn numbers_too_large_for_f32_are_rejected() {
        let degraded =
            r#"{"agent_id":"a","state":{"status":"degraded","timeout_multiplier":1e39}}"#;
        let loaded =
            r#"{"agent_id":"a","state":{"status":"healthy"},"resources":{"cpu_percent":1e300}}"#;
        for payload in [degraded, loaded] {
            let error = decode_health(&bytes(payload), Encoding::Json).unwrap_err();
            assert_eq!(error.kind(), DecodeErrorKind::OutOfRange);
        }
    }

    #[test]
    fn numbers_round_trip_exactly() {
        let mut report = MetricsReport::new("waf", 1000);
        report.gauges.push(GaugeMetric {
            name: "g".to_owned(),
            help: None,
            labels: HashMap::new(),
            value: 2.500_205_993_652_343_8,
        });
        report.histograms.push(HistogramMetric {
            name: "h".to_owned(),
            help: None,
            labels: HashMap::new(),
            sum: 0.1 + 0.2,
            count: 1,
            buckets: [f64::NEG_INFINITY, 0.0, f64::INFINITY]
                .map(|le| HistogramBucket { le, count: 1 })
                .into(),
        });
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let written = encode_control(&report, encoding);
            assert_eq!(
                decode_metrics_report(&written.into(), Encoding::Json).unwrap(),
                report
            );
        }
    }

    #[test]
    fn cancel_carries_its_reason_as_an_integer() {
        let payload = encode_cancel("a", CancelReason::UpstreamError, Encoding::Json);
        let value: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(value["reason"], 3);
        let cancel = decode_cancel(&payload.into(), Encoding::Json).unwrap();
        assert_eq!(cancel.reason, CancelReason::UpstreamError);
        assert_eq!(cancel.correlation_id, "a");
    }

    #[test]
    fn invalid_payloads_are_errors() {
        for payload in ["", "{", "[]", "x", "{}"] {
            assert!(
                decode_pong(&bytes(payload), Encoding::Json).is_err(),
                "{payload}"
            );
            assert!(
                decode_health(&bytes(payload), Encoding::Json).is_err(),
                "{payload}"
            );
            assert!(
                decode_cancel(&bytes(payload), Encoding::Json).is_err(),
                "{payload}"
            );
        }
    }
}
