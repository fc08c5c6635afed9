//! What an agent reports of its health, and whether it gives any sign of life.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{
    BOTH, RawConnection, arrived, call, config, eventually, number, numbered, raw_pool,
    raw_pool_of, request, result_of, status_of,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate::{
    AgentPool, AgentPoolConfig, AgentProtocolError as Error, Encoding, LoadBalanceStrategy,
};

async fn report(connection: &mut RawConnection, state: Value) {
    let status = json!({"agent_id": "raw", "state": state, "timestamp_ms": 1});
    connection.send_value(0x30, &status).await;
    connection.sync().await;
}

fn degraded(multiplier: f32) -> Value {
    json!({"status": "degraded", "disabled_features": [], "timeout_multiplier": multiplier})
}

/// How many of `count` calls each of two connections gets.
async fn shares(pool: &AgentPool, connections: Vec<RawConnection>, count: usize) -> [usize; 2] {
    numbered(connections);
    let mut shares = [0; 2];
    for n in 0..count {
        let answer = result_of(call(pool, &n.to_string())).await.unwrap();
        shares[usize::from(number(answer))] += 1;
    }
    shares
}

#[tokio::test]
async fn a_degraded_connection_gets_a_quarter_of_its_share() {
    for strategy in [
        LoadBalanceStrategy::RoundRobin,
        LoadBalanceStrategy::HealthBased,
    ] {
        let config = AgentPoolConfig {
            connections_per_agent: 2,
            load_balance_strategy: strategy,
            ..config(Encoding::Json)
        };
        let (_agent, pool, mut connections) = raw_pool_of(config).await;
        report(&mut connections[1], degraded(1.0)).await;
        let shares = shares(&pool, connections, 16).await;
        let expected = match strategy {
            LoadBalanceStrategy::HealthBased => [16, 0],
            _ => [14, 2],
        };
        assert_eq!(shares, expected, "{strategy:?}");
    }
}

#[tokio::test]
async fn a_degraded_agent_gets_more_time() {
    let timeout = Duration::from_millis(40);
    let config = AgentPoolConfig {
        request_timeout: timeout,
        ..config(Encoding::Json)
    };
    let (_agent, pool, mut connection) = raw_pool(config).await;
    report(&mut connection, degraded(3.0)).await;
    let started = Instant::now();
    let timed_out = result_of(call(&pool, "c-1")).await;
    assert!(
        matches!(timed_out, Err(Error::Timeout { after, .. }) if after == timeout * 3),
        "{timed_out:?}"
    );
    assert!(started.elapsed() >= timeout * 3);
    let firm = pool
        .send_within("agent", "c-2", &request("c-2", "/"), timeout)
        .await;
    assert!(matches!(firm, Err(Error::Timeout { after, .. }) if after == timeout));
    report(&mut connection, json!({"status": "healthy"})).await;
    let timed_out = result_of(call(&pool, "c-3")).await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == timeout));
}

#[tokio::test]
async fn an_agent_that_drains_or_is_unhealthy_finishes_what_it_has() {
    let states = [
        json!({"status": "draining", "eta_ms": null}),
        json!({"status": "unhealthy", "reason": "disk full", "recoverable": true}),
    ];
    for encoding in BOTH {
        for state in &states {
            let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
            let pending = arrived(&pool, &mut connection, "pending").await;
            let mut exchange = pool.exchange("agent", "exchange").unwrap();
            report(&mut connection, state.clone()).await;
            assert!(!pool.is_agent_healthy("agent"));
            assert_fails!(
                result_of(call(&pool, "new")).await,
                Error::Unavailable { .. }
            );
            assert!(pool.exchange("agent", "new").is_err());
            connection.block("pending", 418).await;
            assert_eq!(status_of(pending).await, 418);
            let event = request("exchange", "/");
            let (sent, ()) = tokio::join!(exchange.send(&event), async {
                assert_eq!(connection.event().await, "exchange");
                connection.allow("exchange").await;
            });
            sent.unwrap();
            let stats = pool.agent_stats("agent").await.unwrap();
            assert_eq!(
                (stats.active_connections, stats.healthy_connections),
                (1, 0)
            );
            report(&mut connection, json!({"status": "healthy"})).await;
            common::expect_works(&pool, &mut connection, "after").await;
        }
    }
}

#[tokio::test]
async fn only_the_connection_that_drains_is_left_out() {
    let config = AgentPoolConfig {
        connections_per_agent: 2,
        ..config(Encoding::Json)
    };
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    report(&mut connections[0], json!({"status": "draining"})).await;
    assert_eq!(shares(&pool, connections, 6).await, [0, 6]);
}

#[tokio::test]
async fn a_report_that_is_no_longer_valid_is_forgotten() {
    let config = AgentPoolConfig {
        health_check_interval: Duration::from_millis(5),
        ping_timeout: common::PATIENCE,
        ..config(Encoding::Json)
    };
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let status = json!({
        "agent_id": "raw", "timestamp_ms": 1, "valid_until_ms": tollgate::now_ms() + 200,
        "state": {"status": "unhealthy", "reason": "busy", "recoverable": true},
    });
    connection.send_value(0x30, &status).await;
    eventually("the report counts", async || {
        !pool.is_agent_healthy("agent")
    })
    .await;
    eventually("the report is forgotten", async || {
        pool.is_agent_healthy("agent")
    })
    .await;
    assert!(tollgate::now_ms() > status["valid_until_ms"].as_u64().unwrap());
}

fn impatient() -> AgentPoolConfig {
    AgentPoolConfig {
        health_check_interval: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(100),
        ..config(Encoding::Json)
    }
}

#[tokio::test]
async fn an_agent_that_hangs_is_found_even_when_nobody_asks_it() {
    let (agent, pool, mut hung) = raw_pool(impatient()).await;
    let started = Instant::now();
    // The old connection is neither read nor answered from here on; a new one comes for it.
    let mut connection = agent.accept_in(Encoding::Json).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(hung.message().await.0, 0x41, "it was not pinged");
    hung.expect_end().await;
    eventually("the new connection is used", async || {
        pool.is_agent_healthy("agent")
    })
    .await;
    common::expect_works(&pool, &mut connection, "c-1").await;
    assert_eq!(common::faults(&pool).await.connections_lost, 1);
}

#[tokio::test]
async fn an_agent_that_answers_pings_or_says_anything_else_stays() {
    let (_agent, pool, mut connection) = raw_pool(impatient()).await;
    for _ in 0..3 {
        let (message, ping) = connection.message().await;
        assert_eq!(message, 0x41);
        connection.send_value(0x42, &ping).await;
    }
    for _ in 0..3 {
        assert_eq!(connection.message().await.0, 0x41);
        connection.send(0x30, br#"{"state":1}"#).await;
    }
    assert_eq!(common::faults(&pool).await.connections_lost, 0);
}
