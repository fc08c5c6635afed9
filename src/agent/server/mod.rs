//! The server of an agent: its builder, its listeners and connections to proxies, and its drain.

mod accept;
mod dialing;
mod endpoint;
mod inherited;
pub(super) mod listener;
mod other_limits;
mod other_protocol;
mod places;
pub(super) mod sessions;
#[cfg(feature = "__sim")]
#[path = "../../../tests/simulator/hooks/agent.rs"]
mod simulated;
mod stream_socket;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_handshake;

pub use listener::{Incoming, Listener};
pub use other_limits::SessionMemory;
pub use other_protocol::{NotAsked, OtherSession};
#[cfg(feature = "__sim")]
pub use simulated::Simulated;
pub use stream_socket::StreamSocket;
#[cfg(feature = "tls")]
pub use tls_handshake::TlsHandshake;

use super::control::AgentControl;
use super::dial::DialSettings;
#[cfg(feature = "grpc")]
use super::grpc::GrpcServer;
use crate::configuration::setters;
use crate::connection::{BYTES_TO_PROXY, SharedMemory, SharedMemoryConfig};
use crate::debug_fields::debug_fields;
use crate::error::BindError;
use crate::handler::AgentHandler;
use crate::protocol::DEFAULT_DRAIN_TIMEOUT;
use crate::transport::{Existing, FileIdentity};
use crate::wire::{DEFAULT_FRAME_TIMEOUT, Encoding};
use endpoint::{ListenEndpoint, SocketSettings};
use futures_util::stream::{FuturesUnordered, StreamExt};
use listener::DynListener;
use sessions::{SessionLimits, Sessions};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Interval at which a server checks whether another one has taken over its socket files.
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(50);

/// Silence after which a connection is closed whose proxy cannot be asked to move away from it.
const MOVE_SILENCE: Duration = Duration::from_millis(20);

/// Serves an agent: listens for proxies, dials proxies, or both.
///
/// ```no_run
/// # async fn example(
/// #     handler: impl tollgate::AgentHandler,
/// # ) -> Result<(), tollgate::error::BindError> {
/// use tollgate::AgentServer;
///
/// AgentServer::builder(handler)
///     .listen("/run/waf.sock")
///     .listen("tcp://10.0.0.1:7000")
///     .dial("tcp://proxy-1.internal:7000")
///     .token_file("/run/secrets/agent-token")
///     .serve_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
///     .await
/// # }
/// ```
pub struct AgentServer<H> {
    sessions: Arc<Sessions<H>>,
    listeners: Vec<Box<dyn DynListener>>,
    dialing: super::dial::Dialing,
    drain_timeout: Duration,
    /// Socket files whose take-over ends the server.
    files: Vec<FileIdentity>,
    #[cfg(feature = "grpc")]
    grpc: Option<GrpcServer>,
}

/// Settings of an [`AgentServer`], which [`AgentServer::builder`] begins with. The limits apply to
/// all its listeners together.
pub struct AgentServerBuilder<H> {
    handler: Arc<H>,
    control: AgentControl,
    endpoints: Vec<String>,
    listeners: Vec<Box<dyn DynListener>>,
    socket_mode: u32,
    existing: Existing,
    limits: SessionLimits,
    drain_timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Option<crate::TlsServerConfig>,
    #[cfg(feature = "grpc")]
    max_message: usize,
    pub(super) dial: DialSettings,
}

impl<H: AgentHandler> AgentServer<H> {
    /// Begins with a handler and the default settings.
    pub fn builder(handler: H) -> AgentServerBuilder<H> {
        AgentServerBuilder {
            handler: Arc::new(handler),
            control: AgentControl::default(),
            endpoints: Vec::new(),
            listeners: Vec::new(),
            socket_mode: 0o600,
            existing: Existing::Respected,
            limits: SessionLimits {
                encodings: vec![Encoding::MessagePack, Encoding::Json],
                max_connections: 1024,
                max_concurrent: 1024,
                handshake_timeout: Duration::from_secs(5),
                frame_timeout: DEFAULT_FRAME_TIMEOUT,
                shared_memory: SharedMemoryConfig {
                    mode: SharedMemory::Adaptive,
                    bytes: BYTES_TO_PROXY,
                },
            },
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "grpc")]
            max_message: crate::transport::grpc::MAX_MESSAGE,
            dial: DialSettings::default(),
        }
    }
}

impl<H: AgentHandler> AgentServerBuilder<H> {
    /// Listens at an endpoint. May be called several times.
    ///
    /// | endpoint | listens at | feature |
    /// |---|---|---|
    /// | `/path`, `unix:/path` | a Unix socket | |
    /// | `tcp://host:port` | a TCP port, without encryption | |
    /// | `tls://host:port` | a TCP port with TLS, see `tls` | `tls` |
    /// | `grpc://host:port`, `http://…`, `host:port` | gRPC without encryption | `grpc` |
    /// | `grpcs://host:port`, `https://…` | gRPC with TLS | `grpc` |
    /// | `grpc+unix:///path` | gRPC on a Unix socket | `grpc` |
    /// | `systemd:`, `systemd:NAME` | sockets that systemd passes: all, or those with a name | |
    /// | `tls+systemd:` | sockets that systemd passes, with TLS | `tls` |
    /// | `grpc+systemd:`, `grpcs+systemd:` | sockets that systemd passes, with gRPC | `grpc` |
    ///
    /// A socket file that no process listens at is replaced, and it is removed when the server
    /// stops. With port 0 the system chooses a port, see
    /// [`endpoints`](AgentServer::endpoints). Whoever can connect to a TCP port is served, unless
    /// TLS requires a certificate.
    ///
    /// gRPC is the service `zentinel.agent.v2.AgentServiceV2`, with health checks
    /// (`grpc.health.v1`) and reflection. The health status is `SERVING`, and `NOT_SERVING` from
    /// the moment the server begins to drain.
    #[must_use]
    pub fn listen(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    setters! {
        /// Accepts connections of a listener: one of tokio's, or one for another protocol. May be
        /// called several times.
        listen_on(self, listener: impl Listener) => self.listeners.push(Box::new(listener));

        /// Sets the mode of socket files, 0600 by default: only processes of the same user may
        /// connect.
        socket_mode(self, mode: u32) => self.socket_mode = mode;

        /// Takes socket files over from a server that listens there, for restarts without a gap:
        /// there is a socket at every moment, and new connections go to this server. Any other file
        /// at the path is replaced as well.
        ///
        /// In turn this server ends when others have taken over all its socket files. Start the new
        /// process, and the old one ends by itself: it asks its proxies to move to new connections,
        /// and serves those that they have until they are done. Proxies without tollgate's
        /// extension cannot be asked; their connections are closed after a moment of silence.
        take_over_socket_files(self) => self.existing = Existing::TakenOver;

        /// Sets the certificate for endpoints with TLS.
        #[cfg(feature = "tls")]
        tls(self, tls: crate::TlsServerConfig) => self.tls = Some(tls);

        /// Sets the encodings that are accepted and, in order of preference, offered to proxies
        /// that are dialed; MessagePack and JSON by default.
        ///
        /// As the protocol requires, JSON is used with a proxy that connects and offers none of
        /// them. `zentinel-agent-protocol` has JSON only when dialed; a proxy chooses among the
        /// offered encodings only if it supports tollgate's extension. gRPC always uses protobuf.
        encodings(self, encodings: impl Into<Vec<Encoding>>) =>
            self.limits.encodings = encodings.into();

        /// Sets how many connections are served at once, 1,024 by default. For a further one, a
        /// connection is closed that has sent no event yet, or none for 10 s: the oldest of the
        /// peer that has most of them. If there is none, it waits for the response to its
        /// handshake. Connections to proxies that are dialed do not count.
        ///
        /// As many again may be in their handshake; then a new one evicts the oldest of the peer
        /// that has most. Over gRPC this applies to streams, of which one HTTP/2 connection may
        /// have an eighth, and separately to HTTP/2 connections without streams, which count as
        /// connections in their handshake.
        max_connections(self, connections: usize) =>
            self.limits.max_connections = connections.max(1);

        /// Sets how many events of one connection may be in the handler at once, 1,024 by default.
        /// Further events stay unread.
        max_concurrent_per_connection(self, events: usize) =>
            self.limits.max_concurrent = events.max(1);

        /// Sets the size limit of received and sent gRPC messages in bytes, 10 MiB by default and
        /// 16 MiB at most. A larger message from a proxy ends its stream. A larger answer is
        /// replaced by a block with status 500.
        #[cfg(feature = "grpc")]
        max_message_size(self, bytes: usize) => self.max_message = bytes;

        /// Sets the time limit for a handshake, 5 s by default. It applies to the TLS handshake and
        /// to the handshake of the protocol separately.
        handshake_timeout(self, timeout: Duration) => self.limits.handshake_timeout = timeout;

        /// Sets the time in which an incomplete frame has to make progress, 10 s by default. A
        /// connection whose frame neither is complete nor has grown by 64 KiB after that time, and
        /// again after each further such time, is closed.
        frame_timeout(self, timeout: Duration) => self.limits.frame_timeout = timeout;

        /// Sets the use of shared memory with proxies that are connected by Unix sockets and offer
        /// it; [`SharedMemory::Adaptive`] by default.
        shared_memory(self, mode: SharedMemory) => self.limits.shared_memory.mode = mode;

        /// Sets the size in bytes of the memory that a connection writes to a proxy, where shared
        /// memory is used: 16 KiB to 4 MiB, rounded up to a power of two; 64 KiB by default. The
        /// proxy's side has its own. Both count for `max_memory`, of which a connection may use a
        /// quarter at most with all that is in use already; beyond it, it stays on its socket.
        shared_memory_size(self, bytes: usize) => self.limits.shared_memory.bytes = bytes;

        /// Sets the time limit for unfinished events when the server stops, 30 s by default.
        drain_timeout(self, timeout: Duration) => self.drain_timeout = timeout;
    }

    /// Sets the limit of the memory that all proxies together make the server hold, in bytes; 256
    /// MiB by default. Received parts of frames, waiting events and unsent answers count, and some
    /// 48 KiB for each connection: raise it along with `max_connections`.
    ///
    /// Once half of it is used, a connection that holds more than its share of the limit, one
    /// sixteenth or less if there are more connections, reads no further events before those that
    /// wait are answered. Beyond the limit, the connections that hold most are closed. Choose at
    /// least 64 MiB, so that a few frames of 16 MiB fit.
    #[must_use]
    pub fn max_memory(self, bytes: usize) -> Self {
        self.control.memory().set_limit(bytes);
        self
    }

    /// Returns a handle that sends notices to the connected proxies and counts the connections.
    pub fn control(&self) -> AgentControl {
        self.control.clone()
    }

    /// Listens at all endpoints. Proxies can connect once this returns. Proxies are dialed once the
    /// server [serves](AgentServer::serve_until).
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](BindError::InvalidEndpoint),
    /// [`InvalidTls`](BindError::InvalidTls) if the certificates are not usable, or
    /// [`Listen`](BindError::Listen) if another process listens at a path, if a path is a
    /// file that is not a socket, if `LISTEN_FDS` is wrong, or if a system call fails.
    pub async fn bind(self) -> Result<AgentServer<H>, BindError> {
        let parse = |text: &String| text.parse::<ListenEndpoint>();
        let endpoints: Vec<_> = self.endpoints.iter().map(parse).collect::<Result<_, _>>()?;
        #[cfg(feature = "tls")]
        if let Some(endpoint) = self.endpoints.first()
            && self.tls.is_some()
            && !endpoints.iter().any(|endpoint| endpoint.uses_tls)
        {
            let reason = "there is a certificate, but no endpoint with TLS";
            return Err(crate::error::InvalidEndpoint::new(endpoint, reason).into());
        }
        let dialing = self.dial.dialing()?;
        #[cfg(feature = "grpc")]
        let grpc = GrpcServer::new(self.max_message);
        let settings = SocketSettings {
            mode: self.socket_mode,
            existing: self.existing,
            #[cfg(feature = "tls")]
            tls: self.tls,
            #[cfg(feature = "grpc")]
            http2: grpc.incoming(),
        };
        let (mut listeners, mut files) = (self.listeners, Vec::new());
        for (endpoint, text) in endpoints.iter().zip(&self.endpoints) {
            for listener in endpoint.listen(text, &settings).await? {
                files.extend(listener.file_identity());
                listeners.push(Box::new(listener));
            }
        }
        if self.existing == Existing::Respected {
            files.clear();
        }
        Ok(AgentServer {
            sessions: Arc::new(Sessions::new(self.handler, self.control, self.limits)),
            listeners,
            dialing,
            drain_timeout: self.drain_timeout,
            files,
            #[cfg(feature = "grpc")]
            grpc: endpoints
                .iter()
                .any(|endpoint| endpoint.uses_grpc)
                .then_some(grpc),
        })
    }

    /// Listens and serves forever.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind) and [`AgentServer::serve_until`].
    pub async fn serve(self) -> Result<(), BindError> {
        self.bind().await?.serve().await
    }

    /// Listens and serves until `shutdown` completes, as [`AgentServer::serve_until`] does.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind) and [`AgentServer::serve_until`].
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<(), BindError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let server = tokio::select! {
            biased;
            bound = self.bind() => bound?,
            () = &mut shutdown => return Ok(()),
        };
        server.serve_until(shutdown).await
    }
}

impl<H: AgentHandler> AgentServer<H> {
    /// Returns the endpoints that the server listens at, at which proxies reach it. A port that the
    /// system chose is part of its endpoint.
    pub fn endpoints(&self) -> Vec<String> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| listener.endpoint()).collect()
    }

    /// Returns a handle that sends notices to the connected proxies and counts the connections.
    pub fn control(&self) -> AgentControl {
        self.sessions.control.clone()
    }

    /// Serves forever.
    ///
    /// # Errors
    ///
    /// As for [`serve_until`](Self::serve_until).
    pub async fn serve(self) -> Result<(), BindError> {
        self.serve_until(pending()).await
    }

    /// Serves until `shutdown` completes. The server then accepts no more connections, tells the
    /// proxies that it has dialed to send no new exchanges, removes its socket files, and answers
    /// the events that are being worked on.
    ///
    /// # Errors
    ///
    /// [`Listen`](BindError::Listen) if gRPC cannot be served at all. An error on a
    /// connection ends only that connection. A proxy that cannot be reached or rejects the agent is
    /// logged, and dialed again.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<(), BindError> {
        let sessions = Running(self.sessions);
        #[cfg(feature = "grpc")]
        let grpc = match self.grpc {
            Some(grpc) => Some(grpc.start(&sessions.0).await?),
            None => None,
        };
        self.dialing.start(&sessions.0);
        let accepting = self.listeners.iter();
        let mut accepting: FuturesUnordered<_> = accepting
            .map(|listener| sessions.0.accept(&**listener))
            .collect();
        let mut is_taken_over = false;
        tokio::select! {
            biased;
            () = shutdown => {}
            // Never completes: a listener is asked again whatever happens.
            () = async {
                while accepting.next().await.is_some() {}
                pending::<()>().await;
            } => {}
            // Last, so that the connections which still came here are accepted before.
            () = taken_over(&self.files) => is_taken_over = true,
        }
        drop(accepting);
        #[cfg(feature = "grpc")]
        let grpc = match grpc {
            Some(grpc) => Some(grpc.report_stopping().await),
            None => None,
        };
        drop(self.listeners);
        if is_taken_over {
            let moved = sessions.0.control.move_away(MOVE_SILENCE);
            let _ = timeout(self.drain_timeout, moved).await;
        }
        let drained = sessions.0.drain(self.drain_timeout);
        #[cfg(feature = "grpc")]
        if let Some(grpc) = grpc {
            grpc.drain(&sessions.0, drained).await;
            return Ok(());
        }
        drained.await;
        Ok(())
    }
}

/// Completes when other servers have taken over all socket files, and the connections that were
/// made before have been accepted. Never completes if there are none.
async fn taken_over(files: &[FileIdentity]) {
    if files.is_empty() {
        pending::<()>().await;
    }
    loop {
        sleep(TAKE_OVER_INTERVAL).await;
        if files.iter().all(FileIdentity::is_taken_over) {
            break;
        }
    }
    sleep(TAKE_OVER_INTERVAL).await;
}

/// Sessions that end when this is dropped.
struct Running<H: AgentHandler>(Arc<Sessions<H>>);

impl<H: AgentHandler> Drop for Running<H> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

debug_fields!(AgentServer<H>, |self|
    endpoints: self.listeners.iter().map(|listener| listener.endpoint()).collect::<Vec<_>>(),
);

debug_fields!(AgentServerBuilder<H>, |self|
    endpoints: self.endpoints, limits: self.limits, dial: self.dial,
);
