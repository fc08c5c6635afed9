//! Cancelled calls, and late answers to them.

use crate::common::{
    BOTH, arrived, call, config, eventually, expect_works, faults, message, raw_pool, raw_pool_of,
    request, result_of, serve, status_of,
};
use tollgate::{CallError as Error, CancelReason, Encoding};

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
    let pool = crate::common::pool_with(config(Encoding::MessagePack), &agent.path).await;
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
