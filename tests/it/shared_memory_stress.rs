//! Two processes that share memory under load, on one processor, on two, and beside a thread that
//! computes; and processes that stop, go on, or die while the other never sleeps.
//!
//! `scripts/stress-rings` makes millions of calls.

use crate::common::{AgentProcess, TEST_TIMEOUT, config, echoed, eventually, request};
use bytes::Bytes;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    BodyChunk, CallError, Encoding, RequestBodyChunk, SharedMemory, response::BodyMutation,
};

/// Environment variable with the number of calls of each test.
const CALLS: &str = "TOLLGATE_STRESS";

/// Environment variable with the processor that the agent's process is bound to.
const PROCESSOR: &str = "TOLLGATE_TEST_PROCESSOR";

const CALLERS: usize = 8;

const MODES: [SharedMemory; 2] = [SharedMemory::Adaptive, SharedMemory::BusyPoll];

fn calls() -> usize {
    std::env::var(CALLS).map_or(200, |calls| calls.parse().unwrap())
}

fn on(mode: SharedMemory) -> AgentPoolConfig {
    config(Encoding::MessagePack).shared_memory(mode)
}

async fn connect(pool: &AgentPool, name: &str, socket: &Path) -> Agent {
    let config = AgentConfig::new(name, socket.to_str().unwrap());
    let agent = pool.add(config.require_connection()).await.unwrap();
    assert_eq!(agent.stats().shared_memory.connections, 1);
    agent
}

/// Answers each body with the same body.
struct Mirror;

impl AgentHandler for Mirror {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("mirror", "Mirror", "1")
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        AgentResponse::default_allow()
            .with_request_body_mutation(BodyMutation::replace(event.chunk_index, event.data))
    }
}

/// Runs the agent of the tests below.
#[test]
#[ignore = "the tests below run it in a separate process"]
fn mirror() {
    if let Ok(processor) = std::env::var(PROCESSOR) {
        bind_to(processor.parse().unwrap());
        crate::common::run_agent_process_serving(Mirror);
    }
}

/// Binds this thread, and those that it starts, to a processor.
fn bind_to(processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).unwrap();
}

/// Returns two processors that this thread may use, the same one twice if there are no more.
fn processors() -> [usize; 2] {
    let allowed = sched_getaffinity(None).unwrap();
    let mut usable = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
    let first = usable.next().unwrap();
    [first, usable.next_back().unwrap_or(first)]
}

/// A thread that computes on a processor until this is dropped.
struct Neighbour(Arc<AtomicBool>);

impl Neighbour {
    fn on(processor: usize) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            bind_to(processor);
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Self(is_over)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets callers on this thread send bodies of 1 byte to 1 MiB, which have to come back unchanged.
async fn exchange_bodies(mode: SharedMemory, [own, of_agent]: [usize; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mirror.sock");
    let variables = [(PROCESSOR, &*of_agent.to_string())];
    let test = "shared_memory_stress::mirror";
    let (_process, _) = AgentProcess::start_as(test, &variables, &socket).await;
    bind_to(own);
    let pool = AgentPool::with_config(on(mode));
    let agent = connect(&pool, "agent", &socket).await;
    let made = Arc::<AtomicUsize>::default();
    let callers = (0..CALLERS).map(|caller| {
        let (agent, made) = (agent.clone(), Arc::clone(&made));
        tokio::spawn(async move {
            let mut call = 0;
            while made.fetch_add(1, Ordering::Relaxed) < calls() {
                call += 1;
                let id = format!("{caller}-{call}");
                let returned = timeout(TEST_TIMEOUT, mirror_body(&agent, &id));
                returned.await.expect("a wake-up was lost");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(agent.stats().reconnects, 0);
}

async fn mirror_body(agent: &Agent, id: &str) {
    // As many small bodies as large ones.
    let len = fastrand::usize(1..=1 << fastrand::u32(0..=20));
    let seed = fastrand::usize(..1 << 20);
    let body: Bytes = (seed..seed + len)
        .map(|at| ((at * 31) >> 3) as u8)
        .collect();
    let event = RequestBodyChunk(BodyChunk::new(id, body.clone(), 0, true));
    let mut exchange = agent.exchange(id).unwrap();
    let answer = exchange.send(&event).await.unwrap();
    let expected = BodyMutation::replace(0, body);
    assert!(
        answer.request_body_mutation == Some(expected),
        "another body of {len} bytes came back"
    );
}

#[tokio::test]
async fn both_sides_on_one_processor() {
    let [first, _] = processors();
    for mode in MODES {
        exchange_bodies(mode, [first, first]).await;
    }
}

#[tokio::test]
async fn a_processor_for_each_side() {
    let apart = processors();
    for mode in MODES {
        exchange_bodies(mode, apart).await;
    }
}

#[tokio::test]
async fn beside_a_thread_that_computes() {
    let apart = processors();
    for neighbour in apart {
        let _neighbour = Neighbour::on(neighbour);
        for mode in MODES {
            exchange_bodies(mode, apart).await;
        }
    }
}

/// Calls to a stopped agent end by their deadline, others go on, and the connection can be used
/// again when it continues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_agent_delays_its_own_calls_only() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let folder = tempfile::tempdir().unwrap();
    for mode in MODES {
        let sockets =
            ["stopped", "other"].map(|name| folder.path().join(format!("{name}-{mode:?}")));
        let (process, _) = AgentProcess::start(&sockets[0]).await;
        let (_other_process, _) = AgentProcess::start(&sockets[1]).await;
        let pool = AgentPool::with_config(on(mode));
        let stopped = connect(&pool, "stopped", &sockets[0]).await;
        let other = connect(&pool, "other", &sockets[1]).await;
        process.pause();
        let began = Instant::now();
        let calls = (0..CALLERS).map(|caller| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                // Together they are larger than the ring.
                let (id, uri) = (format!("s-{caller}"), "x".repeat(60_000));
                let event = request(&id, &uri);
                stopped.send(&id, &event).timeout(DEADLINE).await
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut answered = 0;
        while began.elapsed() < DEADLINE {
            let id = format!("o-{answered}");
            let answer = other.send(&id, &request(&id, &id)).timeout(DEADLINE).await;
            assert_eq!(echoed(answer.unwrap()), id);
            answered += 1;
        }
        for call in calls {
            let ended = timeout(TEST_TIMEOUT, call).await.expect("a call hangs");
            let error = ended.unwrap().unwrap_err();
            assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
        }
        assert!(answered > 10, "{answered} calls to the other agent");
        process.resume();
        eventually("the agent answers again", async || {
            let event = request("again", "/");
            let call = stopped.send("again", &event).timeout(DEADLINE);
            call.await.is_ok()
        })
        .await;
        assert_eq!(stopped.stats().reconnects, 0);
    }
}

/// A pool that never sleeps while calls are pending notices that its agent is dead.
#[tokio::test]
async fn busy_polling_pool_notices_a_dead_agent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let (process, _) = AgentProcess::start(&socket).await;
    let pool = AgentPool::with_config(on(SharedMemory::BusyPoll));
    let agent = connect(&pool, "agent", &socket).await;
    // Nothing answers, so the calls are pending until the agent is dead.
    process.pause();
    let calls = (0..CALLERS).map(|caller| {
        let agent = agent.clone();
        tokio::spawn(async move {
            let id = format!("{caller}");
            agent.send(&id, &request(&id, "/")).await
        })
    });
    let calls: Vec<_> = calls.collect();
    eventually("the calls are pending", async || {
        agent.stats().total_in_flight == CALLERS as u64
    })
    .await;
    process.kill();
    for call in calls {
        let ended = timeout(TEST_TIMEOUT, call).await.expect("a call hangs");
        let error = ended.unwrap().unwrap_err();
        let is_lost = matches!(error, CallError::ConnectionClosed { .. });
        assert!(is_lost, "{error:?}");
    }
}

/// Without calls, no thread of an agent runs because of shared memory, nor does the pool's side.
#[tokio::test]
async fn nothing_wakes_up_without_calls() {
    const WATCHED: Duration = Duration::from_secs(1);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let (process, _) = AgentProcess::start(&socket).await;
    let pool = AgentPool::with_config(on(SharedMemory::Adaptive));
    let agent = connect(&pool, "agent", &socket).await;
    for call in 0..1_000 {
        let id = call.to_string();
        let answer = agent.send(&id, &request(&id, &id)).await;
        assert_eq!(echoed(answer.unwrap()), id);
    }
    // Both sides first wait for more without sleeping, and timers of the last calls run out.
    eventually("nothing wakes up for a second", async || {
        let count = || (process.sleeps(), agent.stats().shared_memory);
        let before = count();
        tokio::time::sleep(WATCHED).await;
        count() == before
    })
    .await;
}
