//! What HTTP/2 calls: each stream is a connection like any other.

use super::control::AgentControl;
use super::grpc_call;
use super::handler::AgentHandler;
use super::reception::Reception;
use crate::connection::link::Link;
use crate::transport::grpc::{
    MessageReceiver, PROCESS_STREAM, SERVICE, Standing, Stay, is_grpc, max_frame, pipe,
};
use crate::transport::{Doorway, Visit};
use crate::wire::Direction;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// The paths of the other methods.
const CONTROL_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ControlStream";
const PROCESS_EVENT: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessEvent";

/// The service `zentinel.agent.v2.AgentServiceV2`. Clones serve the same agent.
pub(super) struct AgentService<H>(Arc<Shared<H>>);

struct Shared<H> {
    handler: Arc<H>,
    control: AgentControl,
    reception: Reception,
    max_message: usize,
    /// Where streams and calls stand before they are served.
    doorway: Mutex<Doorway>,
    control_streams: Arc<Semaphore>,
    sessions: Mutex<JoinSet<()>>,
    stopping: watch::Sender<bool>,
}

impl<H> Clone for AgentService<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: AgentHandler> AgentService<H> {
    pub(super) fn new(
        handler: Arc<H>,
        control: AgentControl,
        reception: Reception,
        max_message: usize,
    ) -> Self {
        let capacity = reception.places.available_permits();
        Self(Arc::new(Shared {
            handler,
            control,
            reception,
            max_message,
            doorway: Mutex::new(Doorway::new(capacity)),
            control_streams: Arc::new(Semaphore::new(capacity)),
            sessions: Mutex::default(),
            stopping: watch::Sender::new(false),
        }))
    }

    pub(super) fn handler(&self) -> &Arc<H> {
        &self.0.handler
    }

    pub(super) fn reception(&self) -> &Reception {
        &self.0.reception
    }

    /// Takes a place among those that are not served yet.
    pub(super) fn enter(&self) -> Visit {
        lock(&self.0.doorway).enter()
    }

    /// Has every session finish what it has. Returns those that are under way, to be waited for.
    pub(super) fn stop(&self) -> JoinSet<()> {
        self.0.stopping.send_replace(true);
        self.0.control.drain();
        std::mem::take(&mut *lock(&self.0.sessions))
    }

    fn process_stream(&self, request: Body, stay: Option<Stay>) -> Result<Response<Body>, Status> {
        let shared = &self.0;
        let mailbox = shared.control.join();
        // Looked at behind `join`, so that whoever comes too late for this is told to drain.
        if *shared.stopping.borrow() {
            return Err(Status::unavailable("the agent stops"));
        }
        let (link, response) = self.link(request);
        let handler = Arc::clone(&shared.handler);
        let session = shared
            .reception
            .clone()
            .attend(handler, link, mailbox, self.enter());
        self.spawn(async move {
            let _stay = stay;
            session.await;
        });
        Ok(response)
    }

    /// One event without a handshake.
    async fn process_event(
        self,
        request: Body,
        _stay: Option<Stay>,
    ) -> Result<Response<Body>, Status> {
        let (link, response) = self.link(request);
        grpc_call::attend(&self, link).await?;
        Ok(response)
    }

    /// Agents tell everything on the streams that they are asked on, so there is nothing to be told here: the
    /// stream stays open as long as the proxy wants it.
    fn control_stream(
        &self,
        mut request: Body,
        stay: Option<Stay>,
    ) -> Result<Response<Body>, Status> {
        let place = Arc::clone(&self.0.control_streams)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many control streams"))?;
        let (sender, body) = pipe(Some(ok_trailers()));
        let mut stopping = self.0.stopping.subscribe();
        self.spawn(async move {
            let _held = (stay, place, sender);
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

    fn link(&self, request: Body) -> (Link, Response<Body>) {
        let (sender, body) = pipe(Some(ok_trailers()));
        let receiver = MessageReceiver::new(request, Direction::ToAgent, self.0.max_message);
        let link = Link {
            sender: Box::new(sender),
            receiver: Box::new(receiver),
            max_frame: max_frame(self.0.max_message),
        };
        (link, grpc_response(Body::new(body)))
    }

    fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let mut sessions = lock(&self.0.sessions);
        while sessions.try_join_next().is_some() {}
        sessions.spawn(session);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What speaks something else than gRPC is told so in the words of HTTP.
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
            let stay = head.extensions.get::<Arc<Standing>>().map(Standing::stay);
            let response = match head.uri.path() {
                PROCESS_STREAM => service.process_stream(body, stay),
                CONTROL_STREAM => service.control_stream(body, stay),
                PROCESS_EVENT => service.process_event(body, stay).await,
                _ => Err(Status::unimplemented("no such method")),
            };
            Ok(response.unwrap_or_else(Status::into_http))
        })
    }
}

impl<H> tonic::server::NamedService for AgentService<H> {
    const NAME: &'static str = SERVICE;
}
