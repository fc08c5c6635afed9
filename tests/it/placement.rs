//! Per-runtime placement: each runtime that uses a pool gets its own connections, as with Pingora.

use crate::common::*;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, CallError, Encoding, Placement};

/// Number of connections of each runtime.
const OWN: usize = 2;

fn config() -> AgentPoolConfig {
    AgentPoolConfig::default()
        .connections_per_agent(OWN)
        .placement(Placement::PerRuntime)
        .request_timeout(TEST_TIMEOUT)
        .reconnect_interval(Duration::from_millis(10))
}

fn single_threaded() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Agent that answers every event with the number of its connection, except those whose id begins
/// with "held".
struct NumberingAgent {
    /// Permits for handshakes on further connections.
    admitted: Arc<Semaphore>,
    open: Arc<AtomicU16>,
    thread: Worker,
}

impl NumberingAgent {
    /// Starts numbering at `first`, and completes the handshake on `admitted` connections.
    fn start(path: &Path, first: u16, admitted: usize) -> Self {
        let admitted = Arc::new(Semaphore::new(admitted));
        let open = Arc::new(AtomicU16::new(0));
        let (path, permits, count) = (path.to_owned(), admitted.clone(), open.clone());
        let (listening, listens) = std::sync::mpsc::channel();
        let thread = Worker::start(async move {
            let agent = RawAgent::listen_at(&path);
            listening.send(()).unwrap();
            for number in first.. {
                permits.acquire().await.unwrap().forget();
                let connection = agent.accept_without_timeout(Encoding::Json).await;
                tokio::spawn(answer(connection, number, count.clone()));
            }
        });
        listens.recv().unwrap();
        Self {
            admitted,
            open,
            thread,
        }
    }

    /// Returns the number of connections that the other side has not closed.
    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst).into()
    }
}

async fn answer(mut connection: RawConnection, number: u16, open: Arc<AtomicU16>) {
    open.fetch_add(1, Ordering::SeqCst);
    while let Some((message, payload)) = connection.receive_without_timeout().await {
        if !message::EVENTS.contains(&message) {
            continue;
        }
        let event = connection.decode(&payload);
        let id = event["metadata"]["correlation_id"].as_str();
        let id = id.or_else(|| event["correlation_id"].as_str()).unwrap();
        if !id.starts_with("held") {
            connection.block(id, number).await;
        }
    }
    open.fetch_sub(1, Ordering::SeqCst);
}

/// Single-threaded runtime on its own thread. It ends when this is dropped.
struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            single_threaded().block_on(async move {
                tokio::spawn(task);
                // Ends with an error when the sender is dropped.
                let _ = stopped.await;
            });
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Worker that calls the agent on request.
struct Caller {
    calls: mpsc::UnboundedSender<oneshot::Sender<Result<u16, CallError>>>,
    _worker: Worker,
}

impl Caller {
    fn start(pool: &AgentPool) -> Self {
        let pool = pool.clone();
        let (calls, mut told) = mpsc::unbounded_channel::<oneshot::Sender<_>>();
        let worker = Worker::start(async move {
            while let Some(answered) = told.recv().await {
                let pool = pool.clone();
                tokio::spawn(async move { answered.send(ask(&pool).await) });
            }
        });
        Self {
            calls,
            _worker: worker,
        }
    }

    /// Makes a call. Returns the number of its connection.
    async fn call(&self) -> Result<u16, CallError> {
        let (answered, answer) = oneshot::channel();
        self.calls.send(answered).unwrap();
        answer.await.unwrap()
    }

    /// Makes a few calls. Returns the numbers of their connections.
    async fn connections(&self) -> HashSet<u16> {
        let mut numbers = HashSet::new();
        for _ in 0..5 * OWN {
            numbers.extend(self.call().await.ok());
        }
        numbers
    }

    /// Waits until this runtime uses only its own connections. Returns their numbers.
    async fn own_connections(&self, of_others: &HashSet<u16>) -> HashSet<u16> {
        let mut own = HashSet::new();
        eventually("a runtime takes its own connections", async || {
            own = self.connections().await;
            own.len() == OWN && own.is_disjoint(of_others)
        })
        .await;
        own
    }
}

async fn ask(pool: &AgentPool) -> Result<u16, CallError> {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let id = format!("call-{}", CALLS.fetch_add(1, Ordering::Relaxed));
    let answer = pool
        .agent("agent")
        .unwrap()
        .exchange(&id)?
        .send(&request(&id, "/"))
        .await;
    answer.map(connection_number)
}

async fn active(pool: &AgentPool) -> usize {
    pool.agent("agent").unwrap().stats().active_connections
}

/// An agent, and a pool that a worker has connected to it.
struct Setup {
    pool: AgentPool,
    agent: NumberingAgent,
    opener: Worker,
    dir: TempDir,
}

impl Setup {
    /// Starts both. The agent admits only the connections of the opener.
    async fn begin(config: AgentPoolConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let agent = NumberingAgent::start(&path, 0, config.connections_per_agent);
        let pool = AgentPool::with_config(config);
        let (connected, connects) = oneshot::channel();
        let connecting = pool.clone();
        let opener = Worker::start(async move {
            let endpoint = path.to_str().unwrap();
            let opened = connecting
                .add(AgentConfig::new("agent", endpoint).require_connection())
                .await;
            connected.send(opened).unwrap();
            // Otherwise the worker would keep the pool alive.
            drop(connecting);
            std::future::pending::<()>().await;
        });
        connects.await.unwrap().unwrap();
        Self {
            pool,
            agent,
            opener,
            dir,
        }
    }

    fn admit_all(&self) {
        self.agent.admitted.add_permits(10_000);
    }

    fn callers(&self, count: usize) -> Vec<Caller> {
        (0..count).map(|_| Caller::start(&self.pool)).collect()
    }
}

fn of_opener() -> HashSet<u16> {
    (0..OWN as u16).collect()
}

/// Asserts that callers use their own connections and no others. Returns all of them.
async fn expect_own_connections(callers: &[Caller], of_others: &HashSet<u16>) -> HashSet<u16> {
    let mut taken = of_others.clone();
    for caller in callers {
        let own = caller.own_connections(&taken).await;
        taken.extend(own);
    }
    taken
}

#[tokio::test]
async fn each_runtime_uses_its_own_connections() {
    let setup = Setup::begin(config()).await;
    let callers = setup.callers(3);

    // The agent admits no more connections, so those of the opener are the only ones.
    for caller in &callers {
        assert_eq!(caller.connections().await, of_opener());
    }

    setup.admit_all();
    let taken = expect_own_connections(&callers, &of_opener()).await;

    // Many concurrent calls open no more connections.
    let answers = callers.iter().map(|caller| caller.connections());
    let numbers = futures_util::future::join_all((0..50).flat_map(|_| answers.clone())).await;
    assert!(
        numbers
            .iter()
            .flatten()
            .all(|number| taken.contains(number))
    );

    assert_eq!(active(&setup.pool).await, 4 * OWN);
    assert_eq!(setup.agent.open(), 4 * OWN);
    let stats = setup.pool.agent("agent").unwrap().stats();
    assert_eq!((stats.reconnects, stats.total_errors), (0, 0));
    assert_eq!(stats.calls.answered, stats.calls.made);
}

#[tokio::test]
async fn exchange_stays_on_its_first_connection() {
    let setup = Setup::begin(config()).await;
    let (pool, agent) = (setup.pool, setup.agent);
    let handle = pool.agent("agent").unwrap();
    let worker = thread::spawn(move || {
        single_threaded().block_on(async {
            let mut exchange = handle.exchange("exchange").unwrap();
            let head = exchange.send(&request("exchange", "/")).await.unwrap();
            let by_id = handle.send("by-id", &request("by-id", "/")).await;
            let by_id = connection_number(by_id.unwrap());

            agent.admitted.add_permits(10_000);
            eventually("the runtime has its own connections", async || {
                ask(&pool).await.unwrap() >= OWN as u16
            })
            .await;

            let chunk = |id: &str| tollgate::events::RequestBodyChunkEvent {
                correlation_id: id.to_owned(),
                data: (&b"chunk"[..]).into(),
                is_last: false,
                total_size: None,
                chunk_index: 0,
                bytes_received: 5,
            };

            for _ in 0..5 {
                let same = exchange.send(&chunk("exchange")).await.unwrap();
                assert_eq!(connection_number(same), connection_number(head.clone()));
                let same = handle.send("by-id", &chunk("by-id")).await.unwrap();
                assert_eq!(connection_number(same), by_id);
            }
        });
    });
    worker.join().unwrap();
}

#[tokio::test]
async fn connections_end_with_their_runtime() {
    let setup = Setup::begin(config()).await;
    setup.admit_all();
    let staying = &setup.callers(1)[0];
    let own = staying.own_connections(&of_opener()).await;

    for _ in 0..10 {
        let callers = setup.callers(2);
        let taken = own.union(&of_opener()).copied().collect();
        expect_own_connections(&callers, &taken).await;

        drop(callers);
        eventually("connections end with their runtime", async || {
            active(&setup.pool).await == 2 * OWN && setup.agent.open() == 2 * OWN
        })
        .await;
        assert_eq!(staying.connections().await, own);
    }
    let stats = setup.pool.agent("agent").unwrap().stats();
    assert_eq!(stats.calls.answered, stats.calls.made);
}

#[tokio::test]
async fn runtimes_continue_after_the_opening_runtime_ends() {
    let setup = Setup::begin(config()).await;
    setup.admit_all();
    let callers = setup.callers(2);
    expect_own_connections(&callers, &of_opener()).await;

    drop(setup.opener);
    for caller in &callers {
        assert_eq!(caller.connections().await.len(), OWN);
    }

    // Maintenance continues on another runtime.
    eventually("the ended connections are gone", async || {
        callers[0].call().await.unwrap();
        active(&setup.pool).await == 2 * OWN && setup.agent.open() == 2 * OWN
    })
    .await;

    let stats = setup.pool.agent("agent").unwrap().stats();
    assert_eq!(stats.calls.answered, stats.calls.made);
}

#[tokio::test]
async fn each_runtime_reconnects_to_a_restarted_agent() {
    let setup = Setup::begin(config()).await;
    setup.admit_all();
    let callers = setup.callers(3);
    expect_own_connections(&callers, &of_opener()).await;

    drop(setup.agent.thread);
    for caller in &callers {
        eventually("calls fail without an agent", async || {
            caller.call().await.is_err()
        })
        .await;
    }

    let path = setup.dir.path().join("agent.sock");
    let agent = NumberingAgent::start(&path, 100, 10_000);
    eventually("every runtime has connections again", async || {
        for caller in &callers {
            caller.connections().await;
        }
        active(&setup.pool).await == 4 * OWN && agent.open() == 4 * OWN
    })
    .await;

    let taken = expect_own_connections(&callers, &HashSet::new()).await;
    assert_eq!(taken.len(), 3 * OWN);
    assert_eq!(active(&setup.pool).await, 4 * OWN);
}

#[tokio::test]
async fn threads_of_one_runtime_share_its_connections() {
    let setup = Setup::begin(config()).await;
    setup.admit_all();
    let pool = setup.pool;

    let calling = thread::spawn(move || {
        let runtime = Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            eventually("a runtime takes its own connections", async || {
                ask(&pool).await.unwrap() >= OWN as u16 && active(&pool).await == 2 * OWN
            })
            .await;

            let calls = (0..100).map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { ask(&pool).await.unwrap() })
            });
            futures_util::future::join_all(calls).await
        })
    });

    let numbers = calling.join().unwrap();
    let numbers: HashSet<_> = numbers.into_iter().map(Result::unwrap).collect();
    assert_eq!(numbers.len(), OWN);
    assert!(numbers.is_disjoint(&of_opener()));
}

#[tokio::test]
async fn free_connection_of_another_runtime_is_used() {
    let setup = Setup::begin(
        config()
            .connections_per_agent(1)
            .max_concurrent_per_connection(1),
    )
    .await;
    setup.admit_all();
    let pool = setup.pool;

    let worker = thread::spawn(move || {
        single_threaded().block_on(async {
            let mut own = 0;
            eventually("the runtime has its own connection", async || {
                own = ask(&pool).await.unwrap();
                own != 0
            })
            .await;

            let held = call(&pool, "held");
            // Lets the held call take the slot first.
            tokio::task::yield_now().await;
            assert_eq!(ask(&pool).await.unwrap(), 0);
            held.abort();
        });
    });
    worker.join().unwrap();
}

#[test]
fn exchange_outside_a_runtime_uses_any_connection() {
    let setup = single_threaded().block_on(Setup::begin(config()));
    let exchange = setup
        .pool
        .agent("agent")
        .unwrap()
        .exchange("outside")
        .unwrap();
    assert_eq!(exchange.agent_id(), "agent");
}

#[tokio::test]
async fn dropped_pool_closes_connections_on_all_runtimes() {
    let setup = Setup::begin(config()).await;
    setup.admit_all();
    let callers = setup.callers(2);
    expect_own_connections(&callers, &of_opener()).await;

    // This worker's runtime outlives the pool.
    let (pool, (dropping, dropped)) = (setup.pool.clone(), oneshot::channel());
    let _worker = Worker::start(async move {
        // Waits until the worker has its own connections.
        while ask(&pool).await.unwrap() < OWN as u16 {}
        drop(pool);
        dropping.send(()).unwrap();
        std::future::pending::<()>().await;
    });

    dropped.await.unwrap();
    drop((callers, setup.pool));
    eventually("all connections end", async || setup.agent.open() == 0).await;
}

/// An agent whose connections from one runtime always close, while those from another last, is not
/// connected to without pauses.
#[tokio::test]
async fn connections_that_close_at_once_are_reopened_with_pauses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let accepted = Arc::new(AtomicU16::new(0));
    let _agent = closing_agent(&path, accepted.clone());
    let pool = AgentPool::with_config(config().reconnect_interval(Duration::from_millis(100)));
    let endpoint = path.to_str().unwrap();
    let config = AgentConfig::new("agent", endpoint).require_connection();
    pool.add(config).await.unwrap();
    let caller = Caller::start(&pool);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        // Fails if it goes over a connection that closes.
        let _ = caller.call().await;
    }
    let attempts = usize::from(accepted.load(Ordering::SeqCst)) - OWN;
    assert!(attempts > 0, "the runtime gets connections of its own");
    assert!(attempts < 50, "{attempts} connections in half a second");
}

/// Starts an agent that serves the first [`OWN`] connections, and closes the others after the
/// handshake.
fn closing_agent(path: &Path, accepted: Arc<AtomicU16>) -> Worker {
    let agent = RawAgent::listen_at(path);
    Worker::start(async move {
        loop {
            let connection = agent.accept_without_timeout(Encoding::Json).await;
            let number = accepted.fetch_add(1, Ordering::SeqCst);
            if usize::from(number) < OWN {
                tokio::spawn(answer(connection, number, Arc::default()));
            }
        }
    })
}
