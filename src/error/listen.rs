//! Errors of listening, and of the agents that register.

use super::{ConnectError, InvalidEndpoint};
use std::io;

/// Reason why a server or listener did not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
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
    #[error(transparent)]
    InvalidTls(#[from] InvalidTls),
    /// A socket could not be set up or served.
    #[error("cannot listen at {endpoint}: {source}")]
    Listen {
        /// Address of the socket.
        endpoint: String,
        /// Reason of the failure.
        source: io::Error,
    },
}

impl BindError {
    /// Returns a stable name for this kind of error, for logs and labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InvalidEndpoint(_) => "invalid_endpoint",
            Self::InvalidConfiguration { .. } => "invalid_configuration",
            Self::InvalidTls(_) => "invalid_tls",
            Self::Listen { .. } => "listen",
        }
    }

    /// Returns whether another attempt with the same configuration may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Listen { .. })
    }
}

/// Error of a certificate or key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid TLS configuration: {reason}")]
pub struct InvalidTls {
    reason: String,
}

impl InvalidTls {
    #[cfg(feature = "tls")]
    pub(crate) fn new(reason: String) -> Self {
        Self { reason }
    }

    /// Returns the fault in the certificate or key.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Reason why a listener did not accept an agent's connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The registration was rejected. The reason is not disclosed to the agent.
    #[error("registration of an agent from {peer} rejected: {source}")]
    Registration {
        /// Peer that connected: a user of this machine, or an address.
        peer: String,
        /// Reason of the rejection.
        source: RegistrationError,
    },
    /// No connection can be accepted.
    #[error("cannot listen at {endpoint}: {source}")]
    Listen {
        /// Address of the listener.
        endpoint: String,
        /// Reason of the failure.
        source: io::Error,
    },
}

impl AcceptError {
    /// Returns a stable name for this kind of error, for logs and labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Registration { .. } => "registration_refused",
            Self::Listen { .. } => "listen",
        }
    }

    /// Returns whether another connection may be accepted later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Registration { .. })
    }
}

/// Reason why the registration of an agent's connection was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The peer did not register in time, or what it sent is not a valid registration.
    #[error(transparent)]
    Handshake(#[from] ConnectError),
    /// The agent id is empty, longer than 128 bytes, or contains something other than visible
    /// ASCII.
    #[error("invalid agent id: expected 1 to 128 bytes of visible ASCII")]
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
