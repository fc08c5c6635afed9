//! Configuration of one agent.

use super::config::{AgentPoolConfig, LoadBalanceStrategy, Placement};
use super::policy::{EventTimeouts, FailureMode, FlowControlMode};
use crate::connection::{
    CircuitBreakerSettings, ConnectionConfig, Sampling, SharedMemory, SharedMemoryConfig,
};
use crate::error::{AddError, InvalidEndpoint};
use crate::handler::{AgentHandler, SharedHandler};
use crate::protocol::EventType;
#[cfg(feature = "grpc")]
use crate::transport::grpc::GrpcConfig;
use crate::transport::{Endpoint, LinkConfig};
#[cfg(feature = "grpc")]
use crate::wire::MAX_FRAME_LEN;
use crate::wire::{Encoding, Extension};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Name, endpoint and settings of an agent.
///
/// Settings that are not set here are those of the pool: see [`AgentPoolConfig`]. They are in force
/// from the first call on.
///
/// ```no_run
/// # async fn example(pool: tollgate::AgentPool) -> Result<(), tollgate::AddError> {
/// use std::time::Duration;
/// use tollgate::{AgentConfig, FailureMode};
///
/// let waf = AgentConfig::new("waf", "/run/waf.sock")
///     .timeout(Duration::from_millis(50))
///     .failure_mode(FailureMode::Open);
/// let waf = pool.add(waf).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an agent is added by `AgentPool::add`"]
pub struct AgentConfig {
    pub(super) id: String,
    pub(super) origin: AgentOrigin,
    pub(super) requires_connection: bool,
    /// Settings of the agent, with their version.
    pub(super) settings: Option<(Value, Option<String>)>,
    overrides: Overrides,
}

impl AgentConfig {
    /// Describes an agent that the pool connects to.
    ///
    /// The name is 1 to 128 bytes of visible ASCII.
    ///
    /// An endpoint is the path of a Unix socket, `/path` or `unix:/path`, or `tcp://host:port`,
    /// which is neither encrypted nor authenticated. With the feature `grpc` it may also be a gRPC
    /// server: `http://host:port`, `grpc://host:port`, `host:port` or `grpc+unix:///path`, and with
    /// TLS `https://host:port` or `grpcs://host:port`.
    pub fn new(id: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self {
            origin: AgentOrigin::Endpoint(endpoint.into()),
            ..Self::reverse(id)
        }
    }

    /// Describes an agent in the process of the proxy: its handler.
    ///
    /// Everything is as for other agents: timeouts, the limit of calls, the circuit breaker, the
    /// failure mode, counters and the order of events. But the task of the caller runs the handler,
    /// which gets views of the event that the caller holds. Nothing is encoded, sent or copied. A
    /// handler whose future takes up to 1 KiB needs no allocation either.
    ///
    /// * A handler that waits is dropped at the deadline, or when the caller gives the call up. One
    ///   that works without waiting is not interrupted: it keeps the caller's thread.
    /// * A handler that panics fails only the call that it was called for, with
    ///   [`Panicked`](crate::CallError::Panicked), unless panics abort the process. A panic of a
    ///   destructor while its future is dropped is logged. The handler itself must not panic when
    ///   it is dropped: whoever lets go of it last would.
    /// * [`Exchange::push`](super::Exchange::push) waits for the answer, as the handler reads the
    ///   event of the caller.
    /// * The pool still has connections to the agent, each with the usual number of slots, but they
    ///   are only a place for the calls.
    ///
    /// ```
    /// # async fn example(pool: tollgate::AgentPool) -> Result<(), Box<dyn std::error::Error>> {
    /// use tollgate::{
    ///     AgentCapabilities, AgentConfig, AgentResponse, Metadata, RequestHeaders,
    ///     RequestHeadersView, handler_fn,
    /// };
    ///
    /// let capabilities = AgentCapabilities::new("no-admin", "Blocks /admin", "1.0.0");
    /// let handler = handler_fn(capabilities, |event: RequestHeadersView<'_>| {
    ///     let is_admin = event.path().starts_with("/admin");
    ///     async move {
    ///         if is_admin {
    ///             return AgentResponse::block(403, None);
    ///         }
    ///         AgentResponse::default_allow()
    ///     }
    /// });
    /// let agent = pool.add(AgentConfig::local("no-admin", handler)).await?;
    /// let event = RequestHeaders {
    ///     metadata: Metadata::default(),
    ///     method: "GET",
    ///     uri: "/",
    ///     headers: &[("host", "example.com")][..],
    /// };
    /// let answer = agent.exchange("request-1")?.send(&event).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn local(id: impl Into<String>, handler: impl AgentHandler) -> Self {
        let id = id.into();
        Self {
            origin: AgentOrigin::Local(SharedHandler::new(&id, handler)),
            ..Self::reverse(id)
        }
    }

    /// Describes an agent that connects to the proxy, through a
    /// [`ReverseConnectionListener`](super::ReverseConnectionListener).
    ///
    /// Its calls fail with [`Unavailable`](crate::CallError::Unavailable) while it is not
    /// connected. An agent that is not added is taken into the pool when it connects, with the
    /// pool's settings, and is removed some time after it has disconnected.
    pub fn reverse(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            origin: AgentOrigin::Reverse,
            requires_connection: false,
            settings: None,
            overrides: Overrides::default(),
        }
    }

    /// Lets adding the agent fail if one of its connections cannot be opened. Otherwise the agent
    /// is added all the same, and the pool keeps trying to connect.
    pub fn require_connection(mut self) -> Self {
        self.requires_connection = true;
        self
    }

    /// Gives the agent its settings from the start: they are sent first of all on every
    /// connection. See [`Agent::configure`](super::Agent::configure), which changes them.
    pub fn settings(mut self, config: Value, version: Option<String>) -> Self {
        self.settings = Some((config, version));
        self
    }

    /// Checks the configuration and completes it by those of the pool.
    pub(super) fn resolve(
        &self,
        pool: &Arc<ResolvedConfig>,
    ) -> Result<Arc<ResolvedConfig>, AddError> {
        if !is_valid_id(&self.id) {
            return Err(AddError::InvalidId {
                agent_id: self.id.clone(),
            });
        }
        let resolved = self.overrides.apply(pool);
        match resolved.fault() {
            Some(reason) => Err(AddError::InvalidConfig {
                agent_id: self.id.clone(),
                reason,
            }),
            None => Ok(resolved),
        }
    }
}

/// Where an agent is.
#[derive(Debug, Clone)]
pub(super) enum AgentOrigin {
    /// The pool connects to it.
    Endpoint(String),
    /// It is in this process.
    Local(SharedHandler),
    /// It connects to the proxy.
    Reverse,
}

impl AgentOrigin {
    /// Returns the endpoint that the pool connects to; `None` if the agent connects.
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, InvalidEndpoint> {
        match self {
            Self::Endpoint(endpoint) => endpoint.parse().map(Some),
            Self::Local(handler) => Ok(Some(Endpoint::Local(handler.clone()))),
            Self::Reverse => Ok(None),
        }
    }
}

/// Longest agent id in bytes.
const MAX_ID_LEN: usize = 128;

/// Returns whether a text may be the id of an agent: visible ASCII of up to 128 bytes.
pub(super) fn is_valid_id(id: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Declares the settings of an agent, each with the name of its setter and that of the pool's field
/// that is its default.
macro_rules! settings {
    ($($(#[$attribute:meta])* $setter:ident => $field:ident: $type:ty,)*) => {
        /// Settings of an agent, completed by those of its pool.
        #[derive(Debug, Clone)]
        pub(super) struct ResolvedConfig {
            $($(#[$attribute])* pub(super) $field: $type,)*
        }

        #[derive(Debug, Clone, Default)]
        struct Overrides {
            $($(#[$attribute])* $field: Option<$type>,)*
        }

        impl AgentConfig {
            $(
                $(#[$attribute])*
                #[doc = concat!(
                    "Replaces [`AgentPoolConfig::", stringify!($field), "`] for this agent."
                )]
                pub fn $setter(mut self, value: $type) -> Self {
                    self.overrides.$field = Some(value);
                    self
                }
            )*
        }

        impl From<&AgentPoolConfig> for ResolvedConfig {
            fn from(pool: &AgentPoolConfig) -> Self {
                Self { $($(#[$attribute])* $field: pool.$field.clone(),)* }
            }
        }

        impl Overrides {
            /// Returns the pool's settings with these in their place.
            fn apply(&self, pool: &Arc<ResolvedConfig>) -> Arc<ResolvedConfig> {
                let mut resolved = Arc::clone(pool);
                $(
                    $(#[$attribute])*
                    if let Some(value) = &self.$field {
                        Arc::make_mut(&mut resolved).$field = value.clone();
                    }
                )*
                resolved
            }
        }
    };
}

settings! {
    connections => connections_per_agent: usize,
    placement => placement: Placement,
    load_balance_strategy => load_balance_strategy: LoadBalanceStrategy,
    connect_timeout => connect_timeout: Duration,
    timeout => request_timeout: Duration,
    event_timeouts => event_timeouts: EventTimeouts,
    drain_timeout => drain_timeout: Duration,
    max_concurrent_per_connection => max_concurrent_per_connection: usize,
    max_queued_calls => max_queued_calls: usize,
    queue_timeout => queue_timeout: Duration,
    channel_buffer_size => channel_buffer_size: usize,
    flow_control_mode => flow_control_mode: FlowControlMode,
    flow_control_wait_timeout => flow_control_wait_timeout: Duration,
    failure_mode => failure_mode: FailureMode,
    skip_unsubscribed_events => skip_unsubscribed_events: bool,
    enforce_body_limits => enforce_body_limits: bool,
    circuit_breaker_threshold => circuit_breaker_threshold: u32,
    circuit_breaker_window => circuit_breaker_window: Duration,
    circuit_breaker_reset_timeout => circuit_breaker_reset_timeout: Duration,
    max_consecutive_errors => max_consecutive_errors: u32,
    frame_timeout => frame_timeout: Duration,
    ping_timeout => ping_timeout: Duration,
    reconnect_interval => reconnect_interval: Duration,
    max_agent_logs_per_second => max_agent_logs_per_second: u32,
    timing_interval => timing_interval: u32,
    encodings => encodings: Vec<Encoding>,
    use_extension => use_extension: bool,
    shared_memory => shared_memory: SharedMemory,
    shared_memory_size => shared_memory_size: usize,
    #[cfg(feature = "grpc")]
    tls => tls: crate::TlsConfig,
    #[cfg(feature = "grpc")]
    max_grpc_message_size => max_grpc_message_size: usize,
}

impl ResolvedConfig {
    /// Returns what makes the configuration unusable, if anything does.
    fn fault(&self) -> Option<&'static str> {
        if self.connections_per_agent == 0 {
            return Some("the number of connections is 0");
        }
        #[cfg(feature = "grpc")]
        if self.max_grpc_message_size > MAX_FRAME_LEN {
            return Some("the maximum size of gRPC messages is above 16 MiB, the limit of a frame");
        }
        None
    }

    /// Returns the timeout for one kind of event.
    pub(super) fn timeout(&self, kind: EventType) -> Duration {
        self.event_timeouts
            .get(kind)
            .unwrap_or(self.request_timeout)
    }

    /// Returns the versions of the extension that agents may choose.
    pub(super) fn extensions(&self) -> &'static [Extension] {
        if self.use_extension {
            &Extension::ALL
        } else {
            &[]
        }
    }

    pub(super) fn shared_memory(&self) -> SharedMemoryConfig {
        SharedMemoryConfig {
            mode: self.shared_memory,
            bytes: self.shared_memory_size,
        }
    }

    /// Returns the maximum time that a call waits for the end of a pause; zero rejects it at once.
    pub(super) fn pause_timeout(&self) -> Duration {
        match self.flow_control_mode {
            FlowControlMode::WaitAndRetry => self.flow_control_wait_timeout,
            FlowControlMode::FailClosed | FlowControlMode::FailOpen => Duration::ZERO,
        }
    }

    pub(super) fn breaker(&self) -> CircuitBreakerSettings {
        CircuitBreakerSettings {
            threshold: self.circuit_breaker_threshold,
            window: self.circuit_breaker_window,
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
            send_queue_capacity: self.channel_buffer_size,
            max_failures: self.max_consecutive_errors,
            sampling: Sampling::one_in(self.timing_interval),
            frame_timeout: self.frame_timeout,
            enforce_body_limit: self.enforce_body_limits,
        }
    }
}
