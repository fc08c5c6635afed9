//! Load balancing, and the fate of calls when connections, agents or runtimes end.

use crate::common::{
    RawConnection, arrived, call, config, eventually, expect_works, message, raw_pool, raw_pool_of,
    request, result_of, serve, status_of,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, CallError as Error, Encoding, LoadBalanceStrategy,
    events::RequestCompleteEvent,
};

const STRATEGIES: [LoadBalanceStrategy; 4] = [
    LoadBalanceStrategy::RoundRobin,
    LoadBalanceStrategy::LeastConnections,
    LoadBalanceStrategy::HealthBased,
    LoadBalanceStrategy::Random,
];

fn balanced(strategy: LoadBalanceStrategy, connections: usize) -> AgentPoolConfig {
    config(Encoding::Json)
        .connections_per_agent(connections)
        .load_balance_strategy(strategy)
}

/// Allows every event of a connection. Returns their count.
fn answer_all(mut connection: RawConnection) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let id = connection.event().await;
            counted.fetch_add(1, Ordering::Relaxed);
            connection.allow(&id).await;
        }
    });
    count
}

async fn call_one_after_another(pool: &AgentPool, count: usize) {
    for n in 0..count {
        result_of(call(pool, &n.to_string()))
            .await
            .expect("an answer");
    }
}

fn totals(counts: &[Arc<AtomicUsize>]) -> Vec<usize> {
    counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect()
}

#[tokio::test]
async fn round_robin_takes_each_connection_in_turn() {
    let (_agent, pool, connections) =
        raw_pool_of(balanced(LoadBalanceStrategy::RoundRobin, 4)).await;
    let counts: Vec<_> = connections.into_iter().map(answer_all).collect();
    call_one_after_another(&pool, 40).await;
    assert_eq!(totals(&counts), [10; 4]);
}

#[tokio::test]
async fn random_reaches_every_connection() {
    let (_agent, pool, connections) = raw_pool_of(balanced(LoadBalanceStrategy::Random, 4)).await;
    let counts: Vec<_> = connections.into_iter().map(answer_all).collect();
    call_one_after_another(&pool, 400).await;
    let totals = totals(&counts);
    assert_eq!(totals.iter().sum::<usize>(), 400);
    assert!(totals.iter().all(|&count| count > 0), "{totals:?}");
}

#[tokio::test]
async fn least_connections_avoids_a_busy_connection() {
    let config = balanced(LoadBalanceStrategy::LeastConnections, 3);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;

    let mut busy = connections.remove(0);
    let pending = arrived(&pool, &mut busy, "busy").await;
    let counts: Vec<_> = connections.into_iter().map(answer_all).collect();

    call_one_after_another(&pool, 20).await;
    assert_eq!(totals(&counts).iter().sum::<usize>(), 20);

    busy.block("busy", 418).await;
    assert_eq!(status_of(pending).await, 418);
}

#[tokio::test]
async fn least_connections_spreads_pending_calls_evenly() {
    let config = balanced(LoadBalanceStrategy::LeastConnections, 4);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    let _calls: Vec<_> = (0..12).map(|n| call(&pool, &n.to_string())).collect();
    for connection in &mut connections {
        for _ in 0..3 {
            connection.event().await;
        }
    }
}

#[tokio::test]
async fn health_based_avoids_less_healthy_connections() {
    let full = |status: &str, more: Value| {
        let mut state = json!({"status": status});
        state
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"agent_id": "raw", "state": state, "timestamp_ms": 1})
    };
    let degraded = full(
        "degraded",
        json!({"disabled_features": [], "timeout_multiplier": 2.0}),
    );
    let unhealthy = full(
        "unhealthy",
        json!({"reason": "broken", "recoverable": true}),
    );

    for (worse, worst) in [
        (degraded, unhealthy),
        (json!({"state": 2}), json!({"state": 4})),
    ] {
        let config = balanced(LoadBalanceStrategy::HealthBased, 3);
        let (_agent, pool, mut connections) = raw_pool_of(config).await;
        let report = async |connection: &mut RawConnection, state: &Value| {
            connection.send_value(message::HEALTH_STATUS, state).await;
            connection.sync().await;
        };

        report(&mut connections[0], &worst).await;
        report(&mut connections[1], &worse).await;
        for n in 0..5 {
            expect_works(&pool, &mut connections[2], &n.to_string()).await;
        }

        report(&mut connections[2], &worst).await;
        for n in 0..5 {
            expect_works(&pool, &mut connections[1], &n.to_string()).await;
        }

        report(&mut connections[0], &json!({"state": 1})).await;
        for n in 0..5 {
            expect_works(&pool, &mut connections[0], &n.to_string()).await;
        }
    }
}

#[tokio::test]
async fn connection_without_a_free_slot_comes_last() {
    for strategy in STRATEGIES {
        let config = balanced(strategy, 2).max_concurrent_per_connection(1);
        let (_agent, pool, mut connections) = raw_pool_of(config).await;
        let _calls = [call(&pool, "c-1"), call(&pool, "c-2")];
        for connection in &mut connections {
            connection.event().await;
        }
    }
}

#[tokio::test]
async fn closed_connection_is_skipped() {
    for strategy in STRATEGIES {
        let (_agent, pool, mut connections) = raw_pool_of(balanced(strategy, 3)).await;
        connections.remove(0);
        let active = async || pool.agent("agent").unwrap().stats().active_connections;
        eventually("the closed connection is noticed", async || {
            active().await == 2
        })
        .await;
        let counts: Vec<_> = connections.into_iter().map(answer_all).collect();
        call_one_after_another(&pool, 20).await;
        assert_eq!(totals(&counts).iter().sum::<usize>(), 20, "{strategy:?}");
    }
}

#[tokio::test]
async fn unknown_agent_is_named_in_the_error() {
    let pool = AgentPool::new();
    assert!(pool.agent("unknown").is_none());
    assert!(pool.agents().is_empty());

    let error = pool.remove("unknown").unwrap_err().to_string();
    assert!(error.contains("no agent 'unknown'"), "{error}");
}

#[tokio::test]
async fn shutdown_waits_for_calls_and_then_closes() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let pending = arrived(&pool, &mut connection, "c-1").await;

    let answering = async {
        connection.block("c-1", 418).await;
        connection.expect_end().await;
    };

    tokio::join!(pool.shutdown(), answering);
    assert_eq!(status_of(pending).await, 418);
    assert!(crate::common::agent_ids(&pool).is_empty());
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_the_drain_timeout() {
    let drain_timeout = Duration::from_millis(50);
    let config = config(Encoding::Json).drain_timeout(drain_timeout);
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let pending = arrived(&pool, &mut connection, "c-1").await;

    let started = Instant::now();
    pool.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_fails!(result_of(pending).await, Error::Cancelled { .. });
    assert_eq!(
        connection.message().await.0,
        message::CANCEL,
        "no cancel message"
    );
}

#[tokio::test]
async fn dropped_pool_closes_its_connections() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    drop(pool);
    connection.expect_end().await;
}

/// The connection's runtime ends while a call from another runtime is in flight on it.
#[tokio::test]
async fn call_fails_at_once_when_its_connections_runtime_ends() {
    let server = serve().await;
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();

    let (adding, path) = (pool.clone(), server.path.display().to_string());
    let added = other.spawn(async move { adding.add(AgentConfig::new("agent", path)).await });
    let agent = added.await.unwrap().unwrap();

    let event = request("c-1", "/wait");
    let end = async {
        eventually("the event arrives", async || {
            !server.seen.lock().unwrap().is_empty()
        })
        .await;
        other.shutdown_background();
        Instant::now()
    };

    let (sent, ended) = tokio::join!(agent.send("c-1", &event), end);
    assert_fails!(sent, Error::ConnectionClosed { .. });
    assert!(ended.elapsed() < Duration::from_secs(1));

    let complete = RequestCompleteEvent {
        correlation_id: "c-1".into(),
        status: 200,
        duration_ms: 0,
        request_body_size: 0,
        response_body_size: 0,
        upstream_attempts: 0,
        error: None,
    };
    let later = agent.send("c-1", &complete).await;
    assert_fails!(later, Error::Unavailable { .. });
}
