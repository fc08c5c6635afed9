//! Tollgate's pool with the agent server of `zentinel-agent-protocol`, under load and after
//! failures.

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgate::{Agent, AgentResponse, CallError, CancelReason};
use tollgate_interop::{PoolWithPeer, TIMEOUT, events, pairings, pool_config, to_chunk, to_uri};

/// Timeout of a call that is never answered.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until this number of calls is pending.
async fn wait_for_pending(agent: &Agent, calls: u64) {
    let counted = timeout(TIMEOUT, async {
        while agent.stats().total_in_flight != calls {
            tokio::task::yield_now().await;
        }
    });
    counted.await.expect("the calls are pending in time");
}

async fn inspect(agent: &Agent, id: &str) -> Result<AgentResponse, CallError> {
    let event = events::guardrail_inspect(id);
    agent.send(id, &event).await
}

/// Checks that the agent still answers on its only connection.
async fn expect_still_working(connected: &mut PoolWithPeer) {
    let event = events::request_headers("after", "/routing");
    let answer = connected.agent.send("after", &event).await;
    assert_eq!(answer.expect("an answer"), to_uri("/routing"));
    connected.expect_logged("request_headers", &event).await;
    let stats = connected.agent.stats();
    assert_eq!((stats.active_connections, stats.total_in_flight), (1, 0));
}

/// The server of `zentinel-agent-protocol` announces guardrail events and never answers them.
#[tokio::test]
async fn guardrail_events_time_out() {
    for pairing in pairings() {
        let mut config = pool_config(&pairing);
        config.request_timeout = SHORT_TIMEOUT;
        let mut connected = PoolWithPeer::configured(&pairing, config).await;
        let failed = inspect(&connected.agent, "c").await.unwrap_err();
        assert!(
            matches!(&failed, CallError::Timeout { after, .. } if *after == SHORT_TIMEOUT),
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
        let agent = &connected.agent;
        let cancel = async {
            wait_for_pending(agent, 1).await;
            agent.cancel("c", CancelReason::ClientDisconnect).await
        };
        let (failed, cancelled) = tokio::join!(inspect(agent, "c"), cancel);
        cancelled.unwrap();
        assert!(
            matches!(failed, Err(CallError::Cancelled { .. })),
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
            let agent = connected.agent.clone();
            calls.spawn(async move { inspect(&agent, &number.to_string()).await });
        }
        wait_for_pending(&connected.agent, 10).await;
        let cancelled = connected
            .agent
            .cancel_all(CancelReason::ProxyShutdown)
            .await;
        assert_eq!(cancelled.unwrap(), 10);
        for failed in calls.join_all().await {
            assert!(
                matches!(failed, Err(CallError::Cancelled { .. })),
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
        let connected = PoolWithPeer::connect(&pairing).await;
        let PoolWithPeer {
            pool: _pool,
            agent,
            peer,
        } = connected;
        let kill = async {
            wait_for_pending(&agent, 1).await;
            peer.kill().await
        };
        let (failed, _) = tokio::join!(timeout(TIMEOUT / 2, inspect(&agent, "c")), kill);
        let failed = failed.expect("the call fails before its timeout");
        assert!(
            matches!(failed, Err(CallError::ConnectionClosed { .. })),
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
            calls.spawn(call(connected.agent.clone(), number));
        }
        // The agent prints as it answers, and blocks unless its output is read.
        for _ in 0..CALLS {
            connected.peer.next_event().await;
        }
        timeout(TIMEOUT, calls.join_all())
            .await
            .expect("every call is answered");
        connected.end().await;
    }
}

/// Makes one call of four kinds and checks its answer.
async fn call(agent: Agent, number: usize) {
    let id = format!("call-{number}");
    let (answer, expected) = match number % 4 {
        0 => {
            let event = events::request_headers(&id, "/block");
            (agent.send(&id, &event).await, to_uri("/block"))
        }
        1 => {
            let event = events::request_headers(&id, "/audit");
            (agent.send(&id, &event).await, to_uri("/audit"))
        }
        2 => {
            let event = events::response_chunk(&id, b"REPLACE");
            let expected = AgentResponse {
                response_body_mutation: to_chunk(b"REPLACE", 0),
                ..AgentResponse::default_allow()
            };
            (agent.send(&id, &event).await, expected)
        }
        _ => {
            let event = events::request_complete(&id);
            (
                agent.send(&id, &event).await,
                AgentResponse::default_allow(),
            )
        }
    };
    assert_eq!(answer.expect("an answer"), expected, "{id}");
}
