//! The gRPC service: each stream of `ProcessStream` is served like a connection.

use super::call;
use crate::agent::server::sessions::Sessions;
use crate::connection::Origin;
use crate::connection::link::Link;
use crate::handler::AgentHandler;
use crate::lock::lock;
use crate::transport::grpc::{
    CountedBody, Http2ConnectionState, MessageReceiver, PROCESS_STREAM, SERVICE, StreamGuard,
    is_grpc, max_frame, response_pipe,
};
use crate::transport::{HandshakeLimiter, HandshakeSlot, Peer, PeerKey, SharedLimiter};
use crate::wire::{Direction, Encoding};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// The paths of the methods other than `ProcessStream`.
const CONTROL_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ControlStream";

const PROCESS_EVENT: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessEvent";

/// The response to a call, or the status that it fails with.
type Reply = Result<Response<Body>, Status>;

/// The service `zentinel.agent.v2.AgentServiceV2`. Clones serve the same agent.
pub(super) struct AgentService<H>(Arc<Shared<H>>);

struct Shared<H> {
    sessions: Arc<Sessions<H>>,
    max_message: usize,
    /// Limits the streams and calls that are not served yet.
    limiter: SharedLimiter,
    control_streams: Arc<Semaphore>,
}

impl<H> Clone for AgentService<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: AgentHandler> AgentService<H> {
    pub(super) fn new(sessions: Arc<Sessions<H>>, max_message: usize) -> Self {
        let capacity = sessions.limits.max_connections;
        Self(Arc::new(Shared {
            sessions,
            max_message,
            limiter: Mutex::new(HandshakeLimiter::new(capacity)),
            control_streams: Arc::new(Semaphore::new(capacity)),
        }))
    }

    pub(super) fn sessions(&self) -> &Arc<Sessions<H>> {
        &self.0.sessions
    }

    /// Takes a handshake slot for a stream or call that is not served yet.
    fn enter_handshake(&self, peer: PeerKey) -> HandshakeSlot {
        lock(&self.0.limiter).enter(peer)
    }

    fn process_stream(&self, request: Body, stream_guard: Option<StreamGuard>) -> Reply {
        let sessions = self.sessions();
        let peer = peer_of(stream_guard.as_ref());
        let handle = sessions.control.register(Origin::Forward, peer.clone());
        // Checked after `register`: a draining server sets this before it tells the
        // registered sessions to drain, so a session that registers too late for that sees it here.
        if *sessions.stopping().borrow() {
            return Err(Status::unavailable("the agent is shutting down"));
        }
        let (link, response) = self.link(request, stream_guard.as_ref());
        let slot = self.enter_handshake(peer.key);
        let sessions_of_task = Arc::clone(sessions);
        sessions.spawn(async move {
            let _stream_guard = stream_guard;
            sessions_of_task
                .serve(link, handle, slot, &[Encoding::Protobuf])
                .await;
        });
        Ok(response)
    }

    /// Answers one event without a handshake.
    async fn process_event(self, request: Body, stream_guard: Option<StreamGuard>) -> Reply {
        let (link, response) = self.link(request, stream_guard.as_ref());
        let slot = self.enter_handshake(peer_of(stream_guard.as_ref()).key);
        call::serve_call(self.sessions(), slot, link).await?;
        Ok(response)
    }

    /// Keeps a control stream open until the proxy ends it or the server stops. The agent sends all
    /// its messages on the event streams, so it has nothing to send on this one.
    fn control_stream(&self, mut request: Body, stream_guard: Option<StreamGuard>) -> Reply {
        let permit = Arc::clone(&self.0.control_streams)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many control streams"))?;
        let (sender, body) = response_pipe(ok_trailers(), None);
        let mut stopping = self.sessions().stopping();
        self.sessions().spawn(async move {
            let _held = (stream_guard, permit, sender);
            let read = async {
                while let Some(Ok(_)) =
                    poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut request), cx)).await
                {
                }
            };
            tokio::select! {
                () = read => {}
                _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
            }
        });
        Ok(grpc_response(Body::new(body)))
    }

    fn link(&self, request: Body, stream: Option<&StreamGuard>) -> (Link, Response<Body>) {
        let connection = stream.map(|stream| Arc::clone(stream.connection()));
        let (sender, body) = response_pipe(ok_trailers(), connection);
        let receiver = MessageReceiver::new(request, Direction::ToAgent, self.0.max_message);
        let link = Link {
            sender: Box::new(sender),
            receiver: Box::new(receiver),
            max_frame: max_frame(self.0.max_message),
        };
        (link, grpc_response(Body::new(body)))
    }
}

fn peer_of(stream: Option<&StreamGuard>) -> Peer {
    stream.map_or_else(|| Peer::named("grpc"), StreamGuard::peer)
}

fn grpc_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// Returns the HTTP response to a request that is not gRPC.
fn unsupported() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

impl<H: AgentHandler> Service<Request<Body>> for AgentService<H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if !is_grpc(&head.headers) {
                return Ok(unsupported());
            }
            let connection = head.extensions.get::<Arc<Http2ConnectionState>>();
            let stream_guard = connection.map(Http2ConnectionState::begin_stream);
            let body = match connection {
                Some(connection) => Body::new(CountedBody::new(body, Arc::clone(connection))),
                None => body,
            };
            let response = match head.uri.path() {
                PROCESS_STREAM => service.process_stream(body, stream_guard),
                CONTROL_STREAM => service.control_stream(body, stream_guard),
                PROCESS_EVENT => service.process_event(body, stream_guard).await,
                _ => Err(Status::unimplemented("unknown method")),
            };
            Ok(response.unwrap_or_else(Status::into_http))
        })
    }
}

impl<H> tonic::server::NamedService for AgentService<H> {
    const NAME: &'static str = SERVICE;
}
