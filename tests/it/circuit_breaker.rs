//! Circuit breaker: an agent that fails too many calls gets none for a while. The failure mode
//! decides what callers get meanwhile.

use crate::common::{
    RawConnection, arrived, call, config, eventually, in_virtual_time, message, raw_pool,
    raw_pool_of, request, result_of, status_of,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, AgentResponse, CallError as Error, Encoding,
    FailureMode, stats::CircuitBreakerState,
};

const DEADLINE: Duration = Duration::from_millis(20);

fn tripping(reset_timeout: Duration) -> AgentPoolConfig {
    config(Encoding::Json)
        .request_timeout(DEADLINE)
        .circuit_breaker_threshold(5)
        .circuit_breaker_reset_timeout(reset_timeout)
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
async fn agent_that_answers_nobody_opens_the_breaker() {
    let (_agent, pool, mut connection) = raw_pool(tripping(Duration::from_secs(60))).await;

    fail(&pool, 4).await;
    assert_eq!(state(&pool), CircuitBreakerState::Closed);
    fail(&pool, 1).await;
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
    assert_eq!((stats.calls.circuit_open, stats.calls.timed_out), (100, 5));
}

#[tokio::test]
async fn agent_that_becomes_silent_opens_the_breaker_after_the_window() {
    let config =
        tripping(Duration::from_secs(60)).circuit_breaker_window(Duration::from_millis(500));
    let (_agent, pool, mut connection) = raw_pool(config).await;
    crate::common::expect_works(&pool, &mut connection, "before").await;

    let first_failure = Instant::now();
    eventually("the breaker opens", async || {
        let failed = result_of(call(&pool, &format!("{:?}", first_failure.elapsed()))).await;
        matches!(failed, Err(Error::CircuitOpen { .. }))
    })
    .await;
    assert!(first_failure.elapsed() > Duration::from_millis(400));
}

/// Sends requests on which the agent takes too long, `at_once` of them until `rounds` rounds have
/// timed out, while another client is answered between the rounds.
async fn slow_requests_among_others(
    pool: &AgentPool,
    mut connections: Vec<RawConnection>,
    at_once: usize,
    rounds: usize,
) {
    let agent = pool.agent("agent").unwrap();
    let serving = connections.drain(..).map(|mut connection| {
        tokio::spawn(async move {
            while let Some((_, payload)) = connection.receive().await {
                let event: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                let id = event["metadata"]["correlation_id"].as_str();
                if let Some(id) = id.filter(|id| id.starts_with("quick")) {
                    connection.block(id, 418).await;
                }
            }
        })
    });
    let serving: Vec<_> = serving.collect();
    for round in 0..rounds {
        let ids: Vec<_> = (0..at_once).map(|n| format!("slow-{round}-{n}")).collect();
        let slow = ids.iter().map(|id| result_of(call(pool, id)));
        for outcome in futures_util::future::join_all(slow).await {
            assert_fails!(outcome, Error::Timeout { .. });
        }
        assert_eq!(state(pool), CircuitBreakerState::Closed);
        let id = format!("quick-{round}");
        assert_eq!(status_of(call(pool, &id)).await, 418, "another client");
    }
    let stats = agent.stats();
    assert_eq!(stats.circuit_breaker_trips, 0);
    assert_eq!(stats.calls.timed_out, (at_once * rounds) as u64);
    assert_eq!((stats.calls.unavailable, stats.failed_open), (0, 0));
    serving.into_iter().for_each(|task| task.abort());
}

/// The agent answers no pings, so connections on which calls failed stay as they are.
fn with_quiet_maintenance(connections: usize) -> AgentPoolConfig {
    tripping(Duration::from_secs(60))
        .connections_per_agent(connections)
        .max_concurrent_per_connection(50)
        .ping_timeout(crate::common::TEST_TIMEOUT)
}

/// The window spans several rounds, so that failures enough for the threshold are in it.
#[test]
fn slow_requests_of_one_client_do_not_open_the_breaker() {
    in_virtual_time(async {
        for (connections, at_once, rounds_of_window) in [(1, 1, 10), (1, 20, 2), (4, 40, 2)] {
            let window = DEADLINE * rounds_of_window;
            let config = with_quiet_maintenance(connections).circuit_breaker_window(window);
            let (_agent, pool, mut raw) = raw_pool_of(config).await;
            crate::common::expect_works(&pool, &mut raw[0], "quick").await;
            let ten_windows = 10 * rounds_of_window as usize;
            slow_requests_among_others(&pool, raw, at_once, ten_windows).await;
        }
    });
}

#[tokio::test]
async fn undecodable_answers_open_the_breaker_if_they_are_half() {
    let (_agent, pool, mut connection) = raw_pool(tripping(Duration::from_secs(60))).await;
    let answer = |id: &str| {
        serde_json::json!({
            "version": 2, "decision": "maybe", "audit": {"custom": {"correlation_id": id}},
        })
    };
    for n in 0..8 {
        crate::common::expect_works(&pool, &mut connection, &format!("good-{n}")).await;
    }
    for n in 0..8 {
        assert_eq!(state(&pool), CircuitBreakerState::Closed);
        let id = format!("bad-{n}");
        let bad = arrived(&pool, &mut connection, &id).await;
        connection
            .send_value(message::AGENT_RESPONSE, &answer(&id))
            .await;
        assert_fails!(result_of(bad).await, Error::InvalidMessage { .. });
    }
    assert_eq!(state(&pool), CircuitBreakerState::Open);
}

#[test]
fn lost_connection_is_one_failure() {
    in_virtual_time(async {
        let config = with_quiet_maintenance(1).request_timeout(crate::common::TEST_TIMEOUT);
        let (agent, pool, mut connection) = raw_pool(config).await;
        for lost in 1..=5 {
            let calls: Vec<_> = (0..20).map(|n| call(&pool, &n.to_string())).collect();
            take_events(&mut connection, calls.len()).await;
            drop(connection);
            for call in calls {
                assert_fails!(result_of(call).await, Error::ConnectionClosed { .. });
            }
            let is_open = state(&pool) != CircuitBreakerState::Closed;
            assert_eq!(is_open, lost == 5, "after {lost} lost connections");
            connection = agent.accept_in(Encoding::Json).await;
            eventually("connected again", async || {
                pool.agent("agent").unwrap().stats().active_connections == 1
            })
            .await;
        }
    });
}

#[tokio::test]
async fn one_trial_call_is_allowed_after_the_reset_timeout() {
    let config = tripping(Duration::from_millis(50)).request_timeout(Duration::from_millis(200));
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let calls: Vec<_> = (0..5).map(|n| call(&pool, &format!("fails-{n}"))).collect();
    take_events(&mut connection, 5).await;
    for call in calls {
        assert_fails!(result_of(call).await, Error::Timeout { .. });
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
    let config = tripping(Duration::from_secs(60))
        .failure_mode(FailureMode::Open)
        .max_consecutive_errors(u32::MAX);
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
    let config = config(Encoding::Json).failure_mode(FailureMode::Open);
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
    let config = config(Encoding::Json)
        .connections_per_agent(2)
        .request_timeout(DEADLINE)
        .max_consecutive_errors(3)
        .circuit_breaker_threshold(0);
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
