use super::policy::{EventTimeouts, FailureMode, FlowControlMode};
use crate::config_push::ConfigPusherConfig;
use crate::connection::{CircuitBreakerSettings, ConnectionConfig, Patience, Sampling};
use crate::metrics::MetricsCollectorConfig;
use crate::protocol::EventType;
use crate::transport::LinkConfig;
#[cfg(feature = "grpc")]
use crate::transport::grpc::{GrpcConfig, MAX_MESSAGE};
use crate::wire::Encoding;
use std::time::Duration;

/// Frames that may wait to be sent on one connection, unless configured otherwise; the same for every
/// transport.
pub const CHANNEL_BUFFER_SIZE: usize = 64;

/// Which of an agent's connections the next event takes.
///
/// Connections that are closed, failing, or paused by the agent, or whose agent reports that it is draining
/// or unhealthy, are not used; one without a free slot is used only if no other has one. One whose agent
/// reports that it is degraded gets a quarter of its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoadBalanceStrategy {
    /// Each in turn. Over gRPC a call that is made while others are about to be sent goes with them, which saves
    /// HTTP/2 a batch of its own.
    #[default]
    RoundRobin,
    /// The one with the fewest pending calls.
    LeastConnections,
    /// The one whose agent reported the best health; among equals the one with the fewest pending calls.
    HealthBased,
    /// Any, by chance.
    Random,
}

/// Which runtime serves the connections that a pool makes, and which of them a caller takes.
///
/// A connection is read by a task on the runtime that it was made on. A caller on another runtime is woken across threads
/// when its answer comes, which costs more than everything else that is done for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Placement {
    /// The one that the agent was added on; callers on all runtimes share its connections.
    #[default]
    Shared,
    /// Each one that agents are called from has connections of its own, which its callers take before others. For
    /// proxies that run several single-threaded runtimes side by side.
    ///
    /// They are made when a caller finds them missing: that call takes another connection, and waits for nothing. They
    /// end with their runtime, and those of other runtimes go on. The runtime that the agent was added on, and that
    /// looks after the connections, has some whether or not agents are called from it.
    ///
    /// All threads of a runtime with several are at home on the same connections.
    PerRuntime,
}

/// How a pool connects to agents and talks to them.
#[derive(Debug, Clone)]
pub struct AgentPoolConfig {
    /// Connections to each agent; with [`Placement::PerRuntime`], for each runtime.
    pub connections_per_agent: usize,
    /// Which runtime serves connections, and which of them a caller takes.
    pub placement: Placement,
    /// Which connection an event takes.
    pub load_balance_strategy: LoadBalanceStrategy,
    /// Time for connecting and shaking hands, for each connection.
    pub connect_timeout: Duration,
    /// Time for a call, from the moment it is made to its answer. An agent that reports that it is degraded
    /// gets this time multiplied by the factor that it reports, at most 10.
    pub request_timeout: Duration,
    /// The same for kinds of events that need another time.
    pub event_timeouts: EventTimeouts,
    /// Time that exchanges get to finish when the pool is shut down, or when their agent is removed or moves
    /// to another endpoint.
    pub drain_timeout: Duration,
    /// Calls that may be pending at once on one connection, unless the agent takes fewer; more wait, in
    /// order, until their time is up.
    pub max_concurrent_per_connection: usize,
    /// Calls that may wait for a slot: of one agent in all, and beside them on each connection those of its
    /// exchanges. More fail with [`QueueFull`](crate::AgentProtocolError::QueueFull).
    pub max_queued_calls: usize,
    /// Time that a call may wait for a slot before it fails with
    /// [`QueueTimeout`](crate::AgentProtocolError::QueueTimeout).
    pub queue_timeout: Duration,
    /// Frames that may wait to be sent on one connection; more wait, in order, until their time is up.
    pub channel_buffer_size: usize,
    /// What a call gets while the agent asks for a pause.
    pub flow_control_mode: FlowControlMode,
    /// How long [`FlowControlMode::WaitAndRetry`] waits for the end of a pause.
    pub flow_control_wait_timeout: Duration,
    /// What a call gets when its agent is unavailable; [`AgentPool::set_failure_mode`] sets it for one agent.
    ///
    /// [`AgentPool::set_failure_mode`]: super::AgentPool::set_failure_mode
    pub failure_mode: FailureMode,
    /// Whether events of a kind that an agent did not ask for are allowed without sending them. Settings
    /// ([`EventType::Configure`]) are sent in any case.
    pub skip_unsubscribed_events: bool,
    /// Failed calls in a row that open an agent's circuit breaker: calls that time out, lose their connection
    /// or get an answer that does not decode. 0 does without a breaker.
    pub circuit_breaker_threshold: u32,
    /// How long an open circuit breaker lets nothing through. When a new connection to the agent comes up
    /// it does not wait that long.
    pub circuit_breaker_reset_timeout: Duration,
    /// Calls in a row that time out, or get an answer that does not decode, after which a connection takes no
    /// new exchanges until the agent answers a ping or a call on it.
    pub max_consecutive_errors: u32,
    /// How often upkeep looks at everything; a connection on which nothing was received for this long is
    /// pinged. Lost connections are seen to at once.
    pub health_check_interval: Duration,
    /// Time for the answer to such a ping; a connection on which nothing comes until then is ended and
    /// replaced.
    pub ping_timeout: Duration,
    /// Time before the second attempt to reconnect; the first is made at once, and each further one waits
    /// twice as long, up to 30 s, less up to half by chance. While calls ask for an agent whose socket
    /// nobody listens at, it is looked for at least every 250 ms.
    pub reconnect_interval: Duration,
    /// Whether the pool runs [`AgentPool::run_maintenance`](super::AgentPool::run_maintenance) by itself.
    pub self_maintained: bool,
    /// Time after which the connection of an exchange that is known by its correlation id alone is forgotten,
    /// if no event of the exchange comes.
    pub correlation_affinity_ttl: Duration,
    /// Such exchanges that are remembered at once. Events of more take any connection.
    pub max_correlation_affinities: usize,
    /// Time after which a sticky session that is not used ends; `None` keeps it until it is cleared.
    pub sticky_session_timeout: Option<Duration>,
    /// What is kept of the metrics that agents report.
    pub reported_metrics: MetricsCollectorConfig,
    /// Lines per second that an agent may write to the proxy's log; more are left out and counted.
    pub max_agent_logs_per_second: u32,
    /// How updates of configuration are pushed to agents.
    pub config_push: ConfigPusherConfig,
    /// Calls of which one is timed stage by stage for [`ProtocolMetrics`](super::ProtocolMetrics), 64 by default,
    /// made a power of two. 0 times only those that ask for it ([`AgentPool::send_timed`]).
    ///
    /// [`AgentPool::send_timed`]: super::AgentPool::send_timed
    pub timing_interval: u32,
    /// Encodings offered to agents, the preferred one first. An agent that has none of them uses JSON, as
    /// the protocol demands.
    pub encodings: Vec<Encoding>,
    /// Whether tollgate's extension of the protocol is offered to agents; those that do not know it take no
    /// notice. See "The extension" in docs/protocol.md.
    pub use_extension: bool,
    /// How agents that are reached over TLS show who they are, and this proxy to them.
    #[cfg(feature = "grpc")]
    pub tls: crate::TlsConfig,
    /// The largest gRPC message that is sent to agents or taken from them, in bytes, at most 16 MiB. A larger event
    /// fails with [`MessageTooLarge`](crate::AgentProtocolError::MessageTooLarge); a larger answer ends its
    /// connection. Agents have a limit of their own, which is best the same.
    #[cfg(feature = "grpc")]
    pub max_grpc_message_size: usize,
}

impl Default for AgentPoolConfig {
    /// The published defaults where there are such: 4 connections with 100 calls each, 5 s to connect, 30 s
    /// for a call, for waiting in the queue and for draining, health checks every 10 s, 100 ms for the end of a
    /// pause, a breaker that opens after 5 failures for 30 s, 5 min for affinities and sticky sessions, 10 MiB for a
    /// gRPC message.
    /// MessagePack is preferred, and the extension is used.
    fn default() -> Self {
        Self {
            connections_per_agent: 4,
            placement: Placement::Shared,
            load_balance_strategy: LoadBalanceStrategy::RoundRobin,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            event_timeouts: EventTimeouts::default(),
            drain_timeout: Duration::from_secs(30),
            max_concurrent_per_connection: 100,
            max_queued_calls: 1024,
            queue_timeout: Duration::from_secs(30),
            channel_buffer_size: CHANNEL_BUFFER_SIZE,
            flow_control_mode: FlowControlMode::FailClosed,
            flow_control_wait_timeout: Duration::from_millis(100),
            failure_mode: FailureMode::Closed,
            skip_unsubscribed_events: false,
            circuit_breaker_threshold: 5,
            circuit_breaker_reset_timeout: Duration::from_secs(30),
            max_consecutive_errors: 3,
            health_check_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            reconnect_interval: Duration::from_millis(100),
            self_maintained: true,
            correlation_affinity_ttl: Duration::from_secs(5 * 60),
            max_correlation_affinities: 100_000,
            sticky_session_timeout: Some(Duration::from_secs(5 * 60)),
            reported_metrics: MetricsCollectorConfig::default(),
            max_agent_logs_per_second: 100,
            config_push: ConfigPusherConfig::default(),
            timing_interval: 64,
            encodings: vec![Encoding::MessagePack, Encoding::Json],
            use_extension: true,
            #[cfg(feature = "grpc")]
            tls: crate::TlsConfig::default(),
            #[cfg(feature = "grpc")]
            max_grpc_message_size: MAX_MESSAGE,
        }
    }
}

impl AgentPoolConfig {
    pub(super) fn timeout(&self, kind: EventType) -> Duration {
        self.event_timeouts
            .get(kind)
            .unwrap_or(self.request_timeout)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience {
            max_queued: self.max_queued_calls,
            queue_timeout: self.queue_timeout,
            pause_timeout: match self.flow_control_mode {
                FlowControlMode::WaitAndRetry => self.flow_control_wait_timeout,
                FlowControlMode::FailClosed | FlowControlMode::FailOpen => Duration::ZERO,
            },
        }
    }

    pub(super) fn breaker(&self) -> CircuitBreakerSettings {
        CircuitBreakerSettings {
            threshold: self.circuit_breaker_threshold,
            reset_timeout: self.circuit_breaker_reset_timeout,
        }
    }

    pub(super) fn links(&self) -> LinkConfig {
        LinkConfig {
            #[cfg(feature = "grpc")]
            grpc: GrpcConfig {
                tls: self.tls.clone(),
                max_message: self.max_grpc_message_size,
            },
        }
    }

    pub(super) fn connection(&self) -> ConnectionConfig {
        ConnectionConfig {
            max_concurrent: self.max_concurrent_per_connection,
            outbox_capacity: self.channel_buffer_size,
            max_errors: self.max_consecutive_errors,
            sampling: Sampling::one_in(self.timing_interval),
        }
    }
}
