#[cfg(feature = "grpc")]
use crate::transport::grpc::RpcFailure;
use crate::wire::{DecodeError, FrameError};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why an agent could not be asked, or did not answer.
///
/// Every variant names the agent; [`AgentProtocolError::is_retryable`] says whether asking again may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentProtocolError {
    /// No connection came up. The agent may be down or its endpoint wrong.
    #[error("agent '{agent_id}' at {endpoint}: {cause}")]
    ConnectionFailed {
        /// Which agent.
        agent_id: Arc<str>,
        /// Where it was looked for.
        endpoint: String,
        /// What happened.
        cause: ConnectError,
    },
    /// The connection ended while the call was on it. Whether the agent saw the event is unknown.
    #[error("agent '{agent_id}': connection closed")]
    ConnectionClosed {
        /// Which agent.
        agent_id: Arc<str>,
    },
    /// The event, or the agent's answer, is larger than a frame may be, or the body is larger than the agent
    /// takes.
    #[error("agent '{agent_id}': message of {size} bytes is too large (at most {max})")]
    MessageTooLarge {
        /// Which agent.
        agent_id: Arc<str>,
        /// Size of the message in bytes.
        size: usize,
        /// Largest size allowed in bytes.
        max: usize,
    },
    /// The agent answered with something that does not decode.
    #[error("agent '{agent_id}': {cause}")]
    InvalidMessage {
        /// Which agent.
        agent_id: Arc<str>,
        /// What is wrong with it.
        cause: DecodeError,
    },
    /// The deadline passed.
    #[error("agent '{agent_id}': no answer within {after:?}")]
    Timeout {
        /// Which agent.
        agent_id: Arc<str>,
        /// How long was waited.
        after: Duration,
    },
    /// Somebody cancelled the call.
    #[error("agent '{agent_id}': call cancelled")]
    Cancelled {
        /// Which agent.
        agent_id: Arc<str>,
    },
    /// No agent has this name.
    #[error("no agent is named '{agent_id}'")]
    UnknownAgent {
        /// The name.
        agent_id: Arc<str>,
    },
    /// The agent has no connection that takes new exchanges: none is open, all are failing, or the agent
    /// reports that it is draining or unhealthy.
    #[error("agent '{agent_id}' is unavailable")]
    Unavailable {
        /// Which agent.
        agent_id: Arc<str>,
    },
    /// Too many calls in a row failed, so the agent is left alone for a while.
    #[error("agent '{agent_id}': circuit breaker open")]
    CircuitOpen {
        /// Which agent.
        agent_id: Arc<str>,
    },
    /// As many calls as may wait for a free slot do so already.
    #[error("agent '{agent_id}': {limit} calls are waiting already")]
    QueueFull {
        /// Which agent.
        agent_id: Arc<str>,
        /// How many calls may wait.
        limit: usize,
    },
    /// No slot got free in time.
    #[error("agent '{agent_id}': no free slot within {after:?}")]
    QueueTimeout {
        /// Which agent.
        agent_id: Arc<str>,
        /// How long was waited.
        after: Duration,
    },
    /// As many sticky sessions exist as are allowed.
    #[error("agent '{agent_id}': {limit} sticky sessions exist already")]
    TooManySessions {
        /// Which agent.
        agent_id: Arc<str>,
        /// How many may exist.
        limit: usize,
    },
    /// The agent asked for a pause.
    #[error("agent '{agent_id}' asked for a pause")]
    FlowControlPaused {
        /// Which agent.
        agent_id: Arc<str>,
    },
    /// An earlier event with this correlation id is still unanswered on every connection, so an answer
    /// could not be told from the earlier one's.
    #[error("agent '{agent_id}': an earlier event of '{correlation_id}' is still unanswered")]
    CorrelationBusy {
        /// Which agent.
        agent_id: Arc<str>,
        /// Which exchange.
        correlation_id: String,
    },
    /// The agent does not take the settings that it was given.
    #[error("agent '{agent_id}' refuses its settings: {reason}")]
    SettingsRefused {
        /// Which agent.
        agent_id: Arc<str>,
        /// What it says.
        reason: String,
    },
    /// The endpoint is not one that this build knows.
    #[error("endpoint '{endpoint}': {reason}")]
    InvalidEndpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What a listener is told to do would not be safe.
    #[error("{endpoint}: refused to listen: {reason}")]
    InvalidConfiguration {
        /// Where it was to listen.
        endpoint: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Certificates or keys cannot be used.
    #[error("TLS: {reason}")]
    InvalidTls {
        /// What is wrong with them.
        reason: String,
    },
    /// A connection of an agent was turned away. The agent is told no more than that.
    #[error("an agent's connection from {peer} was turned away: {cause}")]
    RegistrationRefused {
        /// Who connected: a user on this machine, or an address.
        peer: String,
        /// Why it may not come in.
        cause: RegistrationError,
    },
    /// A socket could not be set up or served.
    #[error("{endpoint}: {cause}")]
    Listen {
        /// Where.
        endpoint: String,
        /// What happened.
        cause: io::Error,
    },
}

impl AgentProtocolError {
    /// The agent it is about, if it is about one.
    pub fn agent_id(&self) -> Option<&str> {
        match self {
            Self::ConnectionFailed { agent_id, .. }
            | Self::ConnectionClosed { agent_id }
            | Self::MessageTooLarge { agent_id, .. }
            | Self::InvalidMessage { agent_id, .. }
            | Self::Timeout { agent_id, .. }
            | Self::Cancelled { agent_id }
            | Self::UnknownAgent { agent_id }
            | Self::Unavailable { agent_id }
            | Self::CircuitOpen { agent_id }
            | Self::QueueFull { agent_id, .. }
            | Self::QueueTimeout { agent_id, .. }
            | Self::TooManySessions { agent_id, .. }
            | Self::FlowControlPaused { agent_id }
            | Self::CorrelationBusy { agent_id, .. }
            | Self::SettingsRefused { agent_id, .. } => Some(agent_id),
            Self::InvalidEndpoint { .. }
            | Self::InvalidConfiguration { .. }
            | Self::RegistrationRefused { .. }
            | Self::InvalidTls { .. }
            | Self::Listen { .. } => None,
        }
    }

    /// A name for this kind of error that does not change, for logs and labels. Where calls are counted by how they
    /// ended ([`CallCounts`](crate::CallCounts)) it is the name of the count.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ConnectionFailed { .. } => "connection_failed",
            Self::ConnectionClosed { .. } => "connection_closed",
            Self::MessageTooLarge { .. } => "too_large",
            Self::InvalidMessage { .. } => "undecodable",
            Self::Timeout { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::UnknownAgent { .. } => "unknown_agent",
            Self::Unavailable { .. } => "unavailable",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::QueueFull { .. } => "queue_full",
            Self::QueueTimeout { .. } => "queue_timed_out",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::FlowControlPaused { .. } => "paused",
            Self::CorrelationBusy { .. } => "busy",
            Self::SettingsRefused { .. } => "settings_refused",
            Self::InvalidEndpoint { .. } => "invalid_endpoint",
            Self::InvalidConfiguration { .. } => "invalid_configuration",
            Self::InvalidTls { .. } => "invalid_tls",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::Listen { .. } => "listen",
        }
    }

    /// Whether the same call may succeed later or on another connection, nothing else being changed.
    pub fn is_retryable(&self) -> bool {
        self.means_unavailable()
            || matches!(
                self,
                Self::FlowControlPaused { .. }
                    | Self::CorrelationBusy { .. }
                    | Self::TooManySessions { .. }
            )
    }

    /// Whether the agent could not be asked or did not answer in time: what
    /// [`FailureMode::Open`](crate::FailureMode::Open) allows.
    pub fn means_unavailable(&self) -> bool {
        matches!(
            self,
            Self::ConnectionFailed { .. }
                | Self::ConnectionClosed { .. }
                | Self::Timeout { .. }
                | Self::Unavailable { .. }
                | Self::CircuitOpen { .. }
                | Self::QueueFull { .. }
                | Self::QueueTimeout { .. }
        )
    }
}

/// Why a connection did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing is there.
    #[error("no such socket")]
    NoSuchSocket,
    /// The file may not be used by this user.
    #[error("permission denied")]
    PermissionDenied,
    /// There is a file, but it is not a socket.
    #[error("not a socket")]
    NotASocket,
    /// There is a socket, but nobody listens.
    #[error("connection refused, nobody listens")]
    Refused,
    /// The host's name has no address, or nobody could be asked for it.
    #[error("cannot resolve the name: {0}")]
    Unresolved(io::Error),
    /// The other side could not be trusted, or does not trust this one.
    #[cfg(feature = "tls")]
    #[error("TLS: {0}")]
    Tls(crate::TlsFailure),
    /// It took too long to connect and shake hands.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// The token that a proxy is to be shown cannot be read.
    #[error("cannot read the token: {0}")]
    Token(io::Error),
    /// The other side does not want this one.
    #[error("handshake refused: {0}")]
    HandshakeRefused(String),
    /// The agent speaks another version of the protocol.
    #[error("handshake failed: protocol version {actual}, expected {expected}")]
    VersionMismatch {
        /// The version of this crate.
        expected: u32,
        /// The agent's version.
        actual: u32,
    },
    /// The agent chose an encoding that it was not offered.
    #[error("handshake failed: the agent chose an encoding that was not offered")]
    EncodingNotOffered,
    /// The agent chose a version of tollgate's extension that it was not offered.
    #[error("handshake failed: the agent chose an extension that was not offered")]
    ExtensionNotOffered,
    /// The agent closed the connection in the middle of the handshake.
    #[error("handshake failed: connection closed")]
    ClosedDuringHandshake,
    /// The agent does not take the settings that a new connection begins with.
    #[error("the agent refuses its settings: {0}")]
    SettingsRefused(String),
    /// The agent could not be given the settings that a new connection begins with.
    #[error("the agent could not be given its settings: {0}")]
    SettingsNotGiven(String),
    /// What the agent sent is not a handshake.
    #[error("handshake failed: {0}")]
    InvalidHandshake(String),
    /// The server ended the stream with a gRPC status, or does not speak gRPC or serve this protocol.
    #[cfg(feature = "grpc")]
    #[error("gRPC status {status}: {message}")]
    Rpc {
        /// The name of the status, such as `Unimplemented`.
        status: String,
        /// What the server, or whatever is in its place, says.
        message: String,
    },
    /// Anything else that the system says.
    #[error("{0}")]
    Io(io::Error),
}

/// Why an agent's connection was not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// It did not register in time, or what it said is no registration.
    #[error(transparent)]
    Handshake(#[from] ConnectError),
    /// The id is empty, longer than 128 bytes, or has control characters.
    #[error("the id is not one that an agent may have")]
    InvalidId,
    /// The id is not among the allowed ones.
    #[error("the id is not among the allowed ones")]
    NotAllowed,
    /// A token is needed.
    #[error("no token was given")]
    TokenMissing,
    /// The token is not valid for this id.
    #[error("the token is not valid for this id")]
    TokenWrong,
    /// The user at the other end of a Unix socket is not among the allowed ones.
    #[error("user {uid} of group {gid} is not allowed")]
    UserNotAllowed {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The certificate is valid, but not for this id.
    #[error("the certificate is for another name")]
    CertificateOfAnother,
    /// The id belongs to another peer, or to an agent that the proxy connects to, and nothing shows that it is this
    /// one.
    #[error("the id belongs to somebody else")]
    IdTaken,
    /// As many connections are open as are allowed.
    #[error("{limit} connections are open already")]
    TooManyConnections {
        /// How many are allowed.
        limit: usize,
    },
    /// The agent has as many connections as it may have.
    #[error("the agent has {limit} connections already")]
    TooManyConnectionsOfAgent {
        /// How many are allowed.
        limit: usize,
    },
    /// Newer connections have come before this one has registered, more than may be unregistered.
    #[error("too many connections have not registered")]
    TooManyUnregistered,
    /// The peer connects more often than it may.
    #[error("the peer connects too often")]
    TooFast,
    /// The pool is being shut down.
    #[error("the pool is being shut down")]
    Stopping,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        #[cfg(feature = "tls")]
        if let Some(failure) = crate::TlsFailure::of(&error) {
            return Self::Tls(failure);
        }
        if let Some(&frame) = error.get_ref().and_then(|error| error.downcast_ref()) {
            let frame: FrameError = frame;
            return frame.into();
        }
        #[cfg(feature = "grpc")]
        if let Some(failure) = error.get_ref().and_then(|error| error.downcast_ref()) {
            let RpcFailure { code, message } = failure;
            return Self::Rpc {
                status: code.clone(),
                message: message.clone(),
            };
        }
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
