//! How connections come in before HTTP/2 is spoken on them.

use crate::transport::grpc::{Standing, Stream, Visitor};
use crate::transport::tls::Acceptor;
use crate::transport::{Doorway, SocketFile, tcp};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Where a server listens.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed with this.
        _file: SocketFile,
    },
}

/// Lets connections in; one that is slow with TLS holds up none behind it.
pub(super) struct Entrance {
    pub(super) acceptor: Option<Arc<Acceptor>>,
    pub(super) handshake_timeout: Duration,
    /// Where connections without streams stand, those that shake hands for TLS among them.
    pub(super) doorway: Arc<Mutex<Doorway>>,
    pub(super) visitors: mpsc::Sender<Visitor>,
}

impl Entrance {
    /// Ends connections without streams, which might not answer when HTTP/2 is brought to its end.
    pub(super) fn clear(&self) {
        let doorway = self.doorway.lock();
        doorway.unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) async fn run(&self, listener: &Listener) {
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            let stream = listener.accept().await;
            let standing = Standing::new(&self.doorway);
            match (stream, &self.acceptor) {
                (Stream::Tcp(stream), Some(acceptor)) => {
                    let acceptor = Arc::clone(acceptor);
                    let (patience, visitors) = (self.handshake_timeout, self.visitors.clone());
                    handshakes.spawn(async move {
                        if let Some(stream) = secure(&acceptor, stream, &standing, patience).await {
                            // Fails only if HTTP/2 is not served any more.
                            let _ = visitors.send(Visitor::new(stream, standing)).await;
                        }
                    });
                }
                (stream, _) => {
                    let _ = self.visitors.send(Visitor::new(stream, standing)).await;
                }
            }
        }
    }
}

/// Shakes hands for TLS.
async fn secure(
    acceptor: &Acceptor,
    stream: TcpStream,
    standing: &Standing,
    patience: Duration,
) -> Option<Stream> {
    let shaken = timeout(patience, acceptor.accept_http2(stream));
    let shaken = tokio::select! {
        shaken = shaken => shaken,
        () = poll_fn(|cx| standing.poll_turned_away(cx)) => {
            tracing::warn!("a TLS handshake gave way to newer ones");
            return None;
        }
    };
    match shaken {
        Ok(Ok(stream)) => return Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => tracing::warn!(%error, "TLS did not come up"),
        Err(_) => tracing::warn!("a TLS handshake took too long"),
    }
    None
}

impl Listener {
    /// Takes the next connection.
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
            Self::Tcp(listener) => Stream::Tcp(tcp::prepared(listener.accept().await?.0)?),
            Self::Unix { listener, .. } => Stream::Unix(listener.accept().await?.0),
        })
    }
}

/// Accepting fails for want of file descriptors, mostly; trying again at once would only burn time.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
