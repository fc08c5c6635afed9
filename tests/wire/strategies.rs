//! Proptest strategies for messages with arbitrary content.

use crate::owned_event::OwnedEvent;
use bytes::Bytes;
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use tollgate::events::{
    GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent, RequestMetadata, ResponseBodyChunkEvent, ResponseHeadersEvent,
    WebSocketFrameEvent, WebSocketOpcode,
};
use tollgate::response::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};

pub fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

pub fn headers() -> impl Strategy<Value = std::collections::HashMap<String, Vec<String>>> {
    hash_map(text(), vec(text(), 0..4), 0..40)
}

pub fn request_metadata() -> impl Strategy<Value = RequestMetadata> {
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

pub fn request_headers() -> impl Strategy<Value = RequestHeadersEvent> {
    (request_metadata(), text(), text(), headers()).prop_map(|(metadata, method, uri, headers)| {
        RequestHeadersEvent {
            metadata,
            method,
            uri,
            headers,
        }
    })
}

pub fn decision() -> impl Strategy<Value = Decision> {
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

pub fn header_op() -> impl Strategy<Value = HeaderOp> {
    prop_oneof![
        (text(), text()).prop_map(|(name, value)| HeaderOp::Set { name, value }),
        (text(), text()).prop_map(|(name, value)| HeaderOp::Add { name, value }),
        text().prop_map(|name| HeaderOp::Remove { name }),
    ]
}

pub fn mutation() -> impl Strategy<Value = BodyMutation> {
    let bytes = option::of(vec(any::<u8>(), 0..50));
    let bytes = (bytes, any::<u32>()).prop_map(|(data, index)| match data {
        Some(data) => BodyMutation::replace(index, data),
        None => BodyMutation::pass_through(index),
    });
    let texts = (text(), any::<u32>()).prop_map(|(text, at)| BodyMutation::from_text(at, &text));
    prop_oneof![bytes, texts]
}

pub fn custom_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Only multiples of 1/8, since serde_json may read other fractions with an error in the
        // last digit.
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

pub fn audit() -> impl Strategy<Value = AuditMetadata> {
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

pub fn websocket_decision() -> impl Strategy<Value = WebSocketDecision> {
    prop_oneof![
        Just(WebSocketDecision::Allow),
        Just(WebSocketDecision::Drop),
        (any::<u16>(), text()).prop_map(|(code, reason)| WebSocketDecision::Close { code, reason }),
    ]
}

pub fn response() -> impl Strategy<Value = AgentResponse> {
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

fn body() -> impl Strategy<Value = Bytes> {
    // Some of these are so large that they are not copied.
    vec(any::<u8>(), 0..600).prop_map(Bytes::from)
}

fn request_chunk() -> impl Strategy<Value = RequestBodyChunkEvent> {
    let size = option::of(any::<usize>());
    (
        text(),
        body(),
        any::<u32>(),
        any::<bool>(),
        size,
        any::<usize>(),
    )
        .prop_map(
            |(correlation_id, data, chunk_index, is_last, total_size, bytes_received)| {
                RequestBodyChunkEvent {
                    correlation_id,
                    data,
                    is_last,
                    total_size,
                    chunk_index,
                    bytes_received,
                }
            },
        )
}

fn response_chunk() -> impl Strategy<Value = ResponseBodyChunkEvent> {
    request_chunk().prop_map(|chunk| ResponseBodyChunkEvent {
        correlation_id: chunk.correlation_id,
        data: chunk.data,
        is_last: chunk.is_last,
        total_size: chunk.total_size,
        chunk_index: chunk.chunk_index,
        bytes_sent: chunk.bytes_received,
    })
}

fn response_headers() -> impl Strategy<Value = ResponseHeadersEvent> {
    (text(), any::<u16>(), headers()).prop_map(|(correlation_id, status, headers)| {
        ResponseHeadersEvent {
            correlation_id,
            status,
            headers,
        }
    })
}

fn complete() -> impl Strategy<Value = RequestCompleteEvent> {
    let counts = (any::<u64>(), any::<usize>(), any::<usize>(), any::<u32>());
    (text(), any::<u16>(), counts, option::of(text())).prop_map(
        |(correlation_id, status, counts, error)| RequestCompleteEvent {
            correlation_id,
            status,
            duration_ms: counts.0,
            request_body_size: counts.1,
            response_body_size: counts.2,
            upstream_attempts: counts.3,
            error,
        },
    )
}

fn websocket_frame() -> impl Strategy<Value = WebSocketFrameEvent> {
    let opcode = prop::sample::select(vec![
        WebSocketOpcode::Continuation,
        WebSocketOpcode::Text,
        WebSocketOpcode::Binary,
        WebSocketOpcode::Close,
        WebSocketOpcode::Ping,
        WebSocketOpcode::Pong,
    ]);
    let flags = (any::<bool>(), any::<bool>());
    let rest = (any::<u64>(), option::of(text()), text());
    (text(), opcode, body(), flags, rest).prop_map(|(correlation_id, opcode, data, flags, rest)| {
        WebSocketFrameEvent {
            correlation_id,
            opcode,
            data,
            client_to_server: flags.0,
            frame_index: rest.0,
            fin: flags.1,
            route_id: rest.1,
            client_ip: rest.2,
        }
    })
}

fn guardrail() -> impl Strategy<Value = GuardrailInspectEvent> {
    let inspection_type = prop_oneof![
        Just(GuardrailInspectionType::PromptInjection),
        Just(GuardrailInspectionType::PiiDetection),
    ];
    let optional = (option::of(text()), option::of(text()));
    let rest = (vec(text(), 0..5), hash_map(text(), text(), 0..5));
    (text(), inspection_type, text(), optional, rest).prop_map(
        |(correlation_id, inspection_type, content, optional, rest)| GuardrailInspectEvent {
            correlation_id,
            inspection_type,
            content,
            model: optional.0,
            categories: rest.0,
            route_id: optional.1,
            metadata: rest.1,
        },
    )
}

fn configure() -> impl Strategy<Value = OwnedEvent> {
    (text(), vec((text(), custom_value()), 0..5)).prop_map(|(correlation_id, settings)| {
        let mut settings: serde_json::Map<_, _> = settings.into_iter().collect();
        settings.remove("correlation_id");
        OwnedEvent::Configure(correlation_id, settings)
    })
}

/// Generates events of all kinds.
pub fn event() -> impl Strategy<Value = OwnedEvent> {
    prop_oneof![
        request_headers().prop_map(OwnedEvent::RequestHeaders),
        request_chunk().prop_map(OwnedEvent::RequestBodyChunk),
        response_headers().prop_map(OwnedEvent::ResponseHeaders),
        response_chunk().prop_map(OwnedEvent::ResponseBodyChunk),
        complete().prop_map(OwnedEvent::RequestComplete),
        websocket_frame().prop_map(OwnedEvent::WebSocketFrame),
        guardrail().prop_map(OwnedEvent::GuardrailInspect),
        configure(),
    ]
}
