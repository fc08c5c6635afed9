//! A pool for unit tests, whose connections transfer nothing.

use super::agent::Agent;
use super::{AgentPool, AgentPoolConfig};
use crate::connection::bench::connect_in_memory;
use crate::connection::{Connection, Inbound};
use crate::wire::{Dialect, Encoding};
use std::sync::Arc;

/// A pool with agents of two connections each.
pub(super) struct Fixture {
    pub(super) pool: AgentPool,
    /// Dropping one would close its connection.
    _inbound: Vec<Inbound>,
}

impl Fixture {
    pub(super) fn new(agents: &[&str]) -> Self {
        Self::with_config(agents, AgentPoolConfig::default())
    }

    pub(super) fn with_config(agents: &[&str], config: AgentPoolConfig) -> Self {
        let pool = AgentPool::with_config(config);
        let mut inbound = Vec::new();
        for id in agents {
            let config = Arc::clone(&pool.inner.defaults);
            let state = pool.inner.new_state(id, &config);
            let connections = (0..2).map(|_| {
                let dialect = Dialect::zentinel(Encoding::MessagePack);
                let (connection, receiver, _) =
                    connect_in_memory(&state.shared, dialect, &config.connection());
                inbound.push(receiver);
                connection
            });
            let connections = connections.collect();
            pool.inner.add_with_connections(state, config, connections);
        }
        Self {
            pool,
            _inbound: inbound,
        }
    }

    pub(super) fn agent(&self, agent_id: &str) -> Agent {
        self.pool.agent(agent_id).expect("a known agent")
    }

    pub(super) fn connections(&self, agent_id: &str) -> Vec<Arc<Connection>> {
        connections(&self.agent(agent_id))
    }

    pub(super) fn pin(&self, correlation_id: &str, connection: &Arc<Connection>) {
        self.pool.inner.affinities.pin(correlation_id, connection);
    }
}

pub(super) fn connections(agent: &Agent) -> Vec<Arc<Connection>> {
    agent.0.snapshot().connections().to_vec()
}
