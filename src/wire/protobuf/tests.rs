//! Tests of the hand-written encoder and decoder against prost, in both directions.

use super::{Direction, by_prost, control, generated as proto, handshake, stream_id};
use crate::protocol::{
    AgentCapabilities, AgentResponse, CancelReason, ConfigUpdateRequest, ConfigUpdateType,
    CounterMetric, EventType, FlowControl, FlowControlAction, GaugeMetric, HealthState,
    HealthStatus, HistogramBucket, HistogramMetric, LoadMetrics, MetricsReport, ResourceMetrics,
    RuleDefinition,
};
use crate::wire::events::message_of;
use crate::wire::handshake::{HandshakeRequest, HandshakeResponse};
use crate::wire::owned_event::OwnedEvent;
use crate::wire::response::{AnswerTo, decode_answer, encode_answer};
use crate::wire::round_trips::strategies::{event, response, text};
use crate::wire::{Dialect, Encoding, Extension, MessageType, Payload, StreamId};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

const PLAIN: Dialect = Dialect::zentinel(Encoding::Protobuf);
const EXTENDED: Dialect = Dialect::new(Encoding::Protobuf, Some(Extension::V1));

fn read_event(event_type: EventType, payload: Vec<u8>) -> Option<OwnedEvent> {
    OwnedEvent::from_payload(event_type, Encoding::Protobuf, payload).ok()
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

fn write_answer(response: &AgentResponse, to: AnswerTo<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    let body = encode_answer(response, to, PLAIN, &mut frame).unwrap();
    [&frame[5..], &body[..]].concat()
}

fn read_answer(payload: Vec<u8>) -> Option<(Option<String>, AgentResponse)> {
    let payload = Bytes::from(payload);
    decode_answer(Payload::Protobuf(&payload), |answer| {
        (answer.correlation_id.map(str::to_owned), answer.response)
    })
    .ok()
}

proptest! {
    #[test]
    fn events_agree_with_prost(event in event()) {
        let event = without_empty_headers(event);
        for dialect in [PLAIN, EXTENDED] {
            let payload = event.payload(dialect);
            let message = Direction::ToAgent.message_type(&payload);
            prop_assert_eq!(message, Some(message_of(event.event_type())));
            let by_prost = by_prost::event(&payload).unwrap();
            prop_assert_eq!(by_prost.stream_id, dialect.has_streams().then_some(7));
            prop_assert_eq!(&by_prost.message, &event);
            let by_prost = proto::ProxyToAgent::decode(&payload[..]).unwrap();
            let rewritten = by_prost.encode_to_vec();
            if dialect.has_streams() {
                prop_assert_eq!(stream_id(&rewritten), Ok(StreamId(7)));
            }
            for payload in [payload, rewritten] {
                let read = read_event(event.event_type(), payload);
                prop_assert_eq!(read.as_ref(), Some(&event));
            }
        }
    }

    #[test]
    fn responses_agree_with_prost(response in response(), id in text()) {
        let payload = write_answer(&response, AnswerTo::CorrelationId(&id));
        let by_prost = by_prost::response(&payload).unwrap();
        prop_assert_eq!(by_prost.message, (id.clone(), response.clone()));
        let rewritten = proto::AgentToProxy::decode(&payload[..]).unwrap().encode_to_vec();
        let expected = Some((Some(id).filter(|id| !id.is_empty()), response.clone()));
        prop_assert_eq!(&read_answer(payload), &expected);
        prop_assert_eq!(&read_answer(rewritten), &expected);
        let on_stream = write_answer(&response, AnswerTo::Stream(StreamId(9)));
        prop_assert_eq!(stream_id(&on_stream), Ok(StreamId(9)));
        prop_assert_eq!(read_answer(on_stream), Some((None, response)));
    }

    #[test]
    fn damaged_message_is_an_error(
        event in event(),
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let whole = event.payload(EXTENDED);
        let cut = &whole[..cut.index(whole.len())];
        prop_assert_eq!(read_event(event.event_type(), cut.to_vec()), None);
        let mut flipped = whole;
        let at = flip.0.index(flipped.len());
        flipped[at] ^= flip.1;
        for event_type in EventType::ALL {
            let _ = read_event(event_type, flipped.clone());
        }
        let _ = (Direction::ToProxy.message_type(&flipped), stream_id(&flipped));
        let _ = read_answer(flipped);
    }

    #[test]
    fn garbage_does_not_panic(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        for event_type in EventType::ALL {
            let _ = read_event(event_type, garbage.clone());
        }
        let _ = read_answer(garbage.clone());
        let _ = control::decode_health(&garbage);
        let _ = handshake::decode_request(&garbage);
        let _ = handshake::decode_response(&garbage);
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
    let read = read_event(EventType::RequestHeaders, message.encode_to_vec());
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
    let payload = Bytes::from(message.encode_to_vec());
    let undecodable = decode_answer(Payload::Protobuf(&payload), |_| ()).unwrap_err();
    assert_eq!(undecodable.correlation_id.as_deref(), Some("a"));
}

#[test]
fn answer_with_two_decisions_is_an_error() {
    let allow = write_answer(
        &AgentResponse::default_allow(),
        AnswerTo::CorrelationId("a"),
    );
    let twice = [&allow[..], &allow].concat();
    assert_eq!(read_answer(twice), None);
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
    assert!(read_event(EventType::RequestHeaders, once).is_some());
    let twice = field(2, &metadata.repeat(2));
    assert_eq!(read_event(EventType::RequestHeaders, twice), None);
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
        assert!(read_answer(answer(1)).is_some());
        assert_eq!(read_answer(answer(2)), None, "{part:?}");
    }
}

#[test]
fn envelope_with_two_stream_ids_is_an_error() {
    let answer = write_answer(
        &AgentResponse::default_allow(),
        AnswerTo::Stream(StreamId(9)),
    );
    assert!(read_answer(answer.clone()).is_some());
    let (stream, _) = answer.split_at(10);
    assert_eq!(read_answer([stream, &answer].concat()), None);
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
    let (_, response) = read_answer(message.encode_to_vec()).unwrap();
    let custom: Vec<_> = response.audit.custom.into_iter().collect();
    assert_eq!(custom, [("k".to_owned(), 1.into())]);
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
        let payload = control::encode_health(&status);
        assert_eq!(
            Direction::ToProxy.message_type(&payload),
            Some(MessageType::HealthStatus)
        );
        assert_eq!(control::decode_health(&payload), Ok(status));
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
            let payload = control::encode_flow_control(&flow);
            assert_eq!(control::decode_flow_control(&payload), Ok(flow.clone()));
        }
    }
    let cancel = control::encode_cancel("a", CancelReason::ClientDisconnect);
    let cancel = control::decode_cancel(&cancel).unwrap();
    assert_eq!(cancel.reason, CancelReason::ClientDisconnect);
    let pong = control::pong(&control::encode_ping(7)).unwrap();
    assert_eq!(control::decode_pong(&pong).unwrap().sequence, 7);
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
    let payload = control::encode_metrics_report(&report);
    assert_eq!(control::decode_metrics_report(&payload), Ok(report));
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
        let payload = control::encode_config_update(&request);
        assert_eq!(control::decode_config_update(&payload), Ok(request));
    }
}

#[test]
fn handshakes_round_trip() {
    let only = &[Encoding::Protobuf];
    let request = HandshakeRequest::new("p", only, Some(Extension::V1));
    let read = HandshakeRequest::decode_for(only, &request.encode_for(only)).unwrap();
    assert_eq!(read, request);
    let dialect = read.negotiate(only);
    assert_eq!(dialect, EXTENDED);
    let capabilities = AgentCapabilities::new("a", "A", "1").with_event(EventType::Configure);
    let response = HandshakeResponse::accept(&capabilities, dialect);
    let read = HandshakeResponse::decode_for(only, &response.encode_for(only)).unwrap();
    assert_eq!(read, response);
}
