//! Control messages. They are rare, so they pass through free-form values.

use super::decode::{DecodeError, DecodeErrorKind};
use super::dialect::Dialect;
use super::encode::{Content, Sink};
use super::value::Budget;
use super::{Encoding, msgpack, value};
use crate::protocol::{
    CancelReason, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest,
    FlowControl, FlowControlAction, HealthState, HealthStatus, LogMessage, MetricsReport, Ping,
    ShutdownRequest, now_ms,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reads a health report in its full form or as an integer `state`.
pub(crate) fn decode_health(payload: &Bytes) -> Result<HealthStatus, DecodeError> {
    decode("health status", payload, |value| {
        let Some(number) = value.get("state").and_then(Value::as_i64) else {
            return typed(value).and_then(in_range);
        };
        HealthState::from_number(number)
            .map(|state| HealthStatus::new("", state))
            .ok_or(DecodeErrorKind::UnknownName("state"))
    })
}

/// Serde makes infinities of numbers that are too large for an `f32`.
fn in_range(status: HealthStatus) -> Result<HealthStatus, DecodeErrorKind> {
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

/// Reads a flow control message in its full form or as an integer `action`.
pub(crate) fn decode_flow_control(payload: &Bytes) -> Result<FlowControl, DecodeError> {
    decode("flow control", payload, |value| {
        match value.get("action").and_then(Value::as_i64) {
            None => typed(value),
            Some(1) => Ok(FlowControl::for_all(FlowControlAction::Pause)),
            Some(2) => Ok(FlowControl::for_all(FlowControlAction::Resume)),
            Some(_) => Err(DecodeErrorKind::UnknownName("action")),
        }
    })
}

/// Reads a metrics report.
pub(crate) fn decode_metrics_report(payload: &Bytes) -> Result<MetricsReport, DecodeError> {
    decode("metrics report", payload, typed)
}

/// Reads an agent's request for a change of configuration.
pub(crate) fn decode_config_update(payload: &Bytes) -> Result<ConfigUpdateRequest, DecodeError> {
    decode("config update request", payload, typed)
}

/// Reads what a proxy says to a request for a change of configuration.
pub(crate) fn decode_config_response(payload: &Bytes) -> Result<ConfigUpdateResponse, DecodeError> {
    decode("config update response", payload, typed)
}

/// Reads a request to drain.
pub(crate) fn decode_drain(payload: &Bytes) -> Result<DrainRequest, DecodeError> {
    decode("drain request", payload, typed)
}

/// Reads a request to shut down.
pub(crate) fn decode_shutdown(payload: &Bytes) -> Result<ShutdownRequest, DecodeError> {
    decode("shutdown request", payload, typed)
}

/// Reads a line for the log.
pub(crate) fn decode_log(payload: &Bytes) -> Result<LogMessage, DecodeError> {
    decode("log message", payload, typed)
}

/// Reads a ping or pong.
pub(crate) fn decode_ping(payload: &Bytes) -> Result<Ping, DecodeError> {
    decode("ping", payload, typed)
}

/// Reads a cancel message; a reason that is not known counts as [`CancelReason::Manual`].
pub(crate) fn decode_cancel(payload: &Bytes) -> Result<CancelRequest, DecodeError> {
    decode("cancel", payload, |value| {
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

/// The payload of a cancel message: JSON in every encoding.
pub(crate) fn encode_cancel(correlation_id: &str, reason: CancelReason) -> Vec<u8> {
    json!({
        "correlation_id": correlation_id,
        "reason": reason.number(),
        "timestamp_ms": now_ms(),
    })
    .to_string()
    .into_bytes()
}

/// The payload of a ping: JSON in every encoding.
pub(crate) fn encode_ping(sequence: u64) -> Vec<u8> {
    json!({"sequence": sequence, "timestamp_ms": now_ms()})
        .to_string()
        .into_bytes()
}

/// The payloads that say how an agent is: the integer form for the published crate, which reads no
/// other, and the full one behind it for those who do.
pub(crate) fn encode_health(status: &HealthStatus, encoding: Encoding) -> [Vec<u8>; 2] {
    [
        encode_value(&json!({"state": status.state.number()}), encoding),
        encode_control(status, encoding),
    ]
}

/// The payload of a flow control message; the integer form where it says it all, since the published
/// crate reads no other.
pub(crate) fn encode_flow_control(message: &FlowControl, encoding: Encoding) -> Vec<u8> {
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

/// The payload of any other control message.
pub(crate) fn encode_control(message: &impl Serialize, encoding: Encoding) -> Vec<u8> {
    // The messages are plain structs with string keys, which always have a JSON form.
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
    to_value(payload)
        .and_then(read)
        .map_err(DecodeError::in_message(message))
}

/// Control messages come in JSON whatever the encoding, or in the connection's own. All of them are
/// maps, and no MessagePack map begins as a JSON object does, so the first byte tells.
fn to_value(payload: &Bytes) -> Result<Value, DecodeErrorKind> {
    match payload.first() {
        Some(b'{' | b' ' | b'\t' | b'\r' | b'\n') => {
            serde_json::from_slice(payload).map_err(|_| DecodeErrorKind::Syntax)
        }
        _ => value::read(&mut msgpack::Reader::new(payload), &mut Budget::new()),
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, DecodeErrorKind> {
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
    fn both_forms_of_flow_control_are_read() {
        let pause = decode_flow_control(&bytes(r#"{"action":1}"#)).unwrap();
        assert_eq!(pause.action, FlowControlAction::Pause);
        let capacity = decode_flow_control(&bytes(
            r#"{"correlation_id":"a","action":{"type":"update_capacity","buffer_available":7},"timestamp_ms":1}"#,
        ))
        .unwrap();
        assert_eq!(
            capacity.action,
            FlowControlAction::UpdateCapacity {
                buffer_available: 7
            }
        );
        assert!(decode_flow_control(&bytes(r#"{"action":3}"#)).is_err());
    }

    #[test]
    fn what_is_written_is_read_in_both_encodings() {
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let degraded = HealthStatus::degraded("waf", vec!["ml".into()], 2.5);
            let [short, full] = encode_health(&degraded, encoding);
            assert_eq!(decode_health(&short.into()).unwrap().state.number(), 2);
            assert_eq!(decode_health(&full.into()).unwrap(), degraded);

            let resume = FlowControl::for_all(FlowControlAction::Resume);
            let read = decode_flow_control(&encode_flow_control(&resume, encoding).into()).unwrap();
            assert_eq!(read.action, FlowControlAction::Resume);

            let report = MetricsReport::new("waf", 1000);
            let read = decode_metrics_report(&encode_control(&report, encoding).into()).unwrap();
            assert_eq!(read, report);
        }
    }

    #[test]
    fn numbers_that_are_too_large_are_refused() {
        let degraded =
            r#"{"agent_id":"a","state":{"status":"degraded","timeout_multiplier":1e39}}"#;
        let loaded =
            r#"{"agent_id":"a","state":{"status":"healthy"},"resources":{"cpu_percent":1e300}}"#;
        for payload in [degraded, loaded] {
            let error = decode_health(&bytes(payload)).unwrap_err();
            assert_eq!(error.kind(), DecodeErrorKind::OutOfRange);
        }
    }

    #[test]
    fn numbers_read_back_to_their_last_digit() {
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
            assert_eq!(decode_metrics_report(&written.into()).unwrap(), report);
        }
    }

    #[test]
    fn cancel_carries_its_reason_as_an_integer() {
        let payload = encode_cancel("a", CancelReason::UpstreamError);
        let value: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(value["reason"], 3);
        let cancel = decode_cancel(&payload.into()).unwrap();
        assert_eq!(cancel.reason, CancelReason::UpstreamError);
        assert_eq!(cancel.correlation_id, "a");
    }

    #[test]
    fn garbage_is_an_error() {
        for payload in ["", "{", "[]", "x", "{}"] {
            assert!(decode_ping(&bytes(payload)).is_err(), "{payload}");
            assert!(decode_health(&bytes(payload)).is_err(), "{payload}");
            assert!(decode_cancel(&bytes(payload)).is_err(), "{payload}");
        }
    }
}
