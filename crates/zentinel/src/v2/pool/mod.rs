//! The pool: agents by name.

mod affinity;
mod config;
mod config_push;
mod membership;
mod metrics;
mod send;
mod sessions;
mod settings;
mod stats;
mod sticky;
mod transport;

pub use config::AgentPoolConfig;
pub(super) use config::defaults;
pub(super) use membership::endpoint_of;
pub use tollgate::{FlowControlMode, LoadBalanceStrategy, stats::AgentPoolStats};
pub use transport::V2Transport;

/// Default number of frames that may wait to be sent on one connection.
pub const CHANNEL_BUFFER_SIZE: usize = 64;

use super::{ConfigUpdateHandler, ProtocolMetrics};
use crate::AgentProtocolError;
use sessions::Sessions;
use std::fmt;
use std::sync::Arc;
use tollgate::Agent;

/// Connections of a proxy to its agents, which are known by their names.
///
/// A pool is a handle: clones share the same agents. When the last handle is dropped, all
/// connections are closed.
///
/// Request headers pin their correlation id to a connection, and the events that follow under the
/// same id go over it:
///
/// ```no_run
/// # async fn example(
/// #     pool: zentinel_agent_protocol::v2::AgentPool,
/// #     chunk: zentinel_agent_protocol::RequestBodyChunkEvent,
/// # ) -> Result<(), zentinel_agent_protocol::AgentProtocolError> {
/// // Body chunks automatically routed to same connection as headers
/// pool.send_request_body_chunk("waf", "correlation-123", &chunk).await?;
///
/// // Cleanup after request completes
/// pool.clear_correlation_affinity("correlation-123");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgentPool {
    pool: tollgate::AgentPool,
    metrics: Arc<ProtocolMetrics>,
    updates: Arc<ConfigUpdateHandler>,
    sessions: Arc<Sessions>,
}

impl AgentPool {
    /// Creates a pool with the default configuration and no agents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a pool with a configuration and no agents.
    pub fn with_config(config: AgentPoolConfig) -> Self {
        let pool = tollgate::AgentPool::with_config((&config).into());
        Self::over(pool, &config)
    }

    fn over(pool: tollgate::AgentPool, config: &AgentPoolConfig) -> Self {
        Self {
            metrics: Arc::new(ProtocolMetrics::of(pool.metrics())),
            updates: pool.config_update_handler(),
            sessions: Arc::new(Sessions::new(config)),
            pool,
        }
    }

    /// Returns the pool below this one, for what only tollgate has: exchanges, timeouts of single
    /// calls, settings of single agents.
    ///
    /// Remove and replace an agent that has sticky sessions through this type, which ends them.
    /// Otherwise they keep their connections until [`AgentPoolConfig::drain_timeout`] has passed.
    pub fn tollgate(&self) -> &tollgate::AgentPool {
        &self.pool
    }

    /// Runs maintenance forever. The pool does this by itself, so calling it is not necessary.
    pub async fn run_maintenance(&self) {
        self.pool.run_maintenance().await;
    }

    fn agent(&self, agent_id: &str) -> Result<Agent, AgentProtocolError> {
        let agent = self.pool.agent(agent_id);
        agent.ok_or_else(|| AgentProtocolError::not_found(agent_id))
    }
}

impl Default for AgentPool {
    fn default() -> Self {
        Self::with_config(AgentPoolConfig::default())
    }
}

impl From<tollgate::AgentPool> for AgentPool {
    /// Wraps a pool, which may have settings that [`AgentPoolConfig`] does not have. Sticky
    /// sessions are limited as by [`AgentPoolConfig::default`].
    fn from(pool: tollgate::AgentPool) -> Self {
        Self::over(pool, &AgentPoolConfig::default())
    }
}

impl fmt::Debug for AgentPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentPool")
            .field("pool", &self.pool)
            .field("sticky_sessions", &self.sticky_session_count())
            .finish_non_exhaustive()
    }
}
