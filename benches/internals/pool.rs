//! Access to a pool's internals for benchmarks.

use super::agent::Agent;
use super::agent_config::ResolvedConfig;
use super::agent_state::AgentState;
use super::member::{Member, Snapshot, Source};
use super::{AgentPool, AgentPoolConfig, Agents, Inner};
use crate::agent::bench::serve_link;
use crate::connection::bench::{IdleConnection, connect_in_memory};
use crate::connection::{Connection, run_writer};
use crate::handler::AgentHandler;
use crate::transport::Endpoint;
use crate::wire::Dialect;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::{Builder, Runtime};

/// A pool whose agents run on the same thread.
///
/// All code is the library's own, except that frames are passed in memory, and that tasks are
/// polled in turn instead of being woken.
pub struct InMemory {
    pool: AgentPool,
    tasks: Vec<Task>,
    /// Provides the timers for deadlines.
    runtime: Runtime,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

impl InMemory {
    /// Creates a pool with this many agents, named "agent-0" and so on, which use the first of the
    /// offered encodings.
    pub fn new<H: AgentHandler>(agents: usize, config: AgentPoolConfig, handler: H) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime without I/O driver can always be built");
        let mut memory = Self {
            pool: AgentPool::with_config(config),
            tasks: Vec::new(),
            runtime,
        };
        let handler = Arc::new(handler);
        let runtime = memory.runtime.handle().clone();
        // Connections and callers are on the same runtime.
        let _entered = runtime.enter();
        for number in 0..agents {
            memory.add_agent(agent_name(number), &handler);
        }
        memory
    }

    fn add_agent<H: AgentHandler>(&mut self, name: String, handler: &Arc<H>) {
        let pool = Arc::clone(&self.pool.inner);
        let config = Arc::clone(&pool.defaults);
        let state = pool.new_state(&name, &config);
        let connections = (0..config.connections_per_agent)
            .map(|_| self.connect(&state, &config, handler))
            .collect();
        pool.add_with_connections(state, config, connections);
    }

    fn connect<H: AgentHandler>(
        &mut self,
        state: &Arc<AgentState>,
        config: &ResolvedConfig,
        handler: &Arc<H>,
    ) -> Arc<Connection> {
        let dialect = Dialect::new(config.encodings[0], config.extensions().first().copied());
        let (connection, inbound, agent) =
            connect_in_memory(&state.shared, dialect, &config.connection());
        let session = serve_link(Arc::clone(handler), agent.sender, agent.receiver, dialect);
        self.tasks
            .push(Box::pin(run_writer(Arc::clone(&connection))));
        self.tasks.push(Box::pin(session));
        self.tasks
            .push(Box::pin(Arc::clone(state).receive(inbound)));
        connection
    }

    /// Returns the pool, for calls that [`InMemory::run`] completes.
    pub fn pool(&self) -> AgentPool {
        self.pool.clone()
    }

    /// Polls a future until it completes, and all connections whenever it waits.
    pub fn run<F: Future>(&mut self, future: F) -> F::Output {
        let _entered = self.runtime.enter();
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            for task in &mut self.tasks {
                let _ = task.as_mut().poll(&mut cx);
            }
        }
    }

    /// Returns the registry of agents.
    pub fn registry(&self) -> Registry {
        Registry(self.pool())
    }

    /// Returns the map of pinned correlation ids, with a connection to pin them to.
    pub fn affinities(&self) -> AffinityMap {
        AffinityMap {
            pool: self.pool(),
            connection: self.connection(),
        }
    }

    /// Returns a connection, which closes when the pool is dropped.
    pub fn idle_connection(&self) -> IdleConnection {
        IdleConnection(self.connection())
    }

    fn connection(&self) -> Arc<Connection> {
        let agents = self.pool.inner.agents.load();
        let agent = agents.get(&*agent_name(0)).expect("an agent");
        let connection = agent.snapshot().any_connection().cloned();
        connection.expect("a connection")
    }
}

impl Inner {
    /// Adds an agent with connections that no endpoint leads to.
    pub(super) fn add_with_connections(
        self: &Arc<Self>,
        state: Arc<AgentState>,
        config: Arc<ResolvedConfig>,
        connections: Vec<Arc<Connection>>,
    ) {
        let endpoint = Some(Endpoint::Unix("/memory".into()));
        let agent = Arc::new(Member::new(self, state, config, endpoint, Source::Added));
        let lock = self.lock();
        agent.set_snapshot(&lock, Snapshot::default().with_connections(connections));
        let mut agents = Agents::clone(&self.agents.load());
        agents.insert(Arc::clone(agent.id()), agent);
        self.agents.store(Arc::new(agents));
    }
}

/// Returns the name of an agent of [`InMemory`].
pub fn agent_name(number: usize) -> String {
    format!("agent-{number}")
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

/// Agents of a pool.
#[derive(Debug, Clone)]
pub struct Registry(AgentPool);

/// A connection that was chosen.
#[derive(Debug)]
pub struct Chosen(
    #[allow(dead_code, reason = "the reference is what is measured")] Arc<Connection>,
);

impl Registry {
    /// Returns whether an agent has this name.
    pub fn has(&self, agent_id: &str) -> bool {
        self.0.inner.agents.load().get(agent_id).is_some()
    }

    /// Finds an agent and chooses the connection for the next event of an exchange.
    pub fn choose(&self, agent_id: &str, correlation_id: &str) -> Option<Chosen> {
        let agents = self.0.inner.agents.load();
        choose_by(agents.get(agent_id)?, correlation_id)
    }

    /// Replaces an agent's snapshot by a copy, as when its connections change.
    pub fn replace(&self, agent_id: &str) {
        let pool = &self.0.inner;
        let lock = pool.lock();
        if let Some(agent) = pool.agents.load().get(agent_id) {
            let snapshot = agent.snapshot();
            let same = snapshot.with_connections(snapshot.connections().to_vec());
            agent.set_snapshot(&lock, same);
        }
    }
}

/// Chooses the connection for the next event of an exchange with an agent.
pub fn choose(agent: &Agent, correlation_id: &str) -> Option<Chosen> {
    choose_by(&agent.0, correlation_id)
}

fn choose_by(agent: &Arc<Member>, correlation_id: &str) -> Option<Chosen> {
    let correlation = agent.correlation(correlation_id);
    let snapshot = agent.snapshot();
    let connection = agent.choose(&snapshot, correlation).ok()?;
    Some(Chosen(Arc::clone(connection)))
}

/// Pinned correlation ids of a pool.
#[derive(Debug, Clone)]
pub struct AffinityMap {
    pool: AgentPool,
    connection: Arc<Connection>,
}

impl AffinityMap {
    /// Pins a correlation id to the connection.
    pub fn store(&self, correlation_id: &str) {
        self.pool
            .inner
            .affinities
            .pin(correlation_id, &self.connection);
    }

    /// Returns the connection that a correlation id is pinned to.
    pub fn look_up(&self, correlation_id: &str) -> Option<Chosen> {
        let agent_id = &self.connection.agent.id;
        let pinned = self.pool.inner.affinities.pinned(correlation_id, agent_id);
        pinned.map(Chosen)
    }

    /// Unpins a correlation id.
    pub fn clear(&self, correlation_id: &str) {
        self.pool.unpin(correlation_id);
    }
}
