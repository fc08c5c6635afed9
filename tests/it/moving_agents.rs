//! Agents that are removed, replaced or moved to another endpoint under traffic. No call is lost.

use crate::common::{
    BOTH, RawAgent, arrived, call, config, eventually, in_virtual_time, message, raw_pool, request,
    result_of, serve, status_of,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, CallError as Error, CancelReason, Encoding,
};

#[tokio::test]
async fn removed_agent_finishes_its_calls() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let pending = arrived(&pool, &mut connection, "c-1").await;
        let agent = pool.agent("agent").unwrap();

        pool.remove("agent").unwrap();
        let rejected = agent.send("c-2", &request("c-2", "/")).await;
        assert_fails!(rejected, Error::Removed { .. });
        assert!(pool.remove("agent").is_err());
        assert_fails!(agent.remove(), Error::Removed { .. });

        connection.block("c-1", 418).await;
        assert_eq!(status_of(pending).await, 418);
        pool.unpin("c-1");
        connection.expect_end().await;
    }
}

#[tokio::test]
async fn removed_agent_is_cut_off_after_the_drain_timeout() {
    let config = config(Encoding::Json).drain_timeout(Duration::from_millis(50));
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let pending = arrived(&pool, &mut connection, "c-1").await;

    pool.remove("agent").unwrap();
    assert_fails!(result_of(pending).await, Error::Cancelled { .. });

    let (message, cancel) = connection.message().await;
    assert_eq!(
        (message, cancel["correlation_id"].as_str()),
        (message::CANCEL, Some("c-1"))
    );
    connection.expect_end().await;
}

#[tokio::test]
async fn exchanges_finish_on_their_first_connection() {
    let (agent, pool, mut old) = raw_pool(config(Encoding::Json)).await;
    let pending = arrived(&pool, &mut old, "c-1").await;
    let mut exchange = pool.agent("agent").unwrap().exchange("c-2").unwrap();

    let endpoint = agent.path.display().to_string();
    let (replaced, mut new) = tokio::join!(
        pool.replace(AgentConfig::new("agent", endpoint)),
        agent.accept_in(Encoding::Json)
    );
    replaced.unwrap();
    crate::common::expect_works(&pool, &mut new, "c-3").await;

    old.block("c-1", 418).await;
    assert_eq!(status_of(pending).await, 418);
    pool.unpin("c-1");

    let event = request("c-2", "/");
    let (answer, ()) = tokio::join!(exchange.send(&event), async {
        assert_eq!(old.event().await, "c-2");
        old.block("c-2", 419).await;
    });
    answer.unwrap();
    drop(exchange);

    old.expect_end().await;
    let stats = pool.agent("agent").unwrap().stats();
    assert_eq!(stats.calls.answered, 3, "the counters were reset");
}

#[tokio::test]
async fn pinned_events_use_the_replaced_connection() {
    let (agent, pool, mut old) = raw_pool(config(Encoding::Json)).await;
    let headers = arrived(&pool, &mut old, "c-1").await;
    old.allow("c-1").await;
    result_of(headers).await.unwrap();

    let endpoint = agent.path.display().to_string();
    let (replaced, _new) = tokio::join!(
        pool.replace(AgentConfig::new("agent", endpoint)),
        agent.accept_in(Encoding::Json)
    );

    let chunk = tollgate::events::RequestBodyChunkEvent::new("c-1", "x", 0, true);
    let successor = replaced.unwrap();
    let (answer, ()) = tokio::join!(successor.send("c-1", &chunk), async {
        assert_eq!(old.event().await, "c-1");
        old.allow("c-1").await;
    });
    answer.unwrap();

    pool.unpin("c-1");
    old.expect_end().await;
}

/// Callers that make calls until they are stopped. A failed call panics.
struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn to(pool: &AgentPool) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let callers = (0..16)
            .map(|caller| {
                let (pool, stop, answered) = (pool.clone(), stop.clone(), answered.clone());
                tokio::spawn(async move {
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let id = format!("{caller}-{n}");
                        expect_answer(&pool, &id).await;
                        pool.unpin(&id);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self {
            stop,
            answered,
            callers,
        }
    }

    async fn goes_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("traffic goes on", async || {
            self.answered.load(Ordering::Relaxed) > before + 50
        })
        .await;
    }

    async fn ends_without_a_failure(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("a call failed");
        }
    }
}

/// Makes a call. Takes a new handle if the agent was replaced before the call was made.
async fn expect_answer(pool: &AgentPool, id: &str) {
    loop {
        let agent = pool.agent("agent").unwrap();
        match agent.send(id, &request(id, "/")).await {
            Ok(_) => return,
            Err(Error::Replaced { .. }) => {}
            Err(error) => panic!("{id}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_changes_lose_no_request() {
    let (one, two) = (serve().await, serve().await);
    let pool = AgentPool::new();
    pool.add(AgentConfig::new("agent", one.path.to_str().unwrap()))
        .await
        .unwrap();
    let traffic = Traffic::to(&pool);

    for _ in 0..10 {
        for agent in [&two, &one] {
            traffic.goes_on().await;
            let endpoint = agent.path.to_str().unwrap();
            let replacement = AgentConfig::new("agent", endpoint);
            pool.replace(replacement).await.unwrap();
            let other = AgentConfig::new("other", endpoint);
            pool.add(other).await.unwrap();
            traffic.goes_on().await;
            pool.remove("other").unwrap();
        }
    }

    traffic.ends_without_a_failure().await;
    let calls = pool.agent("agent").unwrap().stats().calls;
    assert_eq!((calls.made, calls.failed()), (calls.answered, 0));
    assert_eq!(crate::common::pins(&pool), 0);
}

#[tokio::test]
async fn agent_is_connected_once_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let pool = AgentPool::with_config(
        AgentPoolConfig::default().reconnect_interval(Duration::from_millis(10)),
    );
    pool.add(AgentConfig::new("agent", path.to_str().unwrap()))
        .await
        .unwrap();

    assert!(!pool.agent("agent").is_some_and(|agent| agent.is_healthy()));
    assert_fails!(
        result_of(call(&pool, "c-1")).await,
        Error::Unavailable { .. }
    );

    let server = tollgate::AgentServer::builder(crate::common::RuleAgent::default())
        .listen(path.display().to_string());
    let bound = server.bind().await.unwrap();
    tokio::spawn(bound.serve());
    eventually("all connections are open", async || {
        let stats = pool.agent("agent").unwrap().stats();
        stats.active_connections == 4 && stats.reconnects == 4
    })
    .await;

    result_of(call(&pool, "c-2")).await.unwrap();
}

#[tokio::test]
async fn lost_connection_is_replaced_at_once() {
    for encoding in BOTH {
        let (agent, pool, mut connection) = raw_pool(config(encoding)).await;

        for n in 0..5 {
            crate::common::expect_works(&pool, &mut connection, &n.to_string()).await;
            drop(connection);
            connection = agent.accept_in(encoding).await;
            eventually("the connection is used", async || {
                pool.agent("agent").is_some_and(|agent| agent.is_healthy())
            })
            .await;
        }

        let stats = pool.agent("agent").unwrap().stats();
        assert_eq!((stats.reconnects, stats.active_connections), (5, 1));
    }
}

#[tokio::test]
async fn pool_without_self_maintenance_is_maintained_on_request() {
    let config = config(Encoding::Json).self_maintained(false);
    let (agent, pool, connection) = raw_pool(config).await;
    drop(connection);
    eventually("the closed connection is noticed", async || {
        !pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;

    assert_fails!(
        result_of(call(&pool, "c-1")).await,
        Error::Unavailable { .. }
    );

    let maintained = pool.clone();
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    let mut connection = agent.accept_in(Encoding::Json).await;
    eventually("the connection is used", async || {
        pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;

    crate::common::expect_works(&pool, &mut connection, "c-2").await;
    maintenance.abort();
}

#[test]
fn agent_that_closes_at_once_is_reconnected_with_backoff() {
    in_virtual_time(async {
        let agent = RawAgent::listen();
        let pool = AgentPool::with_config(
            config(Encoding::Json).reconnect_interval(Duration::from_millis(200)),
        );
        let endpoint = agent.path.display().to_string();
        let (added, connection) = tokio::join!(
            pool.add(AgentConfig::new("agent", endpoint)),
            agent.accept_in(Encoding::Json)
        );
        added.unwrap();

        let started = tokio::time::Instant::now();
        drop(connection);
        for _ in 0..3 {
            drop(agent.accept_in(Encoding::Json).await);
        }

        // At least half of 200, 400 and 800 ms: a connection without any message counts as a
        // failure.
        assert!(
            started.elapsed() >= Duration::from_millis(700),
            "{:?}",
            started.elapsed()
        );
    });
}

#[tokio::test]
async fn shutdown_rejects_new_calls_and_waits_for_exchanges() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let mut exchange = agent.exchange("c-1").unwrap();
    let closing = pool.clone();
    let shutdown = tokio::spawn(async move { closing.shutdown().await });

    eventually("new exchanges are rejected", async || {
        agent.exchange("c-2").is_err()
    })
    .await;
    assert_fails!(
        result_of(call(&pool, "c-3")).await,
        Error::Unavailable { .. }
    );

    let event = request("c-1", "/");
    let (answer, ()) = tokio::join!(exchange.send(&event), async {
        assert_eq!(connection.event().await, "c-1");
        connection.allow("c-1").await;
    });
    answer.unwrap();
    assert!(!shutdown.is_finished());

    drop(exchange);
    shutdown.await.unwrap();
    connection.expect_end().await;
    assert_fails!(
        agent.cancel_all(CancelReason::Manual).await,
        Error::Removed { .. }
    );
    assert!(pool.agent("agent").is_none());
}

/// If an agent is added while another call connects to it, the latter replaces it. The replaced
/// agent has counters of its own.
#[tokio::test]
async fn totals_never_decrease_if_an_agent_is_added_twice_at_once() {
    let (slow, fast) = (RawAgent::listen(), RawAgent::listen());
    let pool = AgentPool::with_config(config(Encoding::Json));
    let adding = tokio::spawn({
        let (pool, endpoint) = (pool.clone(), slow.path.display().to_string());
        async move { pool.replace(AgentConfig::new("agent", endpoint)).await }
    });
    // It waits for the handshake, which is answered last.
    tokio::time::sleep(Duration::from_millis(50)).await;

    let endpoint = fast.path.display().to_string();
    let accepting = fast.accept_in(Encoding::Json);
    let (added, mut connection) =
        tokio::join!(pool.add(AgentConfig::new("agent", endpoint)), accepting);
    added.unwrap();
    let pending = arrived(&pool, &mut connection, "c-1").await;
    connection.allow("c-1").await;
    result_of(pending).await.unwrap();

    let _slow_connection = slow.accept_in(Encoding::Json).await;
    adding.await.unwrap().unwrap();
    let total = pool.metrics().snapshot().total;
    assert_eq!(total.calls.answered, 1);
}
