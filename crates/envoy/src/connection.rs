//! One HTTP/2 connection of Envoy: accepts its streams and runs them, in one task.

use crate::agent::{Agent, Place, Shared};
use crate::exchange;
use crate::grpc::{Code, GrpcStream, Status, reject};
use crate::service::{check, health, reflection};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{Method, Request};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tollgate::listener::{OtherSession, Stream, TlsHandshake};

/// Streams that Envoy may have open on one connection. It opens more connections for more.
const MAX_STREAMS: u32 = 1024;

/// Bytes of a stream that Envoy may send ahead. It is small, since it is not read ahead while the
/// handler works.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes of all streams that Envoy may send ahead.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Answers that wait for Envoy to read, in bytes for each stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that may be reset before they are accepted. Envoy resets streams as a matter of course.
const MAX_PENDING_RESETS: usize = 16 * 1024;

/// Memory of small frames that wait to be read, in bytes. h2 does not give back what frames of
/// streams that were reset took, and ends the connection once it is used up.
const SMALL_FRAMES: usize = 64 * 1024 * 1024;

/// Bytes of the header fields of a call.
const MAX_CALL_HEADERS: u32 = 16 * 1024;

/// Memory that a stream takes beside its messages.
const STREAM_SIZE: usize = 8 * 1024;

const STOPPING: Status = Status::new(Code::Unavailable, "the agent stops");
const TOO_MANY: Status = Status::new(Code::ResourceExhausted, "there are too many exchanges");
const OVER_MEMORY: Status = Status::new(Code::ResourceExhausted, "no memory is left");
const UNKNOWN_METHOD: Status = Status::new(Code::Unimplemented, "the method is not known");

/// Serves one connection until it ends.
pub(crate) async fn serve(
    mut session: OtherSession,
    stream: Stream,
    tls: Option<Arc<TlsHandshake>>,
    shared: Arc<Shared>,
) {
    let stream = match tls {
        None => stream,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a TLS handshake of Envoy failed"),
        },
    };
    let mut connection = match settings().handshake::<_, Bytes>(stream).await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "an HTTP/2 handshake of Envoy failed"),
    };
    session.established().await;
    let agent = Agent::new(session, shared);
    let mut stopping = pin!(agent.session.stopping());
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = &mut stopping, if !agent.is_stopping() => {
                agent.is_stopping.store(true, Ordering::Relaxed);
                connection.graceful_shutdown();
            }
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.push(run(&agent, request, respond));
                }
                // A connection that fails is as normal as one that ends.
                Some(Err(_)) | None => break,
            },
            Some(()) = streams.next(), if !streams.is_empty() => {}
        }
    }
    // The exchanges that were under way find out that Envoy is gone.
    while streams.next().await.is_some() {}
}

fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_CALL_HEADERS);
    settings
}

/// Runs one stream.
async fn run(agent: &Agent, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    const GRPC: &[u8] = b"application/grpc";
    let (head, body) = request.into_parts();
    let content = head.headers.get(http::header::CONTENT_TYPE);
    let is_grpc = content.is_some_and(|value| value.as_bytes().starts_with(GRPC));
    if head.method != Method::POST || !is_grpc {
        return reject(&mut respond);
    }
    let mut size = agent.session.memory_charge();
    let charge = agent.session.memory_charge();
    let stream = GrpcStream::new(body, respond, agent.config().max_message, charge);
    if !size.resize(STREAM_SIZE) {
        agent.counters().refused.add_one();
        return stream.finish(OVER_MEMORY);
    }
    match head.uri.path() {
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process" => judge(agent, stream).await,
        "/envoy.service.auth.v3.Authorization/Check" => match admit(agent) {
            Ok(_place) => check::check(agent, stream).await,
            Err(status) => stream.finish(status),
        },
        "/grpc.health.v1.Health/Check" => health::check(agent, stream).await,
        "/grpc.health.v1.Health/Watch" => health::watch(agent, stream).await,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
            reflection::serve(agent, stream).await;
        }
        _ => stream.finish(UNKNOWN_METHOD),
    }
}

/// Runs an exchange, if there is a place for it.
async fn judge(agent: &Agent, stream: GrpcStream) {
    match admit(agent) {
        Ok(_place) => exchange::serve(agent, stream).await,
        Err(status) => stream.finish(status),
    }
}

fn admit(agent: &Agent) -> Result<Place<'_>, Status> {
    if agent.is_stopping() {
        return Err(STOPPING);
    }
    agent.shared.enter().ok_or_else(|| {
        agent.counters().refused.add_one();
        TOO_MANY
    })
}
