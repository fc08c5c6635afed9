//! Messages that attackers and hostile agents send.

use serde_json::{Value, json};

pub(crate) const HANDSHAKE_REQUEST: u8 = 0x01;
pub(crate) const HANDSHAKE_RESPONSE: u8 = 0x02;
pub(crate) const REQUEST_HEADERS: u8 = 0x10;
pub(crate) const AGENT_RESPONSE: u8 = 0x20;
pub(crate) const HEALTH_STATUS: u8 = 0x30;
pub(crate) const METRICS_REPORT: u8 = 0x31;
pub(crate) const CONFIG_UPDATE_REQUEST: u8 = 0x32;
pub(crate) const FLOW_CONTROL: u8 = 0x33;
pub(crate) const CANCEL: u8 = 0x40;
pub(crate) const PING: u8 = 0x41;
pub(crate) const LOG: u8 = 0x63;

pub(crate) const MIB: usize = 1024 * 1024;

/// Returns all of a frame of 16 MiB, the largest, but its last byte.
pub(crate) fn half_frame(message: u8) -> Vec<u8> {
    let mut half = vec![b' '; 16 * MIB + 3];
    half[..4].copy_from_slice(&(16 * MIB as u32).to_be_bytes());
    half[4] = message;
    half
}

pub(crate) fn offer_handshake() -> Value {
    json!({
        "supported_versions": [2], "proxy_id": "attacker", "proxy_version": "0", "config": null,
        "supported_encodings": ["json"],
    })
}

/// Returns the handshake response of an agent, which uses the extension.
pub(crate) fn accept_handshake() -> Value {
    json!({
        "protocol_version": 2, "capabilities": capabilities("hostile"), "success": true,
        "error": null, "encoding": "json", "tollgate": {"version": 1},
    })
}

/// Returns the registration of an agent that dials.
pub(crate) fn registration(agent_id: &str) -> Value {
    json!({
        "protocol_version": 2, "agent_id": agent_id, "capabilities": capabilities(agent_id),
        "auth_token": null, "metadata": null,
    })
}

fn capabilities(agent_id: &str) -> Value {
    json!({
        "agent_id": agent_id, "name": "hostile", "version": "1",
        "supported_events": [1, 2, 3, 4, 5],
        "features": {
            "streaming_body": true, "websocket": true, "guardrails": true, "config_push": true,
            "metrics_export": true, "concurrent_requests": 100, "cancellation": true,
            "flow_control": true, "health_reporting": true,
        },
        "limits": {
            "max_body_size": 1_u64 << 40, "max_concurrency": 100, "preferred_chunk_size": 65_536,
        },
    })
}

/// Returns request headers with one header field.
pub(crate) fn request(id: &str, uri: &str, field: &str) -> Value {
    json!({
        "metadata": {
            "correlation_id": id, "request_id": id, "client_ip": "192.0.2.7", "client_port": 1,
            "protocol": "HTTP/1.1", "timestamp": "2026-01-02T03:04:05Z",
        },
        "method": "GET", "uri": uri, "headers": {"x": [field]},
    })
}

/// Returns an answer to this call.
pub(crate) fn allow(id: &str) -> Value {
    json!({"version": 2, "decision": "allow", "audit": {"custom": {"correlation_id": id}}})
}

/// Returns an answer that matches no call, with so many values.
pub(crate) fn allow_with_values(values: usize) -> String {
    let values = "0,".repeat(values);
    format!(
        r#"{{"version":2,"decision":"allow","audit":{{"custom":{{"correlation_id":"nobody","x":[{values}0]}}}}}}"#
    )
}

/// Returns a report with these counters.
pub(crate) fn report(counters: Vec<Value>) -> Value {
    json!({
        "agent_id": "a", "timestamp_ms": 1, "interval_ms": 1, "gauges": [], "histograms": [],
        "counters": counters,
    })
}

pub(crate) fn counter(name: &str) -> Value {
    json!({"name": name, "labels": {}, "value": 1})
}
