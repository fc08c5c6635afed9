//! Outcome of calls while the agent asks for a pause, by flow control mode.

use crate::common::{
    BOTH, RawConnection, call, calls_made, config, eventually, in_virtual_time, message, raw_pool,
    raw_pool_of, request, result_of,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use tollgate::{
    AgentPoolConfig, AgentResponse, CallError as Error, Encoding, FlowControlMode,
    events::RequestBodyChunkEvent,
};

fn waiting(timeout: Duration, encoding: Encoding) -> AgentPoolConfig {
    config(encoding)
        .flow_control_mode(FlowControlMode::WaitAndRetry)
        .flow_control_wait_timeout(timeout)
}

async fn request_flow(connection: &mut RawConnection, id: Option<&str>, action: &str) {
    let flow = json!({"correlation_id": id, "action": {"type": action}, "timestamp_ms": 1});
    connection.send_value(message::FLOW_CONTROL, &flow).await;
    connection.sync().await;
}

#[tokio::test]
async fn fail_open_allows_without_contacting_the_agent() {
    for encoding in BOTH {
        let config = config(encoding).flow_control_mode(FlowControlMode::FailOpen);
        let (_agent, pool, mut connection) = raw_pool(config).await;
        request_flow(&mut connection, None, "pause").await;

        let answer = result_of(call(&pool, "c-1")).await.unwrap();
        assert_eq!(answer, AgentResponse::default_allow());

        let mut exchange = pool.agent("agent").unwrap().exchange("c-2").unwrap();
        let answer = exchange.send(&request("c-2", "/")).await.unwrap();
        assert_eq!(answer, AgentResponse::default_allow());

        exchange.push(&request("c-2", "/")).await.unwrap();
        let answer = exchange.next_answer().await.unwrap().unwrap();
        assert_eq!(answer, AgentResponse::default_allow());

        assert_eq!(connection.sync().await, [0; 0], "the agent was contacted");
        let stats = pool.agent("agent").unwrap().stats();
        assert_eq!((stats.allowed_while_paused, stats.calls.paused), (3, 3));
        assert_eq!(crate::common::pins(&pool), 0);

        request_flow(&mut connection, None, "resume").await;
        crate::common::expect_works(&pool, &mut connection, "c-3").await;
    }
}

#[test]
fn waiting_calls_continue_in_order_after_a_resume() {
    in_virtual_time(async {
        for encoding in BOTH {
            let (_agent, pool, mut connection) =
                raw_pool(waiting(crate::common::TEST_TIMEOUT, encoding)).await;
            for round in 0..3 {
                request_flow(&mut connection, None, "pause").await;
                let before = calls_made(&pool).await;
                let mut calls = Vec::new();

                for n in 0..20 {
                    calls.push(call(&pool, &format!("{round}-{n}")));
                    eventually("the call waits", async || {
                        calls_made(&pool).await == before + n + 1
                    })
                    .await;
                }

                assert_eq!(connection.sync().await, [0; 0], "an event came early");
                request_flow_without_sync(&mut connection, "resume").await;
                for n in 0..20 {
                    let id = format!("{round}-{n}");
                    assert_eq!(connection.event().await, id);
                    connection.allow(&id).await;
                }

                for call in calls {
                    result_of(call).await.unwrap();
                }
            }
        }
    });
}

async fn request_flow_without_sync(connection: &mut RawConnection, action: &str) {
    let flow = json!({"action": {"type": action}});
    connection.send_value(message::FLOW_CONTROL, &flow).await;
}

#[test]
fn waiting_for_a_resume_times_out() {
    in_virtual_time(async {
        let timeout = Duration::from_millis(50);
        for encoding in BOTH {
            let (_agent, pool, mut connection) = raw_pool(waiting(timeout, encoding)).await;
            for id in [None, Some("c-1")] {
                request_flow(&mut connection, id, "pause").await;

                let started = Instant::now();
                assert_fails!(
                    result_of(call(&pool, "c-1")).await,
                    Error::FlowControlPaused { .. }
                );

                assert!(started.elapsed() >= timeout);
                assert!(started.elapsed() < Duration::from_secs(1));

                request_flow(&mut connection, id, "resume").await;
            }
            crate::common::expect_works(&pool, &mut connection, "c-1").await;
        }
    });
}

#[tokio::test]
async fn deadline_of_a_call_holds_while_it_waits() {
    let config = waiting(crate::common::TEST_TIMEOUT, Encoding::Json)
        .request_timeout(Duration::from_millis(30));
    let (_agent, pool, mut connection) = raw_pool(config).await;
    request_flow(&mut connection, None, "pause").await;
    assert_fails!(result_of(call(&pool, "c-1")).await, Error::Timeout { .. });
}

#[tokio::test]
async fn paused_exchange_does_not_block_others() {
    let (_agent, pool, mut connection) =
        raw_pool(waiting(crate::common::TEST_TIMEOUT, Encoding::Json)).await;
    request_flow(&mut connection, Some("c-1"), "pause").await;
    request_flow(&mut connection, Some("c-2"), "pause").await;

    let first = call(&pool, "c-1");
    let second = call(&pool, "c-2");
    eventually("both calls wait", async || calls_made(&pool).await == 2).await;
    crate::common::expect_works(&pool, &mut connection, "c-3").await;

    request_flow_for(&mut connection, "c-2", "resume").await;
    assert_eq!(connection.event().await, "c-2");
    connection.allow("c-2").await;
    result_of(second).await.unwrap();
    assert!(!first.is_finished());

    request_flow_for(&mut connection, "c-1", "resume").await;
    assert_eq!(connection.event().await, "c-1");
    connection.allow("c-1").await;
    result_of(first).await.unwrap();
}

async fn request_flow_for(connection: &mut RawConnection, id: &str, action: &str) {
    let flow = json!({"correlation_id": id, "action": {"type": action}, "timestamp_ms": 1});
    connection.send_value(message::FLOW_CONTROL, &flow).await;
}

#[tokio::test]
async fn exchange_waits_for_its_own_connection() {
    let config = waiting(crate::common::TEST_TIMEOUT, Encoding::Json).connections_per_agent(2);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;

    let headers = call(&pool, "c-1");
    let [mut one, mut two] = [connections.remove(0), connections.remove(0)];
    let is_one = tokio::select! {
        _ = one.event() => true,
        _ = two.event() => false,
    };
    let (mut pinned, mut other) = if is_one { (one, two) } else { (two, one) };
    pinned.allow("c-1").await;
    result_of(headers).await.unwrap();

    request_flow(&mut pinned, None, "pause").await;
    for n in 0..4 {
        crate::common::expect_works(&pool, &mut other, &n.to_string()).await;
    }

    let before = calls_made(&pool).await;
    let body = {
        let pool = pool.clone();
        tokio::spawn(async move {
            let chunk = RequestBodyChunkEvent::new("c-1", "x", 0, true);
            pool.agent("agent").unwrap().send("c-1", &chunk).await
        })
    };

    eventually("the chunk waits", async || {
        calls_made(&pool).await == before + 1
    })
    .await;
    assert_eq!(
        other.sync().await,
        [0; 0],
        "the chunk took another connection"
    );

    request_flow_without_sync(&mut pinned, "resume").await;
    assert_eq!(pinned.event().await, "c-1");
    pinned.allow("c-1").await;
    result_of(body).await.unwrap();
}

#[tokio::test]
async fn waiting_calls_fail_at_once_when_the_agent_is_gone() {
    let (_agent, pool, mut connection) =
        raw_pool(waiting(crate::common::TEST_TIMEOUT, Encoding::Json)).await;
    request_flow(&mut connection, None, "pause").await;

    let calls: Vec<_> = (0..10).map(|n| call(&pool, &n.to_string())).collect();
    eventually("all calls wait", async || calls_made(&pool).await == 10).await;

    let started = Instant::now();
    drop(connection);
    for call in calls {
        assert_fails!(result_of(call).await, Error::Unavailable { .. });
    }
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn dropped_waiting_call_does_not_block_others() {
    let (_agent, pool, mut connection) =
        raw_pool(waiting(crate::common::TEST_TIMEOUT, Encoding::Json)).await;
    request_flow(&mut connection, None, "pause").await;

    let mut calls: Vec<_> = (0..10).map(|n| call(&pool, &n.to_string())).collect();
    eventually("all calls wait", async || calls_made(&pool).await == 10).await;

    for dropped in calls.drain(..5) {
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
    }

    request_flow_without_sync(&mut connection, "resume").await;
    for call in calls {
        let id = connection.event().await;
        connection.allow(&id).await;
        result_of(call).await.unwrap();
    }

    let calls = pool.agent("agent").unwrap().stats().calls;
    assert_eq!((calls.answered, calls.given_up, calls.made), (5, 5, 10));
}
