//! The pool: agents by name, and the choice of a connection for each event.
//!
//! Readers take an immutable snapshot of all agents ([`Agents`]), or of one ([`Member`]), without
//! waiting for a lock. Every change replaces a snapshot: see [`Inner::lock`].

mod add;
mod admission;
mod agent;
mod agent_config;
mod agent_state;
#[cfg(feature = "__bench")]
#[path = "../../benches/internals/pool.rs"]
pub(crate) mod bench;
mod by_id;
mod call;
mod choose;
mod config;
mod config_delivery;
mod config_requests;
mod connection_set;
mod drain;
mod exchange;
#[cfg(feature = "__bench")]
#[path = "../../benches/internals/fixture.rs"]
pub(crate) mod fixture;
mod maintenance;
mod member;
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
mod settings_delivery;
#[cfg(feature = "__sim")]
#[path = "../../tests/simulator/hooks/pool.rs"]
pub(crate) mod simulated;
mod stats;
mod trace;

pub use agent::Agent;
pub use agent_config::AgentConfig;
pub use config::{AgentPoolConfig, LoadBalanceStrategy, Placement};
pub use exchange::Exchange;
pub use notice::{NoticeError, Notices};
pub use policy::{EventTimeouts, FailureMode, FlowControlMode};
pub use protocol_metrics::ProtocolMetrics;
pub use reverse::{ReverseConnectionConfig, ReverseConnectionListener};
pub use send::{Call, TimedCall};
pub use stats::{AgentPoolStats, SharedMemoryStats};

use crate::config_push::{ConfigPusher, ConfigUpdateHandler};
use crate::entropy::RandomState;
use crate::memory::MemoryBudget;
use crate::metrics::{MetricsCollector, RejectionCounters};
use agent_config::ResolvedConfig;
use arc_swap::ArcSwap;
use by_id::Affinities;
use maintenance::Maintenance;
use member::{Member, Membership, Snapshot};
use notice::NoticeChannel;
use protocol_metrics::RetiredCounters;
use pushed_events::SpareQueues;
use settings::SettingsStore;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Connections of a proxy to its agents.
///
/// A pool is a handle: clones share the same agents. When the last handle is dropped, all
/// connections are closed. Agents are asked through handles of their own: see [`Agent`].
///
/// ```no_run
/// # async fn example(
/// #     event: tollgate::RequestHeadersEvent,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use tollgate::{AgentConfig, AgentPool, Decision};
///
/// let pool = AgentPool::new();
/// let waf = pool.add(AgentConfig::new("waf", "/run/waf.sock")).await?;
///
/// let mut exchange = waf.exchange("request-1")?;
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
    /// Settings of agents that have none of their own.
    defaults: Arc<ResolvedConfig>,
    agents: ArcSwap<Agents>,
    /// Held while a snapshot is replaced, so that concurrent changes do not overwrite each other.
    changes: Mutex<()>,
    affinities: Affinities,
    /// Counters of agents that were removed.
    retired_counters: RetiredCounters,
    notices: NoticeChannel,
    reported: Arc<MetricsCollector>,
    settings: SettingsStore,
    pusher: Arc<ConfigPusher>,
    updates: Arc<ArcSwap<ConfigUpdateHandler>>,
    maintenance: Maintenance,
    spare_queues: SpareQueues,
    /// Memory that agents make the pool hold.
    memory: MemoryBudget,
    /// Counters of HTTP messages that were not forwarded.
    rejections: RejectionCounters,
    /// Number of shutdowns in progress. While there is one, no new exchanges and agents are taken.
    shutdowns: AtomicUsize,
    /// Closed when the last handle is dropped.
    closed: watch::Receiver<()>,
}

/// Snapshot of the agents of a pool, by their names. A change creates a new snapshot; readers keep
/// the one that they have.
type Agents = HashMap<Arc<str>, Arc<Member>, RandomState>;

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
        let memory = MemoryBudget::new(config.max_memory);
        let inner = Arc::new(Inner {
            affinities: Affinities::new(max_entries, config.correlation_affinity_ttl),
            reported: Arc::new(MetricsCollector::charged_to(
                &memory,
                config.reported_metrics.clone(),
            )),
            settings: SettingsStore::new(config.proxy_id.clone()),
            pusher: Arc::new(ConfigPusher::with_notify(
                config.config_push.clone(),
                Arc::clone(&maintenance.requested),
            )),
            updates: Arc::default(),
            defaults: Arc::new((&config).into()),
            config,
            agents: ArcSwap::default(),
            changes: Mutex::default(),
            retired_counters: RetiredCounters::default(),
            notices: NoticeChannel::default(),
            maintenance,
            spare_queues: SpareQueues::default(),
            memory,
            rejections: RejectionCounters::default(),
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

    /// Returns the agent with this name.
    pub fn agent(&self, agent_id: &str) -> Option<Agent> {
        let agents = self.inner.agents.load();
        agents.get(agent_id).cloned().map(Agent)
    }

    /// Returns all agents, in no particular order.
    pub fn agents(&self) -> Vec<Agent> {
        let agents = self.inner.agents.load();
        agents.values().cloned().map(Agent).collect()
    }

    /// Opens a charge of nothing to the pool's memory budget.
    #[cfg(feature = "http")]
    pub(crate) fn open_memory_charge(&self) -> crate::memory::MemoryCharge {
        self.inner.memory.open_charge()
    }

    #[cfg(feature = "http")]
    pub(crate) fn count_rejection(&self, kind: crate::metrics::RejectionKind) {
        self.inner.rejections.note(kind);
    }
}

impl Default for AgentPool {
    fn default() -> Self {
        Self::with_config(AgentPoolConfig::default())
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        for (_, connections) in self.inner.take_out_all(Membership::PoolDropped) {
            connections.close();
        }
    }
}

impl Inner {
    /// Locks the agents and their connections for a change. Readers keep the snapshots that they
    /// have.
    fn lock(&self) -> MutexGuard<'_, ()> {
        // Changes are prepared before they are stored, so a panic leaves a consistent snapshot.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an agent out of the pool, which must have it. Returns its last snapshot.
    fn take_out(
        &self,
        lock: &MutexGuard<'_, ()>,
        agent: &Member,
        membership: Membership,
    ) -> Arc<Snapshot> {
        let mut agents = Agents::clone(&self.agents.load());
        agents.remove(agent.id());
        self.agents.store(Arc::new(agents));
        agent.end(lock, membership)
    }

    /// Takes all agents out of the pool. Returns them with their last snapshots.
    fn take_out_all(&self, membership: Membership) -> Vec<(Arc<Member>, Arc<Snapshot>)> {
        let lock = self.lock();
        let agents = self.agents.swap(Arc::default());
        let agents = agents.values().cloned();
        agents
            .map(|agent| {
                let last = agent.end(&lock, membership.clone());
                (agent, last)
            })
            .collect()
    }
}

impl fmt::Debug for AgentPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentPool")
            .field("agents", &self.inner.agents.load().keys())
            .field("config", &self.inner.config)
            .finish()
    }
}
