//! Listeners: where a server gets its connections from.

use super::other_protocol::{OtherSession, StartSession};
use crate::debug_fields::debug_fields;
#[cfg(feature = "grpc")]
use crate::transport::grpc::Http2Connection;
#[cfg(feature = "__sim")]
use crate::transport::simulated;
#[cfg(feature = "tls")]
use crate::transport::tls::Acceptor;
use crate::transport::{Peer, tcp};
use futures_util::future::BoxFuture;
use std::io;
#[cfg(feature = "tls")]
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Accepts connections for an [`AgentServer`](super::AgentServer).
///
/// Tokio's [`UnixListener`] and [`TcpListener`] are listeners for agent protocol v2. A crate for
/// another protocol implements this trait and returns [`Incoming::session`]s, to which the server's
/// limits and its drain apply as well.
///
/// ```
/// use std::io;
/// use tollgate::listener::{Incoming, Listener};
///
/// /// Accepts connections of the loopback only.
/// struct Loopback(tokio::net::TcpListener);
///
/// impl Listener for Loopback {
///     async fn accept(&self) -> io::Result<Incoming> {
///         loop {
///             let (stream, peer) = self.0.accept().await?;
///             if peer.ip().is_loopback() {
///                 return Ok(stream.into());
///             }
///         }
///     }
///
///     fn endpoint(&self) -> String {
///         "loopback".to_owned()
///     }
/// }
/// ```
pub trait Listener: Send + Sync + 'static {
    /// Accepts the next connection.
    ///
    /// The server calls this again after an error, at once if the process had no free file
    /// descriptor and the server could close a connection, and after a short delay otherwise. It
    /// may drop the future at any time, with which no connection may be lost.
    fn accept(&self) -> impl Future<Output = io::Result<Incoming>> + Send;

    /// Returns where it listens, for [`AgentServer::endpoints`](super::AgentServer::endpoints).
    fn endpoint(&self) -> String;
}

/// A connection that a [`Listener`] has accepted.
pub struct Incoming(pub(super) Protocol);

/// The protocol of an accepted connection.
pub(super) enum Protocol {
    Frames(Socket),
    #[cfg(feature = "grpc")]
    Grpc(Socket, tokio::sync::mpsc::Sender<Http2Connection>),
    Other(StartSession),
}

/// The socket of an accepted connection.
pub(in crate::agent) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// TLS still has to be accepted.
    #[cfg(feature = "tls")]
    Tls(TcpStream, Arc<Acceptor>),
    #[cfg(feature = "__sim")]
    Simulated(simulated::Stream),
}

impl Socket {
    pub(in crate::agent) fn peer(&self) -> Peer {
        match self {
            Self::Unix(stream) => Peer::of_unix(stream),
            Self::Tcp(stream) => Peer::of_tcp(stream),
            #[cfg(feature = "tls")]
            Self::Tls(stream, _) => Peer::of_tcp(stream),
            #[cfg(feature = "__sim")]
            Self::Simulated(_) => Peer::named("simulated"),
        }
    }
}

impl Incoming {
    /// Creates a connection of another protocol, which `serve` speaks until the connection ends.
    /// The connection is closed when the future that `serve` returns is dropped.
    pub fn session<F>(serve: impl FnOnce(OtherSession) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Protocol::Other(Box::new(|session| {
            Box::pin(serve(session))
        })))
    }
}

impl From<UnixStream> for Incoming {
    fn from(stream: UnixStream) -> Self {
        Self(Protocol::Frames(Socket::Unix(stream)))
    }
}

impl From<TcpStream> for Incoming {
    fn from(stream: TcpStream) -> Self {
        Self(Protocol::Frames(Socket::Tcp(stream)))
    }
}

debug_fields!(Incoming, |self|);

impl Listener for UnixListener {
    async fn accept(&self) -> io::Result<Incoming> {
        Ok(Self::accept(self).await?.0.into())
    }

    fn endpoint(&self) -> String {
        let address = self.local_addr().ok();
        let path = address.as_ref().and_then(|address| address.as_pathname());
        path.map_or_else(|| "unix:".to_owned(), |path| path.display().to_string())
    }
}

impl Listener for TcpListener {
    async fn accept(&self) -> io::Result<Incoming> {
        Ok(tcp::configure(Self::accept(self).await?.0)?.into())
    }

    fn endpoint(&self) -> String {
        self.local_addr()
            .map_or_else(|_| "tcp://".to_owned(), |at| format!("tcp://{at}"))
    }
}

/// [`Listener`], as a trait object.
pub(super) trait DynListener: Send + Sync {
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>>;
    fn endpoint(&self) -> String;
}

impl<L: Listener> DynListener for L {
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(Listener::accept(self))
    }

    fn endpoint(&self) -> String {
        Listener::endpoint(self)
    }
}
