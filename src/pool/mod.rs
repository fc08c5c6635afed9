//! Agents by name, and which of an agent's connections an event takes.

mod agents;
mod choice;
mod config;
mod exchange;
mod notice;
mod send;
mod stats;

pub use config::{AgentPoolConfig, CHANNEL_BUFFER_SIZE, LoadBalanceStrategy};
pub use exchange::Exchange;
pub use stats::AgentPoolStats;

use crate::connection::{self, AgentRecord, Connection, ConnectionConfig, Offer, run_writer};
use crate::error::{AgentProtocolError, ConnectError};
use crate::protocol::{AgentCapabilities, CancelReason};
use crate::transport::{self, Endpoint};
use crate::wire::{Encoding, Extension};
use agents::{AgentEntry, Agents};
use arc_swap::ArcSwap;
use notice::Notices;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// The agents that a proxy asks, with connections to each.
///
/// A pool is a handle: clones share their agents. Asking an agent waits for no lock and, once warm,
/// allocates nothing.
///
/// ```no_run
/// # async fn example(event: tollgate::RequestHeadersEvent) -> Result<(), tollgate::AgentProtocolError> {
/// use tollgate::{AgentPool, Decision};
///
/// let pool = AgentPool::new();
/// pool.add_agent("waf", "/run/waf.sock").await?;
/// let response = pool.send_request_headers("waf", "request-1", &event).await?;
/// if let Decision::Block { status, .. } = response.decision {
///     println!("blocked with {status}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct AgentPool {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    config: AgentPoolConfig,
    agents: ArcSwap<Agents>,
    /// Held by whoever replaces the snapshot, so that no change is lost.
    changes: Mutex<()>,
    notices: Notices,
}

impl AgentPool {
    /// A pool with the default configuration and no agents.
    pub fn new() -> Self {
        Self::default()
    }

    /// A pool with no agents.
    pub fn with_config(config: AgentPoolConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                agents: ArcSwap::default(),
                changes: Mutex::default(),
                notices: Notices::default(),
            }),
        }
    }

    /// Connects to an agent and adds it under a name. An agent that has the name already is replaced.
    ///
    /// An endpoint is the path of a Unix socket, `/path` or `unix:/path`. The connections are served by
    /// tasks on the runtime that this is called on; they end with it.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), or
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) with the first cause if not all
    /// connections come up, one after another, each within [`AgentPoolConfig::connect_timeout`].
    pub async fn add_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let endpoint: Endpoint = endpoint.into().parse()?;
        let record = Arc::new(AgentRecord::new(
            agent_id.into(),
            self.inner.notices.0.clone(),
        ));
        let mut connections = NewConnections::default();
        for _ in 0..self.inner.config.connections_per_agent.max(1) {
            let connection = self.connect(&record, &endpoint).await?;
            connections.0.push(connection);
        }
        let connections = std::mem::take(&mut connections.0);
        let entry = AgentEntry::new(record, endpoint, connections);
        let replaced = self.inner.change(|agents| agents.insert(entry));
        replaced.iter().for_each(|agent| agent.close());
        Ok(())
    }

    /// Forgets an agent and closes its connections; calls that are on them fail.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent) if no agent has this name.
    pub async fn remove_agent(&self, agent_id: &str) -> Result<(), AgentProtocolError> {
        match self.inner.change(|agents| agents.remove(agent_id)) {
            Some(agent) => {
                agent.close();
                Ok(())
            }
            None => Err(unknown(agent_id)),
        }
    }

    /// The names of all agents.
    pub fn agent_ids(&self) -> Vec<String> {
        let agents = self.inner.agents.load();
        agents.iter().map(|agent| agent.id().to_string()).collect()
    }

    /// What an agent said of itself when the connections were made.
    pub async fn agent_capabilities(&self, agent_id: &str) -> Option<AgentCapabilities> {
        self.with_connection(agent_id, |connection| connection.capabilities().clone())
    }

    /// How payloads to an agent are written.
    pub fn agent_encoding(&self, agent_id: &str) -> Option<Encoding> {
        self.with_connection(agent_id, |connection| connection.dialect().encoding)
    }

    /// Whether tollgate's extension of the protocol is spoken with an agent: bodies in MessagePack go as
    /// they are, and several events of one exchange may be unanswered at once.
    pub fn agent_uses_extension(&self, agent_id: &str) -> Option<bool> {
        self.with_connection(agent_id, |connection| connection.dialect().has_streams())
    }

    /// Whether an agent has an open connection.
    pub fn is_agent_healthy(&self, agent_id: &str) -> bool {
        let agents = self.inner.agents.load();
        agents.get(agent_id).is_some_and(AgentEntry::is_available)
    }

    /// What happened on an agent's connections so far.
    pub async fn agent_stats(&self, agent_id: &str) -> Option<AgentPoolStats> {
        self.inner
            .agents
            .load()
            .get(agent_id)
            .map(AgentEntry::stats)
    }

    /// What happened on the connections of every agent so far.
    pub async fn stats(&self) -> Vec<AgentPoolStats> {
        self.inner
            .agents
            .load()
            .iter()
            .map(AgentEntry::stats)
            .collect()
    }

    /// Tells an agent to forget an exchange and fails its pending call, if there is one, with
    /// [`Cancelled`](AgentProtocolError::Cancelled).
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`], except that nothing is waited for.
    pub async fn cancel_request(
        &self,
        agent_id: &str,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        let connections = self.connections(agent_id)?;
        let carrying = connections
            .iter()
            .find(|connection| connection.is_busy_with(correlation_id));
        match carrying.or_else(|| connections.first()) {
            Some(connection) => connection.cancel(correlation_id, reason).await,
            None => Err(self.unavailable(agent_id)),
        }
    }

    /// Cancels every call that waits for an agent's answer. Returns how many there were. Calls that wait
    /// in line for a slot go on.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::cancel_request`].
    pub async fn cancel_all(
        &self,
        agent_id: &str,
        reason: CancelReason,
    ) -> Result<usize, AgentProtocolError> {
        let mut cancelled = 0;
        for connection in self.connections(agent_id)? {
            cancelled += connection.cancel_all(reason).await?;
        }
        Ok(cancelled)
    }

    /// Asks an agent for a sign of life and returns how long it took.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn ping(&self, agent_id: &str) -> Result<Duration, AgentProtocolError> {
        match self.connections(agent_id)?.first() {
            Some(connection) => connection.ping(self.inner.config.request_timeout).await,
            None => Err(self.unavailable(agent_id)),
        }
    }

    /// Waits up to [`AgentPoolConfig::drain_timeout`] for pending calls, then closes every connection
    /// and forgets all agents. Calls are taken until then, so whoever makes them stops first.
    ///
    /// # Errors
    ///
    /// None at present; the published signature is kept.
    pub async fn shutdown(&self) -> Result<(), AgentProtocolError> {
        let agents = self.inner.agents.load_full();
        let drained = async {
            while agents.iter().any(AgentEntry::has_pending_calls) {
                tokio::time::sleep(DRAIN_CHECK_INTERVAL).await;
            }
        };
        // What is not done by then fails when the connections close.
        let _ = timeout(self.inner.config.drain_timeout, drained).await;
        let removed = self.inner.change(Agents::clear);
        removed.iter().for_each(|agent| agent.close());
        Ok(())
    }

    async fn connect(
        &self,
        record: &Arc<AgentRecord>,
        endpoint: &Endpoint,
    ) -> Result<Arc<Connection>, AgentProtocolError> {
        let config = &self.inner.config;
        let connected = timeout(config.connect_timeout, async {
            let (sender, receiver) = transport::connect(endpoint).await?;
            let setup = ConnectionConfig {
                max_concurrent: config.max_concurrent_per_connection,
                outbox_capacity: config.channel_buffer_size,
            };
            let record = Arc::clone(record);
            let offer = Offer {
                encodings: &config.encodings,
                extension: config.use_extension.then_some(Extension::V1),
            };
            connection::open(record, sender, receiver, offer, &setup).await
        });
        let (connection, inbound) = connected
            .await
            .unwrap_or(Err(ConnectError::TimedOut(config.connect_timeout)))
            .map_err(|cause| AgentProtocolError::ConnectionFailed {
                agent_id: Arc::clone(&record.id),
                endpoint: endpoint.to_string(),
                cause,
            })?;
        tokio::spawn(run_writer(Arc::clone(&connection)));
        tokio::spawn(inbound.run());
        Ok(connection)
    }

    /// The open connections of an agent, for what is not on the hot path.
    fn connections(&self, agent_id: &str) -> Result<Vec<Arc<Connection>>, AgentProtocolError> {
        let agents = self.inner.agents.load();
        let agent = agents.get(agent_id).ok_or_else(|| unknown(agent_id))?;
        Ok(agent.open_connections().cloned().collect())
    }

    fn with_connection<T>(&self, agent_id: &str, read: impl FnOnce(&Connection) -> T) -> Option<T> {
        let agents = self.inner.agents.load();
        let agent = agents.get(agent_id)?;
        agent.any_connection().map(|connection| read(connection))
    }

    fn unavailable(&self, agent_id: &str) -> AgentProtocolError {
        AgentProtocolError::Unavailable {
            agent_id: agent_id.into(),
        }
    }
}

/// Connections on their way into the pool; those that do not get there are closed.
#[derive(Default)]
struct NewConnections(Vec<Arc<Connection>>);

impl Drop for NewConnections {
    fn drop(&mut self) {
        self.0.iter().for_each(|connection| connection.close());
    }
}

/// How often a shutdown looks whether calls are pending.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(5);

impl Inner {
    /// Replaces the snapshot by a changed copy. Readers keep the one they have.
    fn change<T>(&self, change: impl FnOnce(&mut Agents) -> T) -> T {
        // A panic while the lock is held leaves the old snapshot in place, which is whole.
        let _guard = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut agents = Agents::clone(&self.agents.load());
        let result = change(&mut agents);
        self.agents.store(Arc::new(agents));
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.agents.load().iter().for_each(AgentEntry::close);
    }
}

fn unknown(agent_id: &str) -> AgentProtocolError {
    AgentProtocolError::UnknownAgent {
        agent_id: agent_id.into(),
    }
}

impl fmt::Debug for AgentPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentPool")
            .field("agents", &self.agent_ids())
            .field("config", &self.inner.config)
            .finish()
    }
}
