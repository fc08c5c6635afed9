//! Errors of opening connections.

use crate::wire::{DecodeError, FrameError};
use std::io;
use std::time::Duration;

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
