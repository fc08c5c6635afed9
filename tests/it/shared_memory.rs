//! Connections through shared memory: which ones use it, and what goes through it.

use crate::common::{
    Proxy, TEST_TIMEOUT, config, dial_with, eventually, expect_decides, pool_with, serve_with,
};
use bytes::Bytes;
use tokio::time::timeout;
use tollgate::{
    AgentPool, AgentPoolConfig, Encoding, SharedMemory,
    events::ResponseBodyChunkEvent,
    response::BodyMutation,
    stats::{SharedMemoryRefusal, SharedMemoryStats},
};

fn on() -> AgentPoolConfig {
    config(Encoding::MessagePack).shared_memory(SharedMemory::Adaptive)
}

fn stats(pool: &AgentPool) -> SharedMemoryStats {
    pool.agent("agent").unwrap().stats().shared_memory
}

/// Asserts that a body of this size comes back as it was sent.
async fn expect_body_returns(pool: &AgentPool, id: &str, len: usize) {
    let sent: Bytes = (0..len).map(|index| ((index * 31) >> 3) as u8).collect();
    let event = ResponseBodyChunkEvent {
        correlation_id: id.to_owned(),
        data: sent.clone(),
        is_last: true,
        total_size: Some(len),
        chunk_index: 0,
        bytes_sent: len,
    };
    let answer = pool.agent("agent").unwrap().send(id, &event).await.unwrap();
    let expected = BodyMutation::replace(0, sent);
    assert_eq!(answer.response_body_mutation, Some(expected), "{len} bytes");
}

/// Frames of every size pass, also those that are larger than the rings.
#[tokio::test]
async fn carries_frames_of_every_size() {
    for mode in [SharedMemory::Adaptive, SharedMemory::BusyPoll] {
        let agent = serve_with(|server| server.shared_memory(mode)).await;
        let pool = pool_with(on().shared_memory(mode), &agent.path).await;
        assert_eq!(stats(&pool).connections, 1, "{:?}", stats(&pool));
        expect_decides(&pool).await;
        for len in [1, 300, 64 * 1024, 300 * 1024, 1024 * 1024, 8 * 1024 * 1024] {
            expect_body_returns(&pool, &format!("body-{len}"), len).await;
        }
        expect_decides(&pool).await;
        assert!(stats(&pool).doorbells > 0, "{:?}", stats(&pool));
    }
}

/// Many frames at once fill both rings again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carries_many_frames_at_once() {
    let agent = serve_with(|server| server.shared_memory_size(16 * 1024)).await;
    let pool = pool_with(on().shared_memory_size(16 * 1024), &agent.path).await;
    let callers = (0..50).map(|caller| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for call in 0..40 {
                let len = (caller * 1009 + call * 7919) % 40_000 + 1;
                expect_body_returns(&pool, &format!("{caller}-{call}"), len).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        timeout(4 * TEST_TIMEOUT, caller).await.unwrap().unwrap();
    }
    assert_eq!(stats(&pool).connections, 1);
}

/// An agent that connects to the proxy uses shared memory as well.
#[tokio::test]
async fn reverse_connections_use_it() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen_as(&folder, on(), |_| {}).await;
    let _agent = dial_with(|dialer| dialer.dial(&proxy.endpoint));
    proxy.expect_connections("agent", 1).await;
    assert_eq!(
        stats(&proxy.pool).connections,
        1,
        "{:?}",
        stats(&proxy.pool)
    );
    expect_decides(&proxy.pool).await;
    expect_body_returns(&proxy.pool, "large", 1024 * 1024).await;
}

/// Either side can refuse it, and then everything goes on over the socket.
#[tokio::test]
async fn either_side_can_refuse() {
    let agent = serve_with(|server| server.shared_memory(SharedMemory::Off)).await;
    let refused_by_agent = pool_with(on(), &agent.path).await;
    let willing = serve_with(|server| server).await;
    let turned_off = on().shared_memory(SharedMemory::Off);
    let refused_by_pool = pool_with(turned_off, &willing.path).await;
    let without_extension = pool_with(on().use_extension(false), &willing.path).await;
    for (pool, refusal) in [
        (refused_by_agent, SharedMemoryRefusal::NotAccepted),
        (refused_by_pool, SharedMemoryRefusal::TurnedOff),
        (without_extension, SharedMemoryRefusal::NotAccepted),
    ] {
        let stats = stats(&pool);
        assert_eq!((stats.connections, stats.refusal), (0, Some(refusal)));
        assert_eq!(stats.failed, 0);
        expect_decides(&pool).await;
    }
}

/// With little memory left on either side, connections stay on the socket.
#[tokio::test]
async fn memory_limits_bound_the_rings() {
    let small = 1024 * 1024;
    let agent = serve_with(|server| server.max_memory(small)).await;
    let pool = pool_with(on(), &agent.path).await;
    let refused = (stats(&pool).refusal, stats(&pool).failed);
    assert_eq!(refused, (Some(SharedMemoryRefusal::ByPeer), 1));
    expect_decides(&pool).await;

    let agent = serve_with(|server| server).await;
    let pool = pool_with(on().max_memory(small), &agent.path).await;
    let refused = (stats(&pool).refusal, stats(&pool).failed);
    assert_eq!(refused, (Some(SharedMemoryRefusal::MemoryLimit), 1));
    expect_decides(&pool).await;
}

/// Rings are charged to the pool's budget for as long as they exist.
#[tokio::test]
async fn memory_is_charged() {
    let agent = serve_with(|server| server).await;
    let pool = pool_with(on(), &agent.path).await;
    let charged = pool.metrics().snapshot().memory_bytes;
    assert!(charged >= (256 + 64) * 1024, "{charged}");
    pool.remove("agent").unwrap();
    eventually("the rings are freed", async || {
        pool.metrics().snapshot().memory_bytes < 64 * 1024
    })
    .await;
}
