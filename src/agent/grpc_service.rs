//! What HTTP/2 calls: each stream is a connection like any other.

use super::answer::{Job, answer};
use super::control::AgentControl;
use super::handler::AgentHandler;
use super::reception::Reception;
use super::session::respond;
use crate::connection::link::{Batch, LinkReceiver};
use crate::transport::grpc::{MessageReceiver, PROCESS_STREAM, SERVICE, max_frame, pipe};
use crate::transport::{Doorway, Link};
use crate::wire::{
    Dialect, Direction, Encoding, FrameBuffer, HandshakeRequest, MAX_FRAME_LEN, MessageType,
    OutgoingFrame, control, event_of, frame_of,
};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
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
    doorway: Mutex<Doorway>,
    sessions: Mutex<JoinSet<()>>,
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
            sessions: Mutex::default(),
        }))
    }

    /// The sessions that are under way, to be waited for.
    pub(super) fn take_sessions(&self) -> JoinSet<()> {
        std::mem::take(&mut *lock(&self.0.sessions))
    }

    fn process_stream(&self, request: Body) -> Response<Body> {
        let shared = &self.0;
        let (link, response) = self.link(request);
        let visit = lock(&shared.doorway).enter();
        let mailbox = shared.control.join();
        let handler = Arc::clone(&shared.handler);
        self.spawn(
            shared
                .reception
                .clone()
                .attend(handler, link, mailbox, visit),
        );
        response
    }

    /// One event without a handshake.
    async fn process_event(self, request: Body) -> Result<Response<Body>, Status> {
        let (mut link, response) = self.link(request);
        let (number, payload) = receive_one(&mut *link.receiver).await?;
        let frame = self.answer(number, payload).await?;
        let mut batch = Batch::default();
        batch.push(frame);
        // The pipe is empty and takes any one frame.
        link.sender
            .try_send(&mut batch, &drop)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(response)
    }

    /// The answer to the message of a single call.
    async fn answer(&self, number: u8, payload: BytesMut) -> Result<OutgoingFrame, Status> {
        let shared = &self.0;
        let message = MessageType::from_number(number);
        if let Some(event_type) = message.and_then(event_of) {
            let places = &shared.reception.places;
            let _place = places.acquire().await;
            let job = Job {
                event_type,
                dialect: Dialect::published(Encoding::Protobuf)
                    .within(max_frame(shared.max_message)),
                stream: None,
                payload,
                scratch: Box::default(),
                order: Arc::default(),
                progress: Arc::default(),
            };
            let done = answer(Arc::clone(&shared.handler), job).await;
            done.result.map_err(|error| invalid(&error))?;
            return Ok(done.scratch.into_frame());
        }
        let encodings = &[Encoding::Protobuf];
        let (message, payload) = match message {
            Some(MessageType::HandshakeRequest) => {
                let request = HandshakeRequest::decode_for(encodings, &payload)
                    .map_err(|error| invalid(&error))?;
                let response = respond(&request, &shared.handler.capabilities(), encodings);
                (
                    MessageType::HandshakeResponse,
                    response.encode_for(encodings),
                )
            }
            Some(MessageType::Ping) => {
                let pong = control::pong(&payload, Encoding::Protobuf);
                (MessageType::Pong, pong.map_err(|error| invalid(&error))?)
            }
            _ => return Err(Status::invalid_argument("a message that has no answer")),
        };
        frame_of(message, &payload).map_err(|error| invalid(&error))
    }

    /// Agents tell everything on the streams that they are asked on, so there is nothing to be told here: the
    /// stream stays open as long as the proxy wants it.
    fn control_stream(&self, mut request: Body) -> Response<Body> {
        let (sender, body) = pipe(Some(ok_trailers()));
        let mailbox = self.0.control.join();
        self.spawn(async move {
            let read = async {
                while let Some(Ok(_)) =
                    poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut request), cx)).await
                {
                }
            };
            tokio::select! {
                () = read => {}
                () = mailbox.drained() => {}
            }
            drop(sender);
        });
        grpc_response(Body::new(body))
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

/// The one message of a single call.
async fn receive_one(receiver: &mut dyn LinkReceiver) -> Result<(u8, BytesMut), Status> {
    let mut buffer = FrameBuffer::default();
    loop {
        if let Some(frame) = buffer
            .next_frame(MAX_FRAME_LEN)
            .map_err(|error| invalid(&error))?
        {
            return Ok(frame);
        }
        let received = poll_fn(|cx| receiver.poll_receive(cx, buffer.spare()))
            .await
            .map_err(|error| invalid(&error))?;
        if received == 0 {
            return Err(Status::invalid_argument("a call without a message"));
        }
    }
}

fn invalid(error: &dyn std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
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
            let response = match head.uri.path() {
                PROCESS_STREAM => Ok(service.process_stream(body)),
                CONTROL_STREAM => Ok(service.control_stream(body)),
                PROCESS_EVENT => service.process_event(body).await,
                _ => Err(Status::unimplemented("no such method")),
            };
            Ok(response.unwrap_or_else(Status::into_http))
        })
    }
}

impl<H> tonic::server::NamedService for AgentService<H> {
    const NAME: &'static str = SERVICE;
}
