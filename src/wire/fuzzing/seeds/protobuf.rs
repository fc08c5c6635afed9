//! Valid messages in protobuf that the fuzz tests start from.

use super::{event_values, input, response_values};
use crate::protocol::{
    AgentCapabilities, AgentResponse, ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType,
    CounterMetric, DrainReason, DrainRequest, EventType, FlowControl, FlowControlAction,
    HealthState, HealthStatus, LogLevel, LogMessage, MetricsReport, ShutdownReason,
    ShutdownRequest,
};
use crate::wire::fuzzing::input::Input;
use crate::wire::fuzzing::read_event;
use crate::wire::response::{AnswerTo, encode_answer};
use crate::wire::{
    Dialect, Encoding, Extension, HandshakeRequest, HandshakeResponse, StreamId, control,
};
use serde_json::json;

const EXTENDED: Dialect = Dialect::new(Encoding::Protobuf, Some(Extension::V1));
const PLAIN: Dialect = Dialect::zentinel(Encoding::Protobuf);

pub(in crate::wire::fuzzing) fn events() -> Vec<Input> {
    let mut seeds = Vec::new();
    for (choice, (event_type, value)) in (0..).zip(event_values()) {
        let json = value.to_string().into_bytes();
        let event = read_event(event_type, Encoding::Json, &json).expect("a seed decodes");
        for dialect in [PLAIN, EXTENDED] {
            seeds.push(input(choice, event.payload(dialect)));
        }
    }
    seeds
}

pub(in crate::wire::fuzzing) fn responses() -> Vec<Input> {
    let mut seeds = Vec::new();
    for value in response_values() {
        let response: AgentResponse = serde_json::from_value(value).unwrap();
        for to in [
            AnswerTo::CorrelationId("c-1"),
            AnswerTo::Stream(StreamId(7)),
        ] {
            let mut frame = Vec::new();
            let body = encode_answer(&response, to, PLAIN, &mut frame).unwrap();
            seeds.push(input(0, [&frame[5..], &body[..]].concat()));
        }
    }
    seeds
}

pub(in crate::wire::fuzzing) fn handshakes() -> Vec<Input> {
    let only = &[Encoding::Protobuf];
    let capabilities = AgentCapabilities::new("a", "A", "1").with_event(EventType::Configure);
    let mut request = HandshakeRequest::new("p", only, Some(Extension::V1));
    request.config = json!({"a": [1, 2.5, null, "x"]});
    [
        request.encode_for(only),
        HandshakeResponse::accept(&capabilities, EXTENDED).encode_for(only),
        HandshakeResponse::reject(&capabilities, "no").encode_for(only),
    ]
    .map(|bytes| input(0, bytes))
    .into()
}

/// Returns streams of several complete messages with gRPC's framing.
pub(in crate::wire::fuzzing) fn streams() -> Vec<Input> {
    let all = [events(), responses(), handshakes(), control_messages()].concat();
    let mut seeds: Vec<_> = all
        .chunks(5)
        .zip((0..=255).cycle())
        .map(|(messages, choice)| {
            let framed = messages.iter().flat_map(|message| {
                let len = message.bytes.len() as u32;
                [&[0], &len.to_be_bytes()[..], &message.bytes].concat()
            });
            input(choice, framed.collect())
        })
        .collect();
    seeds.push(input(0, b"\0\0\0\0\0\0\0\0\0\x02\x10".to_vec()));
    seeds
}

pub(in crate::wire::fuzzing) fn control_messages() -> Vec<Input> {
    let encoding = Encoding::Protobuf;
    let mut report = MetricsReport::new("waf", 1000);
    report.counters.push(CounterMetric::new("c", 3));
    let list = ConfigUpdateType::ListUpdate {
        list_id: "l".to_owned(),
        add: vec!["a".to_owned()],
        remove: Vec::new(),
    };
    let mut flow = FlowControl::for_all(FlowControlAction::UpdateCapacity {
        buffer_available: 7,
    });
    flow.correlation_id = Some("c-1".to_owned());
    let healths = [
        HealthStatus::degraded("waf", vec!["ml".to_owned()], 2.5),
        HealthStatus::unhealthy("waf", "no rules", true),
        HealthStatus::new("waf", HealthState::Draining { eta_ms: Some(5) }),
    ];
    let line = LogMessage::new(LogLevel::Warn, "m").with_field("f", json!([1.5, null]));
    let response = ConfigUpdateResponse {
        request_id: "r".to_owned(),
        accepted: false,
        error: Some("e".to_owned()),
        timestamp_ms: 1,
    };
    let drain = DrainRequest {
        duration_ms: 1,
        reason: DrainReason::Maintenance,
        timestamp_ms: 1,
    };
    let shutdown = ShutdownRequest {
        reason: ShutdownReason::Upgrade,
        grace_period_ms: 1,
        timestamp_ms: 1,
    };
    healths
        .iter()
        .flat_map(|status| control::encode_health(status, encoding))
        .chain([
            control::encode_flow_control(&flow, encoding),
            control::encode_metrics_report(&report, encoding),
            control::encode_config_update(&ConfigUpdateRequest::new("r", list), encoding),
            control::encode_extension(&response, encoding),
            control::encode_extension(&drain, encoding),
            control::encode_extension(&shutdown, encoding),
            control::encode_extension(&line, encoding),
            control::encode_cancel("c-1", crate::protocol::CancelReason::Timeout, encoding),
            control::encode_ping(7, encoding),
        ])
        .map(|payload| input(0, payload))
        .collect()
}
