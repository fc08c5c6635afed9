//! Accepts connections of clients, in HTTP/1 and HTTP/2 with prior knowledge.

use crate::client_stream::ClientStream;
use crate::upstream::Upstream;
use anyhow::Context;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tollgate_example_settings::Settings;
use tollgate_tower::{AgentLayer, Peer};
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
    let chain = settings.connect().await?;
    let upstream = Upstream::new(settings.upstream)?;
    let forward = service_fn(move |request| upstream.clone().forward(request));
    let service = AgentLayer::new(chain).layer(forward);
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| format!("cannot listen at {}", settings.listen))?;

    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20));
    let graceful = GracefulShutdown::new();
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminated.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let service = service.clone();
                let connection = builder
                    .serve_connection_with_upgrades(
                        connection(stream),
                        TowerToHyperService::new(service_of(service, peer)),
                    )
                    .into_owned();
                let served = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a client's connection ended");
                    }
                });
            }
            // The limit of descriptors, for example. Waiting lets others end.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    Ok(())
}

fn connection(stream: TcpStream) -> TokioIo<std::pin::Pin<Box<ClientStream<TcpStream>>>> {
    // Fails only if the connection is closed already.
    let _ = stream.set_nodelay(true);
    TokioIo::new(Box::pin(ClientStream::new(stream, HEAD_TIMEOUT)))
}

/// Returns a service for the requests of one connection, which tells the layer its address.
fn service_of<S>(
    service: S,
    peer: SocketAddr,
) -> impl Service<Request<Incoming>, Response = S::Response, Error = S::Error, Future: Send> + Clone
where
    S: Service<Request<Incoming>, Future: Send> + Clone,
{
    service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer::new(peer));
        request
    })
}
