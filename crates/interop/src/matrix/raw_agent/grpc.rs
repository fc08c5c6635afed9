use super::super::notice::Message;
use super::protobuf::generated::{AgentToProxy, ProxyToAgent, agent_to_proxy, proxy_to_agent};
use super::protobuf::{accept, allow, said};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

/// The raw agent over gRPC, on tonic and types that prost makes.
#[derive(Debug)]
pub(in super::super) struct GrpcAgent {
    endpoint: PathBuf,
    messages: UnboundedSender<AgentToProxy>,
}

impl GrpcAgent {
    pub(super) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let (messages, outgoing) = unbounded_channel();
        let service = AgentService(Arc::new(Mutex::new(Some(Lines {
            answers: messages.clone(),
            outgoing,
        }))));
        let incoming = TcpIncoming::from(listener);
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        Self {
            endpoint: format!("grpc://{address}").into(),
            messages,
        }
    }

    pub(super) fn endpoint(&self) -> &Path {
        &self.endpoint
    }

    pub(super) fn tell(&self, message: &Message) {
        let message = as_message(said(message));
        self.messages.send(message).expect("the stream is open");
    }
}

/// What the stream of the one connection sends.
struct Lines {
    answers: UnboundedSender<AgentToProxy>,
    outgoing: UnboundedReceiver<AgentToProxy>,
}

/// `zentinel.agent.v2.AgentServiceV2`, with nothing but `ProcessStream`.
#[derive(Clone)]
struct AgentService(Arc<Mutex<Option<Lines>>>);

impl NamedService for AgentService {
    const NAME: &'static str = "zentinel.agent.v2.AgentServiceV2";
}

impl Service<http::Request<Body>> for AgentService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<AgentToProxy, ProxyToAgent>::default();
            Ok(Grpc::new(codec).streaming(service, request).await)
        })
    }
}

impl StreamingService<ProxyToAgent> for AgentService {
    type Response = AgentToProxy;
    type ResponseStream = BoxStream<'static, Result<AgentToProxy, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ProxyToAgent>>) -> Self::Future {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let lines = lines.ok_or_else(|| Status::unavailable("taken"))?;
            tokio::spawn(answer(request.into_inner(), lines.answers));
            let mut outgoing = lines.outgoing;
            let outgoing = stream::poll_fn(move |cx| outgoing.poll_recv(cx));
            Ok(Response::new(outgoing.map(Ok).boxed()))
        })
    }
}

/// Answers what has to be until the proxy ends the stream.
async fn answer(mut events: Streaming<ProxyToAgent>, answers: UnboundedSender<AgentToProxy>) {
    while let Ok(Some(event)) = events.message().await {
        let answer = match event.message {
            Some(proxy_to_agent::Message::Handshake(_)) => accept(),
            Some(proxy_to_agent::Message::RequestHeaders(event)) => {
                allow(event.metadata.unwrap_or_default().correlation_id)
            }
            _ => continue,
        };
        // Nobody reads answers once the stream has ended.
        let _ = answers.send(as_message(answer));
    }
}

fn as_message(message: agent_to_proxy::Message) -> AgentToProxy {
    AgentToProxy {
        message: Some(message),
        ..AgentToProxy::default()
    }
}
