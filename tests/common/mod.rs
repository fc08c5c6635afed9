//! Shared parts of the integration tests: events with every field set, an agent that decides by the
//! event, and raw peers that can send anything.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses some of it, and a failure here fails the test"
)]

mod agent;
#[macro_use]
mod calls;
#[cfg(feature = "grpc")]
pub mod http2;
mod log;
pub mod message;
mod process;
#[cfg(feature = "grpc")]
pub mod proto;
mod raw;
mod reverse;
mod usage;
mod virtual_time;

#[cfg(feature = "grpc")]
pub use agent::serve_grpc;
pub use agent::{
    RuleAgent, ServedAgent, WaitingAgent, serve, serve_at, serve_for, serve_handler,
    serve_on_thread, serve_with,
};
pub use calls::{
    Call, CallResult, HonestCalls, SOON, answer_with_numbers, arrived, call, calls_made,
    connection_number, expect_decides, expect_works, faults, raw_pool, raw_pool_of, raw_pool_with,
    result_of, status_of,
};
pub use log::{LINES_AT_ONCE, Recorder};
pub use process::{
    AgentProcess, echoed, run_agent_process, run_agent_process_serving, run_agent_process_with,
};
pub use raw::{
    RawAgent, RawConnection, accept_handshake, allowing, blocking, encode, frame, offer_handshake,
};

pub use reverse::{DialingAgent, Proxy, dial, dial_with, registration};
pub use usage::{MemoryGrowth, descriptors, virtual_memory};
pub use virtual_time::in_virtual_time;

use std::collections::HashMap;
use std::time::Duration;
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, Encoding, RequestHeadersEvent,
    events::{Configure, RequestMetadata},
};

/// Longer than any operation in the tests takes.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Encodings on Unix sockets.
pub const BOTH: [Encoding; 2] = [Encoding::MessagePack, Encoding::Json];

/// Every encoding, with the transport that it implies: see [`serve_for`].
#[cfg(feature = "grpc")]
pub const ALL: [Encoding; 3] = [Encoding::MessagePack, Encoding::Json, Encoding::Protobuf];
#[cfg(not(feature = "grpc"))]
pub const ALL: [Encoding; 2] = BOTH;

pub fn metadata(correlation_id: &str) -> RequestMetadata {
    RequestMetadata {
        correlation_id: correlation_id.to_owned(),
        request_id: "r-1".to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        client_port: 54321,
        server_name: Some("example.com".to_owned()),
        protocol: "HTTP/1.1".to_owned(),
        tls_version: Some("TLSv1.3".to_owned()),
        tls_cipher: Some("TLS_AES_128_GCM_SHA256".to_owned()),
        route_id: Some("route".to_owned()),
        upstream_id: None,
        timestamp: "2026-01-02T03:04:05Z".to_owned(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    }
}

pub fn request(correlation_id: &str, uri: &str) -> RequestHeadersEvent {
    RequestHeadersEvent {
        metadata: metadata(correlation_id),
        method: "GET".to_owned(),
        uri: uri.to_owned(),
        headers: HashMap::from([
            ("host".to_owned(), vec!["example.com".to_owned()]),
            (
                "accept".to_owned(),
                vec!["text/html".to_owned(), "*/*".to_owned()],
            ),
            (
                "x-quote".to_owned(),
                vec!["\"quoted\\\" \u{1F980}\n".to_owned()],
            ),
            ("x-empty".to_owned(), vec![]),
        ]),
    }
}

/// Returns an event that carries settings, which must be an object.
pub fn configure(correlation_id: &str, settings: serde_json::Value) -> Configure<'_> {
    Configure {
        correlation_id,
        settings: settings.as_object().unwrap().clone(),
    }
}

/// Returns a configuration with one connection, which stays in use whatever happens to its calls.
pub fn config(encoding: Encoding) -> AgentPoolConfig {
    AgentPoolConfig::default()
        .max_consecutive_errors(u32::MAX)
        .circuit_breaker_threshold(0)
        .connections_per_agent(1)
        .request_timeout(TEST_TIMEOUT)
        .encodings(vec![encoding])
}

/// Connects a pool to the agent at `path`, under the name "agent".
pub async fn pool_with(config: AgentPoolConfig, path: &std::path::Path) -> AgentPool {
    let pool = AgentPool::with_config(config);
    pool.add(AgentConfig::new("agent", path.to_str().unwrap()))
        .await
        .unwrap();
    pool
}

/// Returns the names of a pool's agents, in order.
pub fn agent_ids(pool: &AgentPool) -> Vec<String> {
    let mut ids: Vec<_> = pool
        .agents()
        .iter()
        .map(|agent| agent.id().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Returns the number of pinned correlation ids.
pub fn pins(pool: &AgentPool) -> u64 {
    pool.metrics().snapshot().correlation_affinities
}

/// Waits until a condition holds. Checks it every millisecond, up to [`TEST_TIMEOUT`].
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let checked = tokio::time::timeout(TEST_TIMEOUT, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(checked.await.is_ok(), "never happened: {what}");
}
