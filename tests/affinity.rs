//! Affinity: events with one correlation id take one connection, and so do sticky sessions.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod common;

use common::{
    BOTH, answer_with_numbers, arrived, call, config, connection_number, eventually, message,
    raw_pool, raw_pool_of, request, result_of, serve,
};
use std::time::Duration;
use tollgate::{
    AgentPool, AgentPoolConfig, AgentProtocolError as Error, CancelReason, Encoding,
    RequestBodyChunkEvent, RequestCompleteEvent, ResponseBodyChunkEvent, ResponseHeadersEvent,
};

fn four_connections(encoding: Encoding) -> AgentPoolConfig {
    AgentPoolConfig {
        connections_per_agent: 4,
        ..config(encoding)
    }
}

fn response_headers(id: &str) -> ResponseHeadersEvent {
    ResponseHeadersEvent {
        correlation_id: id.to_owned(),
        status: 200,
        headers: [].into(),
    }
}

fn complete(id: &str) -> RequestCompleteEvent {
    RequestCompleteEvent {
        correlation_id: id.to_owned(),
        status: 200,
        duration_ms: 1,
        request_body_size: 0,
        response_body_size: 0,
        upstream_attempts: 1,
        error: None,
    }
}

#[tokio::test]
async fn events_of_a_request_take_the_connection_of_its_headers() {
    for encoding in BOTH {
        let (_agent, pool, connections) = raw_pool_of(four_connections(encoding)).await;

        answer_with_numbers(connections);
        for n in 0..12 {
            let id = &n.to_string();
            let pinned =
                connection_number(pool.send("agent", id, &request(id, "/")).await.unwrap());
            for index in 0..3 {
                let chunk = RequestBodyChunkEvent::new(id, "x", index, index == 2);
                assert_eq!(
                    connection_number(pool.send("agent", id, &chunk).await.unwrap()),
                    pinned
                );
            }

            let answer = pool.send("agent", id, &response_headers(id)).await;
            assert_eq!(connection_number(answer.unwrap()), pinned);
            let chunk = ResponseBodyChunkEvent::new(id, "x", 0, true);
            assert_eq!(
                connection_number(pool.send("agent", id, &chunk).await.unwrap()),
                pinned
            );

            assert_eq!(pool.correlation_affinity_count(), 1);
            let answer = pool.send("agent", id, &complete(id)).await;
            assert_eq!(connection_number(answer.unwrap()), pinned);
            assert_eq!(pool.correlation_affinity_count(), 0, "the request is over");
        }
    }
}

#[tokio::test]
async fn each_agent_pins_the_id_separately() {
    let (_agent, pool, connections) = raw_pool_of(four_connections(Encoding::Json)).await;
    answer_with_numbers(connections);
    let other = serve().await;

    pool.add_agent("other", other.path.to_str().unwrap())
        .await
        .unwrap();

    let pinned = connection_number(
        pool.send("agent", "c-1", &request("c-1", "/"))
            .await
            .unwrap(),
    );
    pool.send("other", "c-1", &request("c-1", "/"))
        .await
        .unwrap();

    for index in 0..8 {
        let chunk = RequestBodyChunkEvent::new("c-1", "x", index, false);
        assert_eq!(
            connection_number(pool.send("agent", "c-1", &chunk).await.unwrap()),
            pinned
        );
        pool.send("other", "c-1", &chunk).await.unwrap();
    }

    assert_eq!(pool.correlation_affinity_count(), 1);
    pool.clear_correlation_affinity("c-1");
    assert_eq!(pool.correlation_affinity_count(), 0);
    pool.clear_correlation_affinity("c-1");
    pool.clear_correlation_affinity("never seen");
}

#[tokio::test]
async fn failed_headers_leave_no_affinity() {
    let config = AgentPoolConfig {
        request_timeout: Duration::from_millis(20),
        ..config(Encoding::Json)
    };
    let (_agent, pool, mut connection) = raw_pool(config).await;

    assert_fails!(
        result_of(call(&pool, "timed out")).await,
        Error::Timeout { .. }
    );
    connection.event().await;

    let given_up = arrived(&pool, &mut connection, "given up").await;
    assert_eq!(pool.correlation_affinity_count(), 1);
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(pool.correlation_affinity_count(), 0);

    connection
        .send(message::FLOW_CONTROL, br#"{"action":1}"#)
        .await;
    connection.sync().await;
    assert_fails!(
        result_of(call(&pool, "paused")).await,
        Error::FlowControlPaused { .. }
    );

    connection
        .send(message::FLOW_CONTROL, br#"{"action":2}"#)
        .await;
    connection.sync().await;

    let cancelled = arrived(&pool, &mut connection, "cancelled").await;
    pool.cancel_request("agent", "cancelled", CancelReason::Manual)
        .await
        .unwrap();
    assert_fails!(result_of(cancelled).await, Error::Cancelled { .. });

    drop(connection);
    eventually("the closed connection is noticed", async || {
        !pool.is_agent_healthy("agent")
    })
    .await;

    assert_fails!(
        result_of(call(&pool, "unavailable")).await,
        Error::Unavailable { .. }
    );
    assert_eq!(pool.correlation_affinity_count(), 0);
}

#[tokio::test]
async fn exchange_does_not_move_when_its_connection_ends() {
    let (agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;

    let headers = arrived(&pool, &mut connection, "c-1").await;
    connection.allow("c-1").await;
    result_of(headers).await.unwrap();
    drop(connection);

    let mut connection = agent.accept_in(Encoding::Json).await;
    eventually("the new connection is used", async || {
        pool.is_agent_healthy("agent")
    })
    .await;

    for index in 0..2 {
        let chunk = RequestBodyChunkEvent::new("c-1", "x", index, false);
        assert_fails!(
            pool.send("agent", "c-1", &chunk).await,
            Error::ConnectionClosed { .. }
        );
    }

    pool.clear_correlation_affinity("c-1");
    common::expect_works(&pool, &mut connection, "c-1").await;
}

#[tokio::test]
async fn number_of_affinities_is_limited() {
    let agent = serve().await;
    let pool = common::pool_with(
        AgentPoolConfig {
            max_correlation_affinities: 10,
            ..AgentPoolConfig::default()
        },
        &agent.path,
    )
    .await;

    for n in 0..25 {
        let id = &n.to_string();
        pool.send("agent", id, &request(id, "/")).await.unwrap();
        let chunk = RequestBodyChunkEvent::new(id, "x", 0, true);
        pool.send("agent", id, &chunk).await.unwrap();
    }

    assert_eq!(pool.correlation_affinity_count(), 10);
    assert_eq!(pool.correlation_affinity_rejections(), 15);

    pool.clear_correlation_affinity("0");
    pool.send("agent", "new", &request("new", "/"))
        .await
        .unwrap();
    assert_eq!(pool.correlation_affinity_count(), 10);
    assert_eq!(pool.correlation_affinity_rejections(), 15);
}

#[tokio::test]
async fn unused_affinities_and_sessions_expire() {
    let agent = serve().await;
    let config = AgentPoolConfig {
        correlation_affinity_ttl: Duration::from_millis(20),
        sticky_session_timeout: Some(Duration::from_millis(20)),
        health_check_interval: Duration::from_millis(5),
        ..AgentPoolConfig::default()
    };
    let pool = common::pool_with(config, &agent.path).await;

    pool.send("agent", "c-1", &request("c-1", "/"))
        .await
        .unwrap();
    pool.create_sticky_session("session", "agent").unwrap();

    eventually("both are forgotten", async || {
        pool.correlation_affinity_count() == 0 && pool.sticky_session_count() == 0
    })
    .await;

    assert_eq!(pool.correlation_affinity_evictions(), 1);
    assert!(!pool.has_sticky_session("session"));
}

#[tokio::test]
async fn sticky_session_keeps_its_connection() {
    let (_agent, pool, connections) = raw_pool_of(four_connections(Encoding::Json)).await;
    answer_with_numbers(connections);

    assert_fails!(
        pool.create_sticky_session("session", "unknown"),
        Error::UnknownAgent { .. }
    );
    assert!(!pool.has_sticky_session("session"));

    pool.create_sticky_session("session", "agent").unwrap();
    assert!(pool.has_sticky_session("session") && pool.refresh_sticky_session("session"));
    assert_eq!(
        pool.sticky_session_agent("session").as_deref(),
        Some("agent")
    );

    let mut kept_to = None;
    for n in 0..12 {
        let (answer, is_sticky) = ask(&pool, "session", &n.to_string()).await;
        assert!(is_sticky);
        assert_eq!(*kept_to.get_or_insert(answer), answer);
        let chunk = RequestBodyChunkEvent::new(n.to_string(), "x", 0, true);
        let answer = pool.send("agent", &n.to_string(), &chunk).await.unwrap();
        assert_eq!(
            Some(connection_number(answer)),
            kept_to,
            "the body took another connection"
        );
    }

    pool.clear_sticky_session("session");
    assert_eq!(pool.sticky_session_count(), 0);
    assert!(!pool.refresh_sticky_session("session"));
    assert!(!ask(&pool, "session", "without").await.1);
}

async fn ask(pool: &AgentPool, session: &str, id: &str) -> (u16, bool) {
    let event = request(id, "/");
    let asked = pool.send_request_headers_with_sticky_session(session, "agent", id, &event);
    let (answer, is_sticky) = asked.await.unwrap();
    (connection_number(answer), is_sticky)
}

#[tokio::test]
async fn sticky_session_ends_with_its_connection() {
    let (agent, pool, connection) = raw_pool(config(Encoding::Json)).await;
    pool.create_sticky_session("session", "agent").unwrap();

    drop(connection);
    let connection = agent.accept_in(Encoding::Json).await;
    eventually("the new connection is used", async || {
        pool.is_agent_healthy("agent")
    })
    .await;
    answer_with_numbers(vec![connection]);

    assert!(!ask(&pool, "session", "c-1").await.1);
    assert!(!pool.has_sticky_session("session"));
}
