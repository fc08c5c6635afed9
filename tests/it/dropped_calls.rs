//! Dropped calls and exchanges leave nothing behind, whatever they were waiting for.

use crate::common::{
    BOTH, RawConnection, call, calls_made, config, eventually, message, raw_pool, raw_pool_of,
    request, result_of, serve,
};
use futures_util::task::noop_waker;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, CallError as Error, CancelReason, Encoding,
    FlowControlMode, events::RequestBodyChunkEvent,
};

/// Polls a future this many times, and lets all other tasks run in between. Returns whether it
/// completed.
async fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) -> bool {
    for _ in 0..times {
        let waker = noop_waker();
        if future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            return true;
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    false
}

/// Asserts that nothing is pending, that all calls are counted, and that every slot is free.
async fn expect_clean(pool: &AgentPool, connection: &mut RawConnection, what: &str) {
    let stats = pool.agent("agent").unwrap().stats();
    assert_eq!(stats.total_in_flight, 0, "{what}");
    assert_eq!(stats.calls.made, stats.calls.ended(), "{what}");
    assert_eq!(crate::common::pins(pool), 0, "{what}");

    let calls: Vec<_> = (0..SLOTS)
        .map(|n| call(pool, &format!("{what}-{n}")))
        .collect();
    let mut answered = 0;
    while answered < SLOTS {
        let (message, event) = connection.message().await;
        // Events and cancels of the calls that were dropped may come before.
        let id = event["metadata"]["correlation_id"].as_str();
        if let Some(id) =
            id.filter(|id| message == message::REQUEST_HEADERS && id.starts_with(what))
        {
            connection.allow(id).await;
            answered += 1;
        }
    }

    for (n, call) in calls.into_iter().enumerate() {
        result_of(call).await.unwrap();
        pool.unpin(&format!("{what}-{n}"));
    }
}

const SLOTS: usize = 2;

fn two_slots(encoding: Encoding) -> AgentPoolConfig {
    config(encoding)
        .max_concurrent_per_connection(SLOTS)
        .flow_control_mode(FlowControlMode::WaitAndRetry)
        .flow_control_wait_timeout(crate::common::TEST_TIMEOUT)
}

/// Reason why a call has to wait at first. It is removed after the second poll.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    Nothing,
    NoSlot,
    Pause,
}

const OBSTACLES: [Obstacle; 3] = [Obstacle::Nothing, Obstacle::NoSlot, Obstacle::Pause];

/// Drops a call after each number of polls, until a call completes.
#[tokio::test]
async fn call_can_be_dropped_at_every_await() {
    for encoding in BOTH {
        for obstacle in OBSTACLES {
            let (_agent, pool, mut connection) = raw_pool(two_slots(encoding)).await;
            let agent = pool.agent("agent").unwrap();
            for polls in 0.. {
                assert!(polls < 20, "the call never completes");
                let id = format!("{obstacle:?}-{polls}");
                let event = request(&id, "/");
                let completed = {
                    let blocking = set_up(&pool, &mut connection, obstacle, &id).await;
                    let mut called = pin!(agent.send(&id, &event));
                    let mut is_done = poll_times(called.as_mut(), polls.min(2)).await;
                    remove_obstacle(&pool, &mut connection, obstacle, &id, blocking).await;
                    is_done = is_done || poll_times(called.as_mut(), usize::from(polls > 2)).await;
                    if polls > 3 && !is_done {
                        assert_eq!(connection.event().await, id);
                        connection.allow(&id).await;
                        connection.sync().await;
                        is_done = poll_times(called.as_mut(), polls - 3).await;
                    }
                    is_done
                };

                pool.unpin(&id);
                expect_clean(&pool, &mut connection, &format!("after {id}")).await;
                if completed {
                    break;
                }
            }
        }
    }
}

/// Sets the obstacle up. Returns the calls that take all slots, if that is the obstacle.
async fn set_up(
    pool: &AgentPool,
    connection: &mut RawConnection,
    obstacle: Obstacle,
    id: &str,
) -> Vec<crate::common::Call> {
    match obstacle {
        Obstacle::Nothing => Vec::new(),
        Obstacle::NoSlot => {
            let mut calls = Vec::new();
            for n in 0..SLOTS {
                calls.push(
                    crate::common::arrived(pool, connection, &format!("{id}-slot-{n}")).await,
                );
            }
            calls
        }
        Obstacle::Pause => {
            connection
                .send(message::FLOW_CONTROL, br#"{"action":1}"#)
                .await;
            connection.sync().await;
            Vec::new()
        }
    }
}

async fn remove_obstacle(
    pool: &AgentPool,
    connection: &mut RawConnection,
    obstacle: Obstacle,
    id: &str,
    calls: Vec<crate::common::Call>,
) {
    if matches!(obstacle, Obstacle::Pause) {
        connection
            .send(message::FLOW_CONTROL, br#"{"action":2}"#)
            .await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        let slot = format!("{id}-slot-{n}");
        connection.allow(&slot).await;
        result_of(call).await.unwrap();
        pool.unpin(&slot);
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn exchange_can_be_dropped_at_every_await() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(two_slots(encoding)).await;
        for polls in 0..12 {
            let id = format!("exchange-{polls}");
            let chunks =
                [0, 1].map(|index| RequestBodyChunkEvent::new(&*id, "x", index, index == 1));

            {
                let mut exchange = pool.agent("agent").unwrap().exchange(&id).unwrap();
                let mut talk = pin!(async {
                    exchange.push(&chunks[0]).await?;
                    exchange.push(&chunks[1]).await?;
                    exchange.next_answer().await.transpose()?;
                    exchange.next_answer().await.transpose()?;
                    exchange.send(&request(&id, "/")).await
                });
                for poll in 0..polls {
                    let waker = noop_waker();
                    let polled = talk.as_mut().poll(&mut Context::from_waker(&waker));
                    if let Poll::Ready(outcome) = polled {
                        outcome.unwrap();
                        break;
                    }
                    // Every second time the agent answers the event that it has received.
                    if poll % 2 == 1 && connection.sync_events().await {
                        connection.allow(&id).await;
                        connection.sync_events().await;
                    }
                }
            }

            expect_clean(&pool, &mut connection, &format!("after {id}")).await;
        }
    }
}

/// Fills the send queue of a connection that is not read, and drops the calls one by one.
#[tokio::test]
async fn calls_waiting_for_the_send_queue_can_be_dropped() {
    let config = config(Encoding::MessagePack).channel_buffer_size(2);
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let agent = pool.agent("agent").unwrap();

    let chunk = |n: usize| RequestBodyChunkEvent::new(n.to_string(), vec![7; 200_000], 0, true);
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let agent = agent.clone();
            let event = chunk(n);
            tokio::spawn(async move { agent.send(&n.to_string(), &event).await })
        })
        .collect();

    eventually("all calls wait", async || {
        agent.stats().total_in_flight == 20
    })
    .await;

    for (n, call) in calls.into_iter().enumerate() {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        let stats = agent.stats();
        assert_eq!(stats.total_in_flight, 19 - n as u64);
    }

    let last = call(&pool, "last");
    let id = loop {
        let (message, event) = connection.message().await;
        if message == message::REQUEST_HEADERS {
            break event["metadata"]["correlation_id"]
                .as_str()
                .unwrap()
                .to_owned();
        }
    };
    assert_eq!(id, "last");

    connection.allow("last").await;
    result_of(last).await.unwrap();
    let calls = agent.stats().calls;
    assert_eq!((calls.made, calls.given_up, calls.answered), (21, 20, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dropped_calls_leave_nothing_behind() {
    const CALLS: u64 = 5_000;
    let agent = serve().await;
    for use_extension in [true, false] {
        let config = AgentPoolConfig::default()
            .use_extension(use_extension)
            .max_concurrent_per_connection(50);
        let pool = crate::common::pool_with(config, &agent.path).await;
        let handle = pool.agent("agent").unwrap();

        let calls: Vec<_> = (0..CALLS)
            .map(|n| {
                let (pool, handle) = (pool.clone(), handle.clone());
                tokio::spawn(async move {
                    let id = n.to_string();
                    let event = request(&id, if n % 3 == 0 { "/wait" } else { "/" });
                    let timeout = Duration::from_micros(fastrand::u64(..20_000));
                    let called = tokio::time::timeout(timeout, handle.send(&id, &event)).await;
                    if n % 2 == 0 && called.is_err() {
                        let reason = CancelReason::ClientDisconnect;
                        handle.cancel(&id, reason).await.unwrap();
                    }
                    pool.unpin(&id);
                })
            })
            .collect();

        for call in calls {
            call.await.unwrap();
        }

        assert_eq!(calls_made(&pool).await, CALLS);
        agent.release.notify_waiters();
        let stats = handle.stats();
        assert_eq!(stats.total_in_flight, 0);
        assert_eq!(stats.calls.made, stats.calls.ended(), "{:?}", stats.calls);
        assert!(stats.calls.given_up > 0);
        assert_eq!(crate::common::pins(&pool), 0);

        for n in 0..200 {
            let id = format!("after-{n}");
            handle.send(&id, &request(&id, "/")).await.unwrap();
        }
    }
}

#[test]
fn pool_reconnects_after_its_runtime_ends() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (agents, connections, callers) = (runtime(), runtime(), runtime());

    let agent = agents.block_on(serve());
    let pool = AgentPool::new();
    let endpoint = agent.path.to_str().unwrap();
    let handle = connections
        .block_on(pool.add(AgentConfig::new("agent", endpoint)))
        .unwrap();

    let calls: Vec<_> = (0..50)
        .map(|n| {
            let (handle, id) = (handle.clone(), n.to_string());
            callers.spawn(async move { handle.send(&id, &request(&id, "/wait")).await })
        })
        .collect();

    callers.block_on(eventually("all calls are pending", async || {
        handle.stats().total_in_flight == 50
    }));

    let started = Instant::now();
    connections.shutdown_timeout(Duration::from_secs(5));
    callers.block_on(async {
        for call in calls {
            assert_fails!(result_of(call).await, Error::ConnectionClosed { .. });
        }
        assert!(started.elapsed() < Duration::from_secs(6));
        eventually("the pool connects again", async || {
            handle.send("after", &request("after", "/")).await.is_ok()
        })
        .await;
    });
}

#[tokio::test]
async fn unfinished_exchange_is_cancelled_when_dropped() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = raw_pool_of(config(encoding)).await;
        let agent = pool.agent("agent").unwrap();
        let mut connection = connections.remove(0);
        let chunk = |is_last| RequestBodyChunkEvent::new("c-1", "x", 0, is_last);
        let cancelled = async || agent.stats().exchanges_cancelled;

        let mut whole = agent.exchange("c-1").unwrap();
        answered(&mut connection, &mut whole, &chunk(true), 0).await;
        drop(whole);
        let mut blocked = agent.exchange("c-1").unwrap();
        answered(&mut connection, &mut blocked, &chunk(false), 403).await;
        drop(blocked);
        drop(agent.exchange("c-1").unwrap());
        assert_eq!(
            connection.sync().await,
            [0; 0],
            "a finished exchange was cancelled"
        );
        assert_eq!(cancelled().await, 0);

        let mut unfinished = agent.exchange("c-1").unwrap();
        answered(&mut connection, &mut unfinished, &chunk(false), 0).await;
        drop(unfinished);
        let (message, payload) = connection.receive().await.unwrap();
        // Cancels are JSON in every encoding.
        let cancel: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(
            (message, cancel["reason"].as_i64()),
            (message::CANCEL, Some(0))
        );
        assert_eq!(cancel["correlation_id"], "c-1");
        assert_eq!(cancelled().await, 1);
    }
}

/// An exchange is cancelled once, and not at all after the agent has blocked the request.
#[tokio::test]
async fn exchange_can_be_cancelled_with_a_reason() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = raw_pool_of(config(encoding)).await;
        let agent = pool.agent("agent").unwrap();
        let mut connection = connections.remove(0);
        let chunk = |is_last| RequestBodyChunkEvent::new("c-1", "x", 0, is_last);

        for is_last in [true, false] {
            let mut exchange = agent.exchange("c-1").unwrap();
            answered(&mut connection, &mut exchange, &chunk(is_last), 0).await;
            exchange.cancel(CancelReason::UpstreamError);
            let (message, payload) = connection.receive().await.unwrap();
            let cancel: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(
                (message, cancel["reason"].as_i64()),
                (message::CANCEL, Some(3))
            );
        }

        let mut blocked = agent.exchange("c-1").unwrap();
        answered(&mut connection, &mut blocked, &chunk(false), 403).await;
        blocked.cancel(CancelReason::UpstreamError);
        assert_eq!(
            connection.sync().await,
            [0; 0],
            "a blocked exchange was cancelled"
        );

        let stats = agent.stats();
        assert_eq!(stats.exchanges_cancelled, 2);
    }
}

/// Sends a chunk that is allowed if `status` is 0, or else blocked with it.
async fn answered(
    connection: &mut RawConnection,
    exchange: &mut tollgate::Exchange,
    chunk: &RequestBodyChunkEvent,
    status: u16,
) {
    let (answer, ()) = tokio::join!(exchange.send(chunk), async {
        let id = connection.event().await;
        match status {
            0 => connection.allow(&id).await,
            status => connection.block(&id, status).await,
        }
    });
    answer.unwrap();
}

/// A call that cannot use the only free slot, because an earlier answer to its exchange is missing
/// there, does not keep other calls from using it.
#[tokio::test]
async fn a_busy_exchange_does_not_block_the_queue() {
    let config = config(Encoding::Json)
        .connections_per_agent(2)
        .max_concurrent_per_connection(1);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    let event = request("gone", "/");
    let agent = pool.agent("agent").unwrap();
    let given_up = agent.send("gone", &event).timeout(Duration::from_millis(1));
    assert!(matches!(given_up.await, Err(Error::Timeout { .. })));
    assert_eq!(connections[0].event().await, "gone");

    // The other connection has one slot.
    let pending = call(&pool, "pending");
    assert_eq!(connections[1].event().await, "pending");
    let busy = result_of(call(&pool, "gone")).await;
    assert!(
        matches!(busy, Err(Error::CorrelationBusy { .. })),
        "{busy:?}"
    );
    let other = call(&pool, "other");
    assert_eq!(connections[0].event().await, "other");
    connections[0].allow("other").await;
    result_of(other).await.unwrap();
    connections[1].allow("pending").await;
    result_of(pending).await.unwrap();
}
