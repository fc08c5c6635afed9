//! Heap budget of a call over gRPC: both sides and HTTP/2 together.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    AgentServer, Decision, Metadata, RequestHeaders, RequestHeadersView,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Allocations that one call may make.
const BUDGET: u64 = 2;

const CALLS: u64 = 2_000;

struct Allowing;

impl AgentHandler for Allowing {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("allowing", "Allowing", "1")
    }

    async fn on_request_headers(&self, _: RequestHeadersView<'_>) -> AgentResponse {
        AgentResponse::default_allow()
    }
}

async fn ask(pool: &AgentPool, id: &str, calls: u64) {
    let event = RequestHeaders {
        metadata: Metadata {
            correlation_id: id,
            request_id: "r-1",
            client_ip: "192.0.2.7",
            timestamp: "2026-01-02T03:04:05Z",
            ..Metadata::default()
        },
        method: "GET",
        uri: "/",
        headers: &[("host", "example.com"), ("accept", "*/*")][..],
    };
    for _ in 0..calls {
        let answer = pool.agent("agent").unwrap().send(id, &event).await.unwrap();
        assert_eq!(answer.decision, Decision::Allow);
    }
}

async fn ask_at_once(pool: &AgentPool, callers: u64, calls: u64) {
    let ids: Vec<_> = (0..callers).map(|caller| format!("c-{caller}")).collect();
    let asking = ids.iter().map(|id| ask(pool, id, calls / callers));
    futures_util::future::join_all(asking).await;
}

#[tokio::test]
async fn call_stays_within_budget() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let bound = AgentServer::builder(Allowing)
        .listen("grpc://127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let endpoint = bound.endpoints().remove(0);
    tokio::spawn(bound.serve());
    let pool = AgentPool::with_config(AgentPoolConfig::default().connections_per_agent(1));
    pool.add(AgentConfig::new("agent", endpoint).require_connection())
        .await
        .unwrap();
    for callers in [1, 16] {
        ask_at_once(&pool, callers, CALLS).await;
        let before = dhat::HeapStats::get().total_blocks;
        ask_at_once(&pool, callers, CALLS).await;
        let allocated = dhat::HeapStats::get().total_blocks - before;
        println!("{callers} callers: {allocated} blocks for {CALLS} calls");
        assert!(allocated <= BUDGET * CALLS, "{callers}: {allocated}");
    }
}
