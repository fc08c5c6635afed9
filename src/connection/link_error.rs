//! Errors of links.

use crate::error::ConnectError;
#[cfg(feature = "tls")]
use crate::error::TlsFailure;
use crate::wire::FrameError;
use std::io;

/// Error of a link. The link cannot be used after it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The operating system reported an error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The link reads frames itself, and the peer sent an invalid one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer's shared memory, or its use of it, is invalid.
    #[error("invalid shared memory: {0}")]
    SharedMemory(&'static str),
    /// The TLS session failed.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The server ended the stream with a gRPC status, or does not speak gRPC.
    #[cfg(feature = "grpc")]
    #[error("gRPC status {status}: {message}")]
    Rpc { status: String, message: String },
}

impl From<LinkError> for ConnectError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Io(error) => error.into(),
            LinkError::Frame(error) => error.into(),
            LinkError::SharedMemory(_) => Self::InvalidHandshake(error.to_string()),
            #[cfg(feature = "tls")]
            LinkError::Tls(failure) => failure.into(),
            #[cfg(feature = "grpc")]
            LinkError::Rpc { status, message } => Self::Rpc { status, message },
        }
    }
}
