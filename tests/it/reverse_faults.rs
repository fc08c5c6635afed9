//! Faults of reverse connections, and that other agents are not affected.

use crate::common::{
    HonestCalls, Proxy, RawConnection, SOON, TEST_TIMEOUT, config, dial, dial_with, eventually,
    frame, message, registration, request,
};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tollgate::{AgentPool, AgentPoolConfig, Encoding};

/// A proxy with 200 agents under load stops, and another one replaces it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_reconnect_to_a_restarted_proxy_at_varied_times() {
    const AGENTS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let agents: Vec<_> = (0..AGENTS)
        .map(|n| dial_with(|dialer| dialer.dial(&proxy.endpoint).agent_id(name(n))))
        .collect();
    eventually("all agents are connected", async || {
        proxy.listener.connections() == AGENTS
    })
    .await;
    let (load, answered) = put_load_on(&proxy.pool, AGENTS);
    eventually("all agents are called", async || {
        answered.load(Ordering::Relaxed) > AGENTS
    })
    .await;

    proxy.listener.stop();
    proxy.accepting.await.unwrap();
    load.into_iter().for_each(|caller| caller.abort());
    proxy.pool.shutdown().await;
    drop(proxy.pool);
    eventually("all agents have lost the proxy", async || {
        agents.iter().all(|agent| agent.control.connections() == 0)
    })
    .await;
    // Long enough that every agent has tried to reconnect.
    sleep(Duration::from_millis(1500)).await;

    let proxy = Proxy::listen(&folder).await;
    let listening = Instant::now();
    let mut returned = Vec::new();
    while returned.len() < AGENTS {
        assert!(
            listening.elapsed() < Duration::from_secs(2),
            "{} are back",
            returned.len()
        );
        let so_far = proxy.listener.registered() as usize;
        returned.resize(so_far, listening.elapsed());
        sleep(Duration::from_millis(1)).await;
    }

    let per_tenth = (0..20).map(|tenth| {
        let range = Duration::from_millis(100 * tenth)..Duration::from_millis(100 * (tenth + 1));
        returned.iter().filter(|at| range.contains(*at)).count()
    });
    let per_tenth: Vec<_> = per_tenth.collect();
    println!("agents back in each 100 ms: {per_tenth:?}");
    assert!(
        per_tenth.iter().all(|count| *count <= AGENTS / 3),
        "{per_tenth:?}"
    );
    assert!(
        per_tenth.iter().filter(|count| **count > 0).count() >= 5,
        "{per_tenth:?}"
    );

    let (load, answered) = put_load_on(&proxy.pool, AGENTS);
    eventually("all agents are called again", async || {
        answered.load(Ordering::Relaxed) > AGENTS
    })
    .await;
    load.into_iter().for_each(|caller| caller.abort());
}

/// The proxy disconnects all agents at once, but keeps listening.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_disconnected_together_reconnect_at_varied_times() {
    const AGENTS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let _agents: Vec<_> = (0..AGENTS)
        .map(|n| dial_with(|dialer| dialer.dial(&proxy.endpoint).agent_id(name(n))))
        .collect();
    eventually("all agents are connected", async || {
        proxy.listener.registered() as usize == AGENTS
    })
    .await;

    let lost = Instant::now();
    proxy.pool.shutdown().await;
    let mut returned = Vec::new();
    while returned.len() < AGENTS {
        assert!(lost.elapsed() < TEST_TIMEOUT, "{} are back", returned.len());
        let so_far = proxy.listener.registered() as usize - AGENTS;
        returned.resize(so_far, lost.elapsed());
        sleep(Duration::from_millis(1)).await;
    }

    let early = returned
        .iter()
        .filter(|at| **at < Duration::from_millis(100))
        .count();
    let late = returned
        .iter()
        .filter(|at| **at >= Duration::from_millis(250))
        .count();
    println!("of {AGENTS} agents {early} are back within 100 ms and {late} after 250 ms");
    assert!(early <= AGENTS / 2 && late >= AGENTS / 10, "{early} {late}");
}

fn name(number: usize) -> String {
    format!("agent-{number}")
}

fn put_load_on(pool: &Arc<AgentPool>, agents: usize) -> (Vec<JoinHandle<()>>, Arc<AtomicUsize>) {
    let answered = Arc::<AtomicUsize>::default();
    let callers = (0..8).map(|caller| {
        let (pool, answered) = (Arc::clone(pool), Arc::clone(&answered));
        tokio::spawn(async move {
            for n in 0.. {
                let id = format!("{caller}-{n}");
                let agent = name((caller + n * 8) % agents);
                if pool
                    .agent(&agent)
                    .unwrap()
                    .send(&id, &request(&id, "/"))
                    .await
                    .is_ok()
                {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                pool.unpin(&id);
                tokio::task::yield_now().await;
            }
        })
    });
    (callers.collect(), answered)
}

/// Opens many more connections than the limit of unregistered ones. Some send nothing, some a byte
/// at a time, some half of the registration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unregistered_connections_do_not_block_others() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen_as(&folder, AgentPoolConfig::default(), |config| {
        config.max_unregistered = 50;
        config.max_registrations_per_second = 100_000;
        config.handshake_timeout = Duration::from_secs(60);
    })
    .await;

    let _agent = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let honest = HonestCalls::to(&proxy.pool);
    let hello = frame(
        message::HANDSHAKE_REQUEST,
        registration("flood", None).to_string().as_bytes(),
    );

    let mut half_open = Vec::new();
    for round in 0..3 {
        for n in 0..200 {
            let mut connection = RawConnection::connect(proxy.path()).await;
            let length = [0, 1 + round, hello.len() / 2][n % 3];
            // It may have been evicted already.
            let _ = connection.try_send(&hello[..length]).await;
            half_open.push(connection);
        }
        let started = Instant::now();
        let late = dial_with(|dialer| dialer.dial(&proxy.endpoint).agent_id("late"));
        proxy.expect_connections("late", 1).await;
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        late.stop().await;
        for connection in &mut half_open {
            let _ = connection.try_send(&hello[next_byte(round)]).await;
        }
    }

    honest.end().await;
    assert!(
        proxy.listener.refused() >= 500,
        "{}",
        proxy.listener.refused()
    );
    assert_eq!(proxy.pool.agent("flood").map(|agent| agent.stats()), None);
    assert_eq!(crate::common::faults(&proxy.pool).await.connections_lost, 0);
}

/// Returns the range of the byte that slow connections send in this round.
fn next_byte(round: usize) -> std::ops::Range<usize> {
    1 + round..2 + round
}

#[tokio::test]
async fn connection_without_a_timely_registration_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen_as(&folder, AgentPoolConfig::default(), |config| {
        config.handshake_timeout = Duration::from_millis(100);
    })
    .await;

    let mut silent = RawConnection::connect(proxy.path()).await;
    let mut slow = RawConnection::connect(proxy.path()).await;
    let hello = frame(
        message::HANDSHAKE_REQUEST,
        registration("slow", None).to_string().as_bytes(),
    );

    let started = Instant::now();
    for byte in &hello {
        if slow.try_send(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    slow.expect_end().await;
    silent.expect_end().await;

    let taken = started.elapsed();
    assert!(
        taken >= Duration::from_millis(90) && taken < SOON,
        "{taken:?}"
    );
    assert_eq!(proxy.listener.refused(), 2);
}

#[tokio::test]
async fn invalid_registrations_are_rejected_and_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let _agent = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let honest = HonestCalls::to(&proxy.pool);

    let valid = registration("other", None);
    let with = |key: &str, value| {
        let mut changed = valid.clone();
        changed[key] = value;
        frame(message::HANDSHAKE_REQUEST, changed.to_string().as_bytes())
    };
    let deep = |open: &str, close: &str| open.repeat(60_000 / 2) + &close.repeat(60_000 / 2);
    let garbage = [
        vec![0, 0, 0, 0, message::HANDSHAKE_REQUEST],
        vec![0xff; 64],
        b"GET / HTTP/1.1\r\nhost: proxy\r\n\r\n".to_vec(),
        frame(message::HANDSHAKE_REQUEST, b""),
        frame(message::HANDSHAKE_REQUEST, b"null"),
        frame(message::HANDSHAKE_REQUEST, b"{\"protocol_version\":2"),
        frame(message::HANDSHAKE_REQUEST, b"\xff\xfe\xfd"),
        frame(message::HANDSHAKE_REQUEST, deep("[", "]").as_bytes()),
        frame(
            message::HANDSHAKE_REQUEST,
            format!("{{\"metadata\":{}}}", deep("[", "]")).as_bytes(),
        ),
        frame(message::REQUEST_HEADERS, valid.to_string().as_bytes()),
        frame(message::HANDSHAKE_RESPONSE, valid.to_string().as_bytes()),
        with("protocol_version", json!(3)),
        with("protocol_version", json!(-1)),
        with("agent_id", json!(null)),
        with("agent_id", json!("")),
        with("agent_id", json!("a\u{0}b")),
        with("agent_id", json!("x".repeat(1000))),
        with("auth_token", json!(7)),
        with("capabilities", json!("none")),
        with("capabilities", json!({"limits": {"max_concurrency": -1}})),
    ];

    let count = garbage.len() as u64;
    for bytes in garbage {
        let mut connection = RawConnection::connect(proxy.path()).await;
        connection.send_bytes(&bytes).await;
        if let Some((message, payload)) = connection.receive().await {
            let response: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(
                (message, &response["error"]),
                (message::HANDSHAKE_RESPONSE, &json!("rejected"))
            );
            connection.expect_end().await;
        }
    }

    eventually("each rejection is counted", async || {
        proxy.listener.refused() == count
    })
    .await;
    assert_eq!(crate::common::agent_ids(&proxy.pool), ["agent"]);
    honest.end().await;
}

/// An unregistered connection is limited to 64 KiB. It is closed as soon as it announces more.
#[tokio::test]
async fn size_of_a_registration_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let before = crate::common::virtual_memory();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let mut connection = RawConnection::connect(proxy.path()).await;
        let length = 64_u32 * 1024 + 1;
        connection.send_bytes(&length.to_be_bytes()).await;
        connection.expect_end().await;
        let mut connection = RawConnection::connect(proxy.path()).await;
        connection.send_bytes(&(64_u32 * 1024).to_be_bytes()).await;
        connections.push(connection);
    }

    let grown = crate::common::virtual_memory().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");

    let mut fits = registration("agent", None);
    fits["metadata"] = json!("x".repeat(64 * 1024 - fits.to_string().len() + 1));
    let (_connection, response) = RawConnection::register(proxy.path(), &fits).await;
    assert_eq!(response["success"], true);
}

/// A registered agent that sends garbage loses its own connection only.
#[tokio::test]
async fn garbage_after_registration_ends_only_that_connection() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let _agent = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let honest = HonestCalls::to(&proxy.pool);

    for _ in 0..20 {
        let (mut faulty_agent, _) =
            RawConnection::register(proxy.path(), &registration("faulty_agent", None)).await;
        faulty_agent.send_bytes(&[0, 0, 0, 0]).await;
        faulty_agent.expect_end().await;
    }
    honest.end().await;
}

/// Forwards connections to the proxy until it is cut, which silently stops forwarding.
struct Network {
    endpoint: String,
    is_cut: Arc<AtomicBool>,
}

impl Network {
    async fn to(proxy: &Proxy) -> Self {
        let far = proxy.listener.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let is_cut = Arc::<AtomicBool>::default();
        let state = Arc::clone(&is_cut);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(far).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(forward(near_read, far_write, Arc::clone(&state)));
                tokio::spawn(forward(far_read, near_write, Arc::clone(&state)));
            }
        });
        Self { endpoint, is_cut }
    }
}

/// Forwards bytes. Once the network is cut, drops bytes and the end of the stream.
async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    is_cut: Arc<AtomicBool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if is_cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn cut_network_is_detected_by_pings_on_both_sides() {
    let (interval, timeout) = (Duration::from_millis(200), Duration::from_millis(300));

    // Time that a loaded machine may add.
    let slack = SOON;
    let proxy = Proxy::listen_on_tcp(
        config(Encoding::MessagePack)
            .health_check_interval(interval)
            .ping_timeout(timeout),
    )
    .await;

    let network = Network::to(&proxy).await;
    let agent = dial_with(|dialer| {
        dialer
            .dial(&network.endpoint)
            .keepalive(interval, timeout)
            .reconnect_interval(Duration::from_millis(50))
    });

    proxy.expect_connections("agent", 1).await;
    eventually("the agent is connected", async || {
        agent.control.connections() == 1
    })
    .await;
    let handle = proxy.agent();
    handle
        .send("before", &request("before", "/"))
        .await
        .unwrap();

    // While bytes pass, an idle connection stays open.
    sleep(2 * (interval + timeout)).await;
    assert_eq!(
        (proxy.listener.registered(), agent.control.connections()),
        (1, 1)
    );

    network.is_cut.store(true, Ordering::Relaxed);
    let cut = Instant::now();
    let calling = handle.clone();
    let lost = tokio::spawn(async move { calling.send("lost", &request("lost", "/")).await });
    eventually("the proxy notices", async || {
        proxy.connections_of("agent").await == 0
    })
    .await;
    // The proxy checks once per interval whether the last one was silent.
    assert!(
        cut.elapsed() < 2 * interval + timeout + slack,
        "{:?}",
        cut.elapsed()
    );
    assert!(lost.await.unwrap().is_err());
    eventually("the agent notices", async || {
        agent.control.connections() == 0
    })
    .await;
    assert!(
        cut.elapsed() < 2 * interval + timeout + slack,
        "{:?}",
        cut.elapsed()
    );

    network.is_cut.store(false, Ordering::Relaxed);
    proxy.expect_connections("agent", 1).await;
    handle.send("after", &request("after", "/")).await.unwrap();
}
