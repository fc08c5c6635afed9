use super::control::AgentControl;
use super::handler::AgentHandler;
use super::reception::ServerSettings;
use crate::connection::link::Link;
use crate::error::AgentProtocolError;
use crate::transport::{Doorway, Endpoint, SocketFile, split_unix_of_agent};
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
/// # async fn example(handler: impl tollgate::AgentHandler) -> Result<(), tollgate::AgentProtocolError> {
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
    /// A server for the socket file at `socket_path`, which is made when it is bound.
    pub fn new(socket_path: impl Into<PathBuf>, handler: H) -> Self {
        Self {
            socket_path: socket_path.into(),
            handler: Arc::new(handler),
            control: AgentControl::default(),
            encodings: vec![Encoding::MessagePack, Encoding::Json],
            settings: ServerSettings::default(),
        }
    }

    /// Sets the mode of the socket file, 0600 by default: only the same user may connect.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Sets the encodings that are accepted, both by default. JSON is used with a proxy that offers none
    /// of them, as the protocol demands.
    #[must_use]
    pub fn with_encodings(mut self, encodings: impl Into<Vec<Encoding>>) -> Self {
        self.encodings = encodings.into();
        self
    }

    /// Sets how many connections are served at once, 1,024 by default; more wait for the answer to their
    /// handshake. As many again may be shaking hands, of which the oldest is turned away when a newer one comes.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections.max(1);
        self
    }

    /// Sets how many events of one connection may wait in the handler at once, 1,024 by default; more
    /// stay unread.
    #[must_use]
    pub fn with_max_concurrent_per_connection(mut self, events: usize) -> Self {
        self.settings.max_concurrent_per_connection = events.max(1);
        self
    }

    /// Sets how long a proxy may take to shake hands, 5 s by default.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// Sets how long unfinished events get when the server stops, 30 s by default.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// A handle for telling connected proxies something unasked.
    pub fn control(&self) -> AgentControl {
        self.control.clone()
    }

    /// Makes the socket file and listens: proxies can connect once this returns.
    ///
    /// A socket file that nobody listens at is replaced.
    ///
    /// # Errors
    ///
    /// [`Listen`](AgentProtocolError::Listen) if another process listens there, if a file that is no
    /// socket is in the way, or if the system refuses.
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

    /// Binds and serves for ever.
    ///
    /// # Errors
    ///
    /// As for [`UdsAgentServer::bind`].
    pub async fn run(self) -> Result<(), AgentProtocolError> {
        self.bind().await?.serve().await
    }
}

/// A server that listens. Its socket file is removed when it stops or is dropped.
#[derive(Debug)]
pub struct BoundAgentServer<H> {
    listener: UnixListener,
    socket_file: SocketFile,
    server: UdsAgentServer<H>,
}

impl<H: AgentHandler> BoundAgentServer<H> {
    /// Serves for ever.
    ///
    /// # Errors
    ///
    /// None at present: what goes wrong on one connection ends that one.
    pub async fn serve(self) -> Result<(), AgentProtocolError> {
        self.serve_until(pending()).await
    }

    /// Serves until `shutdown` completes. Then no more connections and events are taken, those that are
    /// being worked on are answered, and the socket file is removed.
    ///
    /// # Errors
    ///
    /// None at present: what goes wrong on one connection ends that one.
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
        let reception = server.settings.reception(server.encodings.clone());
        let mut doorway = Doorway::new(server.settings.max_connections);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                link = accept(&listener) => {
                    let (handler, mailbox) = (Arc::clone(&server.handler), server.control.join());
                    sessions.spawn(reception.clone().attend(handler, link, mailbox, doorway.enter()));
                }
                Some(_) = sessions.join_next() => {}
            }
        }
        drop(listener);
        drop(socket_file);
        server.control.drain();
        let drained = async { while sessions.join_next().await.is_some() {} };
        // Whoever is not done by then is cut off when the set is dropped.
        let _ = timeout(server.settings.drain_timeout, drained).await;
        Ok(())
    }
}

/// Takes the next connection.
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

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Accepting fails for want of file descriptors, mostly; trying again at once would only burn time.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

fn listen_error(path: &Path, cause: io::Error) -> AgentProtocolError {
    AgentProtocolError::Listen {
        endpoint: path.display().to_string(),
        cause,
    }
}
