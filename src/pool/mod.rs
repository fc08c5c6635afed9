//! Agents by name, and which of an agent's connections an event takes.

mod affinity;
mod agents;
mod ask;
#[cfg(feature = "__bench")]
pub(crate) mod bench;
mod choice;
mod config;
mod drain;
mod exchange;
mod expiring;
mod membership;
mod notice;
mod policy;
mod protocol_metrics;
mod provision;
mod pushed;
mod pushing;
mod repair;
mod reported;
mod reverse;
mod rotation;
mod send;
mod settings;
mod stats;
mod sticky;
mod trace;
mod upkeep;

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
use notice::Notices;
use protocol_metrics::Departed;
use pushed::SpareQueues;
use settings::SettingsBook;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sticky::Sessions;
use tokio::sync::watch;
use upkeep::Upkeep;

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
#[derive(Clone)]
pub struct AgentPool {
    inner: Arc<Inner>,
    _life: Arc<Life>,
}

/// What a pool's handles, exchanges and tasks share.
struct Inner {
    config: AgentPoolConfig,
    agents: ArcSwap<Agents>,
    /// Held by whoever replaces the snapshot, so that no change is lost.
    changes: Mutex<()>,
    affinities: Affinities,
    sessions: Sessions,
    /// Agents that were removed.
    departed: Departed,
    notices: Notices,
    reported: Arc<MetricsCollector>,
    settings: SettingsBook,
    pusher: Arc<ConfigPusher>,
    updates: Arc<ArcSwap<ConfigUpdateHandler>>,
    upkeep: Upkeep,
    spare_queues: SpareQueues,
    /// Whether no new exchanges are taken.
    closing: AtomicBool,
    /// Tells when the last handle is gone.
    lives: watch::Receiver<()>,
}

/// Held by the handles of a pool; when the last is dropped, the connections end.
struct Life {
    inner: Arc<Inner>,
    _alive: watch::Sender<()>,
}

impl AgentPool {
    /// A pool with the default configuration and no agents.
    pub fn new() -> Self {
        Self::default()
    }

    /// A pool with no agents.
    pub fn with_config(config: AgentPoolConfig) -> Self {
        let (alive, lives) = watch::channel(());
        let upkeep = Upkeep::default();
        let max_entries = config.max_correlation_affinities;
        let inner = Arc::new(Inner {
            affinities: Affinities::new(max_entries, config.correlation_affinity_ttl),
            sessions: Sessions::new(max_entries, config.sticky_session_timeout),
            reported: Arc::new(MetricsCollector::with_config(
                config.reported_metrics.clone(),
            )),
            settings: SettingsBook::default(),
            pusher: Arc::new(ConfigPusher::serving(
                config.config_push.clone(),
                Arc::clone(&upkeep.requested),
            )),
            updates: Arc::default(),
            config,
            agents: ArcSwap::default(),
            changes: Mutex::default(),
            departed: Departed::default(),
            notices: Notices::default(),
            upkeep,
            spare_queues: SpareQueues::default(),
            closing: AtomicBool::new(false),
            lives,
        });
        let life = Life {
            inner: Arc::clone(&inner),
            _alive: alive,
        };
        Self {
            inner,
            _life: Arc::new(life),
        }
    }

    /// Sets what calls get when an agent is unavailable, in the place of
    /// [`AgentPoolConfig::failure_mode`], as long as the agent is known.
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
        agent.record.fails_open.store(fails_open, Ordering::Relaxed);
        Ok(())
    }

    /// What an agent's circuit breaker lets through.
    pub fn circuit_breaker_state(&self, agent_id: &str) -> Option<CircuitBreakerState> {
        let agents = self.inner.agents.load();
        agents
            .get(agent_id)
            .map(|agent| agent.record.breaker.state())
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

    /// Whether a call to an agent would be tried: a connection takes new exchanges, and the circuit breaker is
    /// not open.
    pub fn is_agent_healthy(&self, agent_id: &str) -> bool {
        let agents = self.inner.agents.load();
        agents
            .get(agent_id)
            .is_some_and(|agent| agent.is_available())
    }

    /// What happened on an agent's connections so far.
    pub async fn agent_stats(&self, agent_id: &str) -> Option<AgentPoolStats> {
        self.inner
            .agents
            .load()
            .get(agent_id)
            .map(|agent| agent.stats())
    }

    /// What happened on the connections of every agent so far.
    pub async fn stats(&self) -> Vec<AgentPoolStats> {
        self.inner
            .agents
            .load()
            .iter()
            .map(|agent| agent.stats())
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

impl Default for AgentPool {
    fn default() -> Self {
        Self::with_config(AgentPoolConfig::default())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Whoever is about to connect finds its agent gone.
        for agent in self.inner.change(Agents::clear) {
            agent.close();
        }
    }
}

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
