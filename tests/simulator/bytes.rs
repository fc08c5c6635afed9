//! Byte streams with timing, against a whole session, a whole pool and a whole listener.
//!
//! The other side is a stream of real frames with damage: bytes that are changed, left out,
//! inserted or sent late. Nothing may panic, every call ends in time, and other connections work.

use crate::network::Network;
use crate::panics;
use crate::plan::NetworkPlan;
use crate::raw::{frame_of, write_all};
use fastrand::Rng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tollgate::sim::{self, Stream, clock};
use tollgate::{
    AgentCapabilities, AgentHandler, AgentPool, AgentPoolConfig, Metadata, RequestHeaders,
    ReverseConnectionConfig, ReverseConnectionListener, UdsAgentServer,
};

/// Receiver of damaged bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The session of an agent's server, from a proxy.
    Session,
    /// A pool, from an agent.
    Pool,
    /// The listener for reverse connections, from an agent.
    Listener,
}

/// Longest time that a call of a pool takes.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Runs one seed. Returns what was wrong.
pub fn run(target: Target, seed: u64) -> Result<(), String> {
    sim::reset();
    panics::take();
    fastrand::seed(seed);
    clock::start(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let network = Network::new(NetworkPlan {
        seed,
        max_latency_ms: seed % 4,
        split_percent: 40,
        capacity: 4096,
    });
    let connecting = network.clone();
    sim::set_connector(Some(Box::new(move |name| connecting.connect(name))));
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let result = within(&runtime, async {
        match target {
            Target::Session => session(network, Rng::with_seed(seed)).await,
            Target::Pool => pool(network, Rng::with_seed(seed)).await,
            Target::Listener => listener(network, Rng::with_seed(seed)).await,
        }
    });
    let result = result.and_then(|()| panics::take().map_or(Ok(()), Err));
    clock::leave(Duration::from_secs(1000));
    drop(runtime);
    sim::set_connector(None);
    clock::stop();
    result
}

fn within<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    let guard = runtime.enter();
    clock::enter(Duration::ZERO);
    drop(guard);
    runtime.block_on(work)
}

struct Allows;

impl AgentHandler for Allows {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("agent", "Agent", "1")
    }
}

async fn session(network: Network, mut random: Rng) -> Result<(), String> {
    let server = UdsAgentServer::new("agent", Allows)
        .with_handshake_timeout(Duration::from_millis(500))
        .with_drain_timeout(Duration::from_millis(500));
    let listener = network.listen("agent");
    let serving = tokio::spawn(sim::serve(server, listener, std::future::pending()));
    let pool = AgentPool::with_config(config());
    pool.add_agent("agent", "sim:agent")
        .await
        .map_err(|error| error.to_string())?;
    for _ in 0..random.usize(1..=4) {
        let stream = network
            .connect("agent")
            .await
            .map_err(|error| error.to_string())?;
        let messages = proxy_messages(&mut random);
        send_damaged(stream, messages, &mut random).await;
        ask(&pool, "agent").await?;
    }
    serving.abort();
    Ok(())
}

async fn pool(network: Network, mut random: Rng) -> Result<(), String> {
    let pool = AgentPool::with_config(config());
    let listener = network.listen("agent");
    let mut sessions = JoinSet::new();
    let mut own = random.fork();
    sessions.spawn(async move {
        let mut streams = JoinSet::new();
        loop {
            let stream = listener.next().await;
            let mut random = own.fork();
            let messages = agent_messages(&mut random);
            streams.spawn(async move { send_damaged(stream, messages, &mut random).await });
        }
    });
    pool.add_agent("agent", "sim:agent")
        .await
        .map_err(|error| error.to_string())?;
    for _ in 0..random.usize(1..=20) {
        let started = clock::since_start();
        // It may fail in any way, but in time.
        let _ = ask(&pool, "agent").await;
        let took = clock::since_start() - started;
        if took > TIMEOUT + Duration::from_millis(10) {
            return Err(format!("a call took {took:?}"));
        }
        sleep(Duration::from_millis(random.u64(0..=50))).await;
    }
    let calls = pool.protocol_metrics().snapshot().total.calls;
    if calls.made != calls.ended() {
        return Err(format!("{calls:?}"));
    }
    Ok(())
}

async fn listener(network: Network, mut random: Rng) -> Result<(), String> {
    let pool = AgentPool::with_config(config());
    let reverse = ReverseConnectionConfig {
        require_auth: false,
        handshake_timeout: Duration::from_millis(500),
        ..ReverseConnectionConfig::default()
    };
    let socket = network.listen("proxy");
    let listener = Arc::new(ReverseConnectionListener::simulated(socket, reverse));
    tokio::spawn(Arc::clone(&listener).accept_loop(Arc::new(pool.clone())));
    let dialer = tollgate::AgentDialer::new(Allows)
        .with_proxy("sim:proxy")
        .with_agent_id("good");
    tokio::spawn(dialer.run());
    sleep(Duration::from_millis(200)).await;
    for _ in 0..random.usize(1..=5) {
        let stream = network
            .connect("proxy")
            .await
            .map_err(|error| error.to_string())?;
        let mut messages = vec![(0x01, registration())];
        messages.extend(agent_messages(&mut random).into_iter().skip(1));
        send_damaged(stream, messages, &mut random).await;
        ask(&pool, "good").await?;
    }
    Ok(())
}

fn config() -> AgentPoolConfig {
    AgentPoolConfig {
        connections_per_agent: 1,
        connect_timeout: Duration::from_millis(400),
        request_timeout: TIMEOUT,
        reconnect_interval: Duration::from_millis(20),
        ..AgentPoolConfig::default()
    }
}

async fn ask(pool: &AgentPool, agent: &str) -> Result<(), String> {
    let headers: [(&str, &str); 1] = [("host", "example.com")];
    let event = RequestHeaders {
        metadata: Metadata {
            correlation_id: "good",
            ..Metadata::default()
        },
        method: "GET",
        uri: "/",
        headers: &headers[..],
    };
    let answer = pool.send(agent, "good", &event).await;
    pool.clear_correlation_affinity("good");
    answer
        .map(drop)
        .map_err(|error| format!("a good connection fails: {error}"))
}

/// Sends messages with damage and delays, then ends the connection or leaves it open for a while.
async fn send_damaged(stream: Stream, messages: Vec<(u8, Value)>, random: &mut Rng) {
    let Stream { mut reader, writer } = stream;
    let mut bytes = Vec::new();
    for (message, payload) in messages {
        let mut payload = payload.to_string().into_bytes();
        if message >= 0x10 && random.u32(..4) == 0 {
            // As if streams had been agreed on.
            payload.splice(0..0, random.u64(..).to_be_bytes());
        }
        bytes.extend(frame_of(message, &payload));
    }
    damage(&mut bytes, random);
    let reading = async {
        let mut sink = [0; 1024];
        while reader.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    };
    let writing = async {
        for chunk in bytes.chunks(random.usize(1..=400)) {
            if write_all(&*writer, chunk).await.is_err() {
                return;
            }
            if random.u32(..3) == 0 {
                sleep(Duration::from_millis(random.u64(0..=30))).await;
            }
        }
        sleep(Duration::from_millis(random.u64(0..=200))).await;
        writer.shut_down();
    };
    // A peer that does not read is not waited for.
    let both = async { tokio::join!(reading, writing) };
    let _ = timeout(Duration::from_secs(3), both).await;
}

/// Changes, removes and inserts bytes, most often none of the first message.
fn damage(bytes: &mut Vec<u8>, random: &mut Rng) {
    let spared = if random.u32(..4) == 0 {
        0
    } else {
        bytes.len().min(600)
    };
    for _ in 0..random.usize(0..=4) {
        if bytes.len() <= spared + 1 {
            return;
        }
        let at = random.usize(spared..bytes.len());
        match random.u32(..5) {
            0 => bytes[at] ^= 1 << random.u32(..8),
            1 => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..(at + random.usize(1..=20)).min(bytes.len()))),
            3 => drop(
                bytes.splice(
                    at..at,
                    (0..random.usize(1..=20))
                        .map(|_| random.u8(..))
                        .collect::<Vec<_>>(),
                ),
            ),
            _ => bytes.truncate(at),
        }
    }
}

fn proxy_messages(random: &mut Rng) -> Vec<(u8, Value)> {
    let mut request = json!({
        "supported_versions": [2], "proxy_id": "bytes", "proxy_version": "0", "config": null,
        "supported_encodings": ["json"],
    });
    if random.bool() {
        request["tollgate"] = json!({"versions": [1]});
    }
    let mut messages = vec![(0x01, request)];
    for _ in 0..random.usize(0..=12) {
        let id = format!("id{}", random.u32(..3));
        messages.push(match random.u32(..7) {
            0 | 1 => (
                0x10,
                json!({
                    "metadata": {
                        "correlation_id": id, "request_id": "r", "client_ip": "192.0.2.1",
                        "client_port": 1, "protocol": "HTTP/1.1", "timestamp": "",
                    },
                    "method": "GET", "uri": "/", "headers": {"host": ["a"]},
                }),
            ),
            2 => (
                0x11,
                json!({"correlation_id": id, "data": "YWJj", "is_last": true}),
            ),
            3 => (
                0x12,
                json!({"correlation_id": id, "status": 200, "headers": {}}),
            ),
            4 => (
                0x40,
                json!({"correlation_id": id, "reason": 5, "timestamp_ms": 1}),
            ),
            5 => (0x41, json!({"sequence": 1, "timestamp_ms": 1})),
            _ => (random.u8(..), json!({"correlation_id": id})),
        });
    }
    messages
}

fn agent_messages(random: &mut Rng) -> Vec<(u8, Value)> {
    let mut response = json!({
        "protocol_version": 2,
        "capabilities": capabilities(),
        "success": true, "error": null, "encoding": "json",
    });
    if random.bool() {
        response["tollgate"] = json!({"version": 1});
    }
    let mut messages = vec![(0x02, response)];
    for _ in 0..random.usize(0..=20) {
        messages.push(match random.u32(..8) {
            0..=2 => (
                0x20,
                json!({
                    "version": 2, "decision": "allow",
                    "audit": {"custom": {"correlation_id": "good"}},
                }),
            ),
            3 => (
                0x33,
                json!({"action": {"type": "pause"}, "timestamp_ms": 1}),
            ),
            4 => (
                0x33,
                json!({"action": {"type": "resume"}, "timestamp_ms": 1}),
            ),
            5 => (
                0x42,
                json!({"sequence": random.u64(..9), "timestamp_ms": 1}),
            ),
            6 => (0x41, json!({"sequence": 1, "timestamp_ms": 1})),
            _ => (random.u8(..), json!({"a": [1, {}]})),
        });
    }
    messages
}

fn registration() -> Value {
    json!({
        "protocol_version": 2, "agent_id": "damaged", "capabilities": capabilities(),
        "auth_token": null, "metadata": null,
    })
}

fn capabilities() -> Value {
    json!({
        "agent_id": "damaged", "name": "Damaged", "version": "0", "supported_events": [1, 2],
        "features": {
            "streaming_body": true, "websocket": false, "guardrails": false, "config_push": false,
            "metrics_export": false, "concurrent_requests": 1, "cancellation": true,
            "flow_control": true, "health_reporting": true,
        },
        "limits": {"max_body_size": 1000, "max_concurrency": 10, "preferred_chunk_size": 3},
    })
}
