//! One peer's work does not keep others waiting, and deadlines end calls in time.

use crate::common::{
    RawAgent, RawConnection, WaitingAgent, allowing, config, frame, message, pool_with, request,
    result_of, serve, serve_on_thread,
};
use std::future::poll_fn;
use std::io::{Write, copy, sink};
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::task::yield_now;
use tollgate::listener::Stream;
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, CallError, Encoding};

/// Lateness of a deadline, apart from what the machine causes.
const LATE: Duration = Duration::from_millis(20);

/// Time for which each flood lasts.
const FLOOD: Duration = Duration::from_secs(2);

/// Lateness that the machine causes: other tests may have the processors, and a debug build is
/// slow. Without fair turns the floods below would keep calls waiting for several seconds.
const NOISE: Duration = Duration::from_secs(1);

/// Accepts the connections of a pool as an agent that sends the same bytes again and again, on
/// threads of their own, and answers nothing.
fn flood_with(agent: RawAgent, bytes: Vec<u8>) {
    tokio::spawn(async move {
        loop {
            let connection = agent.accept_in(Encoding::Json).await;
            let (mut socket, bytes) = (connection.into_std(), bytes.clone());
            std::thread::spawn(move || while socket.write_all(&bytes).is_ok() {});
        }
    });
}

fn answer_of(values: usize) -> Vec<u8> {
    let values = "0,".repeat(values);
    let answer = format!(
        r#"{{"version":2,"decision":"allow","audit":{{"custom":{{"correlation_id":"nobody","x":[{values}0]}}}}}}"#
    );
    frame(message::AGENT_RESPONSE, answer.as_bytes())
}

fn report_of(counters: usize) -> Vec<u8> {
    let counters: Vec<_> = (0..counters)
        .map(|n| format!(r#"{{"name":"c{n}","labels":{{}},"value":1}}"#))
        .collect();
    let report = format!(
        r#"{{"agent_id":"a","timestamp_ms":1,"interval_ms":1,"gauges":[],"histograms":[],"counters":[{}]}}"#,
        counters.join(",")
    );
    frame(message::METRICS_REPORT, report.as_bytes())
}

fn pings() -> Vec<u8> {
    frame(message::PING, br#"{"sequence":1,"timestamp_ms":1}"#).repeat(1_000)
}

/// Sends the same bytes again and again to a server until `end`, and reads what it sends.
fn flood_server_with(connection: RawConnection, bytes: Vec<u8>, end: Instant) {
    let mut socket = connection.into_std();
    let mut reading = socket.try_clone().unwrap();
    std::thread::spawn(move || copy(&mut reading, &mut sink()));
    std::thread::spawn(move || while Instant::now() < end && socket.write_all(&bytes).is_ok() {});
}

fn unknown_cancels() -> Vec<u8> {
    let cancel = br#"{"correlation_id":"nobody","reason":5,"timestamp_ms":1}"#;
    frame(message::CANCEL, cancel).repeat(1_000)
}

fn event_of(values: usize) -> Vec<u8> {
    let mut event = serde_json::to_value(request("c-1", "/")).unwrap();
    event["x"] = vec![0; values].into();
    frame(message::REQUEST_HEADERS, event.to_string().as_bytes())
}

fn p99(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() * 99 / 100]
}

/// Makes calls to an agent until `end`. Returns their durations and those that were answered.
async fn calls(
    pool: &AgentPool,
    agent: &str,
    deadline: Duration,
    end: Instant,
) -> (Vec<Duration>, usize) {
    let agent = pool.agent(agent).unwrap();
    let (mut took, mut answered) = (Vec::new(), 0);
    while Instant::now() < end {
        let id = took.len().to_string();
        let began = Instant::now();
        let event = request(&id, "/");
        let sent = async { agent.exchange(&id)?.send(&event).timeout(deadline).await };
        match sent.await {
            Ok(_) => answered += 1,
            Err(CallError::Timeout { .. } | CallError::Unavailable { .. }) => {}
            Err(error) => assert!(matches!(error, CallError::CircuitOpen { .. }), "{error}"),
        }
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (took, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_one_agent_delay_neither_others_nor_deadlines() {
    for (what, bytes) in [
        ("large answers", answer_of(3_000_000)),
        ("answers with many values", answer_of(70_000)),
        ("long reports", report_of(380_000)),
        ("reports", report_of(5_000)),
        ("pings", pings()),
    ] {
        let good = serve().await;
        let pool = pool_with(AgentPoolConfig::default(), &good.path).await;
        let hostile = RawAgent::listen();
        let path = hostile.path.to_str().unwrap().to_owned();
        flood_with(hostile, bytes);
        // One connection, so that the test itself leaves processors to others.
        let config = AgentConfig::new("hostile", path).connections(1);
        pool.add(config).await.unwrap();

        let end = Instant::now() + FLOOD;
        let deadline = Duration::from_millis(300);
        let ((good, answered), (hostile, _)) = tokio::join!(
            calls(&pool, "agent", Duration::from_secs(5), end),
            calls(&pool, "hostile", deadline, end)
        );
        assert_eq!(
            good.len(),
            answered,
            "{what}: the good agent was asked in vain"
        );
        let p99 = p99(good);
        assert!(p99 < NOISE, "{what}: the good agent answered after {p99:?}");
        let slowest = hostile.iter().max().copied().unwrap_or_default();
        let allowed = deadline + deadline / 10 + LATE + NOISE;
        assert!(
            slowest < allowed,
            "{what}: a deadline ended a call after {slowest:?}"
        );
    }
}

/// Serves an agent on a thread of its own. Connects a pool to it.
async fn pool_of_one_thread(folder: &tempfile::TempDir) -> (AgentPool, PathBuf) {
    let path = folder.path().join("agent.sock");
    serve_on_thread(&path, WaitingAgent::default());
    (pool_with(config(Encoding::Json), &path).await, path)
}

/// Asserts that the good agent answers calls soon until `end`.
async fn expect_answers_soon(pool: &AgentPool, what: &str, end: Instant) {
    let (took, answered) = calls(pool, "agent", Duration::from_secs(5), end).await;
    assert_eq!(took.len(), answered, "{what}: a good peer asked in vain");
    let p99 = p99(took);
    assert!(p99 < NOISE / 2, "{what}: answered after {p99:?}");
}

/// The server has one thread, on which nobody else may look for what has arrived.
#[tokio::test]
async fn floods_of_proxies_delay_no_other_of_a_server_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, path) = pool_of_one_thread(&folder).await;
    let mixed = vec![pings(), unknown_cancels(), event_of(70_000)];
    for (what, floods) in [
        ("events", vec![event_of(0).repeat(100)]),
        ("pings, cancels and values", mixed),
    ] {
        let mut connections = Vec::new();
        for _ in &floods {
            connections.push(RawConnection::connect_in(&path, Encoding::Json).await);
        }
        let end = Instant::now() + FLOOD / 2;
        for (connection, flood) in connections.into_iter().zip(floods) {
            flood_server_with(connection, flood, end);
        }
        expect_answers_soon(&pool, what, end).await;
    }
}

/// As in a proxy with a runtime of one thread for each processor.
#[tokio::test]
async fn floods_of_an_agent_delay_no_other_of_a_pool_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, _path) = pool_of_one_thread(&folder).await;
    let unmatched = allowing("nobody").to_string();
    for (what, flood) in [
        (
            "answers",
            frame(message::AGENT_RESPONSE, unmatched.as_bytes()).repeat(500),
        ),
        ("reports", report_of(1_000)),
    ] {
        let hostile = RawAgent::listen();
        let path = hostile.path.to_str().unwrap().to_owned();
        flood_with(hostile, flood);
        let config = AgentConfig::new("hostile", path).connections(1);
        let hostile = pool.add(config).await.unwrap();
        expect_answers_soon(&pool, what, Instant::now() + FLOOD / 2).await;
        hostile.remove().unwrap();
    }
}

#[tokio::test]
async fn answers_that_have_arrived_complete_their_calls_before_the_deadline_counts() {
    let agent = RawAgent::listen();
    let pool_config = config(Encoding::Json).connections_per_agent(1);
    let (pool, mut connection): (_, RawConnection) = tokio::join!(
        pool_with(pool_config, &agent.path),
        agent.accept_in(Encoding::Json)
    );
    let deadline = Duration::from_millis(50);
    let call = {
        let agent = pool.agent("agent").unwrap();
        tokio::spawn(async move {
            agent
                .send("c-1", &request("c-1", "/"))
                .timeout(deadline)
                .await
        })
    };
    let id = connection.event().await;
    connection.block(&id, 418).await;
    // The only thread of the runtime is kept until the deadline has passed.
    std::thread::sleep(2 * deadline);
    result_of(call).await.unwrap();
}

/// As HTTP/2 reads. Without a limit it would take all that a peer sends meanwhile.
#[tokio::test]
async fn connection_of_another_protocol_is_read_in_turns() {
    const TURN: usize = 64 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut stream = Stream::connect_unix(&path).await.unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(len) = peer.write(&[0; 4096]) {
        sent += len;
    }
    assert!(sent > 2 * TURN, "the system keeps {sent} bytes only");

    let mut received = 0;
    while received < sent {
        let before = received;
        poll_fn(|cx| {
            let mut buffer = [0; 4096];
            while let Poll::Ready(read) = pin!(stream.read(&mut buffer)).poll(cx) {
                received += read.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        assert!(received - before <= TURN, "{} at once", received - before);
    }
}
