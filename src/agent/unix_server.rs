//! The server of an agent on a Unix socket.

use super::control::AgentControl;
use super::handler::AgentHandler;
use super::server_settings::ServerSettings;
use crate::connection::link::Link;
use crate::error::AgentProtocolError;
use crate::transport::{
    ACCEPT_RETRY_DELAY, BACKLOG, Endpoint, HandshakeLimiter, SocketFile, split_unix_of_agent,
};
use crate::wire::Encoding;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Serves an agent on a Unix socket.
///
/// ```no_run
/// # async fn example(
/// #     handler: impl tollgate::AgentHandler,
/// # ) -> Result<(), tollgate::AgentProtocolError> {
/// use tollgate::UdsAgentServer;
///
/// let server = UdsAgentServer::new("/run/waf.sock", handler).bind().await?;
/// server.serve_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await
/// # }
/// ```
#[derive(Debug)]
pub struct UdsAgentServer<H> {
    socket_path: PathBuf,
    handler: Arc<H>,
    control: AgentControl,
    encodings: Vec<Encoding>,
    settings: ServerSettings,
}

impl<H: AgentHandler> UdsAgentServer<H> {
    /// Creates a server for the socket file at `socket_path`. The file is created when the server
    /// is bound.
    pub fn new(socket_path: impl Into<PathBuf>, handler: H) -> Self {
        Self {
            socket_path: socket_path.into(),
            handler: Arc::new(handler),
            control: AgentControl::default(),
            encodings: vec![Encoding::MessagePack, Encoding::Json],
            settings: ServerSettings::default(),
        }
    }

    /// Sets the mode of the socket file, 0600 by default: only processes of the same user may
    /// connect.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Sets the encodings that are accepted, MessagePack and JSON by default. As the protocol
    /// requires, JSON is used with a proxy that offers none of them.
    #[must_use]
    pub fn with_encodings(mut self, encodings: impl Into<Vec<Encoding>>) -> Self {
        self.encodings = encodings.into();
        self
    }

    /// Sets how many connections are served at once, 1,024 by default. Further ones wait for the
    /// response to their handshake. As many again may be in their handshake; then a new one evicts
    /// the oldest.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections.max(1);
        self
    }

    /// Sets how many events of one connection may be in the handler at once, 1,024 by default.
    /// Further events stay unread.
    #[must_use]
    pub fn with_max_concurrent_per_connection(mut self, events: usize) -> Self {
        self.settings.max_concurrent_per_connection = events.max(1);
        self
    }

    /// Sets the time limit for a handshake, 5 s by default.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// Sets the time limit for unfinished events when the server stops, 30 s by default.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Returns a handle that sends notices to the connected proxies.
    pub fn control(&self) -> AgentControl {
        self.control.clone()
    }

    /// Creates the socket file and listens. Proxies can connect once this returns.
    ///
    /// A socket file that no process listens at is replaced.
    ///
    /// # Errors
    ///
    /// [`Listen`](AgentProtocolError::Listen) if another process listens at the path, if the path
    /// is a file that is not a socket, or if the system call fails.
    pub async fn bind(self) -> Result<BoundAgentServer<H>, AgentProtocolError> {
        let path = Endpoint::from_path(&self.socket_path)?;
        let (listener, socket_file) = SocketFile::listen(path, self.settings.mode, BACKLOG)
            .await
            .map_err(|cause| listen_error(path, cause))?;
        Ok(BoundAgentServer {
            listener,
            socket_file,
            server: self,
        })
    }

    /// Binds and serves forever.
    ///
    /// # Errors
    ///
    /// As for [`UdsAgentServer::bind`].
    pub async fn run(self) -> Result<(), AgentProtocolError> {
        self.bind().await?.serve().await
    }
}

/// A server that listens, returned by [`UdsAgentServer::bind`]. The socket file is removed when the
/// server stops or is dropped.
#[derive(Debug)]
pub struct BoundAgentServer<H> {
    listener: UnixListener,
    socket_file: SocketFile,
    server: UdsAgentServer<H>,
}

impl<H: AgentHandler> BoundAgentServer<H> {
    /// Serves forever.
    ///
    /// # Errors
    ///
    /// None at present: an error on a connection ends only that connection.
    pub async fn serve(self) -> Result<(), AgentProtocolError> {
        self.serve_until(pending()).await
    }

    /// Serves until `shutdown` completes. The server then accepts no more connections and events,
    /// removes the socket file, and answers the events that are being worked on.
    ///
    /// # Errors
    ///
    /// None at present: an error on a connection ends only that connection.
    pub async fn serve_until(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentProtocolError> {
        let Self {
            listener,
            socket_file,
            server,
        } = self;
        let mut sessions = JoinSet::new();
        server
            .serve_links(&mut sessions, || accept(&listener), shutdown)
            .await;
        drop(listener);
        drop(socket_file);
        server.drain(sessions).await;
        Ok(())
    }
}

impl<H: AgentHandler> UdsAgentServer<H> {
    /// Serves the links that `accept` returns, each in a task of its own, until `shutdown`
    /// completes.
    pub(super) async fn serve_links<A: Future<Output = Link>>(
        &self,
        sessions: &mut JoinSet<()>,
        accept: impl Fn() -> A,
        shutdown: impl Future<Output = ()>,
    ) {
        let limits = self.settings.limits(self.encodings.clone());
        let mut limiter = HandshakeLimiter::new(self.settings.max_connections);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                // Ended sessions are collected before new ones begin. There are never more of them
                // than were accepted, so they cannot keep new connections from being accepted.
                biased;
                () = &mut shutdown => return,
                Some(_) = sessions.join_next() => {}
                link = accept() => {
                    let handler = Arc::clone(&self.handler);
                    let handle = self.control.register_session();
                    let (limits, slot) = (limits.clone(), limiter.enter());
                    sessions.spawn(limits.serve_connection(handler, link, handle, slot));
                }
            }
        }
    }

    /// Lets the sessions finish their events, at most for the drain timeout.
    pub(super) async fn drain(self, mut sessions: JoinSet<()>) {
        self.control.drain();
        let drained = async { while sessions.join_next().await.is_some() {} };
        // Connections that are not done by then are cut off when the set is dropped.
        let _ = timeout(self.settings.drain_timeout, drained).await;
    }
}

/// Accepts the next connection.
async fn accept(listener: &UnixListener) -> Link {
    loop {
        let accepted = listener.accept().await;
        match accepted.and_then(|(stream, _)| split_unix_of_agent(stream)) {
            Ok(link) => return link,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn listen_error(path: &Path, cause: io::Error) -> AgentProtocolError {
    AgentProtocolError::Listen {
        endpoint: path.display().to_string(),
        cause,
    }
}
