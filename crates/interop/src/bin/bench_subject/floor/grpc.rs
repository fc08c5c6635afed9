//! Messages on one stream of each connection, through tonic as documented.

use super::waiter::Waiter;
use super::{ANY_ID, CAPACITY, Connection, Connections, lock};
use crate::engine;
use anyhow::Context as _;
use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tollgate::codec::{CallId, Codec};
use tollgate::{AgentResponse, Encoding};
use tollgate_load_driver::{CONNECTIONS, Subject, Traffic};
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, StreamingService};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

const METHOD: &str = "/floor.Floor/Ask";

const PROTOBUF: Codec = Codec::extended(Encoding::Protobuf);

const CALL: CallId<'_> = CallId {
    correlation_id: ANY_ID,
    stream_id: 0,
};

/// The floor over gRPC.
pub(crate) struct Grpc;

impl Subject for Grpc {
    type Proxy = Connections<GrpcConnection>;
    type Address = SocketAddr;

    async fn serve(&self, address: SocketAddr) -> anyhow::Result<()> {
        let mut allow = Vec::new();
        PROTOBUF.encode_answer(&AgentResponse::default_allow(), CALL, &mut allow);
        let answers = Answers(allow.into());
        Ok(Server::builder()
            .add_service(answers)
            .serve(address)
            .await?)
    }

    async fn connect(
        &self,
        address: &SocketAddr,
        traffic: &Traffic,
    ) -> anyhow::Result<Self::Proxy> {
        let mut head = Vec::new();
        PROTOBUF.encode_event(&engine::head(ANY_ID), CALL, &mut head);
        let head = Bytes::from(head);
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            connections.push(GrpcConnection::open(*address).await?);
        }
        Ok(Connections::new(connections, head, traffic, Bytes::clone))
    }
}

/// The agent, which answers each message with the same one.
#[derive(Clone)]
struct Answers(Bytes);

impl NamedService for Answers {
    const NAME: &'static str = "floor.Floor";
}

impl Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answers = self.clone();
        Box::pin(async move {
            let mut server = tonic::server::Grpc::new(Verbatim);
            Ok(server.streaming(answers, request).await)
        })
    }
}

impl StreamingService<Bytes> for Answers {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let answer = self.0.clone();
        let answers = request
            .into_inner()
            .map(move |message| message.map(|_| answer.clone()));
        ready(Ok(Response::new(Box::pin(answers))))
    }
}

/// The proxy's side of a connection.
pub(crate) struct GrpcConnection {
    messages: mpsc::Sender<Bytes>,
    /// Waiting callers in the order of their messages.
    unanswered: Mutex<VecDeque<Arc<Waiter>>>,
}

impl Connection for GrpcConnection {
    fn send(&self, message: &Bytes, waiter: &Arc<Waiter>) -> anyhow::Result<()> {
        let mut unanswered = lock(&self.unanswered);
        unanswered.push_back(Arc::clone(waiter));
        let sent = self.messages.try_send(message.clone());
        sent.context("the connection is closed or full")
    }
}

impl GrpcConnection {
    /// Opens a connection and spawns the task that reads until the agent ends.
    async fn open(address: SocketAddr) -> anyhow::Result<Arc<Self>> {
        let channel = Endpoint::new(format!("http://{address}"))?
            .connect()
            .await?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let (messages, mut waiting) = mpsc::channel(CAPACITY);
        let outgoing = stream::poll_fn(move |context| waiting.poll_recv(context));
        let method = PathAndQuery::from_static(METHOD);
        let answers = client.streaming(Request::new(outgoing), method, Verbatim);
        let answers = answers.await?.into_inner();
        let connection = Arc::new(Self {
            messages,
            unanswered: Mutex::new(VecDeque::with_capacity(CAPACITY)),
        });
        tokio::spawn(Arc::clone(&connection).read(answers));
        Ok(connection)
    }

    async fn read(self: Arc<Self>, mut answers: Streaming<Bytes>) {
        // The agent is killed at the end of a run. If it ended earlier, its callers would wait for
        // ever, and the driver would report calls that did not end.
        while let Some(Ok(_)) = answers.next().await {
            if let Some(waiter) = lock(&self.unanswered).pop_front() {
                waiter.answer();
            }
        }
    }
}

/// Codec that passes messages as bytes.
#[derive(Clone, Copy, Default)]
struct Verbatim;

impl tonic::codec::Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
