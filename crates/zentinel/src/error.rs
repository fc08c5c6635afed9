//! The error of this crate.

use std::time::Duration;
use tollgate::error::{
    AcceptError, AddError, BindError, CallError, ConnectError, InvalidEndpoint, RegistrationError,
};

/// Error of a pool, a client or a server.
///
/// The Zentinel proxy searches the text: an error that displays the word `Timeout` becomes the
/// status 504 for its client, and any other 503.
#[derive(Debug, thiserror::Error)]
pub enum AgentProtocolError {
    /// A connection cannot be opened, or none can be used.
    #[error("Connection failed: {0}")]
    ConnectionFailed(String),
    /// The connection ended, or there is none yet.
    #[error("Connection closed")]
    ConnectionClosed,
    /// The peer speaks another version of the protocol.
    #[error("Protocol version mismatch: expected {expected}, got {actual}")]
    VersionMismatch {
        /// Version that this side speaks.
        expected: u32,
        /// Version that the peer speaks.
        actual: u32,
    },
    /// A message is larger than allowed.
    #[error("Message too large: {size} bytes (max: {max})")]
    MessageTooLarge {
        /// Size of the message in bytes.
        size: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// A message cannot be understood, or names an agent that the pool does not have.
    #[error("Invalid message format: {0}")]
    InvalidMessage(String),
    /// The peer did not answer in time.
    #[error("Timeout after {0:?}")]
    Timeout(Duration),
    /// The agent cannot take the call.
    #[error("Agent unavailable")]
    Unavailable,
    /// A call of the operating system failed.
    #[error("IO error: {0}")]
    Io(#[from] std::io::Error),
    /// A value cannot be written.
    #[error("Serialization error: {0}")]
    Serialization(String),
    /// A connection is of another kind than the operation needs.
    #[error("Wrong connection type: {0}")]
    WrongConnectionType(String),
    /// The agent has asked the proxy to pause.
    #[error("Flow control paused: agent '{agent_id}' requested backpressure")]
    FlowControlPaused {
        /// Name of the agent.
        agent_id: String,
    },
}

impl AgentProtocolError {
    /// Returns the error for a name that no agent of the pool has.
    pub(crate) fn not_found(agent_id: &str) -> Self {
        Self::InvalidMessage(format!("Agent {agent_id} not found"))
    }
}

impl From<CallError> for AgentProtocolError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::ConnectionClosed { .. } => Self::ConnectionClosed,
            CallError::MessageTooLarge { size, max, .. } => Self::MessageTooLarge { size, max },
            CallError::Timeout { after, .. } | CallError::QueueTimeout { after, .. } => {
                Self::Timeout(after)
            }
            CallError::FlowControlPaused { agent_id } => Self::FlowControlPaused {
                agent_id: agent_id.to_string(),
            },
            CallError::CircuitOpen { .. } => Self::Unavailable,
            CallError::Removed { agent_id } => Self::not_found(&agent_id),
            error @ (CallError::InvalidMessage { .. } | CallError::Undeclared { .. }) => {
                Self::InvalidMessage(error.to_string())
            }
            error => Self::ConnectionFailed(error.to_string()),
        }
    }
}

impl From<ConnectError> for AgentProtocolError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::TimedOut(after) => Self::Timeout(after),
            ConnectError::VersionMismatch { expected, actual } => {
                Self::VersionMismatch { expected, actual }
            }
            ConnectError::ClosedDuringHandshake => Self::ConnectionClosed,
            ConnectError::InvalidHandshake(fault) => Self::InvalidMessage(fault),
            ConnectError::Io(error) => Self::Io(error),
            // The reason alone, which agents and proxies search.
            ConnectError::HandshakeRefused(reason) => Self::ConnectionFailed(reason),
            ConnectError::SettingsRefused(reason) => {
                Self::ConnectionFailed(format!("agent rejected its configuration: {reason}"))
            }
            ConnectError::SettingsNotGiven(reason) => Self::ConnectionFailed(format!(
                "agent did not acknowledge its configuration: {reason}"
            )),
            error => Self::ConnectionFailed(error.to_string()),
        }
    }
}

impl From<InvalidEndpoint> for AgentProtocolError {
    fn from(error: InvalidEndpoint) -> Self {
        Self::ConnectionFailed(error.to_string())
    }
}

impl From<AddError> for AgentProtocolError {
    fn from(error: AddError) -> Self {
        match error {
            AddError::Connect { source, .. } => source.into(),
            AddError::InvalidEndpoint(error) => error.into(),
            error => Self::ConnectionFailed(error.to_string()),
        }
    }
}

impl From<BindError> for AgentProtocolError {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Listen { endpoint, source } => {
                let text = format!("{endpoint}: {source}");
                Self::Io(std::io::Error::new(source.kind(), text))
            }
            error => Self::ConnectionFailed(error.to_string()),
        }
    }
}

impl From<AcceptError> for AgentProtocolError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Registration { source, .. } => source.into(),
            error => Self::ConnectionFailed(error.to_string()),
        }
    }
}

impl From<RegistrationError> for AgentProtocolError {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Handshake(ConnectError::InvalidHandshake(fault)) => {
                Self::InvalidMessage(format!("Expected registration request: {fault}"))
            }
            RegistrationError::Handshake(error) => error.into(),
            RegistrationError::InvalidId => {
                Self::InvalidMessage("Agent ID is empty, too long, or not visible ASCII".to_owned())
            }
            RegistrationError::NotAllowed => {
                Self::InvalidMessage("Agent ID is not in the allowed list".to_owned())
            }
            RegistrationError::TokenMissing => {
                Self::InvalidMessage("Authentication required: no token was presented".to_owned())
            }
            error => Self::InvalidMessage(error.to_string()),
        }
    }
}
