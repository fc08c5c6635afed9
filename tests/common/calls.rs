use super::{RawAgent, RawConnection, TEST_TIMEOUT, request};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, AgentResponse, CallError, Decision,
    metrics::FaultCounts,
};

pub type CallResult = Result<AgentResponse, CallError>;

/// Call in a background task.
pub type Call = JoinHandle<CallResult>;

/// Asserts that a result is a certain error.
#[macro_export]
macro_rules! assert_fails {
    ($result:expr, $error:pat) => {
        let result = $result;
        assert!(matches!(result, Err($error)), "{result:?}");
    };
}

/// Connects a pool to an agent named "agent", which the test plays on all of its connections.
pub async fn raw_pool_of(config: AgentPoolConfig) -> (RawAgent, AgentPool, Vec<RawConnection>) {
    raw_pool_with(config, |_| {}).await
}

/// Like [`raw_pool_of`], with changes to the handshake response of the agent.
pub async fn raw_pool_with(
    config: AgentPoolConfig,
    change: impl Fn(&mut Value),
) -> (RawAgent, AgentPool, Vec<RawConnection>) {
    let agent = RawAgent::listen();
    let (encoding, count) = (config.encodings[0], config.connections_per_agent);
    let pool = AgentPool::with_config(config);
    let endpoint = agent.path.display().to_string();
    let accept = async {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(agent.accept_with(encoding, &change).await);
        }
        connections
    };
    let (added, connections) = tokio::join!(pool.add(AgentConfig::new("agent", endpoint)), accept);
    added.unwrap();
    (agent, pool, connections)
}

/// Like [`raw_pool_of`], with one connection.
pub async fn raw_pool(config: AgentPoolConfig) -> (RawAgent, AgentPool, RawConnection) {
    let (agent, pool, mut connections) = raw_pool_of(config).await;
    (agent, pool, connections.pop().expect("one connection"))
}

/// Begins a call.
pub fn call(pool: &AgentPool, correlation_id: &str) -> Call {
    let (pool, id) = (pool.clone(), correlation_id.to_owned());
    tokio::spawn(async move {
        pool.agent("agent")
            .unwrap()
            .send(&id, &request(&id, "/"))
            .await
    })
}

/// Begins a call and waits until its event has arrived.
pub async fn arrived(pool: &AgentPool, connection: &mut RawConnection, id: &str) -> Call {
    let call = call(pool, id);
    assert_eq!(connection.event().await, id);
    call
}

/// Waits for the result of a call.
pub async fn result_of(call: Call) -> CallResult {
    timeout(TEST_TIMEOUT, call)
        .await
        .expect("the call never ends")
        .unwrap()
}

/// Waits for the answer of a call, which must be a block. Returns its status.
pub async fn status_of(call: Call) -> u16 {
    match result_of(call).await.unwrap().decision {
        Decision::Block { status, .. } => status,
        other => panic!("not blocked: {other:?}"),
    }
}

/// Asserts that the connection works, with one call.
pub async fn expect_works(pool: &AgentPool, connection: &mut RawConnection, id: &str) {
    let call = arrived(pool, connection, id).await;
    connection.block(id, 499).await;
    assert_eq!(status_of(call).await, 499);
}

/// Asserts that a [`RuleAgent`](super::RuleAgent) named "agent" decides.
pub async fn expect_decides(pool: &AgentPool) {
    let answer = pool.agent("agent").unwrap();
    let answer = answer.send("c", &request("c", "/block")).await.unwrap();
    assert!(
        matches!(answer.decision, Decision::Block { status: 403, .. }),
        "{answer:?}"
    );
}

pub async fn faults(pool: &AgentPool) -> FaultCounts {
    pool.agent("agent").unwrap().stats().faults
}

/// Answers every event with the index of its connection as the status of a block.
pub fn answer_with_numbers(connections: Vec<RawConnection>) {
    for (number, mut connection) in connections.into_iter().enumerate() {
        tokio::spawn(async move {
            loop {
                let id = connection.event().await;
                connection.block(&id, number as u16).await;
            }
        });
    }
}

/// Returns the index of the connection that answered a call: see [`answer_with_numbers`].
pub fn connection_number(response: AgentResponse) -> u16 {
    match response.decision {
        Decision::Block { status, .. } => status,
        other => panic!("not blocked: {other:?}"),
    }
}

/// Returns the number of calls made so far.
pub async fn calls_made(pool: &AgentPool) -> u64 {
    pool.agent("agent").unwrap().stats().calls.made
}

/// Time within which an honest peer must be served, whatever else connects.
pub const SOON: Duration = Duration::from_secs(1);

/// Makes one call after another until it is stopped. Asserts that each is answered soon.
pub struct HonestCalls {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<usize>,
}

impl HonestCalls {
    /// Calls the agent named "agent".
    pub fn to(pool: &AgentPool) -> Self {
        Self::to_agent(pool, "agent")
    }

    pub fn to_agent(pool: &AgentPool, agent: &'static str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (pool, stopped) = (pool.clone(), stop.clone());
        let calls = tokio::spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let id = count.to_string();
                let started = Instant::now();
                pool.agent(agent)
                    .unwrap()
                    .send(&id, &request(&id, "/"))
                    .await
                    .unwrap();
                assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
                pool.unpin(&id);
                count += 1;
            }
            count
        });
        Self { stop, calls }
    }

    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.calls.await.unwrap() > 0);
    }
}
