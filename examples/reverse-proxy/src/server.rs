//! Accepts connections of clients, in HTTP/1 and HTTP/2 with prior knowledge.

use crate::client_stream::ClientStream;
use crate::proxy_header;
use crate::upstream::Upstream;
use crate::watched_stream::WatchedStream;
use anyhow::Context;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate_example_settings::Settings;
use tollgate_tower::{AgentLayer, BoxError, Disconnect, Peer};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Time that a client has for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that requests have to end when the proxy is stopped.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until the process receives a termination signal.
///
/// # Errors
///
/// Returns an error if the address cannot be bound, or an agent's name or endpoint is invalid.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let server = Server::bind(settings).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    server
        .serve_until(async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
        .await;
    Ok(())
}

/// A proxy on tasks of the current runtime. Dropping this stops it as a termination signal does.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    // Dropping it ends the server.
    _stop: oneshot::Sender<()>,
}

impl Running {
    /// Starts a proxy, which listens once this returns. Port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// Returns an error like [`run`].
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let server = Server::bind(settings).await?;
        let address = server.listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.serve_until(async move {
            // An error means that the sender was dropped.
            let _ = stopped.await;
        }));
        Ok(Self {
            address,
            _stop: stop,
        })
    }

    /// Returns the address that the proxy listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A proxy that listens.
struct Server {
    listener: TcpListener,
    upstream: Upstream,
    layer: AgentLayer,
    has_proxy_header: bool,
    /// Host of requests without one, which only HTTP/1.0 has.
    default_host: HeaderValue,
}

impl Server {
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let chain = settings.connect().await?;
        let listener = TcpListener::bind(settings.listen).await;
        Ok(Self {
            listener: listener.with_context(|| format!("cannot listen at {}", settings.listen))?,
            upstream: Upstream::new(settings.upstream)?,
            layer: AgentLayer::new(chain),
            has_proxy_header: settings.proxy_protocol,
            default_host: HeaderValue::from_str(&settings.upstream.to_string())?,
        })
    }

    async fn serve_until(self, stopped: impl Future<Output = ()>) {
        let upstream = self.upstream;
        let forward = service_fn(move |request| upstream.clone().forward(request));
        let service = self.layer.layer(forward);
        let builder = connections();
        let graceful = GracefulShutdown::new();
        let mut stopped = pin!(stopped);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut stopped => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    let client = Client {
                        service: service.clone(),
                        has_proxy_header: self.has_proxy_header,
                        default_host: self.default_host.clone(),
                        address,
                    };
                    tokio::spawn(client.serve(stream, builder.clone(), graceful.watcher()));
                }
                // The limit of descriptors, for example. Waiting lets others end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listener);
        let _ = timeout(GRACE, graceful.shutdown()).await;
    }
}

/// Returns the settings of clients' connections.
fn connections() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20));
    builder
}

/// A client's connection.
struct Client<S> {
    service: S,
    has_proxy_header: bool,
    default_host: HeaderValue,
    address: SocketAddr,
}

impl<S, R> Client<S>
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    R: Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    async fn serve(
        self,
        mut stream: TcpStream,
        builder: auto::Builder<TokioExecutor>,
        watcher: Watcher,
    ) {
        let address = self.address;
        // Fails only if the connection is closed already.
        let _ = stream.set_nodelay(true);
        let (proxied, first) = match self.read_proxy_header(&mut stream).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%address, %error, "a connection is refused");
                return;
            }
        };
        let peer = Peer::new(address).proxied(proxied);
        let host = self.default_host;
        let disconnect = Disconnect::new();
        let gone = disconnect.clone();
        let service = self
            .service
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(disconnect.clone());
                settle_host(&mut request, &host);
                request
            });
        let watched = WatchedStream::new(stream);
        let stream = ClientStream::new(watched.clone(), first, HEAD_TIMEOUT);
        let stream = Box::pin(stream);
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let served = watcher.watch(connection.into_owned());
        if let Err(error) = until_gone(served, &watched, &gone).await {
            tracing::debug!(%address, %error, "a client's connection ended");
        }
    }

    async fn read_proxy_header(
        &self,
        stream: &mut TcpStream,
    ) -> io::Result<(Option<SocketAddr>, Bytes)> {
        if !self.has_proxy_header {
            return Ok((None, Bytes::new()));
        }
        timeout(HEAD_TIMEOUT, proxy_header::read(stream)).await?
    }
}

/// Serves a connection to its end, and tells its requests when the client has gone.
async fn until_gone<T>(
    served: impl Future<Output = T>,
    watched: &WatchedStream,
    disconnect: &Disconnect,
) -> T {
    let mut served = pin!(served);
    tokio::select! {
        biased;
        end = &mut served => return end,
        () = watched.client_gone() => disconnect.notify(),
    }
    served.await
}

/// Adds the host that the upstream gets to a request of HTTP/1.0 without one, for agents to see.
fn settle_host<B>(request: &mut Request<B>, host: &HeaderValue) {
    let is_old = request.version() < Version::HTTP_11 && request.uri().authority().is_none();
    if is_old && !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, host.clone());
    }
}
