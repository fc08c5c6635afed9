//! Tollgate's pool with the agent server of `zentinel-agent-protocol`, under load and after
//! failures.

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgate::{AgentPool, AgentProtocolError, AgentResponse, CancelReason};
use tollgate_interop::{
    AGENT, PoolWithPeer, TIMEOUT, events, pairings, pool_config, to_chunk, to_uri,
};

/// Timeout of a call that is never answered.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until this number of calls is pending.
async fn wait_for_pending(pool: &AgentPool, calls: u64) {
    let counted = timeout(TIMEOUT, async {
        while pool
            .agent_stats(AGENT)
            .await
            .expect("the agent is known")
            .total_in_flight
            != calls
        {
            tokio::task::yield_now().await;
        }
    });
    counted.await.expect("the calls are pending in time");
}

async fn inspect(pool: &AgentPool, id: &str) -> Result<AgentResponse, AgentProtocolError> {
    let event = events::guardrail_inspect(id);
    pool.send_guardrail_inspect(AGENT, id, &event).await
}

/// Checks that the agent still answers on its only connection.
async fn expect_still_working(connected: &mut PoolWithPeer) {
    let event = events::request_headers("after", "/routing");
    let answer = connected.pool.send(AGENT, "after", &event).await;
    assert_eq!(answer.expect("an answer"), to_uri("/routing"));
    connected.expect_logged("request_headers", &event).await;
    let stats = connected.pool.agent_stats(AGENT).await;
    let stats = stats.expect("the agent is known");
    assert_eq!((stats.active_connections, stats.total_in_flight), (1, 0));
}

/// The server of `zentinel-agent-protocol` announces guardrail events and never answers them.
#[tokio::test]
async fn guardrail_events_time_out() {
    for pairing in pairings() {
        let mut config = pool_config(&pairing);
        config.request_timeout = SHORT_TIMEOUT;
        let mut connected = PoolWithPeer::configured(&pairing, config).await;
        let failed = inspect(&connected.pool, "c").await.unwrap_err();
        assert!(
            matches!(&failed, AgentProtocolError::Timeout { after, .. } if *after == SHORT_TIMEOUT),
            "{failed}"
        );
        assert!(failed.is_retryable());
        expect_still_working(&mut connected).await;
        connected.end().await;
    }
}

#[tokio::test]
async fn one_call_is_cancelled() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let pool = &connected.pool;
        let cancel = async {
            wait_for_pending(pool, 1).await;
            pool.cancel_request(AGENT, "c", CancelReason::ClientDisconnect)
                .await
        };
        let (failed, cancelled) = tokio::join!(inspect(pool, "c"), cancel);
        cancelled.unwrap();
        assert!(
            matches!(failed, Err(AgentProtocolError::Cancelled { .. })),
            "{failed:?}"
        );
        expect_still_working(&mut connected).await;
        connected.end().await;
    }
}

#[tokio::test]
async fn all_calls_are_cancelled() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let mut calls = JoinSet::new();
        for number in 0..10 {
            let pool = connected.pool.clone();
            calls.spawn(async move { inspect(&pool, &number.to_string()).await });
        }
        wait_for_pending(&connected.pool, 10).await;
        let cancelled = connected
            .pool
            .cancel_all(AGENT, CancelReason::ProxyShutdown)
            .await;
        assert_eq!(cancelled.unwrap(), 10);
        for failed in calls.join_all().await {
            assert!(
                matches!(failed, Err(AgentProtocolError::Cancelled { .. })),
                "{failed:?}"
            );
        }
        expect_still_working(&mut connected).await;
        connected.end().await;
    }
}

#[tokio::test]
async fn calls_fail_at_once_when_the_agent_dies() {
    for pairing in pairings() {
        let PoolWithPeer { pool, agent } = PoolWithPeer::connect(&pairing).await;
        let kill = async {
            wait_for_pending(&pool, 1).await;
            agent.kill().await
        };
        let (failed, _) = tokio::join!(timeout(TIMEOUT / 2, inspect(&pool, "c")), kill);
        let failed = failed.expect("the call fails before its timeout");
        assert!(
            matches!(failed, Err(AgentProtocolError::ConnectionClosed { .. })),
            "{failed:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_get_their_own_answers() {
    const CALLS: usize = 600;
    for pairing in pairings() {
        let mut config = pool_config(&pairing);
        config.connections_per_agent = 4;
        let mut connected = PoolWithPeer::configured(&pairing, config).await;
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            calls.spawn(call(connected.pool.clone(), number));
        }
        // The agent prints as it answers, and blocks unless its output is read.
        for _ in 0..CALLS {
            connected.agent.next_event().await;
        }
        timeout(TIMEOUT, calls.join_all())
            .await
            .expect("every call is answered");
        connected.end().await;
    }
}

/// Makes one call of four kinds and checks its answer.
async fn call(pool: AgentPool, number: usize) {
    let id = format!("call-{number}");
    let (answer, expected) = match number % 4 {
        0 => {
            let event = events::request_headers(&id, "/block");
            (pool.send(AGENT, &id, &event).await, to_uri("/block"))
        }
        1 => {
            let event = events::request_headers(&id, "/audit");
            (pool.send(AGENT, &id, &event).await, to_uri("/audit"))
        }
        2 => {
            let event = events::response_chunk(&id, b"REPLACE");
            let expected = AgentResponse {
                response_body_mutation: to_chunk(b"REPLACE", 0),
                ..AgentResponse::default_allow()
            };
            (pool.send(AGENT, &id, &event).await, expected)
        }
        _ => {
            let event = events::request_complete(&id);
            (
                pool.send(AGENT, &id, &event).await,
                AgentResponse::default_allow(),
            )
        }
    };
    assert_eq!(answer.expect("an answer"), expected, "{id}");
}
