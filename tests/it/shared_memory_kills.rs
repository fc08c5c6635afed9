//! Processes that share memory with this one and are killed at random times.
//!
//! `scripts/kill-rings` runs these tests with 10,000 kills.

use crate::common::{AgentProcess, TEST_TIMEOUT, config, echoed, eventually, request, serve};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig, CallError, Encoding, SharedMemory};

/// Environment variable with the number of kills of each test.
const KILLS: &str = "TOLLGATE_KILLS";

/// Environment variable with the socket path of the agent that a proxy's process asks.
const SOCKET: &str = "TOLLGATE_TEST_PROXY_SOCKET";

/// Time in which the end of a peer is noticed.
const NOTICED: Duration = Duration::from_millis(50);

const CALLERS: usize = 8;

fn kills() -> usize {
    std::env::var(KILLS).map_or(10, |kills| kills.parse().unwrap())
}

fn on() -> AgentPoolConfig {
    config(Encoding::MessagePack).shared_memory(SharedMemory::Adaptive)
}

/// Returns the numbers of open descriptors and of mapped rings of this process.
fn held() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rings = maps.lines().filter(|line| line.contains("memfd:tollgate"));
    (descriptors, rings.count())
}

async fn connect(pool: &AgentPool, socket: &Path) -> Agent {
    let config = AgentConfig::new("agent", socket.to_str().unwrap());
    let agent = pool.add(config.require_connection()).await.unwrap();
    assert_eq!(agent.stats().shared_memory.connections, 1);
    agent
}

/// Makes calls until one fails. Returns the time and the error of that.
async fn call_until_failure(agent: Agent, caller: usize) -> (Instant, CallError) {
    for call in 0.. {
        // Of all sizes, so that frames are cut anywhere.
        let uri = format!("/{caller}-{call}-{}", "x".repeat(call * 37 % 20_000));
        let id = format!("{caller}-{call}");
        match agent.send(&id, &request(&id, &uri)).await {
            Ok(answer) => assert_eq!(echoed(answer), uri, "an answer to another call"),
            Err(error) => return (Instant::now(), error),
        }
    }
    unreachable!("calls are made until one fails")
}

/// Calls fail at once when an agent is killed, no answer is wrong, and nothing stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_agents_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let pool = AgentPool::with_config(on());
    let mut before = None;
    let mut slow = 0;
    for kill in 0..kills() {
        let socket = folder.path().join(format!("agent-{kill}.sock"));
        let (process, _) = AgentProcess::start(&socket).await;
        let agent = connect(&pool, &socket).await;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| tokio::spawn(call_until_failure(agent.clone(), caller)))
            .collect();
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..5_000))).await;
        process.kill();
        let killed = Instant::now();
        for caller in callers {
            let ended = timeout(TEST_TIMEOUT, caller).await.expect("a call hangs");
            let (at, error) = ended.unwrap();
            assert!(
                matches!(
                    error,
                    CallError::ConnectionClosed { .. } | CallError::Unavailable { .. }
                ),
                "{error:?}"
            );
            slow += usize::from(at.saturating_duration_since(killed) > NOTICED);
        }
        pool.remove("agent").unwrap();
        eventually("the rings are unmapped", async || held().1 == 0).await;
        let (descriptors, _) = held();
        let first = *before.get_or_insert(descriptors);
        assert!(
            descriptors <= first + 2,
            "{descriptors} descriptors, {first} at first"
        );
    }
    // Other load on the machine may delay a few.
    assert!(slow <= kills() * CALLERS / 5, "{slow} calls failed late");
}

/// Runs the proxy of the test below.
#[tokio::test]
#[ignore = "the test below runs it in a separate process"]
async fn proxy_process() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let pool = AgentPool::with_config(on());
    let agent = connect(&pool, Path::new(&socket)).await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let agent = agent.clone();
            tokio::spawn(async move {
                for call in 0_usize.. {
                    let uri = format!("/{caller}-{call}-{}", "x".repeat(call * 37 % 20_000));
                    let id = format!("{caller}");
                    agent.send(&id, &request(&id, &uri)).await.unwrap();
                }
            })
        })
        .collect();
    println!("calling");
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Sessions end when a proxy is killed, and nothing of its memory stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_proxies_leave_nothing_behind() {
    let agent = serve().await;
    let (descriptors, _) = held();
    for _ in 0..kills() {
        let seen = agent.seen.lock().unwrap().len();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "shared_memory_kills::proxy_process",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(SOCKET, &agent.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("events arrive", async || {
            agent.seen.lock().unwrap().len() > seen
        })
        .await;
        assert!(held().1 >= 2, "no shared memory is used");
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..5_000))).await;
        process.kill().unwrap();
        process.wait().unwrap();
        eventually("the rings are unmapped", async || held().1 == 0).await;
        eventually("the descriptors are closed", async || {
            held().0 <= descriptors
        })
        .await;
        agent.seen.lock().unwrap().clear();
    }
}
