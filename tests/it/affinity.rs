//! Affinity: events with one correlation id take one connection.

use crate::common::{
    BOTH, answer_with_numbers, arrived, call, config, connection_number, eventually, message,
    raw_pool, raw_pool_of, request, result_of, serve,
};
use std::time::Duration;
use tollgate::{
    AgentConfig, AgentPoolConfig, CallError as Error, CancelReason, Encoding,
    events::{
        RequestBodyChunkEvent, RequestCompleteEvent, ResponseBodyChunkEvent, ResponseHeadersEvent,
    },
};

fn four_connections(encoding: Encoding) -> AgentPoolConfig {
    config(encoding).connections_per_agent(4)
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
        let agent = pool.agent("agent").unwrap();

        answer_with_numbers(connections);
        for n in 0..12 {
            let id = &n.to_string();
            let pinned = connection_number(agent.send(id, &request(id, "/")).await.unwrap());
            for index in 0..3 {
                let chunk = RequestBodyChunkEvent::new(id, "x", index, index == 2);
                assert_eq!(
                    connection_number(agent.send(id, &chunk).await.unwrap()),
                    pinned
                );
            }

            let answer = agent.send(id, &response_headers(id)).await;
            assert_eq!(connection_number(answer.unwrap()), pinned);
            let chunk = ResponseBodyChunkEvent::new(id, "x", 0, true);
            assert_eq!(
                connection_number(agent.send(id, &chunk).await.unwrap()),
                pinned
            );

            assert_eq!(crate::common::pins(&pool), 1);
            let answer = agent.send(id, &complete(id)).await;
            assert_eq!(connection_number(answer.unwrap()), pinned);
            assert_eq!(crate::common::pins(&pool), 0, "the request is over");
        }
    }
}

#[tokio::test]
async fn each_agent_pins_the_id_separately() {
    let (_agent, pool, connections) = raw_pool_of(four_connections(Encoding::Json)).await;
    answer_with_numbers(connections);
    let agent = pool.agent("agent").unwrap();
    let server = serve().await;

    let other = AgentConfig::new("other", server.path.to_str().unwrap());
    let other = pool.add(other).await.unwrap();

    let pinned = connection_number(agent.send("c-1", &request("c-1", "/")).await.unwrap());
    other.send("c-1", &request("c-1", "/")).await.unwrap();

    for index in 0..8 {
        let chunk = RequestBodyChunkEvent::new("c-1", "x", index, false);
        assert_eq!(
            connection_number(agent.send("c-1", &chunk).await.unwrap()),
            pinned
        );
        other.send("c-1", &chunk).await.unwrap();
    }

    assert_eq!(crate::common::pins(&pool), 1);
    pool.unpin("c-1");
    assert_eq!(crate::common::pins(&pool), 0);
    pool.unpin("c-1");
    pool.unpin("never seen");
}

#[tokio::test]
async fn failed_headers_leave_no_affinity() {
    let config = config(Encoding::Json).request_timeout(Duration::from_millis(20));
    let (_agent, pool, mut connection) = raw_pool(config).await;

    assert_fails!(
        result_of(call(&pool, "timed out")).await,
        Error::Timeout { .. }
    );
    connection.event().await;

    let given_up = arrived(&pool, &mut connection, "given up").await;
    assert_eq!(crate::common::pins(&pool), 1);
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(crate::common::pins(&pool), 0);

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
    pool.agent("agent")
        .unwrap()
        .cancel("cancelled", CancelReason::Manual)
        .await
        .unwrap();
    assert_fails!(result_of(cancelled).await, Error::Cancelled { .. });

    drop(connection);
    eventually("the closed connection is noticed", async || {
        !pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;

    assert_fails!(
        result_of(call(&pool, "unavailable")).await,
        Error::Unavailable { .. }
    );
    assert_eq!(crate::common::pins(&pool), 0);
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
        pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;

    for index in 0..2 {
        let chunk = RequestBodyChunkEvent::new("c-1", "x", index, false);
        assert_fails!(
            pool.agent("agent").unwrap().send("c-1", &chunk).await,
            Error::ConnectionClosed { .. }
        );
    }

    pool.unpin("c-1");
    crate::common::expect_works(&pool, &mut connection, "c-1").await;
}

#[tokio::test]
async fn number_of_affinities_is_limited() {
    let agent = serve().await;
    let pool = crate::common::pool_with(
        AgentPoolConfig::default().max_correlation_affinities(10),
        &agent.path,
    )
    .await;
    let handle = pool.agent("agent").unwrap();

    for n in 0..25 {
        let id = &n.to_string();
        handle.send(id, &request(id, "/")).await.unwrap();
        let chunk = RequestBodyChunkEvent::new(id, "x", 0, true);
        handle.send(id, &chunk).await.unwrap();
    }

    assert_eq!(crate::common::pins(&pool), 10);
    assert_eq!(pool.metrics().snapshot().affinity_rejections_total, 15);

    pool.unpin("0");
    handle.send("new", &request("new", "/")).await.unwrap();
    assert_eq!(crate::common::pins(&pool), 10);
    assert_eq!(pool.metrics().snapshot().affinity_rejections_total, 15);
}

#[tokio::test]
async fn unused_affinities_expire() {
    let agent = serve().await;
    let config = AgentPoolConfig::default()
        .correlation_affinity_ttl(Duration::from_millis(20))
        .health_check_interval(Duration::from_millis(5));
    let pool = crate::common::pool_with(config, &agent.path).await;

    pool.agent("agent")
        .unwrap()
        .send("c-1", &request("c-1", "/"))
        .await
        .unwrap();

    eventually("it is forgotten", async || crate::common::pins(&pool) == 0).await;

    assert_eq!(pool.metrics().snapshot().affinity_evictions_total, 1);
}

/// Sessions of several HTTP requests keep an exchange.
#[tokio::test]
async fn requests_of_an_exchange_take_its_connection() {
    let (_agent, pool, connections) = raw_pool_of(four_connections(Encoding::Json)).await;
    answer_with_numbers(connections);
    let agent = pool.agent("agent").unwrap();
    let mut session = agent.exchange("session").unwrap();
    let kept_to = session.send(&request("session", "/")).await.unwrap();
    let kept_to = connection_number(kept_to);

    for n in 0..12 {
        let id = &n.to_string();
        let answer = session.send_by_id(id, &request(id, "/")).await.unwrap();
        assert_eq!(connection_number(answer), kept_to);
        let chunk = RequestBodyChunkEvent::new(id, "x", 0, true);
        for answer in [
            session.send_by_id(id, &chunk).await,
            agent.send(id, &chunk).await,
        ] {
            let number = connection_number(answer.unwrap());
            assert_eq!(number, kept_to, "the body took another connection");
        }
        session.send_by_id(id, &complete(id)).await.unwrap();
    }
    assert_eq!(crate::common::pins(&pool), 0);
}

#[tokio::test]
async fn requests_of_an_exchange_fail_when_its_connection_ends() {
    let (agent, pool, connection) = raw_pool(config(Encoding::Json)).await;
    let handle = pool.agent("agent").unwrap();
    let session = handle.exchange("session").unwrap();

    drop(connection);
    let connection = agent.accept_in(Encoding::Json).await;
    eventually("the new connection is used", async || handle.is_healthy()).await;
    answer_with_numbers(vec![connection]);

    assert!(!session.is_open());
    let event = request("c-1", "/");
    assert_fails!(
        session.send_by_id("c-1", &event).await,
        Error::ConnectionClosed { .. }
    );
    assert_eq!(crate::common::pins(&pool), 0);
    handle.send("c-1", &event).await.unwrap();
}
