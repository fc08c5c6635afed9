//! Health reports of agents, and detection of agents that hang.

use crate::common::{
    BOTH, RawConnection, answer_with_numbers, arrived, call, config, connection_number, eventually,
    message, raw_pool, raw_pool_of, request, result_of, status_of,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate::{AgentPool, AgentPoolConfig, CallError as Error, Encoding, LoadBalanceStrategy};

async fn report(connection: &mut RawConnection, state: Value) {
    let status = json!({"agent_id": "raw", "state": state, "timestamp_ms": 1});
    connection.send_value(message::HEALTH_STATUS, &status).await;
    connection.sync().await;
}

fn degraded(multiplier: f32) -> Value {
    json!({"status": "degraded", "disabled_features": [], "timeout_multiplier": multiplier})
}

/// Makes `count` calls. Returns how many of them each of two connections got.
async fn shares(pool: &AgentPool, connections: Vec<RawConnection>, count: usize) -> [usize; 2] {
    answer_with_numbers(connections);
    let mut shares = [0; 2];
    for n in 0..count {
        let answer = result_of(call(pool, &n.to_string())).await.unwrap();
        shares[usize::from(connection_number(answer))] += 1;
    }
    shares
}

#[tokio::test]
async fn degraded_connection_gets_a_quarter_of_its_share() {
    for strategy in [
        LoadBalanceStrategy::RoundRobin,
        LoadBalanceStrategy::HealthBased,
    ] {
        let config = config(Encoding::Json)
            .connections_per_agent(2)
            .load_balance_strategy(strategy);

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
async fn degraded_agent_gets_more_time() {
    let timeout = Duration::from_millis(40);
    let config = config(Encoding::Json).request_timeout(timeout);

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
        .agent("agent")
        .unwrap()
        .send("c-2", &request("c-2", "/"))
        .timeout(timeout)
        .await;
    assert!(matches!(firm, Err(Error::Timeout { after, .. }) if after == timeout));

    report(&mut connection, json!({"status": "healthy"})).await;
    let timed_out = result_of(call(&pool, "c-3")).await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == timeout));
}

#[tokio::test]
async fn draining_or_unhealthy_agent_finishes_its_exchanges() {
    let states = [
        json!({"status": "draining", "eta_ms": null}),
        json!({"status": "unhealthy", "reason": "disk full", "recoverable": true}),
    ];
    for encoding in BOTH {
        for state in &states {
            let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
            let agent = pool.agent("agent").unwrap();
            let pending = arrived(&pool, &mut connection, "pending").await;
            let mut exchange = agent.exchange("exchange").unwrap();

            report(&mut connection, state.clone()).await;
            assert!(!agent.is_healthy());
            assert_fails!(
                result_of(call(&pool, "new")).await,
                Error::Unavailable { .. }
            );
            assert!(agent.exchange("new").is_err());

            connection.block("pending", 418).await;
            assert_eq!(status_of(pending).await, 418);
            let event = request("exchange", "/");
            let (sent, ()) = tokio::join!(exchange.send(&event), async {
                assert_eq!(connection.event().await, "exchange");
                connection.allow("exchange").await;
            });
            sent.unwrap();

            let stats = agent.stats();
            assert_eq!(
                (stats.active_connections, stats.healthy_connections),
                (1, 0)
            );

            report(&mut connection, json!({"status": "healthy"})).await;
            crate::common::expect_works(&pool, &mut connection, "after").await;
        }
    }
}

#[tokio::test]
async fn only_the_draining_connection_is_skipped() {
    let config = config(Encoding::Json).connections_per_agent(2);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    report(&mut connections[0], json!({"status": "draining"})).await;
    assert_eq!(shares(&pool, connections, 6).await, [0, 6]);
}

#[tokio::test]
async fn health_report_expires() {
    let config = config(Encoding::Json)
        .health_check_interval(Duration::from_millis(5))
        .ping_timeout(crate::common::TEST_TIMEOUT);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let status = json!({
        "agent_id": "raw", "timestamp_ms": 1, "valid_until_ms": tollgate::events::now_ms() + 200,
        "state": {"status": "unhealthy", "reason": "busy", "recoverable": true},
    });
    connection.send_value(message::HEALTH_STATUS, &status).await;

    eventually("the report is applied", async || {
        !pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;
    eventually("the report is forgotten", async || {
        pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;
    assert!(tollgate::events::now_ms() > status["valid_until_ms"].as_u64().unwrap());
}

fn with_frequent_pings() -> AgentPoolConfig {
    config(Encoding::Json)
        .health_check_interval(Duration::from_millis(50))
        .ping_timeout(Duration::from_millis(100))
}

#[tokio::test]
async fn hung_agent_is_detected_without_calls() {
    let (agent, pool, mut hung) = raw_pool(with_frequent_pings()).await;
    let started = Instant::now();
    // The old connection is not read or answered from here on. A new one replaces it.
    let mut connection = agent.accept_in(Encoding::Json).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(
        hung.message().await.0,
        message::PING,
        "the connection was not pinged"
    );
    hung.expect_end().await;

    eventually("the new connection is used", async || {
        pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;

    crate::common::expect_works(&pool, &mut connection, "c-1").await;
    assert_eq!(crate::common::faults(&pool).await.connections_lost, 1);
}

#[tokio::test]
async fn agent_that_sends_any_message_stays_connected() {
    let (_agent, pool, mut connection) = raw_pool(with_frequent_pings()).await;
    for _ in 0..3 {
        let (message, ping) = connection.message().await;
        assert_eq!(message, message::PING);
        connection.send_value(message::PONG, &ping).await;
    }

    for _ in 0..3 {
        assert_eq!(connection.message().await.0, message::PING);
        connection
            .send(message::HEALTH_STATUS, br#"{"state":1}"#)
            .await;
    }

    assert_eq!(crate::common::faults(&pool).await.connections_lost, 0);
}

/// Waits for an event. Pings before it stay unanswered.
async fn next_event(connection: &mut RawConnection) -> String {
    loop {
        let (number, payload) = connection.receive().await.expect("an event");
        if message::EVENTS.contains(&number) {
            let event = connection.decode(&payload);
            return event["metadata"]["correlation_id"]
                .as_str()
                .expect("an id")
                .to_owned();
        }
    }
}

/// Returns a configuration of two connections with one slot each, which fail at the first timeout.
fn with_one_slot() -> AgentPoolConfig {
    config(Encoding::Json)
        .connections_per_agent(2)
        .max_concurrent_per_connection(1)
        .max_consecutive_errors(1)
}

/// Takes the only slot of `busy` and begins a call that waits for one. Once `recover` has run, the
/// call has to take the other connection, `idle`.
async fn expect_recovery(
    pool: &AgentPool,
    idle: &mut RawConnection,
    busy: &mut RawConnection,
    recover: impl AsyncFnOnce(&mut RawConnection),
) {
    let agent = pool.agent("agent").unwrap();
    let held = call(pool, "held");
    assert_eq!(next_event(busy).await, "held");
    let made = agent.stats().calls.made;
    let waiting = call(pool, "waiting");
    eventually("the call waits", async || {
        agent.stats().calls.made == made + 1
    })
    .await;
    recover(idle).await;
    assert_eq!(next_event(idle).await, "waiting");
    idle.block("waiting", 418).await;
    assert_eq!(status_of(waiting).await, 418);
    held.abort();
}

#[tokio::test]
async fn waiting_call_takes_a_connection_whose_report_expires() {
    let config = with_one_slot()
        .health_check_interval(Duration::from_millis(5))
        .ping_timeout(crate::common::TEST_TIMEOUT);
    let (_agent, pool, connections) = raw_pool_of(config).await;
    let [mut idle, mut busy] = <[_; 2]>::try_from(connections).ok().unwrap();
    let agent = pool.agent("agent").unwrap();
    let valid_until = tollgate::events::now_ms() + 500;
    let status = json!({
        "agent_id": "raw", "timestamp_ms": 1, "valid_until_ms": valid_until,
        "state": {"status": "unhealthy", "reason": "busy", "recoverable": true},
    });
    idle.send_value(message::HEALTH_STATUS, &status).await;
    eventually("the report is applied", async || {
        agent.stats().healthy_connections == 1
    })
    .await;
    expect_recovery(&pool, &mut idle, &mut busy, async |_| {}).await;
    assert!(tollgate::events::now_ms() > valid_until);
}

/// Lets a call time out. Returns the connection that it failed on, and the other.
async fn failing_and_other(
    pool: &AgentPool,
    connections: Vec<RawConnection>,
) -> (RawConnection, RawConnection) {
    let [mut one, mut two] = <[_; 2]>::try_from(connections).ok().unwrap();
    let agent = pool.agent("agent").unwrap();
    let event = request("late", "/");
    let mut exchange = agent.exchange("late").unwrap();
    let sent = exchange.send(&event).timeout(Duration::from_millis(20));
    let (sent, is_one) = tokio::join!(sent, async {
        tokio::select! {
            id = next_event(&mut one) => id == "late",
            id = next_event(&mut two) => id != "late",
        }
    });
    assert_fails!(sent, Error::Timeout { .. });
    assert_eq!(agent.stats().healthy_connections, 1);
    if is_one { (one, two) } else { (two, one) }
}

#[tokio::test]
async fn waiting_call_takes_a_connection_that_answers_a_ping() {
    let (_agent, pool, connections) = raw_pool_of(with_one_slot()).await;
    let (mut failing, mut other) = failing_and_other(&pool, connections).await;
    expect_recovery(&pool, &mut failing, &mut other, async |failing| {
        let (number, ping) = failing.receive().await.expect("a ping");
        assert_eq!(number, message::PING);
        failing.send(message::PONG, &ping).await;
    })
    .await;
}

#[tokio::test]
async fn waiting_call_takes_a_connection_that_answers_late() {
    let (_agent, pool, connections) = raw_pool_of(with_one_slot()).await;
    let (mut failing, mut other) = failing_and_other(&pool, connections).await;
    expect_recovery(&pool, &mut failing, &mut other, async |failing| {
        failing.allow("late").await;
    })
    .await;
}
