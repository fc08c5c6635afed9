//! Requests of a sticky session take one connection, and a session ends when it should.

use super::events::{complete, request};
use super::raw::{RawAgent, RawConnection};
use super::recorder::Recorder;
use super::{TEST_TIMEOUT, assert_fails, eventually, one_connection, pool_with};
use std::time::Duration;
use tollgate::Encoding;
use zentinel_agent_protocol::v2::{AgentPool, AgentPoolConfig};
use zentinel_agent_protocol::{
    AgentProtocolError as Error, AgentResponse, BinaryRequestBodyChunkEvent, Decision,
    RequestBodyChunkEvent,
};

/// Connects a pool to an agent named "agent", which the test plays on all of its connections.
async fn raw_pool_of(config: AgentPoolConfig) -> (RawAgent, AgentPool, Vec<RawConnection>) {
    let agent = RawAgent::listen();
    let count = config.connections_per_agent;
    let accept = async {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(agent.accept_in(Encoding::Json).await);
        }
        connections
    };
    let (pool, connections) = tokio::join!(pool_with(config, &agent.path), accept);
    (agent, pool, connections)
}

/// Like [`raw_pool_of`], with one connection.
async fn raw_pool() -> (RawAgent, AgentPool, RawConnection) {
    let (agent, pool, mut connections) = raw_pool_of(one_connection()).await;
    (agent, pool, connections.pop().unwrap())
}

/// Answers every event with the index of its connection as the status of a block.
fn answer_with_numbers(connections: Vec<RawConnection>) {
    for (number, mut connection) in (0..).zip(connections) {
        tokio::spawn(async move {
            loop {
                let id = connection.event().await;
                connection.block(&id, number).await;
            }
        });
    }
}

/// Returns the index of the connection that answered a call: see [`answer_with_numbers`].
fn connection_number(response: AgentResponse) -> u16 {
    match response.decision {
        Decision::Block { status, .. } => status,
        other => panic!("not blocked: {other:?}"),
    }
}

async fn ask(pool: &AgentPool, session: &str, id: &str) -> (u16, bool) {
    let event = request(id);
    let asked = pool.send_request_headers_with_sticky_session(session, "agent", id, &event);
    let (answer, is_sticky) = asked.await.unwrap();
    (connection_number(answer), is_sticky)
}

#[tokio::test]
async fn sticky_session_keeps_its_connection() {
    let (_agent, pool, connections) = raw_pool_of(AgentPoolConfig::default()).await;
    answer_with_numbers(connections);

    assert_fails!(
        pool.create_sticky_session("session", "unknown"),
        Error::InvalidMessage(_)
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
        let id = &n.to_string();
        let (answer, is_sticky) = ask(&pool, "session", id).await;
        assert!(is_sticky);
        assert_eq!(*kept_to.get_or_insert(answer), answer);
        let chunk: RequestBodyChunkEvent =
            BinaryRequestBodyChunkEvent::new(id, "x", 0, true).into();
        let answer = pool.send_request_body_chunk("agent", id, &chunk).await;
        assert_eq!(
            Some(connection_number(answer.unwrap())),
            kept_to,
            "the body took another connection"
        );
    }

    pool.clear_sticky_session("session");
    assert_eq!(pool.sticky_session_count(), 0);
    assert!(!pool.refresh_sticky_session("session"));
    assert!(!ask(&pool, "session", "without").await.1);
}

#[tokio::test]
async fn sticky_session_ends_with_its_connection() {
    let (agent, pool, connection) = raw_pool().await;
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

#[tokio::test]
async fn unused_affinities_and_sessions_expire() {
    let agent = Recorder::serve().await;
    let config = AgentPoolConfig {
        correlation_affinity_ttl: Duration::from_millis(20),
        sticky_session_timeout: Some(Duration::from_millis(20)),
        health_check_interval: Duration::from_millis(5),
        ..AgentPoolConfig::default()
    };
    let pool = pool_with(config, &agent.path).await;

    pool.send_request_headers("agent", "c-1", &request("c-1"))
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
async fn expired_sessions_are_not_used_and_can_be_removed() {
    let agent = Recorder::serve().await;
    let config = AgentPoolConfig {
        sticky_session_timeout: Some(Duration::from_millis(50)),
        health_check_interval: Duration::from_secs(3600),
        ..one_connection()
    };
    let pool = pool_with(config, &agent.path).await;
    for id in ["a", "b", "c"] {
        pool.create_sticky_session(id, "agent").unwrap();
    }
    assert_eq!(pool.cleanup_expired_sessions(), 0);

    tokio::time::sleep(Duration::from_millis(60)).await;
    pool.create_sticky_session("new", "agent").unwrap();
    assert_eq!(pool.sticky_session_count(), 4);
    assert!(!pool.has_sticky_session("a"));
    assert_eq!(pool.sticky_session_count(), 3, "not removed on use");
    assert_eq!(pool.cleanup_expired_sessions(), 2);
    assert!(pool.has_sticky_session("new"));
}

#[tokio::test]
async fn sessions_without_a_timeout_end_with_their_connection_only() {
    let agent = RawAgent::listen();
    let config = AgentPoolConfig {
        sticky_session_timeout: None,
        health_check_interval: Duration::from_millis(1),
        ..one_connection()
    };
    let (pool, connection) = tokio::join!(
        pool_with(config, &agent.path),
        agent.accept_in(Encoding::Json)
    );
    pool.create_sticky_session("session", "agent").unwrap();

    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(pool.sticky_session_count(), 1);

    drop(connection);
    eventually("the session is removed", async || {
        pool.sticky_session_count() == 0
    })
    .await;
}

#[tokio::test]
async fn number_of_sessions_is_limited() {
    let agent = Recorder::serve().await;
    let config = AgentPoolConfig {
        max_correlation_affinities: 2,
        ..one_connection()
    };
    let pool = pool_with(config, &agent.path).await;
    pool.create_sticky_session("a", "agent").unwrap();
    pool.create_sticky_session("b", "agent").unwrap();

    assert_fails!(
        pool.create_sticky_session("c", "agent"),
        Error::ConnectionFailed(_)
    );
    pool.create_sticky_session("a", "agent").unwrap();

    pool.clear_sticky_session("b");
    pool.create_sticky_session("c", "agent").unwrap();
    assert_eq!(pool.sticky_session_count(), 2);
}

#[tokio::test]
async fn session_with_another_agent_is_not_used() {
    let (_agent, pool, connections) = raw_pool_of(AgentPoolConfig::default()).await;
    answer_with_numbers(connections);
    let other = Recorder::serve().await;
    pool.add_agent("other", other.path.to_str().unwrap())
        .await
        .unwrap();

    pool.create_sticky_session("session", "other").unwrap();
    assert!(!ask(&pool, "session", "c-1").await.1);
    assert_eq!(other.take(), Vec::<String>::new());
    assert!(pool.has_sticky_session("session"));
}

/// Adds an agent that cannot be reached, and asserts that no session with it begins.
async fn expect_no_session(pool: &AgentPool) {
    pool.add_agent("agent", "/nonexistent/agent.sock")
        .await
        .unwrap();
    assert_fails!(
        pool.create_sticky_session("session", "agent"),
        Error::ConnectionFailed(_)
    );
    assert_eq!(pool.sticky_session_count(), 0);
}

#[tokio::test]
async fn agent_without_a_connection_begins_no_session() {
    let pool = AgentPool::new();
    expect_no_session(&pool).await;
}

#[tokio::test]
async fn agent_that_fails_open_begins_no_session_without_a_connection() {
    let config = tollgate::AgentPoolConfig::default().failure_mode(tollgate::FailureMode::Open);
    let pool = AgentPool::from(tollgate::AgentPool::with_config(config));
    expect_no_session(&pool).await;
}

#[tokio::test]
async fn sessions_do_not_delay_the_removal_of_their_agent() {
    let (_agent, pool, mut connection) = raw_pool().await;
    pool.create_sticky_session("session", "agent").unwrap();

    pool.remove_agent("agent").await.unwrap();
    assert_eq!(pool.sticky_session_count(), 0);
    connection.expect_end().await;
}

#[tokio::test]
async fn sessions_do_not_delay_the_replacement_of_their_agent() {
    let (_old, pool, mut connection) = raw_pool().await;
    let new = RawAgent::listen();
    pool.create_sticky_session("session", "agent").unwrap();

    let added = pool.add_agent("agent", new.path.to_str().unwrap());
    let (added, new_connection) = tokio::join!(added, new.accept_in(Encoding::Json));
    added.unwrap();
    connection.expect_end().await;

    answer_with_numbers(vec![new_connection]);
    assert!(!ask(&pool, "session", "c-1").await.1);
    assert_eq!(pool.sticky_session_count(), 0);
}

#[tokio::test]
async fn failed_replacement_keeps_the_sessions() {
    let (_agent, pool, connection) = raw_pool().await;
    answer_with_numbers(vec![connection]);
    pool.create_sticky_session("session", "agent").unwrap();

    assert_fails!(
        pool.connect_agent("agent", "/nonexistent/agent.sock").await,
        Error::ConnectionFailed(_)
    );
    assert!(ask(&pool, "session", "c-1").await.1);
}

#[tokio::test]
async fn sessions_do_not_delay_a_shutdown() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;
    pool.create_sticky_session("session", "agent").unwrap();

    let shutdown = tokio::time::timeout(TEST_TIMEOUT, pool.shutdown());
    shutdown.await.expect("waits for the session").unwrap();
    assert_eq!(pool.sticky_session_count(), 0);
    assert_eq!(pool.agent_ids(), Vec::<String>::new());
}

#[tokio::test]
async fn no_session_begins_during_a_shutdown() {
    let (_agent, pool, mut connection) = raw_pool().await;
    let call = tokio::spawn({
        let pool = pool.clone();
        async move {
            pool.send_request_complete("agent", "c-1", &complete("c-1"))
                .await
        }
    });
    connection.event().await;

    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    eventually("the pool closes", async || {
        pool.create_sticky_session("session", "agent").is_err()
    })
    .await;
    assert_fails!(
        pool.create_sticky_session("session", "agent"),
        Error::ConnectionFailed(_)
    );
    assert!(!shutdown.is_finished());
    assert_eq!(pool.sticky_session_count(), 0);

    connection.allow("c-1").await;
    call.await.unwrap().unwrap();
    shutdown.await.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_shutdown_lets_sessions_begin_again() {
    let (_agent, pool, mut connection) = raw_pool().await;
    let call = tokio::spawn({
        let pool = pool.clone();
        async move {
            pool.send_request_complete("agent", "c-1", &complete("c-1"))
                .await
        }
    });
    connection.event().await;

    let shutdown = tokio::time::timeout(Duration::from_millis(20), pool.shutdown());
    assert!(shutdown.await.is_err(), "does not wait for the call");
    pool.create_sticky_session("session", "agent").unwrap();

    connection.allow("c-1").await;
    call.await.unwrap().unwrap();
}

#[test]
fn sessions_are_removed_on_another_runtime_after_the_first_has_ended() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (serving, first) = (runtime(), runtime());
    let agent = serving.block_on(Recorder::serve());
    let config = AgentPoolConfig {
        sticky_session_timeout: Some(Duration::from_millis(20)),
        health_check_interval: Duration::from_millis(1),
        ..one_connection()
    };
    let pool = serving.block_on(pool_with(config, &agent.path));

    first.block_on(async { pool.create_sticky_session("a", "agent").unwrap() });
    drop(first);
    serving.block_on(async {
        pool.create_sticky_session("b", "agent").unwrap();
        eventually("both are removed", async || {
            pool.sticky_session_count() == 0
        })
        .await;
    });
}
