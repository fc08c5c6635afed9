//! Agents that are slow, silent or do not read: calls end in time and memory stays bounded.

use crate::common::{
    BOTH, Call, RawConnection, TEST_TIMEOUT, arrived, call, config, eventually, expect_works,
    faults, frame, in_virtual_time, message, raw_pool, raw_pool_of, result_of, status_of,
};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tollgate::{
    AgentPool, AgentPoolConfig, CallError as Error, CancelReason, Encoding,
    events::RequestBodyChunkEvent,
};

const CHUNK: usize = 64 * 1024;
const MAX_FRAME: usize = 16 * 1024 * 1024;

fn with_timeout(encoding: Encoding, request_timeout: Duration) -> AgentPoolConfig {
    config(encoding).request_timeout(request_timeout)
}

/// Begins calls that carry large chunks, all at once.
fn large_calls(pool: &AgentPool, count: usize) -> Vec<Call> {
    let data = Bytes::from(vec![b'x'; CHUNK]);
    (0..count)
        .map(|n| {
            let event = RequestBodyChunkEvent::new(n.to_string(), data.clone(), 0, true);
            let pool = pool.clone();
            tokio::spawn(async move {
                pool.agent("agent")
                    .unwrap()
                    .send(&event.correlation_id, &event)
                    .await
            })
        })
        .collect()
}

async fn in_flight(pool: &AgentPool) -> u64 {
    pool.agent("agent").unwrap().stats().total_in_flight
}

#[test]
fn silent_agent_costs_no_more_than_the_timeout() {
    in_virtual_time(async {
        let limit = Duration::from_millis(200);
        for encoding in BOTH {
            let (_agent, pool, mut connection) = raw_pool(with_timeout(encoding, limit)).await;

            for n in 0..3 {
                let started = Instant::now();
                let silent = arrived(&pool, &mut connection, &n.to_string()).await;
                let result = result_of(silent).await;

                let took = started.elapsed();
                assert!(
                    matches!(result, Err(Error::Timeout { after, .. }) if after == limit),
                    "{result:?}"
                );
                assert!(
                    took >= limit && took < limit + Duration::from_millis(100),
                    "{took:?}"
                );
            }
        }
    });
}

#[test]
fn writes_to_an_agent_that_does_not_read_are_bounded() {
    in_virtual_time(async {
        for encoding in BOTH {
            let config = with_timeout(encoding, Duration::from_millis(500)).channel_buffer_size(4);
            let (_agent, pool, mut connection) = raw_pool(config).await;

            let started = Instant::now();
            for call in large_calls(&pool, 50) {
                assert_fails!(result_of(call).await, Error::Timeout { .. });
            }

            assert!(
                started.elapsed() < Duration::from_millis(1500),
                "{:?}",
                started.elapsed()
            );
            assert_eq!(in_flight(&pool).await, 0);

            let later = call(&pool, "later");
            let mut buffered = 0;
            while connection.event().await != "later" {
                buffered += 1;
            }

            // The send queue, the write in progress, and the socket buffer of about 200 KiB.
            assert!(buffered <= 4 + 4 + 4, "{buffered} frames were buffered");
            connection.block("later", 418).await;
            assert_eq!(status_of(later).await, 418);
        }
    });
}

#[tokio::test]
async fn slow_reader_gets_every_event() {
    for encoding in BOTH {
        let config = config(encoding).channel_buffer_size(4);
        let (_agent, pool, mut connection) = raw_pool(config).await;

        let calls = large_calls(&pool, 50);
        eventually("all calls wait", async || in_flight(&pool).await == 50).await;

        for _ in 0..50 {
            let id = connection.event().await;
            connection.block(&id, 418).await;
        }
        for call in calls {
            assert_eq!(status_of(call).await, 418);
        }
    }
}

/// Begins more calls than the send queue and the socket hold, while the agent does not read.
async fn stuck(config: AgentPoolConfig) -> (AgentPool, RawConnection, Vec<Call>) {
    let config = config.channel_buffer_size(4);
    let (_agent, pool, connection) = raw_pool(config).await;
    let calls = large_calls(&pool, 50);
    eventually("all calls wait", async || in_flight(&pool).await == 50).await;
    (pool, connection, calls)
}

#[tokio::test]
async fn queued_calls_fail_at_once_when_the_agent_closes() {
    let (pool, connection, calls) = stuck(config(Encoding::MessagePack)).await;

    drop(connection);
    let started = Instant::now();
    for call in calls {
        assert_fails!(result_of(call).await, Error::ConnectionClosed { .. });
    }

    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );

    assert_fails!(
        result_of(call(&pool, "later")).await,
        Error::Unavailable { .. }
    );
}

#[test]
fn queued_calls_are_cancelled_after_the_drain_timeout() {
    in_virtual_time(async {
        let config = config(Encoding::MessagePack).drain_timeout(Duration::from_millis(50));
        let (pool, _connection, calls) = stuck(config).await;

        pool.remove("agent").unwrap();
        let started = Instant::now();
        for call in calls {
            assert_fails!(result_of(call).await, Error::Cancelled { .. });
        }

        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    });
}

#[tokio::test]
async fn waiting_calls_fail_at_once_when_the_agent_closes() {
    let config = config(Encoding::Json).max_concurrent_per_connection(1);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let calls: Vec<_> = (0..20).map(|n| call(&pool, &n.to_string())).collect();
    connection.event().await;
    drop(connection);

    let started = Instant::now();
    for call in calls {
        assert_fails!(
            result_of(call).await,
            Error::ConnectionClosed { .. } | Error::Unavailable { .. }
        );
    }

    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn call_on_a_stuck_connection_can_be_cancelled() {
    let (pool, _connection, mut calls) = stuck(config(Encoding::MessagePack)).await;
    let agent = pool.agent("agent").unwrap();

    let cancelled = timeout(
        Duration::from_secs(1),
        agent.cancel("0", CancelReason::ClientDisconnect),
    );

    assert!(
        cancelled.await.is_ok(),
        "cancelling waits for the agent to read"
    );
    assert_fails!(result_of(calls.remove(0)).await, Error::Cancelled { .. });
}

#[tokio::test]
async fn all_calls_on_a_stuck_connection_can_be_cancelled() {
    let (pool, _connection, calls) = stuck(config(Encoding::MessagePack)).await;
    let agent = pool.agent("agent").unwrap();

    let cancelled = timeout(
        Duration::from_secs(1),
        agent.cancel_all(CancelReason::ProxyShutdown),
    );

    assert!(
        cancelled.await.is_ok(),
        "cancelling waits for the agent to read"
    );

    for call in calls {
        assert_fails!(result_of(call).await, Error::Cancelled { .. });
    }
}

#[tokio::test]
async fn calls_in_flight_are_limited() {
    for encoding in BOTH {
        let config = config(encoding).max_concurrent_per_connection(2);
        let (_agent, pool, mut connection) = raw_pool(config).await;

        let calls: Vec<_> = (0..10).map(|n| call(&pool, &n.to_string())).collect();
        let mut unanswered = vec![connection.event().await, connection.event().await];

        for _ in 0..8 {
            assert_eq!(connection.sync().await, [0; 0], "a third call was sent");
            connection.block(&unanswered.remove(0), 418).await;
            unanswered.push(connection.event().await);
        }

        for id in &unanswered {
            connection.block(id, 418).await;
        }
        for call in calls {
            assert_eq!(status_of(call).await, 418);
        }
    }
}

#[tokio::test]
async fn waiting_for_a_slot_counts_towards_the_timeout() {
    let limit = Duration::from_millis(200);
    let config = with_timeout(Encoding::Json, limit).max_concurrent_per_connection(1);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let started = Instant::now();
    let first = arrived(&pool, &mut connection, "c-1").await;
    let calls: Vec<_> = (0..10).map(|n| call(&pool, &n.to_string())).collect();

    assert_fails!(result_of(first).await, Error::Timeout { .. });
    for call in calls {
        assert_fails!(result_of(call).await, Error::Timeout { .. });
    }

    assert!(
        started.elapsed() < limit + Duration::from_millis(300),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn oversized_event_is_rejected_and_the_connection_stays() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        // Base64 makes it a third larger.
        let data = Bytes::from(vec![0; MAX_FRAME / 4 * 3]);
        let event = RequestBodyChunkEvent::new("c-1", data, 0, true);

        let sent = pool
            .agent("agent")
            .unwrap()
            .send(&event.correlation_id, &event)
            .await;
        match sent {
            Err(Error::MessageTooLarge { size, max, .. }) => {
                assert!(size > max && max == MAX_FRAME);
            }
            other => panic!("{other:?}"),
        }

        assert_eq!(connection.sync().await, [0; 0]);
        expect_works(&pool, &mut connection, "c-1").await;
        assert_eq!(in_flight(&pool).await, 0);
    }
}

#[tokio::test]
async fn announced_length_reserves_no_memory() {
    let connections_per_agent = 32;
    let config = config(Encoding::Json).connections_per_agent(connections_per_agent);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;

    let before = crate::common::virtual_memory();
    for connection in &mut connections {
        connection.sync().await;
        let length = u32::try_from(MAX_FRAME).unwrap();
        connection.send_bytes(&length.to_be_bytes()).await;
        connection.send_bytes(b"\x20{").await;
    }

    // The end of each connection proves that the announced length has been read.
    for connection in connections.drain(..) {
        drop(connection);
    }
    eventually("all connections are lost", async || {
        faults(&pool).await.connections_lost == 32
    })
    .await;

    let grown = crate::common::virtual_memory().saturating_sub(before);
    assert!(grown < 8 * MAX_FRAME, "{grown} bytes for 32 announcements");
}

#[tokio::test]
async fn pongs_to_an_agent_that_does_not_read_are_bounded() {
    let config = config(Encoding::Json).channel_buffer_size(4);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let ping = frame(message::PING, &vec![b'x'; CHUNK]);
    for _ in 0..100 {
        connection.send_bytes(&ping).await;
    }

    let later = call(&pool, "later");
    let mut pongs = 0;
    while connection.receive().await.unwrap().0 == message::PONG {
        pongs += 1;
    }

    assert!(
        (1..=4 + 4 + 4).contains(&pongs),
        "{pongs} pongs were buffered"
    );

    connection.block("later", 418).await;
    assert_eq!(status_of(later).await, 418);
}

/// The agent sends unknown messages from its own thread, as fast as it can.
#[tokio::test]
async fn flood_of_messages_does_not_delay_the_deadline() {
    let limit = Duration::from_millis(200);
    let (_agent, pool, mut connection) = raw_pool(with_timeout(Encoding::Json, limit)).await;
    let pending = arrived(&pool, &mut connection, "c-1").await;

    let stop = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let (stop, stream) = (Arc::clone(&stop), connection.into_std());
        move || {
            use std::io::Write;
            let flood = frame(message::UNKNOWN, b"").repeat(10_000);
            while !stop.load(Ordering::Relaxed) && (&stream).write_all(&flood).is_ok() {}
        }
    });

    let started = Instant::now();
    let result = timeout(TEST_TIMEOUT / 2, pending).await;
    stop.store(true, Ordering::Relaxed);
    let took = started.elapsed();

    pool.remove("agent").unwrap();
    assert_fails!(
        result.expect("the deadline is missed").unwrap(),
        Error::Timeout { .. }
    );
    assert!(took < limit + Duration::from_millis(500), "{took:?}");
}
