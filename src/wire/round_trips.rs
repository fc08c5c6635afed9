//! What is written reads back the same, and other implementations read it too.

use super::events::encode_event;
use super::response::{AnswerTo, decode_answer, encode_response};
use super::{Address, Dialect, Encoding, IncomingEvent, JsonTape, Payload, StreamId};
use crate::protocol::events::{
    RequestBodyChunkEvent, RequestHeadersEvent, RequestMetadata, ResponseHeadersEvent,
};
use crate::protocol::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, EventType, HeaderOp, WebSocketDecision,
};
use crate::wire::Event;
use bytes::Bytes;
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn payload_of<E: Event>(event: &E, correlation_id: &str, encoding: Encoding) -> Vec<u8> {
    let address = Address {
        correlation_id,
        stream: StreamId(0),
    };
    let mut frame = Vec::new();
    encode_event(event, address, Dialect::published(encoding), &mut frame).unwrap();
    frame.split_off(5)
}

/// Decodes an event and makes it what `own` says.
fn decoded<T>(
    event_type: EventType,
    encoding: Encoding,
    mut payload: Vec<u8>,
    own: impl FnOnce(IncomingEvent<'_>) -> T,
) -> T {
    match encoding {
        Encoding::Json => {
            let mut tape = JsonTape::default();
            let document = tape.open(&mut payload).unwrap();
            own(IncomingEvent::from_json(event_type, &document).unwrap())
        }
        Encoding::MessagePack => {
            let payload = Bytes::from(payload);
            own(IncomingEvent::from_msgpack(event_type, &payload).unwrap())
        }
    }
}

/// What serde makes of a payload.
fn read_by_serde<T: DeserializeOwned>(encoding: Encoding, payload: &[u8]) -> T {
    match encoding {
        Encoding::Json => serde_json::from_slice(payload).unwrap(),
        Encoding::MessagePack => rmp_serde::from_slice(payload).unwrap(),
    }
}

fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn headers() -> impl Strategy<Value = std::collections::HashMap<String, Vec<String>>> {
    hash_map(text(), vec(text(), 0..4), 0..40)
}

fn request_metadata() -> impl Strategy<Value = RequestMetadata> {
    let required = (text(), text(), text(), any::<u16>(), text(), text());
    let optional = vec(option::of(text()), 6);
    (required, optional).prop_map(|(required, mut optional)| {
        let (correlation_id, request_id, client_ip, client_port, protocol, timestamp) = required;
        let mut next = || optional.pop().flatten();
        RequestMetadata {
            correlation_id,
            request_id,
            client_ip,
            client_port,
            server_name: next(),
            protocol,
            tls_version: next(),
            tls_cipher: next(),
            route_id: next(),
            upstream_id: next(),
            timestamp,
            traceparent: next(),
        }
    })
}

fn request_headers() -> impl Strategy<Value = RequestHeadersEvent> {
    (request_metadata(), text(), text(), headers()).prop_map(|(metadata, method, uri, headers)| {
        RequestHeadersEvent {
            metadata,
            method,
            uri,
            headers,
        }
    })
}

fn decision() -> impl Strategy<Value = Decision> {
    let map = || hash_map(text(), text(), 0..4);
    prop_oneof![
        Just(Decision::Allow),
        (any::<u16>(), option::of(text()), option::of(map())).prop_map(
            |(status, body, headers)| Decision::Block {
                status,
                body,
                headers
            }
        ),
        (text(), any::<u16>()).prop_map(|(url, status)| Decision::Redirect { url, status }),
        (text(), map()).prop_map(|(challenge_type, params)| Decision::Challenge {
            challenge_type,
            params
        }),
    ]
}

fn header_op() -> impl Strategy<Value = HeaderOp> {
    prop_oneof![
        (text(), text()).prop_map(|(name, value)| HeaderOp::Set { name, value }),
        (text(), text()).prop_map(|(name, value)| HeaderOp::Add { name, value }),
        text().prop_map(|name| HeaderOp::Remove { name }),
    ]
}

fn mutation() -> impl Strategy<Value = BodyMutation> {
    (option::of(vec(any::<u8>(), 0..50)), any::<u32>()).prop_map(|(data, chunk_index)| {
        BodyMutation {
            data: data.map(Bytes::from),
            chunk_index,
        }
    })
}

fn custom_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // serde_json reads other fractions with an error in the last digit.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn audit() -> impl Strategy<Value = AuditMetadata> {
    let list = || vec(text(), 0..3);
    let custom = hash_map(text(), custom_value(), 0..4);
    (list(), list(), option::of(0.0..1.0_f32), list(), custom).prop_map(
        |(tags, rule_ids, confidence, reason_codes, mut custom)| {
            custom.remove("correlation_id");
            AuditMetadata {
                tags,
                rule_ids,
                confidence,
                reason_codes,
                custom,
            }
        },
    )
}

fn websocket_decision() -> impl Strategy<Value = WebSocketDecision> {
    prop_oneof![
        Just(WebSocketDecision::Allow),
        Just(WebSocketDecision::Drop),
        (any::<u16>(), text()).prop_map(|(code, reason)| WebSocketDecision::Close { code, reason }),
    ]
}

fn response() -> impl Strategy<Value = AgentResponse> {
    let ops = || vec(header_op(), 0..4);
    let routing = hash_map(text(), text(), 0..3);
    let mutations = (option::of(mutation()), option::of(mutation()));
    let rest = (
        audit(),
        any::<bool>(),
        mutations,
        option::of(websocket_decision()),
    );
    (decision(), ops(), ops(), routing, rest).prop_map(
        |(decision, request_headers, response_headers, routing_metadata, rest)| {
            let (audit, needs_more, mutations, websocket_decision) = rest;
            AgentResponse {
                request_headers,
                response_headers,
                routing_metadata,
                audit,
                needs_more,
                request_body_mutation: mutations.0,
                response_body_mutation: mutations.1,
                websocket_decision,
                ..AgentResponse::decided(decision)
            }
        },
    )
}

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

proptest! {
    #[test]
    fn request_headers_read_back(event in request_headers()) {
        for encoding in BOTH {
            let payload = payload_of(&event, &event.metadata.correlation_id, encoding);
            prop_assert_eq!(&read_by_serde::<RequestHeadersEvent>(encoding, &payload), &event);
            let read = decoded(EventType::RequestHeaders, encoding, payload, |read| match read {
                IncomingEvent::RequestHeaders(read) => read.to_event(),
                other => panic!("{other:?}"),
            });
            prop_assert_eq!(&read, &event);
        }
    }

    #[test]
    fn response_headers_read_back(id in text(), status: u16, headers in headers()) {
        let event = ResponseHeadersEvent { correlation_id: id, status, headers };
        for encoding in BOTH {
            let payload = payload_of(&event, &event.correlation_id, encoding);
            prop_assert_eq!(&read_by_serde::<ResponseHeadersEvent>(encoding, &payload), &event);
            let read = decoded(EventType::ResponseHeaders, encoding, payload, |read| match read {
                IncomingEvent::ResponseHeaders(read) => read.to_event(),
                other => panic!("{other:?}"),
            });
            prop_assert_eq!(&read, &event);
        }
    }

    #[test]
    fn chunks_read_back(
        id in text(),
        data in vec(any::<u8>(), 0..300),
        index: u32,
        is_last: bool,
        size in option::of(any::<usize>()),
    ) {
        let mut event = RequestBodyChunkEvent::new(id, data, index, is_last);
        event.total_size = size;
        for encoding in BOTH {
            let payload = payload_of(&event, &event.correlation_id, encoding);
            prop_assert_eq!(&read_by_serde::<RequestBodyChunkEvent>(encoding, &payload), &event);
            let read = decoded(EventType::RequestBodyChunk, encoding, payload, |read| match read {
                IncomingEvent::RequestBodyChunk(read) => read.to_request_event(),
                other => panic!("{other:?}"),
            });
            prop_assert_eq!(&read, &event);
        }
    }

    #[test]
    fn responses_read_back(response in response(), id in text()) {
        for encoding in BOTH {
            let mut frame = Vec::new();
            let to = AnswerTo::CorrelationId(&id);
            encode_response(&response, to, Dialect::published(encoding), &mut frame).unwrap();
            let mut payload = frame.split_off(5);
            let mut by_serde: AgentResponse = read_by_serde(encoding, &payload);
            let serde_id = by_serde.audit.custom.remove("correlation_id");
            prop_assert_eq!(serde_id, Some(Value::from(id.clone())));
            prop_assert_eq!(&by_serde, &response);

            let bytes = Bytes::copy_from_slice(&payload);
            let mut tape = JsonTape::default();
            let payload = match encoding {
                Encoding::Json => Payload::Json(&mut payload, &mut tape),
                Encoding::MessagePack => Payload::MessagePack(&bytes),
            };
            let (read_id, read) = decode_answer(payload, |answer| {
                (answer.correlation_id.map(str::to_owned), answer.response)
            })
            .unwrap();
            prop_assert_eq!(&read_id, &Some(id.clone()));
            prop_assert_eq!(&read, &response);
        }
    }

    /// Any bytes at all are an error or a message; reading them never panics.
    #[test]
    fn garbage_is_survived(mut bytes in vec(any::<u8>(), 0..200)) {
        let payload = Bytes::from(bytes.clone());
        let mut tape = JsonTape::default();
        for event_type in EventType::ALL {
            let _ = IncomingEvent::from_msgpack(event_type, &payload);
            let mut json = bytes.clone();
            if let Ok(document) = tape.open(&mut json) {
                let _ = IncomingEvent::from_json(event_type, &document);
                tape.close(document);
            }
        }
        let _ = decode_answer(Payload::MessagePack(&payload), |_| ());
        let _ = decode_answer(Payload::Json(&mut bytes, &mut tape), |_| ());
    }
}
