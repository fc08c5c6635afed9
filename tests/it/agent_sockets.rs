//! An agent on a Unix socket wakes up for input, and for writable space only after it ran out.

use crate::common::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;
use tollgate::{AgentPool, AgentServer, Encoding};

const CALLS: u64 = 200;

/// Runs an agent on its own thread until the test ends. Its runtime counts how often it sleeps.
fn run_agent<F: Future>(agent: impl FnOnce(mpsc::Sender<Handle>) -> F + Send + 'static) -> Handle {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agent(ready));
    });
    is_ready.recv().unwrap()
}

/// Makes calls one at a time, and asserts that the agent sleeps once for each.
async fn expect_one_sleep_per_call(agent: &Handle, pool: &AgentPool) {
    let slept = || agent.metrics().worker_park_count(0);
    let before = slept();
    for number in 0..CALLS {
        let id = number.to_string();
        let event = request(&id, "/");
        let answer = pool.agent("agent").unwrap().send(&id, &event).await;
        answer.unwrap();
        // A spurious wake-up takes a while, and would be hidden by the next request.
        sleep(Duration::from_millis(1)).await;
    }
    let slept = slept() - before;
    // Pings and timers wake the agent as well.
    assert!(
        slept < CALLS + CALLS / 4,
        "slept {slept} times for {CALLS} calls"
    );
}

#[tokio::test]
async fn agent_is_not_woken_when_its_answer_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let listening = path.clone();
    let agent = run_agent(|ready| async move {
        let server =
            AgentServer::builder(RuleAgent::default()).listen(listening.display().to_string());
        let server = server.bind().await.unwrap();
        ready.send(Handle::current()).unwrap();
        server.serve().await.unwrap();
    });

    let pool = pool_with(config(Encoding::MessagePack), &path).await;
    expect_one_sleep_per_call(&agent, &pool).await;
}

#[tokio::test]
async fn dialing_agent_is_not_woken_when_its_answer_is_read() {
    let folder = TempDir::new().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let endpoint = proxy.endpoint.clone();
    let agent = run_agent(|ready| async move {
        let dialer = AgentServer::builder(RuleAgent::default())
            .agent_id("agent")
            .dial(endpoint);
        ready.send(Handle::current()).unwrap();
        dialer.serve().await.unwrap();
    });

    eventually("the agent is connected", async || {
        proxy.connections_of("agent").await > 0
    })
    .await;
    expect_one_sleep_per_call(&agent, &proxy.pool).await;
}

const CHUNKS: usize = 30;
const CHUNK_AS_BASE64: usize = 128 * 1024;

/// Sends far more data than the sockets hold.
fn send_chunks(proxy: &mut UnixStream, data: &str) {
    for chunk in 0..CHUNKS {
        let event = json!({
            "correlation_id": chunk.to_string(), "data": data, "is_last": false, "chunk_index": chunk,
        });
        let event = encode(Encoding::Json, &event);
        proxy
            .write_all(&frame(message::RESPONSE_BODY_CHUNK, &event))
            .unwrap();
    }
}

fn read_answer(proxy: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    proxy.read_exact(&mut length).unwrap();
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    proxy.read_exact(&mut message).unwrap();
    serde_json::from_slice(&message[1..]).unwrap()
}

// Reading blocks a thread, and the agent needs another.
#[tokio::test(flavor = "multi_thread")]
async fn blocked_answers_continue_when_the_proxy_reads() {
    let agent = serve().await;
    let proxy = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    let mut reading = proxy.into_std();
    reading.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let data = "A".repeat(CHUNK_AS_BASE64);

    for round in 1..=2 {
        let (mut writing, sent) = (reading.try_clone().unwrap(), data.clone());
        let writer = thread::spawn(move || send_chunks(&mut writing, &sent));

        // Two answers are more than the socket holds. The agent reads no more until they are sent.
        eventually("the agent has answered some", async || {
            agent.seen.lock().unwrap().len() >= (round - 1) * CHUNKS + 2
        })
        .await;

        let mut answered = Vec::new();
        for _ in 0..CHUNKS {
            let answer = read_answer(&mut reading);
            assert_eq!(answer["response_body_mutation"]["data"], data.as_str());
            let id = answer["audit"]["custom"]["correlation_id"].as_str();
            answered.push(id.unwrap().parse::<usize>().unwrap());
        }

        writer.join().unwrap();
        answered.sort_unstable();
        assert!(answered.into_iter().eq(0..CHUNKS));
    }
}

#[tokio::test]
async fn socket_file_has_exactly_its_mode() {
    let folder = TempDir::new().unwrap();
    // The umask of the process would remove bits of the last one.
    for mode in [0o600, 0o660, 0o666] {
        let path = folder.path().join(format!("{mode:o}.sock"));
        let server = AgentServer::builder(RuleAgent::default())
            .listen(path.display().to_string())
            .socket_mode(mode);
        let _server = server.bind().await.unwrap();
        let file = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, mode);
    }
}
