//! Memory of idle connections and of many agents.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use std::time::{Duration, Instant};
use support::common::AgentProcess;
use support::{AGENT, Alone, Answers, Counting, Flavour, Ids, Traffic, config, record_at_rest};
use tollgate::Encoding::MessagePack;
use tollgate::{AgentConfig, AgentPool};

/// Runs the agent that the other tests start as a process.
#[test]
#[ignore = "the other tests start it as the process of their agent"]
fn agent_process() {
    raise_descriptor_limit();
    Answers::run_process();
}

#[test]
fn an_idle_connection() {
    expect_small("an idle connection, bytes of heap", 0);
}

/// Buffers and slots that calls have used stay allocated.
#[test]
fn an_idle_connection_after_traffic() {
    let what = "an idle connection after whole exchanges, bytes of heap";
    expect_small(what, 1_000);
}

/// Measures the memory of one connection after this many events, without what connections share.
fn expect_small(what: &str, events: u64) {
    const CONNECTIONS: usize = 100;
    const MAX_BYTES: u64 = 64 * 1024;
    let counting = Counting::begin();
    Flavour::CurrentThread.runtime().block_on(async {
        let (_dir, agent) = started().await;
        let config = config(MessagePack).connections_per_agent(CONNECTIONS);
        let pool = AgentPool::with_config(config);
        let endpoint = agent.socket.display().to_string();
        let before = counting.bytes_in_use();
        pool.add(AgentConfig::new(AGENT, endpoint).require_connection())
            .await
            .unwrap();
        let mut ids = Ids::default();
        Traffic::Pipelined.put(&pool, &mut ids, events).await;
        let each = (counting.bytes_in_use() - before) / CONNECTIONS;
        record_at_rest(what, each as u64, MAX_BYTES);
    });
}

const AGENTS: usize = 1_000;

async fn started() -> (tempfile::TempDir, AgentProcess) {
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
    (dir, agent)
}

/// Returns a pool with this many agents, named by number.
async fn pool_of(agents: usize, agent: &AgentProcess) -> AgentPool {
    let pool = AgentPool::with_config(config(MessagePack));
    let endpoint = agent.socket.display().to_string();
    for number in 0..agents {
        let name = number.to_string();
        pool.add(AgentConfig::new(name, &*endpoint).require_connection())
            .await
            .unwrap();
    }
    pool
}

#[test]
fn a_thousand_agents() {
    const MAX_KIB: u64 = 300 * 1024;
    raise_descriptor_limit();
    // Not counted, because counting takes memory too.
    let _alone = Alone::begin();
    Flavour::CurrentThread.runtime().block_on(async {
        let (_dir, agent) = started().await;
        let many = pool_of(AGENTS, &agent).await;
        let what = "1,000 agents with 4 connections each, KiB resident";
        record_at_rest(what, resident_kib(), MAX_KIB);
        let few = pool_of(10, &agent).await;
        expect_equal_cost(&few, &many);
    });
}

/// Asserts that choosing a connection among many agents takes about as long as among few. Compares
/// medians of short alternating rounds; the tolerance covers caches and other processes.
fn expect_equal_cost(few: &AgentPool, many: &AgentPool) {
    const ROUNDS: usize = 101;
    let round = |pool: &AgentPool, agents: usize| {
        let names: Vec<_> = (0..10).map(|n| (n * agents / 10).to_string()).collect();
        let mut ids = Ids::default();
        let started = Instant::now();
        for name in names.iter().cycle().take(500) {
            drop(pool.agent(name).unwrap().exchange(ids.next()).unwrap());
        }
        started.elapsed()
    };
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| (round(few, 10), round(many, AGENTS)))
        .collect();
    let mut median = |of: fn(&(Duration, Duration)) -> Duration| {
        rounds.sort_by_key(of);
        of(&rounds[ROUNDS / 2])
    };
    let (few, many) = (median(|round| round.0), median(|round| round.1));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    assert!(ratio < 1.5, "{few:?} among 10, {many:?} among {AGENTS}");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    kib.unwrap().parse().unwrap()
}

/// Raises the soft limit, which is often below the thousands of sockets that the test needs.
fn raise_descriptor_limit() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
}
