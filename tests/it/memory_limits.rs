//! The memory that peers make a server or a pool hold is limited in sum.

use crate::common::{
    HonestCalls, MemoryGrowth, RawAgent, RawConnection, WaitingAgent, config, descriptors,
    eventually, frame, in_virtual_time, message, metadata, pool_with, request, serve, serve_with,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tollgate::control::AgentNotice;
use tollgate::{AgentConfig, AgentPoolConfig, AgentServer, Encoding};

const MIB: usize = 1024 * 1024;

/// Memory limit of the servers and pools below.
const LIMIT: usize = 64 * MIB;

/// Memory that a test may take at once. The system's allocator, which tests use, returns memory
/// late, and the test plays the other side as well. Without a limit the floods below would take ten
/// times the limit.
const MOST_RESIDENT: usize = 6 * LIMIT;

/// Returns all but the last byte of a frame of `len` bytes.
fn all_but_the_end(message: u8, len: usize) -> Vec<u8> {
    let mut frame = frame(message, &vec![b' '; len]);
    frame.pop();
    frame
}

/// Sends bytes until the other side closes the connection or takes no more.
async fn press(connection: &mut RawConnection, bytes: &[u8]) {
    let sent = tokio::time::timeout(Duration::from_millis(50), connection.try_send(bytes));
    let _ = sent.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incomplete_frames_of_many_proxies_fit_the_limit() {
    let agent = serve_with(|server| server.max_memory(LIMIT)).await;
    let honest_pool = pool_with(AgentPoolConfig::default(), &agent.path).await;
    let honest = HonestCalls::to(&honest_pool);
    let bytes = all_but_the_end(message::REQUEST_HEADERS, 15 * MIB);
    let memory = MemoryGrowth::watch();
    let mut most = 0;

    let mut hostile = Vec::new();
    for _ in 0..=10 * LIMIT / (15 * MIB) {
        let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
        press(&mut connection, &bytes).await;
        hostile.push(connection);
        most = most.max(agent.control.memory_used());
    }

    honest.end().await;
    assert!(agent.control.ended_for_memory() > 0);
    assert!(most > LIMIT / 2, "{most} bytes were charged");
    memory.expect_within(MOST_RESIDENT);
    drop(hostile);
    eventually("memory is returned", async || {
        agent.control.memory_used() < MIB
    })
    .await;
    let faults = crate::common::faults(&honest_pool).await;
    assert_eq!(faults.connections_lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_events_of_many_proxies_fit_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let server = AgentServer::builder(WaitingAgent::default())
        .listen(path.display().to_string())
        .max_memory(LIMIT);
    let control = server.control();
    tokio::spawn(server.bind().await.unwrap().serve());
    let honest_pool = pool_with(AgentPoolConfig::default(), &path).await;
    let honest = HonestCalls::to(&honest_pool);
    let memory = MemoryGrowth::watch();

    let mut hostile = Vec::new();
    let value = "v".repeat(5 * MIB);
    for n in 0..43 {
        let mut connection = RawConnection::connect_in(&path, Encoding::Json).await;
        for k in 0..3 {
            let metadata = metadata_text(&format!("{n}-{k}"));
            let event = format!(
                r#"{{"metadata":{metadata},"method":"GET","uri":"/wait","headers":{{"x":["{value}"]}}}}"#
            );
            press(
                &mut connection,
                &frame(message::REQUEST_HEADERS, event.as_bytes()),
            )
            .await;
        }
        hostile.push(connection);
    }

    honest.end().await;
    assert!(control.ended_for_memory() > 0);
    memory.expect_within(MOST_RESIDENT);
    eventually("the limit holds", async || control.memory_used() <= LIMIT).await;
    drop(hostile);
}

#[test]
fn frame_without_progress_ends_its_connection() {
    in_virtual_time(async {
        let timeout = Duration::from_millis(200);
        let agent = serve_with(|server| server.frame_timeout(timeout)).await;
        let mut idle = RawConnection::connect_in(&agent.path, Encoding::Json).await;
        let mut stalled = RawConnection::connect_in(&agent.path, Encoding::Json).await;
        stalled.send_bytes(b"\0\0").await;
        let started = Instant::now();
        stalled.expect_end().await;
        assert!(started.elapsed() >= timeout);

        // One byte at a time is no progress.
        let mut dripping = RawConnection::connect_in(&agent.path, Encoding::Json).await;
        let bytes = all_but_the_end(message::REQUEST_HEADERS, MIB);
        let mut sent = 0;
        while dripping.try_send(&bytes[sent..=sent]).await.is_ok() {
            sent += 1;
            tokio::time::sleep(timeout / 20).await;
            assert!(sent < 1_000, "the connection is still open");
        }

        // A frame that grows may take longer.
        let mut slow = RawConnection::connect_in(&agent.path, Encoding::Json).await;
        let started = Instant::now();
        let event = serde_json::json!({
            "metadata": metadata("slow"), "method": "GET", "uri": "/block",
            "headers": {"x": ["v".repeat(MIB)]},
        });
        let event = frame(message::REQUEST_HEADERS, event.to_string().as_bytes());
        for piece in event.chunks(100 * 1024) {
            slow.send_bytes(piece).await;
            tokio::time::sleep(timeout / 2).await;
        }
        assert!(started.elapsed() > 2 * timeout);
        assert_eq!(slow.message().await.0, message::AGENT_RESPONSE);
        idle.sync().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incomplete_answers_of_an_agent_fit_the_limit_of_the_pool() {
    const ANSWER: usize = 15 * MIB;
    const CONNECTIONS: usize = 10 * LIMIT / ANSWER + 1;
    let good = serve().await;
    let pool_config = config(Encoding::Json)
        .max_memory(LIMIT)
        .connections_per_agent(8);
    let pool = pool_with(pool_config, &good.path).await;
    let honest = HonestCalls::to(&pool);
    let hostile = RawAgent::listen();
    let path = hostile.path.to_str().unwrap().to_owned();
    let bytes: Arc<[u8]> = all_but_the_end(message::AGENT_RESPONSE, ANSWER).into();
    let memory = MemoryGrowth::watch();
    let sent = Arc::<AtomicUsize>::default();
    let pressing = {
        let sent = Arc::clone(&sent);
        tokio::spawn(async move {
            loop {
                let connection = hostile.accept_in(Encoding::Json).await;
                let mut socket = connection.into_std();
                let (bytes, sent) = (Arc::clone(&bytes), Arc::clone(&sent));
                // On a thread of its own, until the pool closes the connection.
                std::thread::spawn(move || {
                    let _ = std::io::Write::write_all(&mut socket, &bytes);
                    sent.fetch_add(1, Ordering::Relaxed);
                    let _ = std::io::Read::read_to_end(&mut socket, &mut Vec::new());
                });
            }
        })
    };
    let config = AgentConfig::new("hostile", path).connections(CONNECTIONS);
    let _hostile = pool.add(config).await.unwrap();
    let mut most = 0;
    eventually(
        "ten times the limit is sent, and connections end",
        async || {
            let metrics = pool.metrics().snapshot();
            most = most.max(metrics.memory_bytes);
            let is_sent = sent.load(Ordering::Relaxed) >= CONNECTIONS;
            is_sent && metrics.connections_ended_for_memory_total >= 3
        },
    )
    .await;

    honest.end().await;
    assert!(!pressing.is_finished(), "the hostile agent failed");
    assert!(most > LIMIT as u64 / 2);
    memory.expect_within(MOST_RESIDENT);
    let metrics = pool.metrics().snapshot();
    assert_eq!(metrics.memory_limit_bytes, LIMIT as u64);
    let text = pool.metrics().to_prometheus("tollgate");
    for name in [
        "memory_bytes",
        "memory_limit_bytes",
        "connections_ended_for_memory_total",
    ] {
        assert!(text.contains(&format!("\ntollgate_{name} ")), "{name}");
    }
    assert_eq!(metrics.agents["agent"].faults.connections_lost, 0);
}

#[tokio::test]
async fn frame_of_an_agent_without_progress_ends_its_connection() {
    let hostile = RawAgent::listen();
    let pool_config = config(Encoding::Json)
        .frame_timeout(Duration::from_millis(200))
        .connections_per_agent(1);
    let (pool, mut connection) = tokio::join!(
        pool_with(pool_config, &hostile.path),
        hostile.accept_in(Encoding::Json)
    );
    connection.send_bytes(b"\0\0\0\x09\x20{").await;
    connection.expect_end().await;
    assert_eq!(crate::common::faults(&pool).await.connections_lost, 1);
}

#[tokio::test]
async fn notices_that_nobody_takes_fit_the_limit_of_the_pool() {
    let hostile = RawAgent::listen();
    let pool_config = config(Encoding::Json)
        .max_memory(8 * MIB)
        .connections_per_agent(1);
    let (pool, mut connection) = tokio::join!(
        pool_with(pool_config, &hostile.path),
        hostile.accept_in(Encoding::Json)
    );
    let mut notices = pool.notices();
    let report = serde_json::json!({
        "agent_id": "a", "timestamp_ms": 1, "interval_ms": 1, "gauges": [], "histograms": [],
        "counters": [{"name": "n".repeat(MIB / 2), "labels": {}, "value": 1}],
    });
    let report = frame(message::METRICS_REPORT, report.to_string().as_bytes());
    for _ in 0..160 {
        connection.send_bytes(&report).await;
    }
    connection.sync().await;
    let metrics = pool.metrics().snapshot();
    assert!(metrics.memory_bytes <= 8 * MIB as u64);
    assert!(metrics.memory_bytes > 2 * MIB as u64);
    assert!(metrics.total.faults.unexpected_messages > 140);

    let received = notices.recv().await.unwrap();
    assert!(matches!(received, AgentNotice::Metrics { .. }));
    drop((received, notices));
    let event = request("c-1", "/");
    let agent = pool.agent("agent").unwrap();
    let (answer, ()) = tokio::join!(agent.send("c-1", &event), async {
        let id = connection.event().await;
        connection.allow(&id).await;
    });
    answer.unwrap();
    assert!(pool.metrics().snapshot().memory_bytes < MIB as u64);
}

#[tokio::test]
async fn proxy_that_is_gone_is_noticed_while_its_session_does_not_read() {
    const CONNECTIONS: usize = 40;
    let agent = serve_with(|server| server.max_concurrent_per_connection(1)).await;
    let before = descriptors();
    let mut connections = Vec::new();
    for n in 0..CONNECTIONS {
        let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
        // One event whose handler waits, and more than the session reads.
        for k in 0..n % 4 {
            let event = serde_json::json!({
                "metadata": metadata(&format!("{n}-{k}")), "method": "GET", "uri": "/wait",
                "headers": {},
            });
            connection
                .send_value(message::REQUEST_HEADERS, &event)
                .await;
        }
        connections.push(connection);
    }
    eventually("the handlers wait", async || {
        agent.seen.lock().unwrap().len() >= CONNECTIONS * 3 / 4
    })
    .await;
    let started = Instant::now();
    drop(connections);
    eventually("the sessions have ended", async || {
        agent.control.connections() == 0 && descriptors() <= before
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payload_full_of_values_is_rejected_before_it_is_parsed() {
    let agent = serve().await;
    let honest_pool = pool_with(AgentPoolConfig::default(), &agent.path).await;
    let honest = HonestCalls::to(&honest_pool);
    let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    let values = "0,".repeat(7 * MIB);
    let event = format!(
        r#"{{"metadata":{},"method":"GET","uri":"/","headers":{{}},"x":[{values}0]}}"#,
        metadata_text("c-1")
    );
    let event = frame(message::REQUEST_HEADERS, event.as_bytes());
    let memory = MemoryGrowth::watch();
    connection.send_bytes(&event).await;
    let (number, answer) = connection.message().await;
    assert_eq!(number, message::AGENT_RESPONSE);
    assert_ne!(answer["decision"], "allow");
    assert_eq!(answer["audit"]["custom"]["correlation_id"], "c-1");
    memory.expect_within(64 * MIB);
    honest.end().await;
}

fn metadata_text(id: &str) -> String {
    serde_json::to_string(&metadata(id)).unwrap()
}
