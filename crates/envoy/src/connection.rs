//! One HTTP/2 connection of Envoy: accepts its streams and runs them, in one task.

use crate::agent::{Agent, Place, Shared};
use crate::buffered::{Buffered, CountedStream, STREAM_WINDOW};
use crate::exchange;
use crate::grpc::{Code, GrpcStream, Status, refuse, reject};
use crate::service::{check, health, reflection};
use crate::workers::{Idle, Worker};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{Method, Request, Uri};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tollgate::listener::{OtherSession, Stream, TlsHandshake};

/// Streams that Envoy may have open on one connection. It opens more connections for more.
const MAX_STREAMS: u32 = 1024;

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

/// A stream that Envoy has opened.
type Call = (Request<RecvStream>, SendResponse<Bytes>);

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
    let buffered = Arc::new(Buffered::default());
    let stream = CountedStream::new(stream, &buffered);
    let mut connection = match settings().handshake::<_, Bytes>(stream).await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "an HTTP/2 handshake of Envoy failed"),
    };
    session.established().await;
    let agent = Agent::new(session, shared, buffered);
    let mut leaving = pin!(agent.session.leaving());
    let mut charge = agent.session.memory_charge();
    let idle = Idle::new();
    let mut workers = FuturesUnordered::new();
    poll_fn(|cx| {
        if !agent.is_stopping() && leaving.as_mut().poll(cx).is_ready() {
            agent.is_stopping.store(true, Ordering::Relaxed);
            connection.graceful_shutdown();
        }
        // All streams that were opened run before their answers are written together.
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(call))) => {
                    agent.buffered.begin_stream();
                    let added = idle.give(call);
                    workers.extend(added.map(|worker| work(&agent, &idle, worker)));
                }
                // A connection that fails is as normal as one that ends.
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        agent.buffered.sent_all_it_can();
        while let Poll::Ready(Some(())) = workers.poll_next_unpin(cx) {}
        let is_charged = charge.resize(agent.buffered.bytes());
        if is_charged && !agent.session.is_over_memory() {
            return Poll::Pending;
        }
        tracing::debug!("a connection of Envoy holds most of the memory that is used, and ends");
        Poll::Ready(())
    })
    .await;
    drop(connection);
    // The exchanges that were under way find out that Envoy is gone.
    idle.end();
    while workers.next().await.is_some() {}
}

/// Runs streams until there is no more to wait for. A worker that waits keeps its memory.
async fn work(agent: &Agent, idle: &Idle<Call>, worker: Worker<Call>) {
    let mut size = agent.session.memory_charge();
    let has_memory = size.resize(STREAM_SIZE);
    while let Some((request, mut respond)) = worker.next().await {
        if !has_memory {
            agent.counters().refused.add_one();
            agent.buffered.end_stream(0);
            return refuse(&mut respond, OVER_MEMORY);
        }
        if let Some((uri, mut stream)) = begin(agent, request, respond) {
            // Not in a function of its own: its large future would be moved here for each stream.
            match uri.path() {
                "/envoy.service.ext_proc.v3.ExternalProcessor/Process" => match admit(agent) {
                    Ok(_place) => exchange::serve(agent, stream).await,
                    Err(status) => stream.finish(status),
                },
                "/envoy.service.auth.v3.Authorization/Check" => match admit(agent) {
                    Ok(_place) => check::check(agent, stream).await,
                    Err(status) => stream.finish(status),
                },
                "/grpc.health.v1.Health/Check" => health::check(agent, stream).await,
                "/grpc.health.v1.Health/Watch" => health::watch(agent, stream).await,
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
                | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                    reflection::serve(stream).await;
                }
                _ => stream.finish(UNKNOWN_METHOD),
            }
        }
        if !idle.wait(&worker) {
            return;
        }
    }
}

/// Returns the method and the messages of a call of gRPC. What is none is reset.
fn begin(
    agent: &Agent,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<(Uri, GrpcStream<'_>)> {
    const GRPC: &[u8] = b"application/grpc";
    let (head, body) = request.into_parts();
    let content = head.headers.get(http::header::CONTENT_TYPE);
    let is_grpc = content.is_some_and(|value| value.as_bytes().starts_with(GRPC));
    if head.method != Method::POST || !is_grpc {
        agent.buffered.end_stream(0);
        reject(&mut respond);
        return None;
    }
    Some((head.uri, GrpcStream::new(agent, body, respond)))
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

fn admit(agent: &Agent) -> Result<Place<'_>, Status> {
    if agent.is_stopping() {
        return Err(STOPPING);
    }
    agent.shared.enter().ok_or_else(|| {
        agent.counters().refused.add_one();
        TOO_MANY
    })
}
