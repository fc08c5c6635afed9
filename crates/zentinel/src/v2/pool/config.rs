//! Configuration of a pool.

use super::{FlowControlMode, LoadBalanceStrategy};
use std::time::Duration;
use tollgate::Placement;

/// Name of the Zentinel proxy in handshakes and registrations.
const PROXY_ID: &str = "zentinel-proxy";

/// Configuration of a pool.
///
/// The default is that of [`tollgate::AgentPoolConfig`], and 5 minutes for sticky sessions. For
/// settings that are not here, create a [`tollgate::AgentPool`] and convert it into an
/// [`AgentPool`](super::AgentPool).
#[derive(Debug, Clone)]
pub struct AgentPoolConfig {
    /// Number of connections to each agent, for each runtime that calls it; at least 1.
    pub connections_per_agent: usize,
    /// Strategy for choosing a connection.
    pub load_balance_strategy: LoadBalanceStrategy,
    /// Timeout for opening a connection, including the handshake.
    pub connect_timeout: Duration,
    /// Timeout of a call.
    pub request_timeout: Duration,
    /// Wait before the second attempt to reconnect: see
    /// [`tollgate::AgentPoolConfig::reconnect_interval`].
    pub reconnect_interval: Duration,
    /// Ignored: the pool tries to reconnect for as long as it has the agent.
    pub max_reconnect_attempts: usize,
    /// Maximum time for calls to finish when the pool is shut down or their agent is removed.
    pub drain_timeout: Duration,
    /// Maximum number of pending calls on one connection. Further calls wait in order.
    pub max_concurrent_per_connection: usize,
    /// Interval of health checks, and of the removal of expired pins and sticky sessions.
    pub health_check_interval: Duration,
    /// Maximum number of frames that wait to be sent on one connection.
    pub channel_buffer_size: usize,
    /// Result of a call while the agent has paused its connections.
    pub flow_control_mode: FlowControlMode,
    /// Maximum time that [`FlowControlMode::WaitAndRetry`] waits for the end of a pause.
    pub flow_control_wait_timeout: Duration,
    /// Time after which an unused sticky session ends; `None` keeps it until it is cleared or its
    /// connection closes.
    pub sticky_session_timeout: Option<Duration>,
    /// Time after which a pinned correlation id is unpinned if no event comes for it.
    pub correlation_affinity_ttl: Duration,
    /// Maximum number of pinned correlation ids, and of sticky sessions.
    pub max_correlation_affinities: usize,
}

impl Default for AgentPoolConfig {
    fn default() -> Self {
        let pool = tollgate::AgentPoolConfig::default();
        Self {
            connections_per_agent: pool.connections_per_agent,
            load_balance_strategy: pool.load_balance_strategy,
            connect_timeout: pool.connect_timeout,
            request_timeout: pool.request_timeout,
            reconnect_interval: pool.reconnect_interval,
            max_reconnect_attempts: 3,
            drain_timeout: pool.drain_timeout,
            max_concurrent_per_connection: pool.max_concurrent_per_connection,
            health_check_interval: pool.health_check_interval,
            channel_buffer_size: pool.channel_buffer_size,
            flow_control_mode: pool.flow_control_mode,
            flow_control_wait_timeout: pool.flow_control_wait_timeout,
            sticky_session_timeout: Some(Duration::from_secs(5 * 60)),
            correlation_affinity_ttl: pool.correlation_affinity_ttl,
            max_correlation_affinities: pool.max_correlation_affinities,
        }
    }
}

/// Returns tollgate's defaults with those differences that the Zentinel proxy relies upon: it has a
/// circuit breaker and body limits of its own, agents know it by its name, and the runtime on which
/// it adds agents is not the one of its workers.
pub(in crate::v2) fn defaults() -> tollgate::AgentPoolConfig {
    tollgate::AgentPoolConfig::default()
        .proxy_id(Some(PROXY_ID.to_owned()))
        .enforce_body_limits(false)
        .circuit_breaker_threshold(0)
        .placement(Placement::PerRuntime)
}

impl From<&AgentPoolConfig> for tollgate::AgentPoolConfig {
    /// Completes a configuration by the defaults of this crate.
    fn from(config: &AgentPoolConfig) -> Self {
        defaults()
            .connections_per_agent(config.connections_per_agent.max(1))
            .load_balance_strategy(config.load_balance_strategy)
            .connect_timeout(config.connect_timeout)
            .request_timeout(config.request_timeout)
            .reconnect_interval(config.reconnect_interval)
            .drain_timeout(config.drain_timeout)
            .max_concurrent_per_connection(config.max_concurrent_per_connection)
            .health_check_interval(config.health_check_interval)
            .channel_buffer_size(config.channel_buffer_size)
            .flow_control_mode(config.flow_control_mode)
            .flow_control_wait_timeout(config.flow_control_wait_timeout)
            .correlation_affinity_ttl(config.correlation_affinity_ttl)
            .max_correlation_affinities(config.max_correlation_affinities)
    }
}
