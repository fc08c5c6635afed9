//! What a call allocates that comes to nothing.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::common::{self, AgentProcess, raw_pool};
use support::{
    AGENT, Answers, Budget, Counting, EVENTS, Flavour, HEADERS, Ids, WARM_UP, config, record,
    request,
};
use tokio::sync::Barrier;
use tollgate::Encoding::MessagePack;
use tollgate::{AgentPool, AgentPoolConfig, AgentProtocolError as Error};

const FLAVOUR: Flavour = Flavour::CurrentThread;

/// What the other tests start as the process of their agent.
#[test]
#[ignore = "not a test by itself"]
fn agent_process() {
    Answers::run_process();
}

/// A pool that goes on whatever becomes of its calls.
fn undeterred() -> AgentPoolConfig {
    AgentPoolConfig {
        circuit_breaker_threshold: 0,
        max_consecutive_errors: u32::MAX,
        self_maintained: false,
        connections_per_agent: 1,
        ..config(MessagePack)
    }
}

/// Deadlines are looked for every few milliseconds, so many calls wait for them side by side.
#[test]
fn deadlines() {
    const CALLERS: u64 = 100;
    let counting = Counting::begin();
    FLAVOUR.runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
        let pool = common::pool_with(undeterred(), &agent.socket).await;
        let barrier = Arc::new(Barrier::new(CALLERS as usize + 1));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    let mut ids = Ids::of_caller(caller);
                    miss_deadlines(&pool, &mut ids, WARM_UP.div_ceil(CALLERS)).await;
                    barrier.wait().await;
                    barrier.wait().await;
                    miss_deadlines(&pool, &mut ids, EVENTS / CALLERS).await;
                    barrier.wait().await;
                })
            })
            .collect();
        barrier.wait().await;
        let all_miss = async {
            barrier.wait().await;
            barrier.wait().await;
            EVENTS
        };
        let made = counting.during(all_miss).await;
        for caller in callers {
            caller.await.unwrap();
        }
        // Where the agent is slow, more frames wait than buffers are kept, and what comes late comes in bursts.
        let budget = Budget::per_1000(100);
        record("failed call: deadline", "proxy", FLAVOUR, budget, made);
    });
}

async fn miss_deadlines(pool: &AgentPool, ids: &mut Ids, calls: u64) {
    let event = request(Answers::LATE, &HEADERS[..10]);
    for _ in 0..calls {
        let mut exchange = pool.exchange(AGENT, ids.next()).unwrap();
        let answer = exchange.send_within(&event, Duration::from_millis(1)).await;
        assert!(matches!(answer, Err(Error::Timeout { .. })), "{answer:?}");
    }
}

#[test]
fn pauses() {
    let counting = Counting::begin();
    FLAVOUR.runtime().block_on(async {
        let (_agent, pool, mut connection) = raw_pool(undeterred()).await;
        connection.send(0x33, br#"{"action":1}"#).await;
        connection.sync().await;
        let mut ids = Ids::default();
        let mut refused = async |calls: u64| {
            let event = request("/", &HEADERS[..10]);
            for _ in 0..calls {
                let answer = pool.send(AGENT, ids.next(), &event).await;
                assert!(matches!(answer, Err(Error::FlowControlPaused { .. })));
            }
            calls
        };
        refused(WARM_UP).await;
        hold(
            "failed call: paused",
            counting.during(refused(EVENTS)).await,
        );
    });
}

#[test]
fn closed_connections() {
    let counting = Counting::begin();
    FLAVOUR.runtime().block_on(async {
        let (_agent, pool, connection) = raw_pool(undeterred()).await;
        let mut exchange = pool.exchange(AGENT, "exchange").unwrap();
        drop(connection);
        common::eventually("the connection ends", async || {
            pool.agent_stats(AGENT).await.unwrap().active_connections == 0
        })
        .await;
        let mut ids = Ids::default();
        let event = request("/", &HEADERS[..10]);
        let mut refused = async |calls: u64| {
            for _ in 0..calls / 2 {
                let answer = exchange.send(&event).await;
                assert!(matches!(answer, Err(Error::ConnectionClosed { .. })));
                let answer = pool.send(AGENT, ids.next(), &event).await;
                assert!(matches!(answer, Err(Error::Unavailable { .. })));
            }
            calls
        };
        refused(WARM_UP).await;
        hold(
            "failed call: closed",
            counting.during(refused(EVENTS)).await,
        );
    });
}

fn hold(what: &str, made: support::Allocations) {
    record(what, "proxy", FLAVOUR, Budget::NONE, made);
}
