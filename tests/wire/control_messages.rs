//! Control messages in JSON and MessagePack.

use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Debug;
use tollgate::Encoding;
use tollgate::bench::{Control, decode_cancel, decode_pong, encode_cancel};
use tollgate::control::{
    CancelReason, FlowControl, FlowControlAction, GaugeMetric, HealthState, HealthStatus,
    HistogramBucket, HistogramMetric, MetricsReport,
};
use tollgate::error::{DecodeError, DecodeErrorKind};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Decodes what may be JSON on any connection.
fn decode<M: Control>(text: &str) -> Result<M, DecodeError> {
    M::decode(&bytes(text), Encoding::Json)
}

fn expect_round_trips<M: Control + PartialEq + Debug>(message: &M) {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let written = message.encode(encoding).into();
        assert_eq!(M::decode(&written, encoding).as_ref(), Ok(message));
    }
}

#[test]
fn both_forms_of_flow_control_are_decoded() {
    let pause: FlowControl = decode(r#"{"action":1}"#).unwrap();
    assert_eq!(pause.action, FlowControlAction::Pause);
    let capacity: FlowControl = decode(
        r#"{"correlation_id":"a","action":{"type":"update_capacity","buffer_available":7},
            "timestamp_ms":1}"#,
    )
    .unwrap();
    let expected = FlowControlAction::UpdateCapacity {
        buffer_available: 7,
    };
    assert_eq!(capacity.action, expected);
    assert!(decode::<FlowControl>(r#"{"action":3}"#).is_err());
}

#[test]
fn messages_round_trip_in_json_and_messagepack() {
    expect_round_trips(&HealthStatus::degraded("waf", vec!["ml".into()], 2.5));
    expect_round_trips(&MetricsReport::new("waf", 1000));
    let resume = FlowControl::for_all(FlowControlAction::Resume);
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let written = resume.encode(encoding).into();
        let read = FlowControl::decode(&written, encoding).unwrap();
        assert_eq!(read.action, FlowControlAction::Resume);
    }
}

#[test]
fn health_may_be_a_number() {
    let degraded: HealthStatus = decode(r#"{"state":2}"#).unwrap();
    assert!(matches!(degraded.state, HealthState::Degraded { .. }));
    assert!(decode::<HealthStatus>(r#"{"state":7}"#).is_err());
}

#[test]
fn numbers_too_large_for_f32_are_rejected() {
    let degraded = r#"{"agent_id":"a","state":{"status":"degraded","timeout_multiplier":1e39}}"#;
    let loaded =
        r#"{"agent_id":"a","state":{"status":"healthy"},"resources":{"cpu_percent":1e300}}"#;
    for payload in [degraded, loaded] {
        let error = decode::<HealthStatus>(payload).unwrap_err();
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
    expect_round_trips(&report);
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
        assert!(decode::<HealthStatus>(payload).is_err(), "{payload}");
        assert!(
            decode_cancel(&bytes(payload), Encoding::Json).is_err(),
            "{payload}"
        );
    }
}
