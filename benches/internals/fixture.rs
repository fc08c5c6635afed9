//! A pool whose connections transfer nothing, for the tests of choosing and draining.

use super::agent::Agent;
use super::{AgentPool, AgentPoolConfig, LoadBalanceStrategy};
use crate::connection::bench::{IdleConnection, connect_in_memory};
use crate::connection::{Binding, Connection, Inbound, PendingCall, TimeLimit};
use crate::protocol::EventType;
use crate::wire::{Dialect, Encoding};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A pool with agents of two connections each.
pub struct Fixture {
    /// The pool.
    pub pool: AgentPool,
    /// Dropping one would close its connection.
    _inbound: Vec<Inbound>,
}

impl Fixture {
    /// Creates a pool with agents of these names.
    pub fn new(agents: &[&str]) -> Self {
        Self::with_config(agents, AgentPoolConfig::default())
    }

    /// Creates a pool with agents of these names and a configuration.
    pub fn with_config(agents: &[&str], config: AgentPoolConfig) -> Self {
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

    /// Returns an agent, which must be in the pool.
    pub fn agent(&self, agent_id: &str) -> Agent {
        self.pool.agent(agent_id).expect("a known agent")
    }

    /// Returns the connections of an agent.
    pub fn idle_connections(&self, agent_id: &str) -> [IdleConnection; 2] {
        let connections = self.connections(agent_id);
        let connections: Result<[_; 2], _> = connections.try_into();
        connections.expect("two connections").map(IdleConnection)
    }

    /// Returns the pins of all correlation ids.
    pub fn pins(&self) -> Pins {
        Pins(self.pool.clone())
    }

    /// Chooses a connection for an exchange. Returns its position, or why there is none.
    ///
    /// # Errors
    ///
    /// The reason why no connection can be used.
    pub fn choose(
        &self,
        agent_id: &str,
        strategy: LoadBalanceStrategy,
        correlation_id: &str,
    ) -> Result<usize, String> {
        let agent = self.agent(agent_id).0;
        let snapshot = agent.snapshot_full();
        let chosen = snapshot.choose(strategy, agent.correlation(correlation_id));
        let chosen = chosen.map_err(|end| format!("{end:?}"))?;
        let mut connections = snapshot.connections().iter();
        let position = connections.position(|one| Arc::ptr_eq(one, chosen));
        Ok(position.expect("a connection of the agent"))
    }

    /// Opens a call on a connection of an agent.
    pub fn open(&self, agent_id: &str, connection: usize, correlation_id: &str) -> OpenCall {
        let agent = self.agent(agent_id).0;
        let limit = TimeLimit::fixed(Duration::from_secs(5));
        let params = super::call::CallParams {
            correlation: agent.correlation(correlation_id),
            kind: EventType::RequestHeaders,
            limit,
        };
        let connection = &self.connections(agent_id)[connection];
        let call = agent.open_on(connection, Binding::Free, params);
        OpenCall(call.expect("a free slot"))
    }

    pub(super) fn connections(&self, agent_id: &str) -> Vec<Arc<Connection>> {
        self.agent(agent_id).0.snapshot().connections().to_vec()
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

/// A call that is pending until this is dropped.
pub struct OpenCall(#[allow(dead_code, reason = "held for its drop")] PendingCall);

impl fmt::Debug for OpenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCall").finish_non_exhaustive()
    }
}

/// Pinned correlation ids.
#[derive(Debug, Clone)]
pub struct Pins(AgentPool);

impl Pins {
    /// Pins a correlation id to a connection.
    pub fn pin(&self, correlation_id: &str, connection: &IdleConnection) {
        self.0.inner.affinities.pin(correlation_id, &connection.0);
    }

    /// Removes the pin of a correlation id to one agent.
    pub fn unpin(&self, correlation_id: &str, agent_id: &str) {
        self.0.inner.affinities.unpin(correlation_id, agent_id);
    }

    /// Returns whether a correlation id is pinned to a connection of an agent.
    pub fn is_pinned(&self, correlation_id: &str, agent_id: &str) -> bool {
        let pinned = self.0.inner.affinities.pinned(correlation_id, agent_id);
        pinned.is_some()
    }

    /// Removes expired pins.
    pub fn remove_expired(&self) {
        self.0.inner.affinities.remove_expired();
    }

    /// Returns the number of correlation ids.
    pub fn count(&self) -> usize {
        self.0.inner.affinities.len()
    }

    /// Returns the number of pins that were not made because there were too many.
    pub fn rejections(&self) -> u64 {
        self.0.inner.affinities.rejections()
    }
}
