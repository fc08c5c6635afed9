//! Accepts connections of a gRPC server, before HTTP/2 runs on them.

use crate::transport::grpc::{Http2Connection, Http2ConnectionState, Stream};
use crate::transport::tls::Acceptor;
use crate::transport::{ACCEPT_RETRY_DELAY, HandshakeLimiter, SocketFile, tcp};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A socket that a server listens on.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removes the socket file when the listener is dropped.
        _file: SocketFile,
    },
}

/// Accepts connections. TLS handshakes run in tasks, so a slow one does not delay other
/// connections.
pub(super) struct GrpcAcceptor {
    pub(super) acceptor: Option<Arc<Acceptor>>,
    pub(super) handshake_timeout: Duration,
    /// Limits the connections without streams, including those in the TLS handshake.
    pub(super) limiter: Arc<Mutex<HandshakeLimiter>>,
    pub(super) incoming: mpsc::Sender<Http2Connection>,
}

impl GrpcAcceptor {
    /// Takes the connections without streams out of the limiter. They are closed when the returned
    /// value is dropped, as they might never react to a GOAWAY frame.
    pub(super) fn take_idle(&self) -> HandshakeLimiter {
        let limiter = self.limiter.lock();
        limiter.unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) async fn run(&self, listener: &Listener) {
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            let stream = listener.accept().await;
            let state = Http2ConnectionState::new(&self.limiter);
            match (stream, &self.acceptor) {
                (Stream::Tcp(stream), Some(acceptor)) => {
                    let acceptor = Arc::clone(acceptor);
                    let (handshake_timeout, incoming) =
                        (self.handshake_timeout, self.incoming.clone());
                    handshakes.spawn(async move {
                        if let Some(stream) =
                            accept_tls(&acceptor, stream, &state, handshake_timeout).await
                        {
                            // Fails only if the HTTP/2 server has ended.
                            let _ = incoming.send(Http2Connection::new(stream, state)).await;
                        }
                    });
                }
                (stream, _) => {
                    let _ = self
                        .incoming
                        .send(Http2Connection::new(stream, state))
                        .await;
                }
            }
        }
    }
}

/// Accepts TLS on a connection. Returns `None` if that fails.
async fn accept_tls(
    acceptor: &Acceptor,
    stream: TcpStream,
    state: &Http2ConnectionState,
    handshake_timeout: Duration,
) -> Option<Stream> {
    let handshake = timeout(handshake_timeout, acceptor.accept_http2(stream));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = poll_fn(|cx| state.poll_evicted(cx)) => {
            tracing::warn!("evicted a connection during its TLS handshake");
            return None;
        }
    };
    match handshake {
        Ok(Ok(stream)) => return Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => tracing::warn!(%error, "a TLS handshake failed"),
        Err(_) => tracing::warn!("a TLS handshake timed out"),
    }
    None
}

impl Listener {
    /// Accepts the next connection.
    async fn accept(&self) -> Stream {
        loop {
            match self.try_accept().await {
                Ok(stream) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => Stream::Tcp(tcp::configure(listener.accept().await?.0)?),
            Self::Unix { listener, .. } => Stream::Unix(listener.accept().await?.0),
        })
    }
}
