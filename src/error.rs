//! Errors.

use crate::wire::FrameError;
pub use crate::wire::{DecodeError, DecodeErrorKind, UnknownEncoding};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Error of a pool, a listener or an agent's server.
///
/// Errors of a call name the agent; see [`AgentProtocolError::agent_id`].
/// [`AgentProtocolError::is_retryable`] says whether repeating the call may help, and
/// [`AgentProtocolError::kind`] is a stable name for logs and labels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentProtocolError {
    /// The connection ended while the call was pending on it. The agent may or may not have seen
    /// the event.
    #[error("agent '{agent_id}': the connection closed before the answer arrived")]
    ConnectionClosed {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The event exceeds the largest frame or message, or its body exceeds the limit that the agent
    /// announced. Send the body in smaller chunks.
    #[error("agent '{agent_id}': message of {size} bytes exceeds the limit of {max} bytes")]
    MessageTooLarge {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Size of the message in bytes.
        size: usize,
        /// Limit that it exceeds, in bytes.
        max: usize,
    },
    /// The agent's answer could not be decoded.
    #[error("agent '{agent_id}': {cause}")]
    InvalidMessage {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// The fault in the answer.
        cause: DecodeError,
    },
    /// The agent did not answer before the deadline.
    #[error("agent '{agent_id}': no answer within {after:?}")]
    Timeout {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Time that the call waited.
        after: Duration,
    },
    /// The call was cancelled through the pool, as by
    /// [`Agent::cancel`](crate::Agent::cancel).
    #[error("agent '{agent_id}': the call was cancelled")]
    Cancelled {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The agent was removed from the pool.
    #[error("agent '{agent_id}' was removed from the pool")]
    Removed {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The agent was replaced. Take a handle of its successor from the pool.
    #[error("agent '{agent_id}' was replaced: take a new handle from the pool")]
    Replaced {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The last handle of the agent's pool was dropped, which closes the pool.
    #[error("agent '{agent_id}': its pool was dropped")]
    PoolDropped {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The pool has no agent with this id.
    #[error("the pool has no agent '{agent_id}': add it before sending events")]
    UnknownAgent {
        /// Id that was asked for.
        agent_id: Arc<str>,
    },
    /// The agent has no connection that takes new exchanges: none is open, all are failing, or the
    /// agent reports that it is draining or unhealthy. Also returned while the pool shuts down.
    #[error("agent '{agent_id}' is unavailable: none of its connections takes new exchanges")]
    Unavailable {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// Too many calls in a row failed, so the circuit breaker rejects calls for a while. See
    /// [`circuit_breaker_reset_timeout`](crate::AgentPoolConfig::circuit_breaker_reset_timeout).
    #[error("agent '{agent_id}': the circuit breaker is open after repeated failures: retry later")]
    CircuitOpen {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The wait queue for slots is full. See
    /// [`max_queued_calls`](crate::AgentPoolConfig::max_queued_calls).
    #[error("agent '{agent_id}': the wait queue is full ({limit} calls)")]
    QueueFull {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Number of calls that may wait.
        limit: usize,
    },
    /// No slot became free in time.
    #[error("agent '{agent_id}': no free slot within {after:?}")]
    QueueTimeout {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Time that the call waited.
        after: Duration,
    },
    /// The pool holds as many sticky sessions as it may. See
    /// [`max_correlation_affinities`](crate::AgentPoolConfig::max_correlation_affinities).
    #[error("agent '{agent_id}': the pool's limit of {limit} sticky sessions is reached")]
    TooManySessions {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Number of sessions that may exist in the pool.
        limit: usize,
    },
    /// The agent paused this exchange or all of its connections by flow control.
    #[error("agent '{agent_id}' has paused the proxy by flow control: retry later")]
    FlowControlPaused {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// An earlier event with this correlation id is still unanswered on every connection, so the
    /// answers to the two could not be told apart.
    #[error("agent '{agent_id}': an earlier event of exchange '{correlation_id}' is unanswered")]
    CorrelationBusy {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Correlation id of the exchange.
        correlation_id: String,
    },
    /// The agent rejected the settings that the proxy sent to it.
    #[error("agent '{agent_id}' rejects its settings: {reason}")]
    SettingsRefused {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Reason that the agent gave.
        reason: String,
    },
    /// The endpoint is malformed, or of a kind that this build does not support.
    #[error(transparent)]
    InvalidEndpoint(#[from] InvalidEndpoint),
    /// The configuration of a listener would be unsafe, so it did not start.
    #[error("cannot listen at {endpoint}: unsafe configuration: {reason}")]
    InvalidConfiguration {
        /// Address that the listener was to use.
        endpoint: String,
        /// The fault in the configuration.
        reason: &'static str,
    },
    /// A certificate or key cannot be used.
    #[error("invalid TLS configuration: {reason}")]
    InvalidTls {
        /// The fault in the certificate or key.
        reason: String,
    },
    /// A registration was rejected. The reason is not disclosed to the agent.
    #[error("registration of an agent from {peer} rejected: {cause}")]
    RegistrationRefused {
        /// Peer that connected: a user of this machine, or an address.
        peer: String,
        /// Reason of the rejection.
        cause: RegistrationError,
    },
    /// A listening socket could not be set up or served.
    #[error("cannot listen at {endpoint}: {cause}")]
    Listen {
        /// Address of the listener.
        endpoint: String,
        /// Reason of the failure.
        cause: io::Error,
    },
}

impl AgentProtocolError {
    /// Returns the id of the agent that the error is about; `None` for errors of listeners,
    /// endpoints and TLS configuration.
    pub fn agent_id(&self) -> Option<&str> {
        match self {
            Self::ConnectionClosed { agent_id }
            | Self::MessageTooLarge { agent_id, .. }
            | Self::InvalidMessage { agent_id, .. }
            | Self::Timeout { agent_id, .. }
            | Self::Cancelled { agent_id }
            | Self::Removed { agent_id }
            | Self::Replaced { agent_id }
            | Self::PoolDropped { agent_id }
            | Self::UnknownAgent { agent_id }
            | Self::Unavailable { agent_id }
            | Self::CircuitOpen { agent_id }
            | Self::QueueFull { agent_id, .. }
            | Self::QueueTimeout { agent_id, .. }
            | Self::TooManySessions { agent_id, .. }
            | Self::FlowControlPaused { agent_id }
            | Self::CorrelationBusy { agent_id, .. }
            | Self::SettingsRefused { agent_id, .. } => Some(agent_id),
            Self::InvalidEndpoint(_)
            | Self::InvalidConfiguration { .. }
            | Self::RegistrationRefused { .. }
            | Self::InvalidTls { .. }
            | Self::Listen { .. } => None,
        }
    }

    /// Returns a stable name for this kind of error, for logs and labels, such as `timed_out`.
    ///
    /// Where [`CallCounts`](crate::metrics::CallCounts) has a count for such calls, this is the
    /// name of the field.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ConnectionClosed { .. } => "connection_closed",
            Self::MessageTooLarge { .. } => "too_large",
            Self::InvalidMessage { .. } => "undecodable",
            Self::Timeout { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::Removed { .. } => "removed",
            Self::Replaced { .. } => "replaced",
            Self::PoolDropped { .. } => "pool_dropped",
            Self::UnknownAgent { .. } => "unknown_agent",
            Self::Unavailable { .. } => "unavailable",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::QueueFull { .. } => "queue_full",
            Self::QueueTimeout { .. } => "queue_timed_out",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::FlowControlPaused { .. } => "paused",
            Self::CorrelationBusy { .. } => "busy",
            Self::SettingsRefused { .. } => "settings_refused",
            Self::InvalidEndpoint(_) => "invalid_endpoint",
            Self::InvalidConfiguration { .. } => "invalid_configuration",
            Self::InvalidTls { .. } => "invalid_tls",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::Listen { .. } => "listen",
        }
    }

    /// Returns whether an identical call may succeed later or on another connection.
    pub fn is_retryable(&self) -> bool {
        self.means_unavailable()
            || matches!(
                self,
                Self::FlowControlPaused { .. }
                    | Self::CorrelationBusy { .. }
                    | Self::TooManySessions { .. }
            )
    }

    /// Returns whether the agent could not be reached or did not answer in time. These are the
    /// errors that [`FailureMode::Open`](crate::FailureMode::Open) turns into an `allow`.
    pub fn means_unavailable(&self) -> bool {
        matches!(
            self,
            Self::ConnectionClosed { .. }
                | Self::Timeout { .. }
                | Self::Unavailable { .. }
                | Self::CircuitOpen { .. }
                | Self::QueueFull { .. }
                | Self::QueueTimeout { .. }
        )
    }
}

/// Reason why an agent was not added to a pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The name is empty, longer than 128 bytes, or contains something other than visible ASCII.
    #[error("invalid agent id {agent_id:?}: expected 1 to 128 bytes of visible ASCII")]
    InvalidId {
        /// The name as given.
        agent_id: String,
    },
    /// A setting of the agent is not usable.
    #[error("invalid configuration of agent '{agent_id}': {reason}")]
    InvalidConfig {
        /// Id of the agent.
        agent_id: String,
        /// The fault in the configuration.
        reason: &'static str,
    },
    /// The endpoint is malformed, or of a kind that this build does not support.
    #[error(transparent)]
    InvalidEndpoint(#[from] InvalidEndpoint),
    /// The pool has an agent with this name. [`AgentPool::replace`](crate::AgentPool::replace)
    /// takes its place.
    #[error("the pool already has an agent '{agent_id}': replace or remove it, or use another id")]
    IdTaken {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The pool is shutting down.
    #[error("agent '{agent_id}' was not added: the pool is shutting down")]
    ShuttingDown {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// A connection could not be opened, and the agent
    /// [requires one](crate::AgentConfig::require_connection).
    #[error("cannot connect to agent '{agent_id}' at {endpoint}: {source}")]
    Connect {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Endpoint that was dialed.
        endpoint: String,
        /// Reason of the failure.
        source: ConnectError,
    },
}

impl AddError {
    /// Returns a stable name for this kind of error, for logs and labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InvalidId { .. } => "invalid_id",
            Self::InvalidConfig { .. } => "invalid_configuration",
            Self::InvalidEndpoint(_) => "invalid_endpoint",
            Self::IdTaken { .. } => "id_taken",
            Self::ShuttingDown { .. } => "shutting_down",
            Self::Connect { .. } => "connection_failed",
        }
    }

    /// Returns whether adding the same agent again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::ShuttingDown { .. })
    }
}

/// Error of an endpoint that is malformed, or of a kind that this build does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint '{endpoint}': {reason}")]
pub struct InvalidEndpoint {
    endpoint: String,
    reason: &'static str,
}

impl InvalidEndpoint {
    pub(crate) fn new(endpoint: impl Into<String>, reason: &'static str) -> Self {
        Self {
            endpoint: endpoint.into(),
            reason,
        }
    }

    /// Returns the endpoint as given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the fault in the endpoint.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

/// Reason why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The socket file does not exist.
    #[error("no such socket")]
    NoSuchSocket,
    /// This process may not access the socket file.
    #[error("permission denied")]
    PermissionDenied,
    /// The file exists but is not a socket.
    #[error("not a socket")]
    NotASocket,
    /// The socket or address exists, but no process listens on it.
    #[error("connection refused, no process listens there")]
    Refused,
    /// The host name has no address, or name resolution failed.
    #[error("cannot resolve the host name: {0}")]
    Unresolved(#[source] io::Error),
    /// The TLS handshake failed: one side does not trust the other, or the peer does not use TLS.
    #[cfg(feature = "tls")]
    #[error("TLS handshake failed: {0}")]
    Tls(#[from] TlsFailure),
    /// Connecting and the handshake together took longer than the timeout.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// The file with the token that an agent presents to a proxy could not be read.
    #[error("cannot read the token file: {0}")]
    Token(#[source] io::Error),
    /// The peer rejected the handshake, with this reason.
    #[error("handshake rejected: {0}")]
    HandshakeRefused(String),
    /// The agent speaks another version of the protocol.
    #[error("handshake failed: the agent speaks protocol version {actual}, expected {expected}")]
    VersionMismatch {
        /// Version that this crate speaks.
        expected: u32,
        /// Version that the agent speaks.
        actual: u32,
    },
    /// The agent chose an encoding that was not offered to it.
    #[error("handshake failed: the agent chose an encoding that was not offered")]
    EncodingNotOffered,
    /// The agent chose a version of tollgate's extension that was not offered to it.
    #[error("handshake failed: the agent chose an extension version that was not offered")]
    ExtensionNotOffered,
    /// The peer closed the connection during the handshake.
    #[error("handshake failed: the peer closed the connection")]
    ClosedDuringHandshake,
    /// The agent rejected the settings that were sent on the new connection, with this reason.
    #[error("the agent rejects its settings: {0}")]
    SettingsRefused(String),
    /// The settings could not be sent on the new connection, or the agent did not answer them.
    #[error("configuring the agent failed: {0}")]
    SettingsNotGiven(String),
    /// The peer sent something other than a valid handshake.
    #[error("handshake failed: {0}")]
    InvalidHandshake(String),
    /// The server ended the stream with a gRPC status, or does not speak gRPC or serve this
    /// protocol.
    #[cfg(feature = "grpc")]
    #[error("gRPC status {status}: {message}")]
    Rpc {
        /// Name of the status, such as `Unimplemented`.
        status: String,
        /// Message that came with the status.
        message: String,
    },
    /// Any other error of the operating system.
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// Reasons for which a TLS handshake failed.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The peer's certificate has expired.
    #[error("the certificate has expired")]
    CertificateExpired,
    /// The peer's certificate is not valid yet.
    #[error("the certificate is not valid yet")]
    CertificateNotYetValid,
    /// The peer's certificate is for another host.
    #[error("the certificate is for another host")]
    WrongHost,
    /// No trusted authority issued the peer's certificate.
    #[error("the certificate is from an unknown authority")]
    UnknownAuthority,
    /// The peer rejected the handshake with this alert.
    #[error("rejected by the peer: {0}")]
    Refused(String),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

/// Reason why the registration of an agent's connection was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The peer did not register in time, or what it sent is not a valid registration.
    #[error(transparent)]
    Handshake(#[from] ConnectError),
    /// The agent id is empty, longer than 128 bytes, or contains control characters.
    #[error("the agent id is empty, longer than 128 bytes or contains control characters")]
    InvalidId,
    /// The agent id matches none of
    /// [`allowed_agents`](crate::ReverseConnectionConfig::allowed_agents).
    #[error("the agent id matches no pattern of `allowed_agents`")]
    NotAllowed,
    /// A token is required, but the agent presented none.
    #[error("a token is required, but none was presented")]
    TokenMissing,
    /// The token is not valid for this agent id.
    #[error("the token is not valid for this agent id")]
    TokenWrong,
    /// The user at the other end of the Unix socket may not connect. See
    /// [`allowed_uids`](crate::ReverseConnectionConfig::allowed_uids) and
    /// [`allowed_gids`](crate::ReverseConnectionConfig::allowed_gids).
    #[error("user {uid} (group {gid}) is not in `allowed_uids` or `allowed_gids`")]
    UserNotAllowed {
        /// User id of the peer.
        uid: u32,
        /// Group id of the peer.
        gid: u32,
    },
    /// The certificate is valid, but not for this agent id.
    #[error("the certificate is not valid for this agent id")]
    CertificateOfAnother,
    /// The agent id belongs to another peer, or to an agent that the proxy dials, and neither a
    /// token nor a certificate proves this peer's claim to it.
    #[error("the agent id belongs to another peer")]
    IdTaken,
    /// The listener has as many connections as it may have. See
    /// [`max_connections`](crate::ReverseConnectionConfig::max_connections).
    #[error("the limit of {limit} connections is reached")]
    TooManyConnections {
        /// Number of connections that the listener may have.
        limit: usize,
    },
    /// The agent has as many connections as it may have. See
    /// [`max_connections_per_agent`](crate::ReverseConnectionConfig::max_connections_per_agent).
    #[error("the limit of {limit} connections of one agent is reached")]
    TooManyConnectionsOfAgent {
        /// Number of connections that one agent may have.
        limit: usize,
    },
    /// The connection had not registered yet and was closed in favor of a newer one. See
    /// [`max_unregistered`](crate::ReverseConnectionConfig::max_unregistered).
    #[error("too many connections have not registered, and this was the oldest")]
    TooManyUnregistered,
    /// The peer opens connections faster than it may. See [`max_registrations_per_second`].
    ///
    /// [`max_registrations_per_second`]:
    ///     crate::ReverseConnectionConfig::max_registrations_per_second
    #[error("the peer exceeds `max_registrations_per_second`")]
    TooFast,
    /// The pool is being shut down.
    #[error("the pool is being shut down")]
    Stopping,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSuchSocket,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Self::ClosedDuringHandshake,
            _ => Self::Io(error),
        }
    }
}

impl From<FrameError> for ConnectError {
    fn from(error: FrameError) -> Self {
        Self::InvalidHandshake(error.to_string())
    }
}

impl From<DecodeError> for ConnectError {
    fn from(error: DecodeError) -> Self {
        Self::InvalidHandshake(error.to_string())
    }
}
