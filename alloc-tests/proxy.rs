//! What a call allocates on the proxy's side, with the agent in a process of its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use support::common::AgentProcess;
use support::{
    AGENT, Answers, Budget, Counting, EVENTS, Flavour, HEADERS, Ids, Traffic, WARM_UP, config,
    record, request,
};
use tollgate::Encoding::{Json, MessagePack};
use tollgate::{AgentPool, AgentPoolConfig, Bytes, Encoding, RequestBodyChunkEvent};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What the other tests start as the process of their agent.
#[test]
#[ignore = "not a test by itself"]
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

/// What is paid before anything is sent: choosing, flow check and counting.
fn choosing(agents: usize) {
    let counting = Counting::begin();
    let flavour = Flavour::CurrentThread;
    flavour.runtime().block_on(async {
        let config = AgentPoolConfig {
            connections_per_agent: 1,
            ..config(MessagePack)
        };
        let (pool, agent, _dir) = connected(config).await;
        let names: Vec<_> = (0..agents).map(|n| format!("agent-{n}")).collect();
        for name in &names {
            let endpoint = agent.socket.display().to_string();
            pool.connect_agent(name, endpoint).await.unwrap();
        }
        let mut ids = Ids::default();
        let mut choose = async |events: u64| {
            for name in names.iter().cycle().take(events as usize) {
                drop(pool.exchange(name, ids.next()).unwrap());
            }
            events
        };
        choose(WARM_UP).await;
        let made = counting.during(choose(EVENTS)).await;
        let what = format!("choosing a connection, {agents} agents");
        record(&what, "proxy", flavour, Budget::NONE, made);
    });
}

#[test]
fn choosing_a_connection_of_one_agent() {
    choosing(1);
}

#[test]
fn choosing_a_connection_among_a_thousand_agents() {
    choosing(1_000);
}
