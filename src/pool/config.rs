//! Configuration of a pool.

use super::policy::{EventTimeouts, FailureMode, FlowControlMode};
use crate::config_push::ConfigPusherConfig;
use crate::configuration::configuration;
use crate::connection::{BYTES_TO_AGENT, SharedMemory};
use crate::memory::DEFAULT_LIMIT;
use crate::metrics::MetricsCollectorConfig;
use crate::protocol::DEFAULT_DRAIN_TIMEOUT;
#[cfg(feature = "grpc")]
use crate::transport::grpc::MAX_MESSAGE;
use crate::wire::{DEFAULT_FRAME_TIMEOUT, Encoding};
use std::time::Duration;

/// Default number of frames that may wait to be sent on one connection, for every transport.
const CHANNEL_BUFFER_SIZE: usize = 64;

/// Strategy for choosing one of an agent's connections for the next event.
///
/// Connections are not used if they are closed, failing or paused by the agent, or if the agent
/// reports that it is draining or unhealthy. A connection without a free slot is used only if no
/// other has one. A connection whose agent reports that it is degraded gets a quarter of its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadBalanceStrategy {
    /// Takes each connection in turn.
    ///
    /// Over gRPC, a call that is made while others are about to be sent joins them on their
    /// connection, which saves HTTP/2 a batch.
    #[default]
    RoundRobin,
    /// Takes the connection with the fewest pending calls.
    LeastConnections,
    /// Takes the connection whose agent reported the best health, and among equals the one with the
    /// fewest pending calls.
    HealthBased,
    /// Takes a connection at random.
    Random,
}

/// Assignment of forward connections to runtimes.
///
/// A task on the runtime where a connection was opened reads from it. If a caller is on another
/// runtime, it is woken across threads when its answer arrives, which costs more than all other
/// work for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Placement {
    /// Connections are served by the runtime on which the agent was added, and shared by callers on
    /// all runtimes.
    #[default]
    Shared,
    /// Each runtime that calls agents has connections of its own, which its callers prefer. For
    /// proxies that run several single-threaded runtimes side by side.
    ///
    /// The connections are opened when a caller finds them missing. That call uses another
    /// connection and does not wait. The connections end with their runtime; those of other
    /// runtimes continue. The runtime on which the agent was added, and which runs maintenance, has
    /// connections whether or not agents are called from it.
    ///
    /// The worker threads of one multi-threaded runtime share its connections.
    PerRuntime,
}

configuration! {
    /// Configuration of a pool: its own, and the defaults of its agents. [`AgentConfig`] replaces
    /// those for one agent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{AgentPool, AgentPoolConfig, Placement};
    ///
    /// let config = AgentPoolConfig::default()
    ///     .placement(Placement::PerRuntime)
    ///     .request_timeout(Duration::from_millis(50));
    /// let pool = AgentPool::with_config(config);
    /// ```
    ///
    /// [`AgentConfig`]: super::AgentConfig
    #[derive(Debug, Clone)]
    #[non_exhaustive]
    pub struct AgentPoolConfig {
        /// Number of connections to each agent; with [`Placement::PerRuntime`], for each runtime.
        pub connections_per_agent: usize,
        /// Assignment of connections to runtimes.
        pub placement: Placement,
        /// Strategy for choosing a connection.
        pub load_balance_strategy: LoadBalanceStrategy,
        /// Timeout for opening a connection, including the handshake.
        pub connect_timeout: Duration,
        /// Timeout of a call, from the moment it is made to its answer. If an agent reports that it
        /// is degraded, the timeout is multiplied by the factor that it reports, at most 10.
        pub request_timeout: Duration,
        /// Timeouts for kinds of events that need another one than `request_timeout`.
        pub event_timeouts: EventTimeouts,
        /// Maximum time for exchanges to finish when the pool is shut down, or when their agent is
        /// removed or moves to another endpoint.
        pub drain_timeout: Duration,
        /// Maximum number of pending calls on one connection, unless the agent announces a lower
        /// limit. Further calls wait in order.
        pub max_concurrent_per_connection: usize,
        /// Maximum number of calls that wait for a slot. It applies to each agent, and separately
        /// to each connection for the calls of exchanges that are bound to it. Further calls fail
        /// with [`QueueFull`](crate::CallError::QueueFull).
        pub max_queued_calls: usize,
        /// Maximum time that a call waits for a slot before it fails with
        /// [`QueueTimeout`](crate::CallError::QueueTimeout).
        pub queue_timeout: Duration,
        /// Maximum number of frames that wait to be sent on one connection. Further frames wait in
        /// order until their calls time out.
        pub channel_buffer_size: usize,
        /// Result of a call while the agent has paused its connections.
        pub flow_control_mode: FlowControlMode,
        /// Maximum time that [`FlowControlMode::WaitAndRetry`] waits for the end of a pause.
        pub flow_control_wait_timeout: Duration,
        /// Result of a call whose agent is unavailable.
        pub failure_mode: FailureMode,
        /// Allows events of kinds that an agent did not subscribe to without sending them. Settings
        /// ([`EventType::Configure`](crate::EventType::Configure)) are always sent.
        pub skip_unsubscribed_events: bool,
        /// Fails events whose body exceeds the
        /// [`max_body_size`](crate::control::AgentLimits::max_body_size) that an agent announced,
        /// with [`MessageTooLarge`](crate::CallError::MessageTooLarge). Agents of
        /// `zentinel-agent-protocol` announce 10 MiB unless they set something else, and the
        /// proxies of that crate do not keep to it.
        pub enforce_body_limits: bool,
        /// Least number of failures within `circuit_breaker_window` that opens an agent's circuit
        /// breaker; 0 disables the circuit breaker.
        ///
        /// Failures are lost connections and answers that cannot be decoded, if they are no fewer
        /// than the agent's answers in that time. Calls that time out count as well if the agent
        /// answered nobody in that time.
        pub circuit_breaker_threshold: u32,
        /// Time for which failures and answers count for the circuit breaker.
        pub circuit_breaker_window: Duration,
        /// Time for which an open circuit breaker rejects calls. It ends early when a new
        /// connection to the agent is opened.
        pub circuit_breaker_reset_timeout: Duration,
        /// Number of calls in a row that may time out or get an answer that cannot be decoded.
        /// After as many, the connection takes no new exchanges until the agent answers a ping or a
        /// call on it.
        pub max_consecutive_errors: u32,
        /// Time in which an incomplete frame of an agent has to make progress. A connection whose
        /// frame neither is complete nor has grown by 64 KiB after that time, and again after each
        /// further such time, is closed.
        pub frame_timeout: Duration,
        /// Limit of the memory that all agents together make the pool hold, in bytes. Received
        /// parts of frames, waiting notices and config update requests, and reported metrics count.
        ///
        /// Beyond the limit, messages other than answers are dropped, and the connections that hold
        /// most are closed. Choose at least 64 MiB, so that a few frames of 16 MiB fit.
        pub max_memory: usize,
        /// Interval of health checks. A connection on which nothing was received for this long is
        /// pinged. Lost connections are replaced at once, independently of it; those that ended
        /// within 100 ms of their beginning, after at most 100 ms.
        pub health_check_interval: Duration,
        /// Timeout of such pings. A connection on which nothing is received until then is closed
        /// and replaced.
        pub ping_timeout: Duration,
        /// Wait before the second attempt to reconnect; the first attempt is made at once. Each
        /// further wait is twice as long, up to 30 s, and reduced at random by up to half. While
        /// calls need an agent at whose socket nothing listens, attempts are made at least every
        /// 250 ms.
        pub reconnect_interval: Duration,
        /// Lets the pool run [`AgentPool::run_maintenance`](super::AgentPool::run_maintenance) by
        /// itself.
        pub self_maintained: bool,
        /// Time after which a pinned correlation id is unpinned if no event comes for it: see
        /// [`Agent::send`](super::Agent::send).
        pub correlation_affinity_ttl: Duration,
        /// Maximum number of pinned correlation ids. Beyond it exchanges are not pinned, and their
        /// events go to any connection.
        pub max_correlation_affinities: usize,
        /// Limits for the metrics that agents report.
        pub reported_metrics: MetricsCollectorConfig,
        /// Name by which the pool identifies itself to agents, in handshakes and registrations.
        /// With the extension, agents treat all connections with one name as those of one proxy, so
        /// every pool needs its own. `None` lets the pool choose a unique one.
        pub proxy_id: Option<String>,
        /// Maximum number of lines per second that an agent may write to the proxy's log. Further
        /// lines are dropped and counted.
        pub max_agent_logs_per_second: u32,
        /// Configuration of config pushes.
        pub config_push: ConfigPusherConfig,
        /// Sampling interval of timings for [`ProtocolMetrics`](super::ProtocolMetrics): one call
        /// in this many is timed stage by stage (default 64; rounded up to a power of two). 0 times
        /// only the calls that ask for it ([`Call::timed`](super::Call::timed)).
        pub timing_interval: u32,
        /// Encodings offered to agents, in order of preference. An agent that supports none of them
        /// uses JSON, as the protocol requires.
        pub encodings: Vec<Encoding>,
        /// Offers tollgate's extension of the protocol to agents. Agents that do not know it ignore
        /// the offer. See "The extension" in docs/protocol.md.
        pub use_extension: bool,
        /// Use of shared memory with agents that are connected by Unix sockets and use tollgate.
        /// Agents that do not know it, or that refuse it, are asked through the socket. Off by
        /// default.
        pub shared_memory: SharedMemory,
        /// Size in bytes of the memory that a connection writes to an agent, where shared memory is
        /// used: 16 KiB to 4 MiB, rounded up to a power of two. The agent's side has its own. Both
        /// count for `max_memory`, of which a connection may use a quarter at most with all that is
        /// in use already; beyond it, it stays on its socket.
        pub shared_memory_size: usize,
        /// TLS configuration for agents that are reached over TLS: authentication of agents, and of
        /// this proxy to them.
        #[cfg(feature = "grpc")]
        pub(crate) tls: crate::TlsConfig,
        /// Maximum size of gRPC messages to and from agents, in bytes; at most 16 MiB. A larger
        /// event fails with [`MessageTooLarge`](crate::CallError::MessageTooLarge); a larger answer
        /// closes its connection. Agents have a limit of their own, which should be the same.
        #[cfg(feature = "grpc")]
        pub(crate) max_grpc_message_size: usize,
    }
}

/// Returns the use of shared memory that is not configured.
#[cfg(not(feature = "__sim"))]
fn default_shared_memory() -> SharedMemory {
    SharedMemory::Off
}

/// With `TOLLGATE_SHARED_MEMORY=on`, all tests use shared memory.
#[cfg(feature = "__sim")]
fn default_shared_memory() -> SharedMemory {
    match std::env::var("TOLLGATE_SHARED_MEMORY").as_deref() {
        Ok("on") => SharedMemory::Adaptive,
        _ => SharedMemory::Off,
    }
}

impl Default for AgentPoolConfig {
    /// Returns the default configuration, which is that of `zentinel-agent-protocol` where that has
    /// the same setting.
    ///
    /// * 4 connections with 100 calls each
    /// * 5 s to connect; 30 s for a call, for waiting in the queue, and for draining
    /// * health checks every 10 s
    /// * 100 ms for the end of a pause
    /// * a circuit breaker that opens after 5 failures in 10 s, for 30 s
    /// * 5 min for pinned correlation ids
    /// * 10 MiB for a gRPC message, and 256 MiB of memory for what agents send
    /// * MessagePack preferred, and the extension offered, without shared memory
    fn default() -> Self {
        Self {
            connections_per_agent: 4,
            placement: Placement::Shared,
            load_balance_strategy: LoadBalanceStrategy::RoundRobin,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            event_timeouts: EventTimeouts::default(),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            max_concurrent_per_connection: 100,
            max_queued_calls: 1024,
            queue_timeout: Duration::from_secs(30),
            channel_buffer_size: CHANNEL_BUFFER_SIZE,
            flow_control_mode: FlowControlMode::FailClosed,
            flow_control_wait_timeout: Duration::from_millis(100),
            failure_mode: FailureMode::Closed,
            skip_unsubscribed_events: false,
            enforce_body_limits: true,
            circuit_breaker_threshold: 5,
            circuit_breaker_window: Duration::from_secs(10),
            circuit_breaker_reset_timeout: Duration::from_secs(30),
            max_consecutive_errors: 3,
            frame_timeout: DEFAULT_FRAME_TIMEOUT,
            max_memory: DEFAULT_LIMIT,
            health_check_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            reconnect_interval: Duration::from_millis(100),
            self_maintained: true,
            correlation_affinity_ttl: Duration::from_secs(5 * 60),
            max_correlation_affinities: 100_000,
            reported_metrics: MetricsCollectorConfig::default(),
            proxy_id: None,
            max_agent_logs_per_second: 100,
            config_push: ConfigPusherConfig::default(),
            timing_interval: 64,
            encodings: vec![Encoding::MessagePack, Encoding::Json],
            use_extension: true,
            shared_memory: default_shared_memory(),
            shared_memory_size: BYTES_TO_AGENT,
            #[cfg(feature = "grpc")]
            tls: crate::TlsConfig::default(),
            #[cfg(feature = "grpc")]
            max_grpc_message_size: MAX_MESSAGE,
        }
    }
}
