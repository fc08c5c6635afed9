//! TLS for listeners of other protocols.

use crate::TlsServerConfig;
use crate::debug_fields::debug_fields;
use crate::error::{ConnectError, InvalidTls};
use crate::transport::Stream;
use crate::transport::tls::Acceptor;
use std::io;

/// Accepts TLS connections for HTTP/2 on the [`Stream`]s of TCP sockets.
pub struct TlsHandshake(Acceptor);

impl TlsHandshake {
    /// Prepares handshakes that agree to HTTP/2 (ALPN `h2`).
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] if the certificates are not usable.
    pub fn http2(config: &TlsServerConfig) -> Result<Self, InvalidTls> {
        Ok(Self(config.http2_acceptor()?))
    }

    /// Performs the handshake.
    ///
    /// # Errors
    ///
    /// The handshake fails, or the stream is that of a Unix socket.
    pub async fn accept(&self, stream: Stream) -> Result<Stream, ConnectError> {
        let Some(stream) = stream.into_tcp() else {
            let unsupported = "TLS is supported on TCP sockets only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, unsupported).into());
        };
        let stream = self.0.accept_stream(stream).await?;
        Ok(Stream::tls(stream.into()))
    }
}

debug_fields!(TlsHandshake, |self|);
