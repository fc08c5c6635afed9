use super::control::AgentControl;
use super::grpc_entrance::{Entrance, Listener};
use super::grpc_service::AgentService;
use super::handler::AgentHandler;
use super::reception::ServerSettings;
use crate::error::AgentProtocolError;
use crate::transport::grpc::{
    Address, GrpcPlace, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_DATA_FRAME, MAX_MESSAGE,
    SERVER_WINDOW, SERVICE, Security, Visitor, WINDOW,
};
use crate::transport::tls::{Acceptor, TlsServerConfig};
use crate::transport::{Doorway, Endpoint, SocketFile};
use crate::wire::Encoding;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Server;

/// The messages of `proto/agent_v2.proto`, for those who ask what the server speaks.
const DESCRIPTOR: &[u8] = include_bytes!("../../proto/agent_v2.bin");

/// Serves an agent over gRPC: `zentinel.agent.v2.AgentServiceV2`, and beside it health checks
/// (`grpc.health.v1`) and reflection.
///
/// ```no_run
/// # async fn example(handler: impl tollgate::AgentHandler) -> Result<(), tollgate::AgentProtocolError> {
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
    /// A server at `listen`: an address and a port, with `grpc://` or `http://` before it or nothing;
    /// `grpcs://` or `https://` with [`GrpcAgentServer::with_tls`]; or `grpc+unix://` before the path of a socket
    /// file.
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

    /// Speaks TLS, whatever the scheme it listens at.
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

    /// Sets how many streams are served at once, 1,024 by default; more wait for the answer to their handshake. As
    /// many again may be shaking hands, of which the oldest is turned away when a newer one comes. The same holds for
    /// HTTP/2 connections without streams, and for those that shake hands for TLS together with them.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections.max(1);
        self
    }

    /// Sets how many events of one stream may wait in the handler at once, 1,024 by default; more stay unread.
    #[must_use]
    pub fn with_max_concurrent_per_connection(mut self, events: usize) -> Self {
        self.settings.max_concurrent_per_connection = events.max(1);
        self
    }

    /// Sets the size of the largest message that is taken or sent, in bytes, 10 MiB by default and 16 MiB at most. A
    /// larger one of a proxy ends its stream; in the place of a larger answer the request is blocked with status 500.
    #[must_use]
    pub fn with_max_message_size(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets how long a proxy may take to shake hands, 5 s by default, for TLS and for the protocol each.
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

    /// Listens: proxies can connect once this returns.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), [`InvalidTls`](AgentProtocolError::InvalidTls) if
    /// the certificates cannot be used, or [`Listen`](AgentProtocolError::Listen) if the system refuses.
    pub async fn bind(self) -> Result<BoundGrpcAgentServer<H>, AgentProtocolError> {
        let place = self.place()?;
        let failed = |cause| AgentProtocolError::Listen {
            endpoint: self.listen.clone(),
            cause,
        };
        let acceptor = match &self.tls {
            Some(tls) => Some(Arc::new(tls.http2_acceptor()?)),
            None => None,
        };
        let listener = match &place.address {
            Address::Tcp { host, port } => Listener::Tcp(
                TcpListener::bind((host.as_str(), *port))
                    .await
                    .map_err(failed)?,
            ),
            Address::Unix(path) => {
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

    fn place(&self) -> Result<GrpcPlace, AgentProtocolError> {
        let invalid = |reason| AgentProtocolError::InvalidEndpoint {
            endpoint: self.listen.clone(),
            reason,
        };
        let place = GrpcPlace::parse(&self.listen).map_err(invalid)?;
        if place.security == Security::Tls && self.tls.is_none() {
            return Err(invalid("TLS needs a certificate"));
        }
        if matches!(place.address, Address::Unix(_)) && self.tls.is_some() {
            return Err(invalid("there is no TLS on Unix sockets"));
        }
        Ok(place)
    }

    /// Binds and serves for ever.
    ///
    /// # Errors
    ///
    /// As for [`GrpcAgentServer::bind`].
    pub async fn run(self) -> Result<(), AgentProtocolError> {
        self.bind().await?.serve().await
    }
}

/// A server that listens.
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
    /// The address that it listens at, unless that is a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix { .. } => None,
        }
    }

    /// Serves for ever.
    ///
    /// # Errors
    ///
    /// As for [`BoundGrpcAgentServer::serve_until`].
    pub async fn serve(self) -> Result<(), AgentProtocolError> {
        self.serve_until(pending()).await
    }

    /// Serves until `shutdown` completes. Then no more connections and events are taken, and those that are being
    /// worked on are answered.
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
        let reception = settings.reception(vec![Encoding::Protobuf]);
        let service = AgentService::new(
            Arc::clone(&server.handler),
            server.control.clone(),
            reception,
            server.max_message,
        );
        let (visitors, accepted) = mpsc::channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (health, health_service) = tonic_health::server::health_reporter();
        let serving = tonic_health::ServingStatus::Serving;
        health.set_service_status(SERVICE, serving).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| listen_error(&server.listen, error))?;
        let http = Server::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(SERVER_WINDOW)
            .max_frame_size(Some(MAX_DATA_FRAME))
            .max_concurrent_streams(max_streams(settings.max_connections))
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(service.clone())
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(incoming(accepted), async {
                let _ = stopped.await;
            });
        let mut http = std::pin::pin!(http);
        let entrance = Entrance {
            acceptor,
            handshake_timeout: settings.handshake_timeout,
            doorway: Arc::new(Mutex::new(Doorway::new(settings.max_connections))),
            visitors,
        };
        tokio::select! {
            () = shutdown => {}
            () = entrance.run(&listener) => {}
            served = &mut http => {
                return served.map_err(|error| listen_error(&server.listen, error));
            }
        }
        drop(listener);
        let mut sessions = service.stop();
        // Tells proxies by GOAWAY that no more streams are taken.
        drop(stop);
        entrance.clear();
        let drained = async {
            let ended = async { while sessions.join_next().await.is_some() {} };
            let _ = tokio::join!(ended, http);
        };
        // Whoever is not done by then is cut off when all this is dropped.
        let _ = timeout(settings.drain_timeout, drained).await;
        Ok(())
    }
}

/// Streams of one connection: those that are served, and as many that shake hands.
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
    mut visitors: mpsc::Receiver<Visitor>,
) -> impl futures_util::Stream<Item = io::Result<Visitor>> {
    futures_util::stream::poll_fn(move |cx| visitors.poll_recv(cx).map(|next| next.map(Ok)))
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
