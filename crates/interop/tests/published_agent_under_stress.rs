//! Tollgate's pool and the agent server of the published crate, when there is much to do or something
//! goes wrong.

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgate::{AgentPool, AgentProtocolError, AgentResponse, CancelReason};
use tollgate_interop::{AGENT, Meeting, PATIENCE, events, pairings, pool_config, to_chunk, to_uri};

/// The time limit of a call that is never answered.
const SHORT: Duration = Duration::from_secs(1);

/// Waits until so many calls are pending.
async fn pending(pool: &AgentPool, calls: u64) {
    let counted = timeout(PATIENCE, async {
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

/// The agent still answers, over the connection that it always had.
async fn still_works(meeting: &mut Meeting) {
    let event = events::request_headers("after", "/routing");
    let answer = meeting.pool.send(AGENT, "after", &event).await;
    assert_eq!(answer.expect("an answer"), to_uri("/routing"));
    meeting.expect_logged("request_headers", &event).await;
    let stats = meeting.pool.agent_stats(AGENT).await;
    let stats = stats.expect("the agent is known");
    assert_eq!((stats.active_connections, stats.total_in_flight), (1, 0));
}

/// The published server takes no notice of guardrail events, though it promises to.
#[tokio::test]
async fn guardrail_events_time_out() {
    for pairing in pairings() {
        let mut config = pool_config(&pairing);
        config.request_timeout = SHORT;
        let mut meeting = Meeting::configured(&pairing, config).await;
        let failed = inspect(&meeting.pool, "c").await.unwrap_err();
        assert!(
            matches!(&failed, AgentProtocolError::Timeout { after, .. } if *after == SHORT),
            "{failed}"
        );
        assert!(failed.is_retryable());
        still_works(&mut meeting).await;
        meeting.end().await;
    }
}

#[tokio::test]
async fn one_call_is_cancelled() {
    for pairing in pairings() {
        let mut meeting = Meeting::of(&pairing).await;
        let pool = &meeting.pool;
        let cancel = async {
            pending(pool, 1).await;
            pool.cancel_request(AGENT, "c", CancelReason::ClientDisconnect)
                .await
        };
        let (failed, cancelled) = tokio::join!(inspect(pool, "c"), cancel);
        cancelled.unwrap();
        assert!(
            matches!(failed, Err(AgentProtocolError::Cancelled { .. })),
            "{failed:?}"
        );
        still_works(&mut meeting).await;
        meeting.end().await;
    }
}

#[tokio::test]
async fn all_calls_are_cancelled() {
    for pairing in pairings() {
        let mut meeting = Meeting::of(&pairing).await;
        let mut calls = JoinSet::new();
        for number in 0..10 {
            let pool = meeting.pool.clone();
            calls.spawn(async move { inspect(&pool, &number.to_string()).await });
        }
        pending(&meeting.pool, 10).await;
        let cancelled = meeting
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
        still_works(&mut meeting).await;
        meeting.end().await;
    }
}

#[tokio::test]
async fn calls_fail_at_once_when_the_agent_dies() {
    for pairing in pairings() {
        let Meeting { pool, agent } = Meeting::of(&pairing).await;
        let kill = async {
            pending(&pool, 1).await;
            agent.kill().await
        };
        let (failed, _) = tokio::join!(timeout(PATIENCE / 2, inspect(&pool, "c")), kill);
        let failed = failed.expect("the call fails before its time is up");
        assert!(
            matches!(failed, Err(AgentProtocolError::ConnectionClosed { .. })),
            "{failed:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_each_get_their_own_answer() {
    const CALLS: usize = 600;
    for pairing in pairings() {
        let mut config = pool_config(&pairing);
        config.connections_per_agent = 4;
        let mut meeting = Meeting::configured(&pairing, config).await;
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            calls.spawn(ask(meeting.pool.clone(), number));
        }
        // The agent prints as it answers: whoever does not read along holds it up.
        for _ in 0..CALLS {
            meeting.agent.next_event().await;
        }
        timeout(PATIENCE, calls.join_all())
            .await
            .expect("every call is answered");
        meeting.end().await;
    }
}

/// Makes one call and checks its answer, which is another one for every fourth call.
async fn ask(pool: AgentPool, number: usize) {
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
