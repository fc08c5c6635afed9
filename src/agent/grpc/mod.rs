//! Serves an agent over gRPC: HTTP/2 connections, health checks and reflection.

mod call;
mod charged_service;
mod service;

use super::server::listener::Socket;
use super::server::sessions::{Rejected, Sessions};
use crate::error::BindError;
use crate::handler::AgentHandler;
use crate::lock::lock;
use crate::log::{NO_PEER, log_line};
use crate::transport::Stream;
use crate::transport::grpc::{
    Http2Connection, Http2ConnectionState, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_DATA_FRAME,
    SERVER_WINDOW, SERVICE, WINDOW,
};
use crate::transport::tls::Acceptor;
use charged_service::ChargedService;
use service::AgentService;
use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The messages of `proto/agent_v2.proto`, for the reflection service.
const DESCRIPTOR: &[u8] = include_bytes!("../../../proto/agent_v2.bin");

/// Bytes that a health check holds for its response: its task and the status.
const HEALTH_RESPONSE: usize = 4096;

/// Bytes that reflection holds for its response: the largest message that was not sent, and the one
/// behind it.
const REFLECTION_RESPONSE: usize = 2 * DESCRIPTOR.len();

/// Limit of the streams of one connection of a server with few places.
const MIN_STREAMS: usize = 16;

/// Streams that a connection may make the server reset before it is closed. hyper's default, which
/// tonic's defaults switch off.
const MAX_RESETS: usize = 1024;

/// Time that connections without event streams get to receive the health status and the GOAWAY
/// frame and to close, before the draining server closes them.
const GOAWAY_GRACE: Duration = Duration::from_millis(100);

/// Serves HTTP/2 on the connections that it is sent.
pub(super) struct GrpcServer {
    incoming: mpsc::Sender<Http2Connection>,
    accepted: mpsc::Receiver<Http2Connection>,
    max_message: usize,
}

/// A [`GrpcServer`] that runs.
pub(super) struct RunningGrpcServer {
    health: HealthReporter,
    /// Dropping it sends GOAWAY, so that proxies open no more streams.
    stop: oneshot::Sender<()>,
}

impl GrpcServer {
    pub(super) fn new(max_message: usize) -> Self {
        let (incoming, accepted) = mpsc::channel(1);
        Self {
            incoming,
            accepted,
            max_message,
        }
    }

    /// Returns where to send connections.
    pub(super) fn incoming(&self) -> mpsc::Sender<Http2Connection> {
        self.incoming.clone()
    }

    /// Starts the HTTP/2 server in a task of the sessions.
    pub(super) async fn start<H: AgentHandler>(
        mut self,
        sessions: &Arc<Sessions<H>>,
    ) -> Result<RunningGrpcServer, BindError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_service_status(SERVICE, ServingStatus::Serving)
            .await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| BindError::Listen {
                endpoint: "grpc".to_owned(),
                source: io::Error::other(error),
            })?;
        let incoming = futures_util::stream::poll_fn(move |cx| {
            self.accepted
                .poll_recv(cx)
                .map(|next| next.map(io::Result::Ok))
        });
        let http = http2_server(sessions.limits.max_connections)
            .add_service(AgentService::new(Arc::clone(sessions), self.max_message))
            .add_service(ChargedService::new(health_service, HEALTH_RESPONSE))
            .add_service(ChargedService::new(reflection, REFLECTION_RESPONSE))
            .serve_with_incoming_shutdown(incoming, async {
                let _ = stopped.await;
            });
        sessions.spawn(async {
            if let Err(error) = http.await {
                log_line!(error, NO_PEER, { error }, "cannot serve gRPC");
            }
        });
        Ok(RunningGrpcServer { health, stop })
    }
}

impl RunningGrpcServer {
    /// Reports `NOT_SERVING`. Comes before GOAWAY, so that clients which watch the health on a
    /// connection are told on it.
    pub(super) async fn report_stopping(self) -> Self {
        for service in ["", SERVICE] {
            self.health
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
        self
    }

    /// Waits until `drained` completes. Meanwhile closes connections without event streams after
    /// [`GOAWAY_GRACE`], as they might never react to a GOAWAY frame.
    pub(super) async fn drain<H>(self, sessions: &Sessions<H>, drained: impl Future<Output = ()>) {
        let idle = lock(&sessions.limiter).take();
        drop(self.stop);
        tokio::select! {
            () = drained => {}
            () = async {
                sleep(GOAWAY_GRACE).await;
                drop(idle);
                pending::<()>().await;
            } => {}
        }
    }
}

/// Passes an accepted connection to the HTTP/2 server. TLS handshakes run in tasks, so a slow one
/// does not delay other connections.
pub(super) async fn begin<H: AgentHandler>(
    sessions: &Arc<Sessions<H>>,
    socket: Socket,
    incoming: mpsc::Sender<Http2Connection>,
) {
    let state =
        Http2ConnectionState::new(&sessions.limiter, socket.peer(), sessions.control.memory());
    let stream = match socket {
        Socket::Tls(stream, acceptor) => {
            let sessions_of_task = Arc::clone(sessions);
            return sessions.spawn(async move {
                match accept_tls(&sessions_of_task, &acceptor, stream, &state).await {
                    // Sending fails only if the HTTP/2 server has ended.
                    Ok(stream) => drop(incoming.send(Http2Connection::new(stream, state)).await),
                    Err(rejected) => sessions_of_task.log(state.peer(), &rejected),
                }
            });
        }
        Socket::Tcp(stream) => Stream::tcp(stream),
        Socket::Unix(stream) => Stream::unix(stream),
        #[cfg(feature = "__sim")]
        Socket::Simulated(_) => return,
    };
    let _ = incoming.send(Http2Connection::new(stream, state)).await;
}

async fn accept_tls<H: AgentHandler>(
    sessions: &Sessions<H>,
    acceptor: &Acceptor,
    stream: TcpStream,
    state: &Http2ConnectionState,
) -> Result<Stream, Rejected> {
    let evicted = async {
        poll_fn(|cx| state.poll_evicted(cx)).await;
        Rejected::Evicted
    };
    let handshake = acceptor.accept_stream(stream);
    let stream = sessions.admit(handshake, evicted).await?;
    Ok(Stream::tls(stream.into()))
}

fn http2_server(max_connections: usize) -> Server {
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(SERVER_WINDOW)
        .max_frame_size(Some(MAX_DATA_FRAME))
        .max_concurrent_streams(max_streams(max_connections))
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Returns the limit of the streams of one connection: an eighth of all that are served at once, so
/// that no connection takes all places.
fn max_streams(max_connections: usize) -> u32 {
    u32::try_from(max_connections.div_ceil(8).max(MIN_STREAMS)).unwrap_or(u32::MAX)
}
