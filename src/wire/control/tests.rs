use super::*;
use crate::protocol::{
    CancelReason, FlowControl, FlowControlAction, GaugeMetric, HealthStatus, HistogramBucket,
    HistogramMetric, MetricsReport,
};
use crate::wire::Encoding;
use crate::wire::decode::DecodeErrorKind;
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn both_forms_of_flow_control_are_decoded() {
    let pause = decode::<FlowControl>(&bytes(r#"{"action":1}"#), Encoding::Json).unwrap();
    assert_eq!(pause.action, FlowControlAction::Pause);
    let capacity = decode::<FlowControl>(&bytes(
        r#"{"correlation_id":"a","action":{"type":"update_capacity","buffer_available":7},"timestamp_ms":1}"#,
    ), Encoding::Json)
    .unwrap();
    assert_eq!(
        capacity.action,
        FlowControlAction::UpdateCapacity {
            buffer_available: 7
        }
    );
    assert!(decode::<FlowControl>(&bytes(r#"{"action":3}"#), Encoding::Json).is_err());
}

#[test]
fn messages_round_trip_in_json_and_messagepack() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let degraded = HealthStatus::degraded("waf", vec!["ml".into()], 2.5);
        let [short, full]: [_; 2] = encode_health(&degraded, encoding).try_into().unwrap();
        assert_eq!(
            decode::<HealthStatus>(&short.into(), Encoding::Json)
                .unwrap()
                .state
                .number(),
            2
        );
        assert_eq!(
            decode::<HealthStatus>(&full.into(), Encoding::Json).unwrap(),
            degraded
        );

        let resume = FlowControl::for_all(FlowControlAction::Resume);
        let read =
            decode::<FlowControl>(&encode(&resume, encoding).into(), Encoding::Json).unwrap();
        assert_eq!(read.action, FlowControlAction::Resume);

        let report = MetricsReport::new("waf", 1000);
        let read =
            decode::<MetricsReport>(&encode(&report, encoding).into(), Encoding::Json).unwrap();
        assert_eq!(read, report);
    }
}

#[test]
fn numbers_too_large_for_f32_are_rejected() {
    let degraded = r#"{"agent_id":"a","state":{"status":"degraded","timeout_multiplier":1e39}}"#;
    let loaded =
        r#"{"agent_id":"a","state":{"status":"healthy"},"resources":{"cpu_percent":1e300}}"#;
    for payload in [degraded, loaded] {
        let error = decode::<HealthStatus>(&bytes(payload), Encoding::Json).unwrap_err();
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
        let written = encode(&report, encoding);
        assert_eq!(
            decode::<MetricsReport>(&written.into(), Encoding::Json).unwrap(),
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
            decode::<HealthStatus>(&bytes(payload), Encoding::Json).is_err(),
            "{payload}"
        );
        assert!(
            decode_cancel(&bytes(payload), Encoding::Json).is_err(),
            "{payload}"
        );
    }
}
