//! Sockets for listeners of other protocols.

use super::inherited::ListeningSocket;
use super::quiet_stream::QuietStream;
use crate::debug_fields::debug_fields;
use crate::error::ConnectError;
#[cfg(feature = "tls")]
use crate::error::{InvalidTls, TlsFailure};
#[cfg(feature = "tls")]
use crate::transport::tls::Acceptor;
use crate::transport::{BACKLOG, Existing, SocketFile, tcp};
#[cfg(feature = "tls")]
use crate::{TlsConfig, TlsServerConfig};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// A listening socket for a [`Listener`](super::Listener) of another protocol, with the options
/// that the server's own sockets have.
///
/// A socket file that no process listens at is replaced, and it is removed when this is dropped.
#[derive(Debug)]
pub struct StreamSocket {
    socket: ListeningSocket,
    /// Removes the socket file when the socket is dropped.
    _file: Option<SocketFile>,
}

impl StreamSocket {
    /// Listens at a TCP port. With port 0 the system chooses one.
    ///
    /// # Errors
    ///
    /// The host has no address, or a system call fails.
    pub async fn tcp(host: &str, port: u16) -> io::Result<Self> {
        Ok(Self {
            socket: ListeningSocket::Tcp(TcpListener::bind((host, port)).await?),
            _file: None,
        })
    }

    /// Listens at a path. The socket file has the mode `mode`, and at no time a more permissive
    /// one.
    ///
    /// # Errors
    ///
    /// Another process listens there, the path is a file that is not a socket, or a system call
    /// fails.
    pub async fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        let (listener, file) = SocketFile::listen(path, mode, BACKLOG, Existing::Respected).await?;
        Ok(Self {
            socket: ListeningSocket::Unix(listener),
            _file: Some(file),
        })
    }

    /// Accepts the next connection. Loses none if the future is dropped.
    ///
    /// # Errors
    ///
    /// A system call fails, for example since the process has no free file descriptor.
    pub async fn accept(&self) -> io::Result<Stream> {
        Ok(Stream(match &self.socket {
            ListeningSocket::Tcp(listener) => {
                StreamKind::Tcp(tcp::configure(listener.accept().await?.0)?)
            }
            ListeningSocket::Unix(listener) => StreamKind::Unix(listener.accept().await?.0),
        }))
    }

    /// Returns the address of a TCP socket; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => listener.local_addr().ok(),
            ListeningSocket::Unix(_) => None,
        }
    }
}

/// A connection: one that a [`StreamSocket`] has accepted, or one of a client of such a protocol.
pub struct Stream(StreamKind);

enum StreamKind {
    Tcp(TcpStream),
    Unix(UnixStream),
    Quiet(QuietStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

debug_fields!(Stream, |self|);

impl Stream {
    /// Watches the connection for output only while a write has to wait.
    ///
    /// Otherwise the peer wakes this process each time that it has read something. That costs more
    /// than it gains where answers are small. A connection with TLS stays as it is.
    ///
    /// # Errors
    ///
    /// A system call fails.
    pub fn watched_for_input(self) -> io::Result<Self> {
        let socket: OwnedFd = match self.0 {
            StreamKind::Tcp(stream) => stream.into_std()?.into(),
            StreamKind::Unix(stream) => stream.into_std()?.into(),
            other => return Ok(Self(other)),
        };
        Ok(Self(StreamKind::Quiet(QuietStream::new(socket)?)))
    }

    /// Connects to a TCP port.
    ///
    /// # Errors
    ///
    /// The host cannot be resolved, or refuses the connection.
    pub async fn connect_tcp(host: &str, port: u16) -> Result<Self, ConnectError> {
        let stream = tcp::connect_stream(host, port).await?;
        Ok(Self(StreamKind::Tcp(stream)))
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    ///
    /// No process listens there, or this one may not connect.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self(StreamKind::Unix(UnixStream::connect(path).await?)))
    }

    /// Connects to a TCP port with TLS, for HTTP/2.
    ///
    /// # Errors
    ///
    /// The settings are not usable, the host refuses the connection, or the handshake fails.
    #[cfg(feature = "tls")]
    pub async fn connect_http2(
        config: &TlsConfig,
        host: &str,
        port: u16,
    ) -> Result<Self, ConnectError> {
        let invalid = |error: InvalidTls| TlsFailure::Other(error.to_string());
        let connector = config.http2_connector().map_err(invalid)?;
        let stream = connector.connect_http2(host, port).await?;
        Ok(Self(StreamKind::Tls(Box::new(stream))))
    }
}

/// Accepts TLS connections for HTTP/2 on the [`Stream`]s of TCP sockets.
#[cfg(feature = "tls")]
pub struct TlsHandshake(Acceptor);

#[cfg(feature = "tls")]
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
        let StreamKind::Tcp(stream) = stream.0 else {
            let unsupported = "TLS is supported on TCP sockets only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, unsupported).into());
        };
        let stream = self.0.accept_stream(stream).await?;
        Ok(Stream(StreamKind::Tls(Box::new(stream.into()))))
    }
}

#[cfg(feature = "tls")]
debug_fields!(TlsHandshake, |self|);

/// Calls a method of the stream that this holds.
macro_rules! with_stream {
    ($this:expr, $stream:ident => $call:expr) => {
        match &mut $this.get_mut().0 {
            StreamKind::Tcp($stream) => $call,
            StreamKind::Unix($stream) => $call,
            StreamKind::Quiet($stream) => $call,
            #[cfg(feature = "tls")]
            StreamKind::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_stream!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            StreamKind::Tcp(stream) => stream.is_write_vectored(),
            StreamKind::Unix(stream) => stream.is_write_vectored(),
            StreamKind::Quiet(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            StreamKind::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
