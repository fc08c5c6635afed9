//! Proxies and other clients that open far more connections than they use.

use crate::common::{
    HonestCalls, RawConnection, SOON, config, descriptors, eventually, frame, message,
    offer_handshake, pool_with, request, serve, serve_with,
};
use futures_util::future::join_all;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, Encoding};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_short_connections_leak_nothing() {
    let agent = serve().await;
    let pool = pool_with(AgentPoolConfig::default(), &agent.path).await;
    let honest = HonestCalls::to(&pool);
    let before = descriptors();
    let hello = frame(
        message::HANDSHAKE_REQUEST,
        offer_handshake("json").to_string().as_bytes(),
    );

    for n in 0..10_000 {
        let mut connection = RawConnection::connect(&agent.path).await;
        match n % 4 {
            0 => {}
            1 => connection.send_bytes(&hello[..hello.len() / 2]).await,
            2 => connection.send_bytes(&hello).await,
            _ => {
                connection.send_bytes(&hello).await;
                assert_eq!(connection.message().await.0, message::HANDSHAKE_RESPONSE);
            }
        }
    }

    honest.end().await;
    eventually("all descriptors are closed", async || {
        descriptors() <= before
    })
    .await;
    assert_eq!(agent.control.connections(), 4);
    assert_eq!(crate::common::faults(&pool).await.connections_lost, 0);
}

/// Opens ten times as many connections as the limit, which never finish their handshake. Every
/// second one sends the first bytes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_handshake_do_not_block_others() {
    const MAX_CONNECTIONS: usize = 20;
    let agent = serve_with(|server| {
        server
            .max_connections(MAX_CONNECTIONS)
            .handshake_timeout(Duration::from_secs(60))
    })
    .await;

    let established = pool_with(AgentPoolConfig::default(), &agent.path).await;
    let honest = HonestCalls::to(&established);
    let before = descriptors();
    let hello = frame(
        message::HANDSHAKE_REQUEST,
        offer_handshake("json").to_string().as_bytes(),
    );

    let mut half_open = Vec::new();
    for round in 0..3 {
        for n in 0..10 * MAX_CONNECTIONS {
            let mut connection = RawConnection::connect(&agent.path).await;
            if n % 2 == 0 {
                // The server may have closed the connection already.
                let _ = connection.try_send(&hello[..=round]).await;
            }
            half_open.push(connection);
        }

        let started = Instant::now();
        let pool = AgentPool::with_config(config(Encoding::Json));
        pool.add(AgentConfig::new("agent", agent.path.to_str().unwrap()).require_connection())
            .await
            .unwrap();
        pool.agent("agent")
            .unwrap()
            .send("c-1", &request("c-1", "/"))
            .await
            .unwrap();
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        // Up to three of each connection, and one of each before its handshake.
        eventually("the server closes those beyond the limit", async || {
            descriptors() - before - half_open.len() <= 4 * MAX_CONNECTIONS
        })
        .await;
    }
    honest.end().await;
    assert_eq!(
        crate::common::faults(&established).await.connections_lost,
        0
    );
}

#[tokio::test]
async fn evicted_connections_are_closed_before_more_are_accepted() {
    const MAX_CONNECTIONS: usize = 10;
    const FLOOD: usize = 500;
    let agent = serve_with(|server| server.max_connections(MAX_CONNECTIONS)).await;
    let before = descriptors();
    let mut flood = Vec::new();
    for _ in 0..FLOOD {
        let connection = std::os::unix::net::UnixStream::connect(&agent.path).unwrap();
        connection.set_nonblocking(true).unwrap();
        flood.push(connection);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let sampling = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let samples = std::iter::from_fn(|| (!is_over.load(Relaxed)).then(descriptors));
            samples.max().unwrap()
        })
    };

    let last_closed = &flood[FLOOD - MAX_CONNECTIONS - 1];
    eventually("the oldest connections are closed", async || {
        (&mut &*last_closed).read(&mut [0; 64]).is_ok()
    })
    .await;
    is_over.store(true, Relaxed);
    let most = sampling.join().unwrap() - before - FLOOD;
    // Two for each connection, one that is accepted and one that is closing.
    assert!(most <= 2 * (MAX_CONNECTIONS + 4), "{most} descriptors");
}

async fn expect_answer(connection: &mut RawConnection) {
    let event = serde_json::to_value(request("c-1", "/")).unwrap();
    connection
        .send_value(message::REQUEST_HEADERS, &event)
        .await;
    assert_eq!(connection.message().await.0, message::AGENT_RESPONSE);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_free_one() {
    let agent = serve_with(|server| server.max_connections(2)).await;
    let mut served = [
        RawConnection::connect_in(&agent.path, Encoding::Json).await,
        RawConnection::connect_in(&agent.path, Encoding::Json).await,
    ];

    for connection in &mut served {
        expect_answer(connection).await;
    }

    let mut waiting = RawConnection::connect(&agent.path).await;
    let hello = offer_handshake("json");
    waiting.send_value(message::HANDSHAKE_REQUEST, &hello).await;
    for connection in &mut served {
        connection.sync().await;
    }
    waiting.expect_silence();

    drop(served);
    assert_eq!(waiting.message().await.0, message::HANDSHAKE_RESPONSE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_give_way_to_new_ones() {
    const MAX_CONNECTIONS: usize = 8;
    let agent = serve_with(|server| server.max_connections(MAX_CONNECTIONS)).await;
    let mut busy = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    expect_answer(&mut busy).await;
    let pool = pool_with(config(Encoding::Json), &agent.path).await;
    let honest = HonestCalls::to(&pool);
    let before = descriptors();

    let mut silent = Vec::new();
    for _ in 0..10 {
        // At once, since places become free only now and then.
        let batch = (0..MAX_CONNECTIONS).map(async |_| {
            let connection = RawConnection::connect_in(&agent.path, Encoding::Json);
            connection.await
        });
        silent.extend(join_all(batch).await);
        let of_server = descriptors() - before - silent.len();
        assert!(of_server <= 2 * MAX_CONNECTIONS, "{of_server} descriptors");
    }
    let started = Instant::now();
    let mut new = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    expect_answer(&mut new).await;
    expect_answer(&mut busy).await;
    for connection in &mut silent[..9 * MAX_CONNECTIONS] {
        connection.expect_end().await;
    }
    honest.end().await;
    assert!(agent.control.connections() <= MAX_CONNECTIONS);
    assert_eq!(crate::common::faults(&pool).await.connections_lost, 0);
}

#[tokio::test]
async fn repeated_and_unknown_cancels_are_harmless() {
    let agent = serve().await;
    let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    let cancel = |id: &str| {
        let cancel = serde_json::json!({"correlation_id": id, "reason": 5, "timestamp_ms": 1});
        frame(message::CANCEL, cancel.to_string().as_bytes())
    };

    for n in 0..5_000 {
        let id = n.to_string();
        let event = serde_json::to_value(request(&id, "/wait")).unwrap();
        let event = frame(message::REQUEST_HEADERS, event.to_string().as_bytes());
        let burst = [
            cancel(&id),
            event,
            cancel("unknown"),
            cancel(&id),
            cancel(&id),
        ];
        connection.send_bytes(&burst.concat()).await;
        // A cancelled event is answered once, so the proxy can use the id again.
        let (message, answer) = connection.message().await;
        assert_eq!(message, message::AGENT_RESPONSE);
        assert_eq!(answer["audit"]["custom"]["correlation_id"], *id);
    }

    assert_eq!(
        connection.sync().await,
        [0; 0],
        "an event was answered twice"
    );

    let event = serde_json::to_value(request("after", "/")).unwrap();
    connection
        .send_value(message::REQUEST_HEADERS, &event)
        .await;
    let (message, answer) = connection.message().await;
    assert_eq!(message, message::AGENT_RESPONSE);
    assert_eq!(answer["audit"]["custom"]["correlation_id"], "after");
}
