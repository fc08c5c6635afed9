//! Access to a pool's internals for benchmarks.

use super::agents::AgentEntry;
use super::{AgentPool, AgentPoolConfig};
use crate::agent::AgentHandler;
use crate::agent::bench::serve_link;
use crate::connection::bench::connect_in_memory;
use crate::connection::{AgentState, Connection, run_writer};
use crate::transport::Endpoint;
use crate::wire::{Dialect, Extension};
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
        let state = pool.new_state(name);
        let connections = (0..pool.config.connections_per_agent)
            .map(|_| self.connect(&state, handler))
            .collect();
        let endpoint = Endpoint::Unix("/memory".into());
        let entry = AgentEntry::at(state, endpoint, connections);
        pool.change(|agents| agents.insert(entry));
    }

    fn connect<H: AgentHandler>(
        &mut self,
        state: &Arc<AgentState>,
        handler: &Arc<H>,
    ) -> Arc<Connection> {
        let config = &self.pool.inner.config;
        let dialect = Dialect::new(
            config.encodings[0],
            config.use_extension.then_some(Extension::V1),
        );
        let (connection, inbound, agent) = connect_in_memory(state, dialect, &config.connection());
        let session = serve_link(Arc::clone(handler), agent.sender, agent.receiver, dialect);
        self.tasks
            .push(Box::pin(run_writer(Arc::clone(&connection))));
        self.tasks.push(Box::pin(session));
        self.tasks.push(Box::pin(inbound.run()));
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
        let agents = self.pool.inner.agents.load();
        let connection = agents
            .get(&agent_name(0))
            .and_then(|agent| agent.any_connection());
        AffinityMap {
            pool: self.pool(),
            connection: Arc::clone(connection.expect("an agent with a connection")),
        }
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

    /// Chooses the connection for the next event of an exchange.
    pub fn choose(&self, agent_id: &str, correlation_id: &str) -> Option<Chosen> {
        let pool = &self.0.inner;
        let agents = pool.agents.load();
        let agent = agents.get(agent_id)?;
        let correlation = agent.correlation(correlation_id);
        let connection = pool.choose(agent, correlation);
        connection
            .ok()
            .map(|connection| Chosen(Arc::clone(connection)))
    }

    /// Replaces an agent by a copy, as when its connections change.
    pub fn replace(&self, agent_id: &str) {
        self.0.inner.change(|agents| {
            if let Some(agent) = agents.get(agent_id) {
                let same = agent.with_connections(agent.connections().to_vec());
                agents.insert(same);
            }
        });
    }
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
        let agent_id = &self.connection.agent().id;
        let pinned = self.pool.inner.affinities.pinned(correlation_id, agent_id);
        pinned.map(Chosen)
    }

    /// Unpins a correlation id.
    pub fn clear(&self, correlation_id: &str) {
        self.pool.clear_correlation_affinity(correlation_id);
    }
}
