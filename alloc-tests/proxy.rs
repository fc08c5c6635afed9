//! Heap budgets of a call on the proxy's side. The agent runs in its own process.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use std::hint::black_box;
use support::common::AgentProcess;
use support::{
    AGENT, Answers, Budget, Counting, EVENTS, Flavour, HEADERS, Ids, Traffic, WARM_UP, config,
    record, request,
};
use tollgate::Encoding::{Json, MessagePack};
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, BodyChunk, Bytes, Encoding, RequestBodyChunk,
};

/// Runs the agent that the other tests start as a process.
#[test]
#[ignore = "the other tests start it as the process of their agent"]
fn agent_process() {
    Answers::run_process();
}

/// Starts an agent and connects a pool to it.
async fn connected(config: AgentPoolConfig) -> (AgentPool, AgentProcess, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
    let pool = AgentPool::with_config(config);
    let endpoint = agent.socket.display().to_string();
    pool.add(AgentConfig::new(AGENT, endpoint).require_connection())
        .await
        .unwrap();
    (pool, agent, dir)
}

/// Sends traffic to an agent and checks the proxy's allocations against the budget.
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

// Each string, list and map of an answer is one allocation; the answer itself is none. Pushed
// events may need a new buffer when more of them than before wait to be sent.
on_both_runtimes! { hold:
    request_headers_10: MessagePack, Traffic::Headers(10), Budget::NONE;
    request_headers_40: MessagePack, Traffic::Headers(40), Budget::NONE;
    request_headers_10_in_json: Json, Traffic::Headers(10), Budget::NONE;
    request_headers_40_in_json: Json, Traffic::Headers(40), Budget::NONE;
    request_headers_escaped_in_json: Json, Traffic::Escaped(2), Budget::NONE;
    body_chunk_1_kib_in_json: Json, Traffic::chunk(1), Budget::NONE;
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

/// Sending headers pins the correlation id, sending a chunk looks the pin up, then it is cleared.
fn affinity_by_id(flavour: Flavour) {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let (pool, _agent, _dir) = connected(config(MessagePack)).await;
        let mut ids = Ids::default();
        let event = request("/", &HEADERS[..10]);
        let agent = pool.agent(AGENT).unwrap();
        agent.send("first", &event).await.unwrap();
        assert_eq!(support::common::pins(&pool), 1);
        pool.unpin("first");
        let mut follow = async |requests: u64| {
            for _ in 0..requests {
                let id = ids.next();
                agent.send(id, &event).await.unwrap();
                let chunk = BodyChunk::new(id, Bytes::from_static(b"body"), 0, true);
                agent.send(id, &RequestBodyChunk(chunk)).await.unwrap();
                pool.unpin(id);
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

/// Bodies are not copied: while they are sent the heap never grows by half the size of one.
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

/// A budget of zero notices a single allocation among real traffic.
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
