//! Circuit breaker: an agent that fails repeatedly gets no calls for a while. The failure mode
//! decides what callers get meanwhile.

use crate::common::{
    RawConnection, arrived, call, config, eventually, message, raw_pool, raw_pool_of, request,
    result_of, status_of,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, AgentResponse, CallError as Error,
    CircuitBreakerState, Encoding, FailureMode,
};

const DEADLINE: Duration = Duration::from_millis(20);

fn tripping(reset_timeout: Duration) -> AgentPoolConfig {
    AgentPoolConfig {
        request_timeout: DEADLINE,
        circuit_breaker_threshold: 5,
        circuit_breaker_reset_timeout: reset_timeout,
        ..config(Encoding::Json)
    }
}

async fn fail(pool: &AgentPool, count: usize) {
    // An id cannot be used again while its answer is missing.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..count {
        let id = format!("fails-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        assert_fails!(result_of(call(pool, &id)).await, Error::Timeout { .. });
    }
}

fn state(pool: &AgentPool) -> CircuitBreakerState {
    pool.agent("agent").unwrap().circuit_breaker_state()
}

async fn take_events(connection: &mut RawConnection, count: usize) {
    for _ in 0..count {
        connection.event().await;
    }
}

#[tokio::test]
async fn consecutive_failures_open_the_breaker() {
    let (_agent, pool, mut connection) = raw_pool(tripping(Duration::from_secs(60))).await;

    fail(&pool, 4).await;
    take_events(&mut connection, 4).await;
    crate::common::expect_works(&pool, &mut connection, "in between").await;

    fail(&pool, 4).await;
    assert_eq!(state(&pool), CircuitBreakerState::Closed);

    let fifth = result_of(call(&pool, "fifth")).await;
    assert_fails!(fifth, Error::Timeout { .. });
    take_events(&mut connection, 5).await;
    assert_eq!(state(&pool), CircuitBreakerState::Open);
    assert!(!pool.agent("agent").is_some_and(|agent| agent.is_healthy()));

    let started = Instant::now();
    for n in 0..100 {
        let rejected = result_of(call(&pool, &n.to_string())).await;
        assert_fails!(rejected, Error::CircuitOpen { .. });
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(connection.sync().await, [0; 0], "the agent was contacted");

    let stats = pool.agent("agent").unwrap().stats();
    assert_eq!(stats.circuit_breaker_trips, 1);
    assert_eq!((stats.calls.circuit_open, stats.calls.timed_out), (100, 9));
}

#[tokio::test]
async fn one_trial_call_is_allowed_after_the_reset_timeout() {
    let config = AgentPoolConfig {
        request_timeout: Duration::from_millis(200),
        ..tripping(Duration::from_millis(50))
    };
    let (_agent, pool, mut connection) = raw_pool(config).await;
    for _ in 0..2 {
        let calls: Vec<_> = (0..5).map(|n| call(&pool, &format!("fails-{n}"))).collect();
        take_events(&mut connection, 5).await;
        for call in calls {
            assert_fails!(result_of(call).await, Error::Timeout { .. });
        }

        // Late answers, so that the ids can be used again.
        for n in 0..5 {
            connection.allow(&format!("fails-{n}")).await;
        }

        eventually("a trial is allowed", async || {
            state(&pool) == CircuitBreakerState::HalfOpen
        })
        .await;

        let trial = arrived(&pool, &mut connection, "trial").await;
        assert_fails!(
            result_of(call(&pool, "second")).await,
            Error::CircuitOpen { .. }
        );

        connection.block("trial", 418).await;
        assert_eq!(status_of(trial).await, 418);
        assert_eq!(state(&pool), CircuitBreakerState::Closed);
        crate::common::expect_works(&pool, &mut connection, "after").await;
    }
}

#[tokio::test]
async fn failed_trial_reopens_and_a_dropped_trial_is_released() {
    let (_agent, pool, mut connection) = raw_pool(tripping(Duration::from_millis(30))).await;
    fail(&pool, 5).await;
    take_events(&mut connection, 5).await;

    let half_open = async || {
        eventually("a trial is allowed", async || {
            state(&pool) == CircuitBreakerState::HalfOpen
        })
        .await;
    };

    half_open().await;
    assert_fails!(result_of(call(&pool, "trial")).await, Error::Timeout { .. });
    assert_eq!(state(&pool), CircuitBreakerState::Open);
    connection.event().await;

    half_open().await;
    let given_up = arrived(&pool, &mut connection, "given up").await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());

    // A dropped call tells nothing about the agent, so the next call may try.
    let trial = arrived(&pool, &mut connection, "next").await;
    connection.block("next", 418).await;
    assert_eq!(status_of(trial).await, 418);
    assert_eq!(state(&pool), CircuitBreakerState::Closed);
}

#[tokio::test]
async fn dropped_calls_do_not_open_the_breaker() {
    let (_agent, pool, mut connection) = raw_pool(tripping(Duration::from_secs(60))).await;

    for n in 0..20 {
        let given_up = arrived(&pool, &mut connection, &n.to_string()).await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
    }

    assert_eq!(state(&pool), CircuitBreakerState::Closed);
    crate::common::expect_works(&pool, &mut connection, "after").await;
    assert_eq!(pool.agent("agent").unwrap().stats().calls.given_up, 20);
}

#[tokio::test]
async fn new_connection_allows_a_trial() {
    let (agent, pool, connection) = raw_pool(tripping(Duration::from_secs(60))).await;
    fail(&pool, 5).await;
    assert_eq!(state(&pool), CircuitBreakerState::Open);
    drop(connection);

    let mut connection = agent.accept_in(Encoding::Json).await;
    eventually("a trial is allowed", async || {
        state(&pool) == CircuitBreakerState::HalfOpen
    })
    .await;
    crate::common::expect_works(&pool, &mut connection, "trial").await;

    assert_eq!(state(&pool), CircuitBreakerState::Closed);
}

#[tokio::test]
async fn each_agent_has_its_own_breaker() {
    let (_agent, pool, _connection) = raw_pool(tripping(Duration::from_secs(60))).await;
    let server = crate::common::serve().await;
    let other = AgentConfig::new("other", server.path.to_str().unwrap());
    let other = pool.add(other).await.unwrap();

    fail(&pool, 5).await;
    other.send("c-1", &request("c-1", "/")).await.unwrap();

    assert_eq!(other.circuit_breaker_state(), CircuitBreakerState::Closed);
}

async fn expect_allowed(pool: &AgentPool, id: &str) {
    let response = pool
        .agent("agent")
        .unwrap()
        .send(id, &request(id, "/"))
        .await;
    assert_eq!(
        response.expect("it fails open"),
        AgentResponse::default_allow()
    );
}

#[tokio::test]
async fn open_failure_mode_allows_calls_of_an_unavailable_agent() {
    let config = AgentPoolConfig {
        failure_mode: FailureMode::Open,
        max_consecutive_errors: u32::MAX,
        ..tripping(Duration::from_secs(60))
    };
    let (_agent, pool, connection) = raw_pool(config).await;
    let agent = pool.agent("agent").unwrap();

    for n in 0..10 {
        expect_allowed(&pool, &format!("open-{n}")).await;
    }
    assert_eq!(state(&pool), CircuitBreakerState::Open);

    drop(connection);
    eventually("the closed connection is noticed", async || {
        agent.stats().active_connections == 0
    })
    .await;

    expect_allowed(&pool, "unavailable").await;
    let mut exchange = agent.exchange("exchange").unwrap();
    let answer = exchange.send(&request("exchange", "/")).await.unwrap();
    assert_eq!(answer, AgentResponse::default_allow());
    exchange.push(&request("exchange", "/")).await.unwrap();
    assert!(exchange.next_answer().await.unwrap().is_ok());

    let stats = agent.stats();
    assert_eq!(stats.failed_open, 13);
    assert_eq!(stats.calls.answered, 0);
    assert_eq!(stats.calls.made, stats.calls.ended());

    let closed = AgentConfig::reverse("agent").failure_mode(FailureMode::Closed);
    pool.replace(closed).await.unwrap();
    assert_fails!(
        result_of(call(&pool, "closed")).await,
        Error::Unavailable { .. }
    );
}

#[tokio::test]
async fn open_failure_mode_does_not_override_other_outcomes() {
    let config = AgentPoolConfig {
        failure_mode: FailureMode::Open,
        ..config(Encoding::Json)
    };
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let blocked = arrived(&pool, &mut connection, "c-1").await;
    connection.block("c-1", 418).await;
    assert_eq!(status_of(blocked).await, 418);

    let garbage = arrived(&pool, &mut connection, "c-2").await;
    let answer = serde_json::json!({
        "version": 2, "decision": "maybe", "audit": {"custom": {"correlation_id": "c-2"}},
    });
    connection
        .send_value(message::AGENT_RESPONSE, &answer)
        .await;
    assert_fails!(result_of(garbage).await, Error::InvalidMessage { .. });

    connection
        .send(message::FLOW_CONTROL, br#"{"action":1}"#)
        .await;
    connection.sync().await;
    assert_fails!(
        result_of(call(&pool, "c-3")).await,
        Error::FlowControlPaused { .. }
    );

    let cancelled = {
        connection
            .send(message::FLOW_CONTROL, br#"{"action":2}"#)
            .await;
        connection.sync().await;
        let call = arrived(&pool, &mut connection, "c-4").await;
        pool.agent("agent")
            .unwrap()
            .cancel("c-4", tollgate::CancelReason::Manual)
            .await
            .unwrap();
        result_of(call).await
    };
    assert_fails!(cancelled, Error::Cancelled { .. });

    let agent = pool.agent("agent").unwrap();
    assert_eq!(agent.stats().failed_open, 0);
    agent.remove().unwrap();
    assert_fails!(
        agent.send("c-5", &request("c-5", "/")).await,
        Error::Removed { .. }
    );
    assert_fails!(agent.exchange("c-6").map(drop), Error::Removed { .. });
    assert_eq!(agent.stats().failed_open, 0);
}

#[tokio::test]
async fn failing_connection_is_skipped_until_it_answers_a_ping() {
    let config = AgentPoolConfig {
        connections_per_agent: 2,
        request_timeout: DEADLINE,
        max_consecutive_errors: 3,
        circuit_breaker_threshold: 0,
        ..config(Encoding::Json)
    };
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    let [mut good, mut bad] = [connections.remove(0), connections.remove(0)];

    let answering = tokio::spawn(async move {
        loop {
            let id = good.event().await;
            good.allow(&id).await;
        }
    });

    let mut failures = 0;
    for n in 0..10 {
        failures += usize::from(result_of(call(&pool, &n.to_string())).await.is_err());
    }
    assert_eq!(failures, 3, "calls that went to the connection that fails");
    let stats = pool.agent("agent").unwrap().stats();
    assert_eq!(
        (stats.active_connections, stats.healthy_connections),
        (2, 1)
    );

    take_events(&mut bad, 3).await;
    let (message, ping) = bad.message().await;
    assert_eq!(message, message::PING);
    bad.send_value(message::PONG, &ping).await;

    eventually("the connection is used again", async || {
        pool.agent("agent").unwrap().stats().healthy_connections == 2
    })
    .await;
    answering.abort();
}
