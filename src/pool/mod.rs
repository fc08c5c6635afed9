//! The pool: agents by name, and the choice of a connection for each event.
//!
//! Readers take an immutable snapshot of all agents ([`Agents`]) without waiting for a lock. Every
//! change replaces the snapshot: see [`Inner::change`].

mod affinity;
mod agents;
#[cfg(feature = "__bench")]
pub(crate) mod bench;
mod call;
mod choose;
mod config;
mod config_delivery;
mod connection_set;
mod drain;
mod exchange;
mod expiring;
mod maintenance;
mod membership;
mod notice;
mod open_local;
mod policy;
mod protocol_metrics;
mod pushed_events;
mod reconnect;
mod reported;
mod reverse;
mod send;
mod settings;
#[cfg(feature = "__sim")]
pub(crate) mod simulated;
mod stats;
mod sticky;
mod trace;

pub use config::{AgentPoolConfig, CHANNEL_BUFFER_SIZE, LoadBalanceStrategy, Placement};
pub use exchange::Exchange;
pub use policy::{EventTimeouts, FailureMode, FlowControlMode};
pub use protocol_metrics::ProtocolMetrics;
pub use reverse::{ReverseConnectionConfig, ReverseConnectionListener};
pub use stats::AgentPoolStats;

use crate::config_push::{ConfigPusher, ConfigUpdateHandler};
use crate::connection::{CircuitBreakerState, Connection};
use crate::error::AgentProtocolError;
use crate::metrics::MetricsCollector;
use crate::protocol::{AgentCapabilities, CancelReason};
use crate::wire::Encoding;
use affinity::Affinities;
use agents::Agents;
use arc_swap::ArcSwap;
use maintenance::Maintenance;
use notice::Notices;
use protocol_metrics::RetiredCounters;
use pushed_events::SpareQueues;
use settings::SettingsStore;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sticky::Sessions;
use tokio::sync::watch;

/// Connections of a proxy to its agents.
///
/// A pool is a handle: clones share the same agents. When the last handle is dropped, all
/// connections are closed.
///
/// # Ways to send events
///
/// * [`AgentPool::exchange`] begins an [`Exchange`], which holds its connection. Sending its events
///   takes no lock and, once buffers have grown to their size, allocates nothing in the pool. Use
///   it where you can keep a value for the duration of an HTTP request.
/// * [`AgentPool::send`] looks the exchange up by its correlation id. Sending request headers this
///   way pins the correlation id to a connection, which costs about one allocation and an entry in
///   a bounded map until the request is over: see [`AgentPool::send`].
///
/// ```no_run
/// # async fn example(
/// #     event: tollgate::RequestHeadersEvent,
/// # ) -> Result<(), tollgate::AgentProtocolError> {
/// use tollgate::{AgentPool, Decision};
///
/// let pool = AgentPool::new();
/// pool.add_agent("waf", "/run/waf.sock").await?;
///
/// let mut exchange = pool.exchange("waf", "request-1")?;
/// let response = exchange.send(&event).await?;
/// if let Decision::Block { status, .. } = response.decision {
///     println!("blocked with {status}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgentPool {
    inner: Arc<Inner>,
    _drop_guard: Arc<DropGuard>,
}

/// State shared by a pool's handles, exchanges and tasks.
struct Inner {
    config: AgentPoolConfig,
    agents: ArcSwap<Agents>,
    /// Held while the snapshot is replaced, so that concurrent changes do not overwrite each other.
    snapshot_lock: Mutex<()>,
    affinities: Affinities,
    sessions: Sessions,
    /// Counters of agents that were removed.
    retired_counters: RetiredCounters,
    notices: Notices,
    reported: Arc<MetricsCollector>,
    settings: SettingsStore,
    pusher: Arc<ConfigPusher>,
    updates: Arc<ArcSwap<ConfigUpdateHandler>>,
    maintenance: Maintenance,
    spare_queues: SpareQueues,
    /// Number of shutdowns in progress. While there is one, no new exchanges and agents are taken.
    shutdowns: AtomicUsize,
    /// Closed when the last handle is dropped.
    closed: watch::Receiver<()>,
}

/// Shared by the handles of a pool. When the last handle drops it, all connections are closed.
struct DropGuard {
    inner: Arc<Inner>,
    _open: watch::Sender<()>,
}

impl AgentPool {
    /// Creates a pool with the default configuration and no agents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a pool with a configuration and no agents.
    pub fn with_config(config: AgentPoolConfig) -> Self {
        let (open, closed) = watch::channel(());
        let maintenance = Maintenance::default();
        let max_entries = config.max_correlation_affinities;
        let inner = Arc::new(Inner {
            affinities: Affinities::new(max_entries, config.correlation_affinity_ttl),
            sessions: Sessions::new(max_entries, config.sticky_session_timeout, |_| ()),
            reported: Arc::new(MetricsCollector::with_config(
                config.reported_metrics.clone(),
            )),
            settings: SettingsStore::default(),
            pusher: Arc::new(ConfigPusher::with_notify(
                config.config_push.clone(),
                Arc::clone(&maintenance.requested),
            )),
            updates: Arc::default(),
            config,
            agents: ArcSwap::default(),
            snapshot_lock: Mutex::default(),
            retired_counters: RetiredCounters::default(),
            notices: Notices::default(),
            maintenance,
            spare_queues: SpareQueues::default(),
            shutdowns: AtomicUsize::new(0),
            closed,
        });
        let drop_guard = DropGuard {
            inner: Arc::clone(&inner),
            _open: open,
        };
        Self {
            inner,
            _drop_guard: Arc::new(drop_guard),
        }
    }

    /// Sets the failure mode of one agent, which replaces [`AgentPoolConfig::failure_mode`] until
    /// the agent is removed.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent) if no agent has this name.
    pub fn set_failure_mode(
        &self,
        agent_id: &str,
        mode: FailureMode,
    ) -> Result<(), AgentProtocolError> {
        let agents = self.inner.agents.load();
        let agent = agents.get(agent_id).ok_or_else(|| unknown(agent_id))?;
        let fails_open = mode == FailureMode::Open;
        agent.state.fails_open.store(fails_open, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the state of an agent's circuit breaker.
    pub fn circuit_breaker_state(&self, agent_id: &str) -> Option<CircuitBreakerState> {
        let agents = self.inner.agents.load();
        agents
            .get(agent_id)
            .map(|agent| agent.state.breaker.state())
    }

    /// Returns the names of all agents.
    pub fn agent_ids(&self) -> Vec<String> {
        let agents = self.inner.agents.load();
        agents.iter().map(|agent| agent.id().to_string()).collect()
    }

    /// Returns the capabilities that an agent announced when it was connected.
    pub async fn agent_capabilities(&self, agent_id: &str) -> Option<AgentCapabilities> {
        self.with_connection(agent_id, |connection| connection.capabilities().clone())
    }

    /// Returns the encoding of payloads to an agent.
    pub fn agent_encoding(&self, agent_id: &str) -> Option<Encoding> {
        self.with_connection(agent_id, |connection| connection.dialect().encoding)
    }

    /// Returns whether an agent speaks tollgate's extension of the protocol.
    ///
    /// With it, bodies are sent unencoded inside MessagePack, and several events of one exchange
    /// may be unanswered at once.
    pub fn agent_uses_extension(&self, agent_id: &str) -> Option<bool> {
        self.with_connection(agent_id, |connection| connection.dialect().has_streams())
    }

    /// Returns whether a call to an agent would be attempted: at least one connection takes new
    /// exchanges, and the circuit breaker is not open.
    pub fn is_agent_healthy(&self, agent_id: &str) -> bool {
        let agents = self.inner.agents.load();
        agents
            .get(agent_id)
            .is_some_and(|agent| agent.is_available())
    }

    /// Returns statistics of one agent.
    pub async fn agent_stats(&self, agent_id: &str) -> Option<AgentPoolStats> {
        self.inner
            .agents
            .load()
            .get(agent_id)
            .map(|agent| agent.stats())
    }

    /// Returns statistics of every agent.
    pub async fn stats(&self) -> Vec<AgentPoolStats> {
        self.inner
            .agents
            .load()
            .iter()
            .map(|agent| agent.stats())
            .collect()
    }

    /// Tells an agent to abandon an exchange, and fails its pending call, if there is one, with
    /// [`Cancelled`](AgentProtocolError::Cancelled).
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`], but without the errors of waiting.
    pub async fn cancel_request(
        &self,
        agent_id: &str,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        let connections = self.connections(agent_id)?;
        let carrying = connections
            .iter()
            .find(|connection| connection.is_busy_with(correlation_id))
            .cloned();
        let affinities = &self.inner.affinities;
        let pinned = affinities.pinned(correlation_id, agent_id);
        affinities.unpin(correlation_id, agent_id);
        match carrying.or(pinned).as_ref().or_else(|| connections.first()) {
            Some(connection) => connection.cancel(correlation_id, reason).await,
            None => Err(self.unavailable(agent_id)),
        }
    }

    /// Cancels every call that waits for an agent's answer, and returns their number.
    ///
    /// Calls that wait for a slot are not cancelled.
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

    /// Pings an agent and returns the round-trip time.
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

    /// Returns the open connections of an agent. It allocates, so it is not for the hot path.
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

impl Default for AgentPool {
    fn default() -> Self {
        Self::with_config(AgentPoolConfig::default())
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        // A task that is about to add a connection finds that its agent was removed.
        for agent in self.inner.change(Agents::clear) {
            agent.close();
        }
    }
}

impl Inner {
    /// Replaces the snapshot by a changed copy. Readers keep the snapshot that they have.
    fn change<T>(&self, change: impl FnOnce(&mut Agents) -> T) -> T {
        // A panic while the lock is held leaves the old snapshot in place, which is consistent.
        let _guard = self
            .snapshot_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut agents = Agents::clone(&self.agents.load());
        let result = change(&mut agents);
        self.agents.store(Arc::new(agents));
        result
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
