//! Cancelled calls, and late answers to them.

use crate::common::{
    BOTH, HonestCalls, RawConnection, WaitingAgent, arrived, call, config, eventually,
    expect_works, faults, frame, message, pool_with, raw_pool, raw_pool_of, request, result_of,
    serve, status_of,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tollgate::{AgentPoolConfig, AgentServer, CallError as Error, CancelReason, Encoding};

/// More calls than the missing answers that a connection remembers.
const MANY: usize = 10_050;

#[tokio::test]
async fn cancel_is_sent_in_json_and_the_late_answer_is_dropped() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let cancelled = arrived(&pool, &mut connection, "c-1").await;
        let other = arrived(&pool, &mut connection, "c-2").await;

        pool.agent("agent")
            .unwrap()
            .cancel("c-1", CancelReason::UpstreamError)
            .await
            .unwrap();

        assert_fails!(result_of(cancelled).await, Error::Cancelled { .. });
        let (message, payload) = connection.receive().await.unwrap();
        let cancel: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(message, message::CANCEL);
        assert_eq!(
            (&cancel["correlation_id"], &cancel["reason"]),
            (&"c-1".into(), &3.into())
        );
        assert!(cancel["timestamp_ms"].is_u64());

        assert_fails!(
            result_of(call(&pool, "c-1")).await,
            Error::CorrelationBusy { .. }
        );

        connection.allow("c-1").await;
        connection.block("c-2", 418).await;
        assert_eq!(status_of(other).await, 418);
        assert_eq!(faults(&pool).await.late_answers, 1);
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn cancel_is_sent_on_the_connection_of_its_call() {
    let connections_per_agent = 3;
    let config = config(Encoding::Json).connections_per_agent(connections_per_agent);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    let _first = arrived(&pool, &mut connections[0], "c-1").await;
    let second = arrived(&pool, &mut connections[1], "c-2").await;

    pool.agent("agent")
        .unwrap()
        .cancel("c-2", CancelReason::Timeout)
        .await
        .unwrap();
    assert_fails!(result_of(second).await, Error::Cancelled { .. });

    assert_eq!(connections[1].message().await.0, message::CANCEL);
    connections[0].expect_silence();
    connections[2].expect_silence();
}

#[tokio::test]
async fn cancel_of_an_unknown_call_changes_nothing() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let pending = arrived(&pool, &mut connection, "c-1").await;
    pool.agent("agent")
        .unwrap()
        .cancel("c-2", CancelReason::Manual)
        .await
        .unwrap();
    assert_eq!(connection.message().await.0, message::CANCEL);
    connection.block("c-1", 418).await;
    assert_eq!(status_of(pending).await, 418);
    expect_works(&pool, &mut connection, "c-2").await;
}

/// Cancelled calls do not count against the agent, which answers none of their events.
#[tokio::test]
async fn any_number_of_calls_can_be_cancelled() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let handle = pool.agent("agent").unwrap();
    for n in 0..MANY / 50 {
        let calls: Vec<_> = (0..50)
            .map(|call| {
                let (handle, id) = (handle.clone(), format!("{n}-{call}"));
                let event = request(&id, "/wait");
                tokio::spawn(async move { handle.send(&id, &event).await })
            })
            .collect();

        let seen = async || agent.seen.lock().unwrap().len();
        eventually("the events arrive", async || seen().await == 50).await;
        agent.seen.lock().unwrap().clear();

        let cancelled = handle
            .cancel_all(CancelReason::ClientDisconnect)
            .await
            .unwrap();
        assert_eq!(cancelled, 50);
        for call in calls {
            assert_fails!(result_of(call).await, Error::Cancelled { .. });
        }
    }

    let event = request("after", "/");
    handle.send("after", &event).await.unwrap();
}

/// Sends events whose handlers wait, one of each exchange. Waits until they have arrived.
async fn wait_in_handlers(connection: &mut RawConnection, exchanges: usize) {
    let events = (0..exchanges).flat_map(|n| {
        let event = serde_json::to_value(request(&n.to_string(), "/wait")).unwrap();
        frame(message::REQUEST_HEADERS, event.to_string().as_bytes())
    });
    connection.send_bytes(&events.collect::<Vec<_>>()).await;
    assert_eq!(connection.sync().await, [0; 0]);
}

/// Cancels exchanges. Returns the number of answers.
async fn cancel(connection: &mut RawConnection, ids: impl Iterator<Item = usize>) -> usize {
    let cancels = ids.flat_map(|id| {
        let cancel = serde_json::json!({
            "correlation_id": id.to_string(), "reason": 5, "timestamp_ms": 1,
        });
        frame(message::CANCEL, cancel.to_string().as_bytes())
    });
    connection.send_bytes(&cancels.collect::<Vec<_>>()).await;
    let answers = connection.sync().await;
    assert!(
        answers
            .iter()
            .all(|answer| *answer == message::AGENT_RESPONSE)
    );
    answers.len()
}

/// A connection with as many waiting handlers as the default limit allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancels_poll_none_of_the_handlers_that_wait() {
    const WAITING: usize = 1024;
    let handler = WaitingAgent::default();
    let polls = Arc::clone(&handler.polls);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let server = AgentServer::builder(handler)
        .listen(path.display().to_string())
        // One more than wait, since a full connection is not read.
        .max_concurrent_per_connection(WAITING + 1);
    tokio::spawn(server.bind().await.unwrap().serve());
    let pool = pool_with(AgentPoolConfig::default(), &path).await;
    let honest = HonestCalls::to(&pool);
    let mut connection = RawConnection::connect_in(&path, Encoding::Json).await;
    wait_in_handlers(&mut connection, WAITING).await;
    let polled = || polls.load(Ordering::Relaxed);
    let before = polled();
    assert!(before >= WAITING);

    let started = Instant::now();
    let unknown = WAITING..11 * WAITING;
    assert_eq!(cancel(&mut connection, unknown).await, 0);
    assert_eq!(cancel(&mut connection, 0..WAITING / 2).await, WAITING / 2);
    assert_eq!(polled(), before);
    // Once most are cancelled, the others are moved together, and polled for that.
    assert_eq!(
        cancel(&mut connection, WAITING / 2..WAITING).await,
        WAITING / 2
    );
    assert!(polled() <= before + WAITING, "{} polls", polled() - before);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    honest.end().await;
}
