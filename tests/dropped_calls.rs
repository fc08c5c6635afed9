//! Calls whose callers go away: whatever they were waiting for, nothing is left behind.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{
    BOTH, RawConnection, call, config, eventually, made, raw_pool, raw_pool_of, request, result_of,
    serve,
};
use futures_util::task::noop_waker;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tollgate::{
    AgentPool, AgentPoolConfig, AgentProtocolError as Error, CancelReason, Encoding,
    FlowControlMode, RequestBodyChunkEvent,
};

/// Polls a future this many times, letting everything else run in between. Says whether it completed.
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

/// Nothing is pending, all is counted, and as many calls go through as there are slots.
async fn expect_clean(pool: &AgentPool, connection: &mut RawConnection, what: &str) {
    let stats = pool.agent_stats("agent").await.unwrap();
    assert_eq!(stats.total_in_flight, 0, "{what}");
    assert_eq!(stats.calls.made, stats.calls.ended(), "{what}");
    assert_eq!(pool.correlation_affinity_count(), 0, "{what}");
    let calls: Vec<_> = (0..SLOTS)
        .map(|n| call(pool, &format!("{what}-{n}")))
        .collect();
    let mut answered = 0;
    while answered < SLOTS {
        let (message, event) = connection.message().await;
        // Events and cancels of the calls that were dropped may come before.
        let id = event["metadata"]["correlation_id"].as_str();
        if let Some(id) = id.filter(|id| message == 0x10 && id.starts_with(what)) {
            connection.allow(id).await;
            answered += 1;
        }
    }
    for (n, call) in calls.into_iter().enumerate() {
        result_of(call).await.unwrap();
        pool.clear_correlation_affinity(&format!("{what}-{n}"));
    }
}

const SLOTS: usize = 2;

fn two_slots(encoding: Encoding) -> AgentPoolConfig {
    AgentPoolConfig {
        max_concurrent_per_connection: SLOTS,
        flow_control_mode: FlowControlMode::WaitAndRetry,
        flow_control_wait_timeout: common::PATIENCE,
        ..config(encoding)
    }
}

/// What stands in the way of a call when it begins, and goes away after its second poll.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    Nothing,
    NoSlot,
    Pause,
}

const OBSTACLES: [Obstacle; 3] = [Obstacle::Nothing, Obstacle::NoSlot, Obstacle::Pause];

/// A call that is dropped after each number of polls that it does not complete with.
#[tokio::test]
async fn a_call_may_be_dropped_at_every_await() {
    for encoding in BOTH {
        for obstacle in OBSTACLES {
            let (_agent, pool, mut connection) = raw_pool(two_slots(encoding)).await;
            for polls in 0.. {
                assert!(polls < 20, "the call never completes");
                let id = format!("{obstacle:?}-{polls}");
                let event = request(&id, "/");
                let completed = {
                    let blocking = put_in_the_way(&pool, &mut connection, obstacle, &id).await;
                    let mut called = pin!(pool.send("agent", &id, &event));
                    let mut is_done = poll_times(called.as_mut(), polls.min(2)).await;
                    clear_the_way(&pool, &mut connection, obstacle, &id, blocking).await;
                    is_done = is_done || poll_times(called.as_mut(), usize::from(polls > 2)).await;
                    if polls > 3 && !is_done {
                        assert_eq!(connection.event().await, id);
                        connection.allow(&id).await;
                        connection.sync().await;
                        is_done = poll_times(called.as_mut(), polls - 3).await;
                    }
                    is_done
                };
                pool.clear_correlation_affinity(&id);
                expect_clean(&pool, &mut connection, &format!("after {id}")).await;
                if completed {
                    break;
                }
            }
        }
    }
}

/// The calls that take all slots, if that is what stands in the way.
async fn put_in_the_way(
    pool: &AgentPool,
    connection: &mut RawConnection,
    obstacle: Obstacle,
    id: &str,
) -> Vec<common::Call> {
    match obstacle {
        Obstacle::Nothing => Vec::new(),
        Obstacle::NoSlot => {
            let mut calls = Vec::new();
            for n in 0..SLOTS {
                calls.push(common::arrived(pool, connection, &format!("{id}-slot-{n}")).await);
            }
            calls
        }
        Obstacle::Pause => {
            connection.send(0x33, br#"{"action":1}"#).await;
            connection.sync().await;
            Vec::new()
        }
    }
}

async fn clear_the_way(
    pool: &AgentPool,
    connection: &mut RawConnection,
    obstacle: Obstacle,
    id: &str,
    calls: Vec<common::Call>,
) {
    if matches!(obstacle, Obstacle::Pause) {
        connection.send(0x33, br#"{"action":2}"#).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        let slot = format!("{id}-slot-{n}");
        connection.allow(&slot).await;
        result_of(call).await.unwrap();
        pool.clear_correlation_affinity(&slot);
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_exchange_may_be_dropped_at_every_await() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(two_slots(encoding)).await;
        for polls in 0..12 {
            let id = format!("exchange-{polls}");
            let chunks =
                [0, 1].map(|index| RequestBodyChunkEvent::new(&*id, "x", index, index == 1));
            {
                let mut exchange = pool.exchange("agent", &id).unwrap();
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
                    // Every second time the agent answers what it has got.
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

/// Calls that fill the outbox of a connection that is not read, dropped one by one.
#[tokio::test]
async fn calls_that_wait_for_room_in_the_outbox_may_be_dropped() {
    let config = AgentPoolConfig {
        channel_buffer_size: 2,
        ..config(Encoding::MessagePack)
    };
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let chunk = |n: usize| RequestBodyChunkEvent::new(n.to_string(), vec![7; 200_000], 0, true);
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let pool = pool.clone();
            let event = chunk(n);
            tokio::spawn(async move { pool.send("agent", &n.to_string(), &event).await })
        })
        .collect();
    eventually("all calls wait", async || {
        pool.agent_stats("agent").await.unwrap().total_in_flight == 20
    })
    .await;
    for (n, call) in calls.into_iter().enumerate() {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        let stats = pool.agent_stats("agent").await.unwrap();
        assert_eq!(stats.total_in_flight, 19 - n as u64);
    }
    let last = call(&pool, "last");
    let id = loop {
        let (message, event) = connection.message().await;
        if message == 0x10 {
            break event["metadata"]["correlation_id"]
                .as_str()
                .unwrap()
                .to_owned();
        }
    };
    assert_eq!(id, "last");
    connection.allow("last").await;
    result_of(last).await.unwrap();
    let calls = pool.agent_stats("agent").await.unwrap().calls;
    assert_eq!((calls.made, calls.given_up, calls.answered), (21, 20, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_dropped_calls_leaves_nothing_behind() {
    const CALLS: u64 = 5_000;
    let agent = serve().await;
    for use_extension in [true, false] {
        let config = AgentPoolConfig {
            use_extension,
            max_concurrent_per_connection: 50,
            ..AgentPoolConfig::default()
        };
        let pool = common::pool_with(config, &agent.path).await;
        let calls: Vec<_> = (0..CALLS)
            .map(|n| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let id = n.to_string();
                    let event = request(&id, if n % 3 == 0 { "/wait" } else { "/" });
                    let patience = Duration::from_micros(fastrand::u64(..20_000));
                    let called =
                        tokio::time::timeout(patience, pool.send("agent", &id, &event)).await;
                    if n % 2 == 0 && called.is_err() {
                        let reason = CancelReason::ClientDisconnect;
                        pool.cancel_request("agent", &id, reason).await.unwrap();
                    }
                    pool.clear_correlation_affinity(&id);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(made(&pool).await, CALLS);
        agent.release.notify_waiters();
        let stats = pool.agent_stats("agent").await.unwrap();
        assert_eq!(stats.total_in_flight, 0);
        assert_eq!(stats.calls.made, stats.calls.ended(), "{:?}", stats.calls);
        assert!(stats.calls.given_up > 0);
        assert_eq!(pool.correlation_affinity_count(), 0);
        for n in 0..200 {
            let id = format!("after-{n}");
            pool.send("agent", &id, &request(&id, "/")).await.unwrap();
        }
    }
}

#[test]
fn a_runtime_that_ends_takes_its_connections_but_not_the_pool() {
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
    connections
        .block_on(pool.add_agent("agent", endpoint))
        .unwrap();
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let (pool, id) = (pool.clone(), n.to_string());
            callers.spawn(async move { pool.send("agent", &id, &request(&id, "/wait")).await })
        })
        .collect();
    callers.block_on(eventually("all calls are pending", async || {
        pool.agent_stats("agent").await.unwrap().total_in_flight == 50
    }));
    let started = Instant::now();
    connections.shutdown_timeout(Duration::from_secs(5));
    callers.block_on(async {
        for call in calls {
            assert_fails!(result_of(call).await, Error::ConnectionClosed { .. });
        }
        assert!(started.elapsed() < Duration::from_secs(6));
        eventually("the pool connects again", async || {
            pool.send("agent", "after", &request("after", "/"))
                .await
                .is_ok()
        })
        .await;
    });
}

#[tokio::test]
async fn an_exchange_that_is_dropped_early_is_cancelled_and_counted() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = raw_pool_of(config(encoding)).await;
        let mut connection = connections.remove(0);
        let chunk = |is_last| RequestBodyChunkEvent::new("c-1", "x", 0, is_last);
        let cancelled = async || pool.agent_stats("agent").await.unwrap().exchanges_cancelled;

        let mut whole = pool.exchange("agent", "c-1").unwrap();
        answered(&mut connection, &mut whole, &chunk(true), 0).await;
        drop(whole);
        let mut blocked = pool.exchange("agent", "c-1").unwrap();
        answered(&mut connection, &mut blocked, &chunk(false), 403).await;
        drop(blocked);
        drop(pool.exchange("agent", "c-1").unwrap());
        assert_eq!(
            connection.sync().await,
            [0; 0],
            "an exchange that is over was cancelled"
        );
        assert_eq!(cancelled().await, 0);

        let mut unfinished = pool.exchange("agent", "c-1").unwrap();
        answered(&mut connection, &mut unfinished, &chunk(false), 0).await;
        drop(unfinished);
        let (message, payload) = connection.receive().await.unwrap();
        // In JSON whatever the encoding.
        let cancel: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((message, cancel["reason"].as_i64()), (0x40, Some(0)));
        assert_eq!(cancel["correlation_id"], "c-1");
        assert_eq!(cancelled().await, 1);
    }
}

/// Whatever the exchange waits for; once, and not at all where the agent has decided against the request.
#[tokio::test]
async fn an_exchange_is_cancelled_for_a_reason() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = raw_pool_of(config(encoding)).await;
        let mut connection = connections.remove(0);
        let chunk = |is_last| RequestBodyChunkEvent::new("c-1", "x", 0, is_last);
        for is_last in [true, false] {
            let mut exchange = pool.exchange("agent", "c-1").unwrap();
            answered(&mut connection, &mut exchange, &chunk(is_last), 0).await;
            exchange.cancel(CancelReason::UpstreamError);
            let (message, payload) = connection.receive().await.unwrap();
            let cancel: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!((message, cancel["reason"].as_i64()), (0x40, Some(3)));
        }
        let mut blocked = pool.exchange("agent", "c-1").unwrap();
        answered(&mut connection, &mut blocked, &chunk(false), 403).await;
        blocked.cancel(CancelReason::UpstreamError);
        assert_eq!(connection.sync().await, [0; 0], "cancelled once too often");
        let stats = pool.agent_stats("agent").await.unwrap();
        assert_eq!(stats.exchanges_cancelled, 2);
    }
}

/// Sends a chunk that is allowed, or blocked with a status.
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
