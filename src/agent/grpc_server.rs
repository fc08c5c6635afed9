//! The gRPC server of an agent.

use super::control::AgentControl;
use super::grpc_acceptor::{GrpcAcceptor, Listener};
use super::grpc_service::AgentService;
use super::handler::AgentHandler;
use super::server_settings::ServerSettings;
use crate::error::{AgentProtocolError, InvalidEndpoint};
use crate::transport::grpc::{
    GrpcAddress, GrpcEndpoint, Http2Connection, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    MAX_DATA_FRAME, MAX_MESSAGE, SERVER_WINDOW, SERVICE, Security, WINDOW,
};
use crate::transport::tls::{Acceptor, TlsServerConfig};
use crate::transport::{BACKLOG, Endpoint, HandshakeLimiter, SocketFile};
use crate::wire::Encoding;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// The messages of `proto/agent_v2.proto`, for the reflection service.
const DESCRIPTOR: &[u8] = include_bytes!("../../proto/agent_v2.bin");

/// Time that connections without event streams get to receive the health status and the GOAWAY
/// frame and to close, before the draining server closes them.
const GOAWAY_GRACE: Duration = Duration::from_millis(100);

/// Serves an agent over gRPC: `zentinel.agent.v2.AgentServiceV2`, with health checks
/// (`grpc.health.v1`) and reflection.
///
/// The health status of the service and of the whole server is `SERVING`, and `NOT_SERVING` from
/// the moment the server begins to drain.
///
/// ```no_run
/// # async fn example(
/// #     handler: impl tollgate::AgentHandler,
/// # ) -> Result<(), tollgate::AgentProtocolError> {
/// use tollgate::GrpcAgentServer;
///
/// let server = GrpcAgentServer::new("grpc://0.0.0.0:50051", handler).bind().await?;
/// server.serve_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await
/// # }
/// ```
#[derive(Debug)]
pub struct GrpcAgentServer<H> {
    listen: String,
    handler: Arc<H>,
    control: AgentControl,
    tls: Option<TlsServerConfig>,
    max_message: usize,
    settings: ServerSettings,
}

impl<H: AgentHandler> GrpcAgentServer<H> {
    /// Creates a server that will listen at `listen`: a host and a port, optionally after `grpc://`
    /// or `http://`; the same after `grpcs://` or `https://` with [`GrpcAgentServer::with_tls`]; or
    /// the path of a socket file after `grpc+unix://`.
    pub fn new(listen: impl Into<String>, handler: H) -> Self {
        Self {
            listen: listen.into(),
            handler: Arc::new(handler),
            control: AgentControl::default(),
            tls: None,
            max_message: MAX_MESSAGE,
            settings: ServerSettings::default(),
        }
    }

    /// Serves with TLS, whatever the scheme of the address.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsServerConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the mode of the socket file, if there is one, 0600 by default.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Sets how many streams are served at once, 1,024 by default. Further ones wait for the
    /// response to their handshake.
    ///
    /// As many streams again may be in their handshake; then a new one evicts the oldest. A second
    /// limit of the same size applies to HTTP/2 connections without streams, including those in the
    /// TLS handshake.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections.max(1);
        self
    }

    /// Sets how many events of one stream may be in the handler at once, 1,024 by default. Further
    /// events stay unread.
    #[must_use]
    pub fn with_max_concurrent_per_connection(mut self, events: usize) -> Self {
        self.settings.max_concurrent_per_connection = events.max(1);
        self
    }

    /// Sets the size limit of received and sent messages in bytes, 10 MiB by default and 16 MiB at
    /// most. A larger message from a proxy ends its stream. A larger answer is replaced by a block
    /// with status 500.
    #[must_use]
    pub fn with_max_message_size(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets the time limit for a handshake, 5 s by default. It applies to the TLS handshake and to
    /// the handshake of the protocol separately.
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

    /// Binds the address and listens. Proxies can connect once this returns.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint),
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if the certificates are not usable, or
    /// [`Listen`](AgentProtocolError::Listen) if the system call fails.
    pub async fn bind(self) -> Result<BoundGrpcAgentServer<H>, AgentProtocolError> {
        let endpoint = self.endpoint()?;
        let failed = |cause| AgentProtocolError::Listen {
            endpoint: self.listen.clone(),
            cause,
        };
        let acceptor = match &self.tls {
            Some(tls) => Some(Arc::new(tls.http2_acceptor()?)),
            None => None,
        };
        let listener = match &endpoint.address {
            GrpcAddress::Tcp { host, port } => Listener::Tcp(
                TcpListener::bind((host.as_str(), *port))
                    .await
                    .map_err(failed)?,
            ),
            GrpcAddress::Unix(path) => {
                let path = Endpoint::from_path(path)?;
                let listening = SocketFile::listen(path, self.settings.mode, BACKLOG).await;
                let (listener, file) = listening.map_err(failed)?;
                Listener::Unix {
                    listener,
                    _file: file,
                }
            }
        };
        Ok(BoundGrpcAgentServer {
            listener,
            acceptor,
            server: self,
        })
    }

    fn endpoint(&self) -> Result<GrpcEndpoint, AgentProtocolError> {
        let invalid = |reason| InvalidEndpoint::new(&*self.listen, reason);
        let endpoint = GrpcEndpoint::parse(&self.listen).map_err(invalid)?;
        if endpoint.security == Security::Tls && self.tls.is_none() {
            return Err(invalid("TLS needs a certificate and its key").into());
        }
        if matches!(endpoint.address, GrpcAddress::Unix(_)) && self.tls.is_some() {
            return Err(invalid("TLS is not supported on Unix sockets").into());
        }
        Ok(endpoint)
    }

    fn service(&self) -> AgentService<H> {
        AgentService::new(
            Arc::clone(&self.handler),
            self.control.clone(),
            self.settings.limits(vec![Encoding::Protobuf]),
            self.max_message,
        )
    }

    /// Binds and serves forever.
    ///
    /// # Errors
    ///
    /// As for [`GrpcAgentServer::bind`].
    pub async fn run(self) -> Result<(), AgentProtocolError> {
        self.bind().await?.serve().await
    }
}

/// A gRPC server that listens, returned by [`GrpcAgentServer::bind`].
pub struct BoundGrpcAgentServer<H> {
    listener: Listener,
    acceptor: Option<Arc<Acceptor>>,
    server: GrpcAgentServer<H>,
}

impl<H> std::fmt::Debug for BoundGrpcAgentServer<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundGrpcAgentServer")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl<H: AgentHandler> BoundGrpcAgentServer<H> {
    /// Returns the address that the server listens at, or `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix { .. } => None,
        }
    }

    /// Serves forever.
    ///
    /// # Errors
    ///
    /// As for [`BoundGrpcAgentServer::serve_until`].
    pub async fn serve(self) -> Result<(), AgentProtocolError> {
        self.serve_until(pending()).await
    }

    /// Serves until `shutdown` completes. The server then reports `NOT_SERVING`, accepts no more
    /// connections and events, and answers the events that are being worked on.
    ///
    /// # Errors
    ///
    /// [`Listen`](AgentProtocolError::Listen) if HTTP/2 cannot be served at all.
    pub async fn serve_until(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentProtocolError> {
        let Self {
            listener,
            acceptor,
            server,
        } = self;
        let settings = &server.settings;
        let service = server.service();
        let (sender, accepted) = mpsc::channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_service_status(SERVICE, ServingStatus::Serving)
            .await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| listen_error(&server.listen, error))?;
        let http = http2_server(settings.max_connections)
            .add_service(service.clone())
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(incoming(accepted), async {
                let _ = stopped.await;
            });
        let mut http = std::pin::pin!(http);
        let grpc_acceptor = GrpcAcceptor {
            acceptor,
            handshake_timeout: settings.handshake_timeout,
            limiter: Arc::new(Mutex::new(HandshakeLimiter::new(settings.max_connections))),
            incoming: sender,
        };
        tokio::select! {
            () = shutdown => {}
            () = grpc_acceptor.run(&listener) => {}
            served = &mut http => {
                return served.map_err(|error| listen_error(&server.listen, error));
            }
        }
        // Before GOAWAY, so that clients which watch the health on a connection are told on it.
        for service in ["", SERVICE] {
            health
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
        drop(listener);
        let idle = grpc_acceptor.take_idle();
        let mut sessions = service.stop();
        // Sends GOAWAY, so that proxies open no more streams.
        drop(stop);
        let ended = async { while sessions.join_next().await.is_some() {} };
        let drained = async { tokio::join!(ended, http) };
        let drained = async {
            tokio::select! {
                _ = drained => {}
                () = drop_after_grace(idle) => {}
            }
        };
        // Connections that are not done by then are cut off when their futures are dropped.
        let _ = timeout(settings.drain_timeout, drained).await;
        Ok(())
    }
}

/// Drops connections without event streams after [`GOAWAY_GRACE`]. Never completes.
async fn drop_after_grace<T>(idle: T) {
    sleep(GOAWAY_GRACE).await;
    drop(idle);
    pending::<()>().await;
}

fn http2_server(max_connections: usize) -> Server {
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(SERVER_WINDOW)
        .max_frame_size(Some(MAX_DATA_FRAME))
        .max_concurrent_streams(max_streams(max_connections))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Limit of the streams of one connection: as many as are served at once, and as many again in
/// their handshake.
fn max_streams(max_connections: usize) -> u32 {
    u32::try_from(max_connections.saturating_mul(2)).unwrap_or(u32::MAX)
}

fn listen_error(
    listen: &str,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> AgentProtocolError {
    AgentProtocolError::Listen {
        endpoint: listen.to_owned(),
        cause: io::Error::other(cause),
    }
}

fn incoming(
    mut incoming: mpsc::Receiver<Http2Connection>,
) -> impl futures_util::Stream<Item = io::Result<Http2Connection>> {
    futures_util::stream::poll_fn(move |cx| incoming.poll_recv(cx).map(|next| next.map(Ok)))
}
