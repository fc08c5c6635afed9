//! Byte streams for HTTP/2 and for other protocols.

use super::quiet_stream::QuietStream;
use super::tcp;
#[cfg(feature = "tls")]
use super::tls::TlsConfig;
use crate::connection::give_way;
use crate::debug_fields::debug_fields;
use crate::error::ConnectError;
#[cfg(feature = "tls")]
use crate::error::{InvalidTls, TlsFailure};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Bytes that a task reads before other tasks run. Those of HTTP/2 read until nothing is left, and
/// a frame may be as short as 9 bytes.
const MAX_TURN: usize = 64 * 1024;

/// A connection: one that a [`StreamSocket`](crate::listener::StreamSocket) has accepted, or one of
/// a client of such a protocol.
///
/// After every 64 KiB without a pause, a read is pending once, so that other tasks of the runtime
/// run. The task is woken again by itself.
pub struct Stream {
    kind: StreamKind,
    /// Bytes that were read since other tasks ran.
    received: usize,
}

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
        let socket: OwnedFd = match self.kind {
            StreamKind::Tcp(stream) => stream.into_std()?.into(),
            StreamKind::Unix(stream) => stream.into_std()?.into(),
            other => return Ok(other.into()),
        };
        Ok(StreamKind::Quiet(QuietStream::new(socket)?).into())
    }

    pub(crate) fn tcp(stream: TcpStream) -> Self {
        StreamKind::Tcp(stream).into()
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        StreamKind::Unix(stream).into()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(stream: tokio_rustls::TlsStream<TcpStream>) -> Self {
        StreamKind::Tls(Box::new(stream)).into()
    }

    /// Returns the socket, if it is of TCP and without TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn into_tcp(self) -> Option<TcpStream> {
        match self.kind {
            StreamKind::Tcp(stream) => Some(stream),
            _ => None,
        }
    }

    /// Connects to a TCP port.
    ///
    /// # Errors
    ///
    /// The host cannot be resolved, or refuses the connection.
    pub async fn connect_tcp(host: &str, port: u16) -> Result<Self, ConnectError> {
        let stream = tcp::connect_stream(host, port).await?;
        Ok(Self::tcp(stream))
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    ///
    /// No process listens there, or this one may not connect.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::unix(UnixStream::connect(path).await?))
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
        Ok(Self::tls(stream))
    }
}

impl From<StreamKind> for Stream {
    fn from(kind: StreamKind) -> Self {
        Self { kind, received: 0 }
    }
}

/// Calls a method of the stream that this holds.
macro_rules! with_stream {
    ($this:expr, $stream:ident => $call:expr) => {
        match &mut $this.kind {
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received >= MAX_TURN {
            self.received = 0;
            give_way(cx);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = with_stream!(&mut self, stream => Pin::new(stream).poll_read(cx, buffer));
        match polled {
            Poll::Pending => self.received = 0,
            Poll::Ready(_) => self.received += buffer.filled().len() - before,
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            StreamKind::Tcp(stream) => stream.is_write_vectored(),
            StreamKind::Unix(stream) => stream.is_write_vectored(),
            StreamKind::Quiet(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            StreamKind::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
