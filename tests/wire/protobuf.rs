//! Tests of the hand-written encoder and decoder against prost, in both directions.

use crate::by_prost;
use crate::generated as proto;
use crate::owned_event::{Encoded, OwnedEvent, STREAM_ID, call, decode_answer};
use crate::strategies::{event, response, text};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use std::fmt::Debug;
use tollgate::bench::{
    Control, GrpcMessages, Setup, SetupKind, decode_cancel, decode_pong, encode_cancel,
    encode_ping, pong,
};
use tollgate::codec::Codec;
use tollgate::control::{
    CancelReason, ConfigUpdateRequest, ConfigUpdateType, CounterMetric, FlowControl,
    FlowControlAction, GaugeMetric, HealthState, HealthStatus, HistogramBucket, HistogramMetric,
    LoadMetrics, MetricsReport, ResourceMetrics, RuleDefinition,
};
use tollgate::response::BodyMutation;
use tollgate::{AgentResponse, Encoding, EventType};

const PLAIN: Codec = Codec::zentinel(Encoding::Protobuf);
const EXTENDED: Codec = Codec::extended(Encoding::Protobuf);

fn read_event(event_type: EventType, payload: &[u8]) -> Option<OwnedEvent> {
    OwnedEvent::from_payload(event_type, Encoding::Protobuf, payload).ok()
}

/// Returns the stream id in an envelope.
pub fn stream_id(envelope: &[u8]) -> Option<u64> {
    let taken = EXTENDED.take_stream_id(&mut BytesMut::from(envelope));
    taken.ok().flatten()
}

/// Returns the message types of what a proxy may have sent and of what an agent may have sent.
pub fn message_types(envelope: &[u8]) -> [u8; 2] {
    let head = [&[0][..], &(envelope.len() as u32).to_be_bytes()].concat();
    [
        GrpcMessages::to_agent(usize::MAX),
        GrpcMessages::to_proxy(usize::MAX),
    ]
    .map(|mut messages| {
        assert!(messages.receive([&head, envelope].concat().into()));
        messages.next_frame().unwrap().0
    })
}

/// Returns the message type of an event.
pub fn message_of(event_type: EventType) -> u8 {
    0x10 + EventType::ALL
        .iter()
        .position(|known| *known == event_type)
        .unwrap() as u8
}

/// Removes names without values, which protobuf cannot express.
fn without_empty_headers(mut event: OwnedEvent) -> OwnedEvent {
    if let OwnedEvent::RequestHeaders(event) = &mut event {
        event.headers.retain(|_, values| !values.is_empty());
    }
    if let OwnedEvent::ResponseHeaders(event) = &mut event {
        event.headers.retain(|_, values| !values.is_empty());
    }
    event
}

/// Protobuf has bytes in mutations, whatever they were before.
fn without_plain_text(mut response: AgentResponse) -> AgentResponse {
    let mutations = [
        &mut response.request_body_mutation,
        &mut response.response_body_mutation,
    ];
    for mutation in mutations.into_iter().flatten() {
        if let Some(data) = mutation.data.take() {
            *mutation = BodyMutation::replace(mutation.chunk_index, data);
        }
    }
    response
}

fn write_answer(response: &AgentResponse, codec: Codec, correlation_id: &str) -> Vec<u8> {
    Encoded::answer(response, codec, call(correlation_id)).joined()
}

fn read_answer(payload: &[u8]) -> Option<(Option<String>, AgentResponse)> {
    decode_answer(Encoding::Protobuf, payload).ok()
}

proptest! {
    #[test]
    fn events_agree_with_prost(event in event()) {
        let event = without_empty_headers(event);
        for (codec, stream) in [(PLAIN, None), (EXTENDED, Some(STREAM_ID))] {
            let payload = event.payload(codec);
            prop_assert_eq!(message_types(&payload)[0], message_of(event.event_type()));
            let by_prost = by_prost::event(&payload).unwrap();
            prop_assert_eq!(by_prost.stream_id, stream);
            prop_assert_eq!(&by_prost.message, &event);
            let by_prost = proto::ProxyToAgent::decode(&payload[..]).unwrap();
            let rewritten = by_prost.encode_to_vec();
            prop_assert_eq!(stream_id(&rewritten), stream);
            for payload in [payload, rewritten] {
                let read = read_event(event.event_type(), &payload);
                prop_assert_eq!(read.as_ref(), Some(&event));
            }
        }
    }

    #[test]
    fn responses_agree_with_prost(response in response(), id in text()) {
        let response = without_plain_text(response);
        let payload = write_answer(&response, PLAIN, &id);
        let by_prost = by_prost::response(&payload).unwrap();
        prop_assert_eq!(by_prost.message, (id.clone(), response.clone()));
        let rewritten = proto::AgentToProxy::decode(&payload[..]).unwrap().encode_to_vec();
        let expected = Some((Some(id).filter(|id| !id.is_empty()), response.clone()));
        prop_assert_eq!(&read_answer(&payload), &expected);
        prop_assert_eq!(&read_answer(&rewritten), &expected);
        let on_stream = write_answer(&response, EXTENDED, "not written");
        prop_assert_eq!(stream_id(&on_stream), Some(STREAM_ID));
        prop_assert_eq!(read_answer(&on_stream), Some((None, response)));
    }

    #[test]
    fn damaged_message_is_an_error(
        event in event(),
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let whole = event.payload(EXTENDED);
        let cut = &whole[..cut.index(whole.len())];
        prop_assert_eq!(read_event(event.event_type(), cut), None);
        let mut flipped = whole;
        let at = flip.0.index(flipped.len());
        flipped[at] ^= flip.1;
        for event_type in EventType::ALL {
            let _ = read_event(event_type, &flipped);
        }
        let _ = (message_types(&flipped), stream_id(&flipped));
        let _ = read_answer(&flipped);
    }

    #[test]
    fn garbage_does_not_panic(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        for event_type in EventType::ALL {
            let _ = read_event(event_type, &garbage);
        }
        let _ = read_answer(&garbage);
        for kind in [SetupKind::HandshakeRequest, SetupKind::HandshakeResponse] {
            let _ = Setup::decode(kind, &[Encoding::Protobuf], &garbage);
        }
        let _ = HealthStatus::decode(&garbage.into(), Encoding::Protobuf);
    }
}

#[test]
fn timestamp_in_milliseconds_becomes_text() {
    let message = proto::ProxyToAgent {
        message: Some(proto::proxy_to_agent::Message::RequestHeaders(
            proto::RequestHeadersEvent {
                metadata: Some(proto::RequestMetadata {
                    timestamp_ms: 951_825_600_000,
                    ..Default::default()
                }),
                ..Default::default()
            },
        )),
        stream_id: None,
    };
    let read = read_event(EventType::RequestHeaders, &message.encode_to_vec());
    let Some(OwnedEvent::RequestHeaders(event)) = read else {
        panic!("{read:?}");
    };
    assert_eq!(event.metadata.timestamp, "2000-02-29T12:00:00.000Z");
}

#[test]
fn answer_without_decision_is_an_error() {
    let message = proto::AgentToProxy {
        message: Some(proto::agent_to_proxy::Message::Response(
            proto::AgentResponse {
                correlation_id: "a".to_owned(),
                ..Default::default()
            },
        )),
        stream_id: None,
    };
    let payload = message.encode_to_vec();
    let undecodable = decode_answer(Encoding::Protobuf, &payload).unwrap_err();
    assert_eq!(undecodable.correlation_id.as_deref(), Some("a"));
}

#[test]
fn answer_with_two_decisions_is_an_error() {
    let allow = write_answer(&AgentResponse::default_allow(), PLAIN, "a");
    let twice = [&allow[..], &allow].concat();
    assert_eq!(read_answer(&twice), None);
}

/// Protobuf merges repeated messages. A decoder that does not must reject them, rather than use one
/// of them alone.
#[test]
fn repeated_nested_message_is_an_error() {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }
    let metadata = field(1, &field(1, b"a"));
    let once = field(2, &metadata);
    assert!(read_event(EventType::RequestHeaders, &once).is_some());
    let twice = field(2, &metadata.repeat(2));
    assert_eq!(read_event(EventType::RequestHeaders, &twice), None);
    for (number, content) in [
        (&b"\x62"[..], &b"\x0a\x01t"[..]),
        (b"\xca\x3e", b"\x10\x01"),
        (b"\xd2\x3e", b"\x10\x01"),
        (b"\xda\x3e", b"\x0a\x00"),
    ] {
        let part = [number, &[content.len() as u8], content].concat();
        let answer = |parts: usize| {
            let allow = field(2, b"");
            field(2, &[allow, part.repeat(parts)].concat())
        };
        assert!(read_answer(&answer(1)).is_some());
        assert_eq!(read_answer(&answer(2)), None, "{part:?}");
    }
}

#[test]
fn envelope_with_two_stream_ids_is_an_error() {
    let answer = write_answer(&AgentResponse::default_allow(), EXTENDED, "a");
    assert!(read_answer(&answer).is_some());
    let (stream, _) = answer.split_at(10);
    assert_eq!(read_answer(&[stream, &answer].concat()), None);
}

/// The correlation id has a field of its own. Agents that repeat it in the audit metadata do not
/// mean it as audit data.
#[test]
fn correlation_id_is_removed_from_audit() {
    let custom = [("correlation_id", "\"a\""), ("k", "1")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let message = proto::AgentToProxy {
        message: Some(proto::agent_to_proxy::Message::Response(
            proto::AgentResponse {
                decision: Some(proto::agent_response::Decision::Allow(
                    proto::AllowDecision {},
                )),
                audit: Some(proto::AuditMetadata {
                    custom: custom.into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        )),
        stream_id: None,
    };
    let (_, response) = read_answer(&message.encode_to_vec()).unwrap();
    let custom: Vec<_> = response.audit.custom.into_iter().collect();
    assert_eq!(custom, [("k".to_owned(), 1.into())]);
}

#[test]
fn handshakes_round_trip() {
    let request = proto::HandshakeRequest {
        supported_versions: vec![2],
        proxy_id: "p".to_owned(),
        proxy_version: "1".to_owned(),
        config_json: "{\"a\":1}".to_owned(),
        tollgate_versions: vec![1],
    };
    let response = proto::HandshakeResponse {
        protocol_version: 2,
        capabilities: Some(proto::AgentCapabilities {
            protocol_version: 2,
            agent_id: "a".to_owned(),
            name: "A".to_owned(),
            version: "1".to_owned(),
            supported_events: vec![1, 8],
            features: Some(proto::AgentFeatures {
                streaming_body: true,
                concurrent_requests: 7,
                ..Default::default()
            }),
            limits: Some(proto::AgentLimits {
                max_body_size: 1,
                max_concurrency: 2,
                preferred_chunk_size: 3,
                ..Default::default()
            }),
            health_config: None,
        }),
        success: true,
        error: None,
        tollgate_version: Some(1),
    };
    let rewritten = |kind, message: &[u8]| {
        let only = &[Encoding::Protobuf];
        Setup::decode(kind, only, message).unwrap().encode(only)
    };
    let envelope = proto::ProxyToAgent {
        message: Some(proto::proxy_to_agent::Message::Handshake(request)),
        stream_id: None,
    };
    let written = envelope.encode_to_vec();
    let read = rewritten(SetupKind::HandshakeRequest, &written);
    assert_eq!(proto::ProxyToAgent::decode(&read[..]), Ok(envelope));
    let envelope = proto::AgentToProxy {
        message: Some(proto::agent_to_proxy::Message::Handshake(response)),
        stream_id: None,
    };
    let written = envelope.encode_to_vec();
    let read = rewritten(SetupKind::HandshakeResponse, &written);
    assert_eq!(proto::AgentToProxy::decode(&read[..]), Ok(envelope));
}

fn encode(message: &impl Control) -> Bytes {
    message.encode(Encoding::Protobuf).into()
}

fn assert_round_trip<M: Control + PartialEq + Debug>(message: &M) {
    let read = M::decode(&encode(message), Encoding::Protobuf);
    assert_eq!(read.as_ref(), Ok(message));
}

#[test]
fn control_messages_round_trip() {
    let mut status = HealthStatus::degraded("waf", vec!["ml".into()], 2.5);
    status.load = Some(LoadMetrics {
        in_flight: 3,
        p99_latency_ms: 1.5,
        ..LoadMetrics::default()
    });
    status.resources = Some(ResourceMetrics {
        cpu_percent: Some(0.0),
        ..ResourceMetrics::default()
    });
    let unhealthy = HealthStatus::unhealthy("waf", "no rules", true);
    let draining = HealthStatus::new("waf", HealthState::Draining { eta_ms: Some(5) });
    for status in [status, unhealthy, draining, HealthStatus::healthy("waf")] {
        let payload = encode(&status);
        assert_eq!(message_types(&payload)[1], 0x30);
        assert_round_trip(&status);
    }
    for action in [
        FlowControlAction::Pause,
        FlowControlAction::Resume,
        FlowControlAction::UpdateCapacity {
            buffer_available: 7,
        },
    ] {
        let mut flow = FlowControl::for_all(action);
        for correlation_id in [None, Some("a".to_owned())] {
            flow.correlation_id = correlation_id;
            assert_round_trip(&flow);
        }
    }
    let cancel = encode_cancel("a", CancelReason::ClientDisconnect, Encoding::Protobuf);
    let cancel = decode_cancel(&cancel.into(), Encoding::Protobuf).unwrap();
    assert_eq!(cancel.reason, CancelReason::ClientDisconnect);
    let pong = pong(&encode_ping(7, Encoding::Protobuf), Encoding::Protobuf).unwrap();
    let pong = decode_pong(&pong.into(), Encoding::Protobuf).unwrap();
    assert_eq!(pong.sequence, 7);
}

#[test]
fn metrics_reports_round_trip() {
    let mut report = MetricsReport::new("waf", 1000);
    report.counters.push(CounterMetric::new("c", 3));
    report.gauges.push(GaugeMetric::new("g", -1.5));
    report.histograms.push(HistogramMetric {
        name: "h".to_owned(),
        help: Some("help".to_owned()),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        sum: 0.3,
        count: 1,
        buckets: vec![HistogramBucket::new(0.1), HistogramBucket::infinity()],
    });
    assert_round_trip(&report);
}

#[test]
fn config_update_requests_round_trip() {
    let rule = RuleDefinition {
        id: "r".to_owned(),
        priority: -1,
        definition: serde_json::json!({"a": [1, 2.5, null]}),
        enabled: true,
        description: None,
        tags: vec!["t".to_owned()],
    };
    for update_type in [
        ConfigUpdateType::RequestReload,
        ConfigUpdateType::RuleUpdate {
            rule_set: "s".to_owned(),
            rules: vec![rule],
            remove_rules: vec!["x".to_owned()],
        },
        ConfigUpdateType::ListUpdate {
            list_id: "l".to_owned(),
            add: vec!["a".to_owned()],
            remove: Vec::new(),
        },
        ConfigUpdateType::RestartRequired {
            reason: "r".to_owned(),
            grace_period_ms: 5,
        },
        ConfigUpdateType::ConfigError {
            error: "e".to_owned(),
            field: Some("f".to_owned()),
        },
    ] {
        let request = ConfigUpdateRequest {
            update_type,
            request_id: "1".to_owned(),
            timestamp_ms: 2,
        };
        assert_round_trip(&request);
    }
}
