//! Models how `zentinel-agent-protocol` keeps agents and connections, without the sockets.

use dashmap::DashMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;
use tollgate::bench::agent_name;

/// Agents by name, in one of the maps of `zentinel-agent-protocol`.
pub(crate) trait Agents: Sync {
    fn has(&self, agent_id: &str) -> bool;
    /// Removes the agent and inserts it again.
    fn replace(&self, agent_id: &str);
}

/// The first variant: one lock for all agents. `zentinel-agent-protocol` used tokio's lock, which
/// costs more.
pub(crate) struct Locked(RwLock<HashMap<String, Arc<Agent>>>);

/// The second variant: a lock for each of several shards.
pub(crate) struct Sharded(DashMap<String, Arc<Agent>>);

pub(crate) struct Agent {
    connections: tokio::sync::RwLock<Vec<Arc<Connection>>>,
    turn: AtomicUsize,
}

pub(crate) struct Connection {
    is_healthy: AtomicBool,
    /// The size of the counters and the semaphore, so that the distance in memory is the same.
    _rest: [u64; 24],
}

impl Agent {
    fn new() -> Arc<Self> {
        let connection = || {
            Arc::new(Connection {
                is_healthy: AtomicBool::new(true),
                _rest: [0; 24],
            })
        };
        Arc::new(Self {
            connections: tokio::sync::RwLock::new((0..4).map(|_| connection()).collect()),
            turn: AtomicUsize::new(0),
        })
    }

    pub(crate) fn connection(&self) -> Arc<Connection> {
        let connections = self.connections.try_read().expect("nobody writes");
        Arc::clone(&connections[0])
    }
}

fn new_agents(count: usize) -> impl Iterator<Item = (String, Arc<Agent>)> {
    (0..count).map(|number| (agent_name(number), Agent::new()))
}

impl Locked {
    pub(crate) fn new(agents: usize) -> Self {
        Self(RwLock::new(new_agents(agents).collect()))
    }
}

impl Agents for Locked {
    fn has(&self, agent_id: &str) -> bool {
        self.0.read().expect("no poison").get(agent_id).is_some()
    }

    fn replace(&self, agent_id: &str) {
        let mut agents = self.0.write().expect("no poison");
        if let Some(agent) = agents.remove(agent_id) {
            agents.insert(agent_id.to_owned(), agent);
        }
    }
}

impl Sharded {
    pub(crate) fn new(agents: usize) -> Self {
        Self(new_agents(agents).collect())
    }

    pub(crate) fn first(&self) -> Arc<Agent> {
        Arc::clone(&self.0.get(&agent_name(0)).expect("an agent"))
    }

    /// Copies the healthy connections and takes one of them in turn.
    pub(crate) fn choose(&self, agent_id: &str) -> Option<Arc<Connection>> {
        let agent = self.0.get(agent_id)?;
        let connections = agent.connections.try_read().ok()?;
        let is_healthy =
            |connection: &&Arc<Connection>| connection.is_healthy.load(Ordering::Acquire);
        let healthy: Vec<_> = connections.iter().filter(is_healthy).cloned().collect();
        if healthy.is_empty() {
            return None;
        }
        let turn = agent.turn.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&healthy[turn % healthy.len()]))
    }
}

impl Agents for Sharded {
    fn has(&self, agent_id: &str) -> bool {
        self.0.get(agent_id).is_some()
    }

    fn replace(&self, agent_id: &str) {
        if let Some((name, agent)) = self.0.remove(agent_id) {
            self.0.insert(name, agent);
        }
    }
}

/// Connections by exchange.
#[derive(Default)]
pub(crate) struct Affinities(DashMap<String, Affinity>);

struct Affinity {
    connection: Arc<Connection>,
    created_at: Instant,
    last_accessed: AtomicU64,
}

/// Limit of `zentinel-agent-protocol`.
const MAX_AFFINITIES: usize = 100_000;

impl Affinities {
    pub(crate) fn store(&self, correlation_id: &str, connection: &Arc<Connection>) {
        if self.0.len() >= MAX_AFFINITIES && !self.0.contains_key(correlation_id) {
            return;
        }
        let affinity = Affinity {
            connection: Arc::clone(connection),
            created_at: Instant::now(),
            last_accessed: AtomicU64::new(0),
        };
        self.0.insert(correlation_id.to_owned(), affinity);
        self.count();
    }

    pub(crate) fn look_up(&self, correlation_id: &str) -> Option<Arc<Connection>> {
        let affinity = self.0.get(correlation_id)?;
        let at = affinity.created_at.elapsed().as_millis() as u64;
        affinity.last_accessed.store(at, Ordering::Relaxed);
        Some(Arc::clone(&affinity.connection))
    }

    pub(crate) fn clear(&self, correlation_id: &str) {
        if self.0.remove(correlation_id).is_some() {
            self.count();
        }
    }

    /// Updates a gauge after each change.
    fn count(&self) {
        std::hint::black_box(self.0.len());
    }
}
