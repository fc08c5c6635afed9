//! What a call allocates on the proxy's side, with the agent in a process of its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::hint::black_box;
use support::common::AgentProcess;
use support::{
    AGENT, Answers, Budget, Counting, EVENTS, Flavour, HEADERS, Ids, Traffic, WARM_UP, config,
    record, request,
};
use tollgate::Encoding::{Json, MessagePack};
use tollgate::{AgentPool, AgentPoolConfig, Bytes, Encoding, RequestBodyChunkEvent};

/// What the other tests start as the process of their agent.
#[test]
#[ignore = "the other tests run it in a process of its own, as their agent"]
fn agent_process() {
    Answers::run_process();
}

/// A pool with one agent.
async fn connected(config: AgentPoolConfig) -> (AgentPool, AgentProcess, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
    let pool = AgentPool::with_config(config);
    let endpoint = agent.socket.display().to_string();
    pool.connect_agent(AGENT, endpoint).await.unwrap();
    (pool, agent, dir)
}

/// Puts traffic to an agent and holds what the proxy allocates against its budget.
fn hold(flavour: Flavour, encoding: Encoding, traffic: Traffic, budget: Budget) {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let (pool, _agent, _dir) = connected(config(encoding)).await;
        let mut ids = Ids::default();
        traffic.put(&pool, &mut ids, WARM_UP).await;
        let made = counting.during(traffic.put(&pool, &mut ids, EVENTS)).await;
        let what = format!("{traffic}, {encoding}");
        record(&what, "proxy", flavour, budget, made);
    });
}

// Each string of an answer, and each list or map, is one allocation; the answer itself is none. Of pushed events
// more may wait to be sent than ever before, each in a buffer of its own.
on_both_runtimes! { hold:
    request_headers_10: MessagePack, Traffic::Headers(10), Budget::NONE;
    request_headers_40: MessagePack, Traffic::Headers(40), Budget::NONE;
    request_headers_10_in_json: Json, Traffic::Headers(10), Budget::NONE;
    request_headers_40_in_json: Json, Traffic::Headers(40), Budget::NONE;
    body_chunk_1_kib: MessagePack, Traffic::chunk(1), Budget::NONE;
    body_chunk_16_kib: MessagePack, Traffic::chunk(16), Budget::NONE;
    body_chunk_64_kib: MessagePack, Traffic::chunk(64), Budget::NONE;
    response_headers: MessagePack, Traffic::ResponseHeaders, Budget::NONE;
    request_complete: MessagePack, Traffic::Complete, Budget::NONE;
    whole_exchange: MessagePack, Traffic::Exchange, Budget::NONE;
    whole_exchange_pipelined: MessagePack, Traffic::Pipelined, Budget::per_1000(1);
    three_header_operations: MessagePack, Traffic::HeaderOps, Budget::per_event(7);
    block: MessagePack, Traffic::Block, Budget::per_event(6);
}

/// Headers store the affinity, a chunk looks it up, then it is cleared.
fn affinity_by_id(flavour: Flavour) {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let (pool, _agent, _dir) = connected(config(MessagePack)).await;
        let mut ids = Ids::default();
        let event = request("/", &HEADERS[..10]);
        let chunk = RequestBodyChunkEvent::new("", Bytes::from_static(b"body"), 0, true);
        let mut follow = async |requests: u64| {
            for _ in 0..requests {
                let id = ids.next();
                pool.send(AGENT, id, &event).await.unwrap();
                assert_eq!(pool.correlation_affinity_count(), 1);
                pool.send(AGENT, id, &chunk).await.unwrap();
                pool.clear_correlation_affinity(id);
            }
            requests
        };
        follow(WARM_UP).await;
        let made = counting.during(follow(EVENTS)).await;
        let what = "affinity by id: store, look up, clear";
        record(what, "proxy", flavour, Budget::per_1000(1_100), made);
    });
}

#[test]
fn affinity_by_id_on_a_current_thread_runtime() {
    affinity_by_id(Flavour::CurrentThread);
}

#[test]
fn affinity_by_id_on_a_multi_thread_runtime() {
    affinity_by_id(Flavour::MultiThread);
}

/// Bodies stay where the caller has them: while they are sent the heap never grows by half of one.
#[test]
fn bodies_are_not_copied() {
    for kib in [64, 4 * 1024] {
        let counting = Counting::begin();
        Flavour::MultiThread.runtime().block_on(async {
            let (pool, _agent, _dir) = connected(config(MessagePack)).await;
            let body = Traffic::chunk(kib);
            let before = counting.bytes_in_use();
            body.put(&pool, &mut Ids::default(), 40).await;
            let growth = counting.most_bytes_in_use() - before;
            assert!(growth < kib * 1024 / 2, "{growth} bytes for {kib} KiB");
        });
    }
}

/// A budget of none holds real traffic to none.
#[test]
fn one_allocation_beside_the_calls_is_noticed() {
    let counting = Counting::begin();
    Flavour::MultiThread.runtime().block_on(async {
        let (pool, _agent, _dir) = connected(config(MessagePack)).await;
        let mut ids = Ids::default();
        let traffic = Traffic::Headers(10);
        traffic.put(&pool, &mut ids, WARM_UP).await;
        let wasteful = async {
            let events = traffic.put(&pool, &mut ids, EVENTS).await;
            drop(black_box(Box::new(events)));
            events
        };
        let made = counting.during(wasteful).await;
        assert_eq!(made.count, 1);
        assert!(Budget::NONE.check(made).is_err());
    });
}
