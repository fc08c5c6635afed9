//! Valid messages in protobuf that the fuzz tests start from.

use super::{event_values, input, response_values};
use crate::fuzzing::input::Input;
use crate::fuzzing::read_event;
use crate::generated as proto;
use crate::owned_event::{Encoded, call};
use prost::Message;
use proto::agent_to_proxy::Message as ToProxy;
use proto::proxy_to_agent::Message as ToAgent;
use serde_json::json;
use tollgate::bench::{Control, encode_cancel, encode_ping};
use tollgate::codec::Codec;
use tollgate::control::{
    CancelReason, ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType, CounterMetric,
    DrainReason, DrainRequest, FlowControl, FlowControlAction, HealthState, HealthStatus, LogLevel,
    LogMessage, MetricsReport, ShutdownReason, ShutdownRequest,
};
use tollgate::{AgentResponse, Encoding};

const EXTENDED: Codec = Codec::extended(Encoding::Protobuf);
const PLAIN: Codec = Codec::zentinel(Encoding::Protobuf);

pub fn events() -> Vec<Input> {
    let mut seeds = Vec::new();
    for (choice, (event_type, value)) in (0..).zip(event_values()) {
        let json = value.to_string().into_bytes();
        let event = read_event(event_type, Encoding::Json, &json).expect("a seed decodes");
        for codec in [PLAIN, EXTENDED] {
            seeds.push(input(choice, event.payload(codec)));
        }
    }
    seeds
}

pub fn responses() -> Vec<Input> {
    let mut seeds = Vec::new();
    for value in response_values() {
        let response: AgentResponse = serde_json::from_value(value).unwrap();
        for codec in [PLAIN, EXTENDED] {
            let written = Encoded::answer(&response, codec, call("c-1"));
            seeds.push(input(0, written.joined()));
        }
    }
    seeds
}

pub fn handshakes() -> Vec<Input> {
    let request = proto::HandshakeRequest {
        supported_versions: vec![2],
        proxy_id: "p".to_owned(),
        proxy_version: "1".to_owned(),
        config_json: json!({"a": [1, 2.5, null, "x"]}).to_string(),
        tollgate_versions: vec![1],
    };
    let accepted = proto::HandshakeResponse {
        protocol_version: 2,
        capabilities: Some(proto::AgentCapabilities {
            agent_id: "a".to_owned(),
            name: "A".to_owned(),
            version: "1".to_owned(),
            supported_events: vec![8],
            features: Some(proto::AgentFeatures {
                concurrent_requests: 3,
                cancellation: true,
                ..Default::default()
            }),
            limits: Some(proto::AgentLimits {
                max_concurrency: 2,
                ..Default::default()
            }),
            ..Default::default()
        }),
        success: true,
        tollgate_version: Some(1),
        ..Default::default()
    };
    let rejected = proto::HandshakeResponse {
        success: false,
        error: Some("no".to_owned()),
        tollgate_version: None,
        ..accepted.clone()
    };
    let to_proxy = [accepted, rejected].map(|response| proto::AgentToProxy {
        message: Some(ToProxy::Handshake(response)),
        stream_id: None,
    });
    let to_agent = proto::ProxyToAgent {
        message: Some(ToAgent::Handshake(request)),
        stream_id: None,
    };
    [to_agent.encode_to_vec()]
        .into_iter()
        .chain(to_proxy.iter().map(Message::encode_to_vec))
        .map(|bytes| input(0, bytes))
        .collect()
}

/// Returns streams of several complete messages with gRPC's framing.
pub fn streams() -> Vec<Input> {
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

pub fn control_messages() -> Vec<Input> {
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
        .map(|status| status.encode(encoding))
        .chain([
            flow.encode(encoding),
            report.encode(encoding),
            ConfigUpdateRequest::new("r", list).encode(encoding),
            response.encode(encoding),
            drain.encode(encoding),
            shutdown.encode(encoding),
            line.encode(encoding),
            encode_cancel("c-1", CancelReason::Timeout, encoding),
            encode_ping(7, encoding),
        ])
        .map(|payload| input(0, payload))
        .collect()
}
