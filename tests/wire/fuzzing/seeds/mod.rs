//! Valid messages that the fuzz tests start from.

#[cfg(feature = "codings")]
mod bodies;
pub mod protobuf;

use super::input::Input;
use super::read_event;
use crate::owned_event::{Encoded, OwnedEvent, STREAM_ID, call};
use crate::reshaped::write_long;
#[cfg(feature = "codings")]
pub use bodies::bodies;
use rmpv::ext::to_value;
use serde_json::{Value, json};
use tollgate::bench::Control;
use tollgate::codec::Codec;
use tollgate::control::{HealthStatus, MetricsReport};
use tollgate::{AgentResponse, Encoding, EventType};

/// Returns streams of several complete frames.
pub fn streams() -> Vec<Input> {
    let mut stream = Vec::new();
    for payload in [&b"{}"[..], &[0; 3000], b""] {
        stream.extend((payload.len() as u32 + 1).to_be_bytes());
        stream.push(0x41);
        stream.extend_from_slice(payload);
    }
    (0..8).map(|choice| input(choice, stream.clone())).collect()
}

pub fn handshakes() -> Vec<Input> {
    let capabilities = json!({"agent_id": "a", "name": "A", "version": "1", "supported_events": [8],
        "features": {"streaming_body": true, "concurrent_requests": 3},
        "limits": {"max_body_size": 1, "max_concurrency": 2, "preferred_chunk_size": 3}});
    [
        json!({"supported_versions": [2], "proxy_id": "p", "proxy_version": "1",
            "config": {"a": [1, 2.5, null, "x"]}, "supported_encodings": ["msgpack", "json"],
            "tollgate": {"versions": [1]}}),
        json!({"protocol_version": 2, "capabilities": capabilities, "success": true,
            "error": null, "encoding": "msgpack", "tollgate": {"version": 1}}),
        json!({"protocol_version": 2, "capabilities": capabilities, "success": false,
            "error": "no", "encoding": "json"}),
    ]
    .map(|value| input(0, value.to_string().into_bytes()))
    .into()
}

pub fn registrations() -> Vec<Input> {
    let capabilities = json!({
        "agent_id": "a", "name": "A", "version": "1", "supported_events": [1]});
    [
        json!({"protocol_version": 2, "agent_id": "a", "capabilities": capabilities,
            "auth_token": "token", "metadata": null,
            "tollgate": {"versions": [1], "encodings": ["msgpack", "json"]}}),
        json!({"protocol_version": 2, "agent_id": "a", "auth_token": null,
            "metadata": {"zone": [1, "b"]}, "capabilities": capabilities}),
        json!({"success": true, "error": null, "proxy_id": "p", "proxy_version": "1",
            "connection_id": "a-1", "tollgate": {"version": 1, "encoding": "msgpack"}}),
        json!({"success": false, "error": "rejected", "proxy_id": "", "proxy_version": "",
            "connection_id": ""}),
    ]
    .map(|value| input(0, value.to_string().into_bytes()))
    .into()
}

/// Returns every event as encoded by this crate and by serde. In MessagePack also as arrays, and
/// with bodies as bytes.
pub fn events(encoding: Encoding) -> Vec<Input> {
    let mut seeds = Vec::new();
    for (choice, (event_type, value)) in (0..).zip(event_values()) {
        let named = encoded(&value, encoding);
        let event = read_event(event_type, encoding, &named).expect("a seed decodes");
        seeds.push(input(choice, event.payload(Codec::zentinel(encoding))));
        seeds.push(input(choice, named));
        if encoding == Encoding::MessagePack {
            seeds.extend(positional(&event).map(|bytes| input(choice, bytes)));
            seeds.push(input(choice, with_bin(&value)));
        }
    }
    seeds
}

/// Returns every event in version 2 of the extension, also in the longest forms of MessagePack and
/// without its last item.
pub fn compact_events() -> Vec<Input> {
    let mut seeds = Vec::new();
    for (choice, (event_type, value)) in (0..).zip(event_values()) {
        let named = encoded(&value, Encoding::Json);
        let event = read_event(event_type, Encoding::Json, &named).expect("a seed decodes");
        seeds.extend(compact_forms(choice, event.payload(Codec::compact())));
    }
    // A header that is not UTF-8, as the value of a number and of a name.
    let values = b"\x94\xa1r\xcd\x01\xf4\x14\x82\x00\xc4\x01\xff\xa1x\x92\xc4\x00\xc4\x02\xc3\xa9";
    seeds.push(input(2, values.to_vec()));
    seeds
}

/// Returns every answer in version 2 of the extension, like [`compact_events`].
pub fn compact_responses() -> Vec<Input> {
    let mut seeds = Vec::new();
    for value in response_values() {
        let response: AgentResponse = serde_json::from_value(value).unwrap();
        let mut written = Encoded::answer(&response, Codec::compact(), call("")).joined();
        let payload = written.split_off(size_of_val(&STREAM_ID));
        seeds.extend(compact_forms(0, payload));
    }
    seeds
}

fn compact_forms(choice: u8, payload: Vec<u8>) -> [Input; 3] {
    let value = rmpv::decode::read_value(&mut &payload[..]).unwrap();
    let mut long = Vec::new();
    write_long(&value, &mut long);
    let mut shorter = Vec::new();
    let mut items = value.as_array().cloned().unwrap_or_default();
    items.pop();
    rmpv::encode::write_value(&mut shorter, &rmpv::Value::Array(items)).unwrap();
    [payload, long, shorter].map(|bytes| input(choice, bytes))
}

pub fn responses(encoding: Encoding) -> Vec<Input> {
    let mut seeds = Vec::new();
    for value in response_values() {
        seeds.push(input(0, encoded(&value, encoding)));
        if encoding == Encoding::MessagePack {
            let response: AgentResponse = serde_json::from_value(value.clone()).unwrap();
            seeds.push(input(0, rmp_serde::to_vec(&response).unwrap()));
            seeds.push(input(0, with_bin(&value)));
        }
    }
    seeds
}

pub fn control_messages() -> Vec<Input> {
    let values = [
        json!({"action": 1}),
        json!({"state": 3}),
        json!({"correlation_id": "a", "timestamp_ms": 1,
            "action": {"type": "update_capacity", "buffer_available": 7}}),
        json!({"correlation_id": "a", "reason": 3, "timestamp_ms": 1}),
        json!({"sequence": 1, "timestamp_ms": 2}),
        json!({"update_type": {"type": "request_reload"}, "request_id": "r", "timestamp_ms": 1}),
        json!({"request_id": "r", "accepted": false, "error": "e", "timestamp_ms": 1}),
        json!({"duration_ms": 1, "reason": "maintenance", "timestamp_ms": 1}),
        json!({"reason": "upgrade", "grace_period_ms": 1, "timestamp_ms": 1}),
        json!({"level": "warn", "message": "m", "correlation_id": "a", "fields": {"f": [1.5, null]},
            "timestamp_ms": 1}),
        json!({"agent_id": "a", "timestamp_ms": 1, "interval_ms": 2,
            "counters": [{"name": "n", "help": "h", "labels": {"l": "v"}, "value": 3}],
            "gauges": [{"name": "g", "labels": {}, "value": 2.5}, {"name": "nan", "value": null}],
            "histograms": [{"name": "h", "labels": {}, "sum": 1.5, "count": 2,
                "buckets": [{"le": 0.5, "count": 1}, {"le": "+Inf", "count": 2}]}]}),
    ];
    let health = HealthStatus::degraded("waf", vec!["ml".to_owned()], 2.5);
    let report = MetricsReport::new("waf", 1000);
    [Encoding::Json, Encoding::MessagePack]
        .into_iter()
        .flat_map(|encoding| {
            let ours = [health.encode(encoding), report.encode(encoding)];
            let values = values.each_ref().map(|value| encoded(value, encoding));
            values.into_iter().chain(ours)
        })
        .map(|bytes| input(0, bytes))
        .collect()
}

fn input(choice: u8, bytes: Vec<u8>) -> Input {
    Input { bytes, choice }
}

fn encoded(value: &Value, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => value.to_string().into_bytes(),
        Encoding::MessagePack => rmp_serde::to_vec_named(value).unwrap(),
        _ => unreachable!("protobuf cannot encode arbitrary values"),
    }
}

/// Encodes an event as an array, as `zentinel-agent-protocol` 0.6.11 does, if serde has such a
/// form.
fn positional(event: &OwnedEvent) -> Option<Vec<u8>> {
    match event {
        OwnedEvent::RequestHeaders(event) => rmp_serde::to_vec(event),
        OwnedEvent::RequestBodyChunk(event) => rmp_serde::to_vec(event),
        OwnedEvent::ResponseHeaders(event) => rmp_serde::to_vec(event),
        OwnedEvent::ResponseBodyChunk(event) => rmp_serde::to_vec(event),
        OwnedEvent::RequestComplete(event) => rmp_serde::to_vec(event),
        OwnedEvent::WebSocketFrame(event) => rmp_serde::to_vec(event),
        OwnedEvent::GuardrailInspect(event) => rmp_serde::to_vec(event),
        OwnedEvent::Configure(..) => return None,
    }
    .ok()
}

/// Encodes a message as MessagePack with bodies as bytes.
fn with_bin(value: &Value) -> Vec<u8> {
    let mut value = to_value(value).unwrap();
    make_bin(&mut value);
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &value).unwrap();
    out
}

fn make_bin(value: &mut rmpv::Value) {
    let rmpv::Value::Map(pairs) = value else {
        return;
    };
    for (key, value) in pairs {
        match value {
            rmpv::Value::String(_) if key.as_str() == Some("data") => {
                *value = rmpv::Value::Binary(b"\0\xff bytes".to_vec());
            }
            _ => make_bin(value),
        }
    }
}

/// Returns one event of each kind, at the index that is the choice for its type in
/// [`EventType::ALL`].
fn event_values() -> [(EventType, Value); 8] {
    [
        (
            EventType::RequestHeaders,
            json!({"metadata": {"correlation_id": "r-1", "request_id": "q", "client_ip": "::1",
                "client_port": 65535, "server_name": "h", "protocol": "HTTP/2", "tls_version": null,
                "tls_cipher": null, "route_id": "r", "upstream_id": null, "timestamp": "t",
                "traceparent": "00-1"}, "method": "GET", "uri": "/\u{1f980}?\"\\",
                "headers": {"host": ["h"], "accept": ["a", "b"], "x": []}}),
        ),
        (
            EventType::RequestBodyChunk,
            json!({"correlation_id": "r-1", "data": "AAEC/w==", "is_last": true,
                "total_size": 4, "chunk_index": 1, "bytes_received": 4}),
        ),
        (
            EventType::ResponseHeaders,
            json!({"correlation_id": "r-1", "status": 200, "headers": {"x": ["1", "2"]}}),
        ),
        (
            EventType::ResponseBodyChunk,
            json!({"correlation_id": "r-1", "data": "", "is_last": false, "total_size": null,
                "chunk_index": 4_294_967_295_u32, "bytes_sent": 0}),
        ),
        (
            EventType::RequestComplete,
            json!({"correlation_id": "r-1", "status": 499, "duration_ms": u64::MAX,
                "request_body_size": 1, "response_body_size": 2, "upstream_attempts": 3,
                "error": "e"}),
        ),
        (
            EventType::WebSocketFrame,
            json!({"correlation_id": "r-1", "opcode": "binary", "data": "/w==",
                "client_to_server": true, "frame_index": 9, "fin": false, "route_id": null,
                "client_ip": "192.0.2.1"}),
        ),
        (
            EventType::GuardrailInspect,
            json!({"correlation_id": "r-1", "inspection_type": "pii_detection", "content": "c",
                "model": "m", "categories": ["a"], "route_id": "r", "metadata": {"k": "v"}}),
        ),
        (
            EventType::Configure,
            json!({"correlation_id": "r-1", "config_version": "1",
                "config": {"a": [1, -2, 2.5, null, true, {"b": "c"}]}}),
        ),
    ]
}

fn response_values() -> [Value; 6] {
    let audit = json!({"tags": ["t"], "rule_ids": ["r"], "confidence": 0.75, "reason_codes": ["c"],
        "custom": {"correlation_id": "r-1", "k": [1, -2, 2.5, "x", null, {"a": true}]}});
    let answer = |decision: Value| json!({"version": 2, "decision": decision, "audit": audit});
    let mut full = answer(json!("allow"));
    for (field, value) in [
        (
            "request_headers",
            json!([{"set": {"name": "n", "value": "v"}}, {"remove": {"name": "n"}}]),
        ),
        (
            "response_headers",
            json!([{"add": {"name": "n", "value": "v"}}]),
        ),
        ("routing_metadata", json!({"pool": "canary"})),
        ("needs_more", json!(true)),
        (
            "request_body_mutation",
            json!({"data": "AP8=", "chunk_index": 3}),
        ),
        (
            "response_body_mutation",
            json!({"data": null, "chunk_index": 0}),
        ),
        (
            "websocket_decision",
            json!({"close": {"code": 4000, "reason": "r"}}),
        ),
    ] {
        full[field] = value;
    }
    let challenge = json!({"challenge_type": "captcha", "params": {"k": "v"}});
    [
        answer(json!("allow")),
        answer(json!({"block": {"status": 403, "body": "b", "headers": {"a": "b"}}})),
        answer(json!({"redirect": {"url": "u", "status": 302}})),
        answer(json!({"challenge": challenge})),
        json!({"version": 2, "decision": "allow"}),
        full,
    ]
}
