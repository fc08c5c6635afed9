//! HTTP/2 and gRPC stream by stream, for sending what no correct peer sends.

use super::{TEST_TIMEOUT, config, proto};
use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, Encoding};

pub const PROCESS_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessStream";
pub const CONTROL_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ControlStream";
pub const PROCESS_EVENT: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessEvent";

/// Port on which a test plays the agent.
pub struct RawServer {
    pub endpoint: String,
    listener: TcpListener,
}

impl RawServer {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            endpoint: format!("grpc://{}", listener.local_addr().unwrap()),
            listener,
        }
    }

    /// Accepts the next HTTP/2 connection.
    pub async fn accept(&self) -> ServerConnection {
        let accepted = timeout(TEST_TIMEOUT, self.listener.accept()).await;
        let (stream, _) = accepted.expect("no connection arrives").unwrap();
        let mut connection = server::handshake(stream).await.unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        let (commands, mut received) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(command) = received.recv() => match command {
                        Shutdown::Graceful => connection.graceful_shutdown(),
                        Shutdown::Abrupt(reason) => connection.abrupt_shutdown(reason),
                    },
                    accepted = connection.accept() => match accepted {
                        Some(Ok((request, respond))) => {
                            let _ = opened.send(IncomingStream { request, respond });
                        }
                        _ => return,
                    },
                }
            }
        });
        ServerConnection {
            streams,
            commands,
            driver,
        }
    }

    /// Accepts the next connection and the first stream on it.
    pub async fn accept_stream(&self) -> (ServerConnection, IncomingStream) {
        let mut connection = self.accept().await;
        let incoming = connection.next_stream().await;
        (connection, incoming)
    }

    /// Accepts the next connection and completes the handshake on its stream, as an agent on
    /// `zentinel-agent-protocol` does.
    pub async fn accept_handshake(&self) -> (ServerConnection, RawStream) {
        self.accept_handshake_with(&proto::accept_handshake(None))
            .await
    }

    /// Like [`RawServer::accept_handshake`], with another response.
    pub async fn accept_handshake_with(&self, response: &[u8]) -> (ServerConnection, RawStream) {
        let (connection, incoming) = self.accept_stream().await;
        let mut stream = incoming.respond();
        let handshake = stream.expect_message().await;
        assert_eq!(
            proto::text(&proto::content(&handshake, 1), 3),
            env!("CARGO_PKG_VERSION")
        );
        stream.send_message(response);
        (connection, stream)
    }
}

/// Connects a pool to an agent named "agent", which the test plays on one connection.
pub async fn raw_grpc_pool(
    config: AgentPoolConfig,
) -> (RawServer, AgentPool, ServerConnection, RawStream) {
    raw_grpc_pool_with(config, &proto::accept_handshake(None)).await
}

/// Like [`raw_grpc_pool`], with another response to the handshake.
pub async fn raw_grpc_pool_with(
    config: AgentPoolConfig,
    response: &[u8],
) -> (RawServer, AgentPool, ServerConnection, RawStream) {
    let agent = RawServer::listen().await;
    let pool = AgentPool::with_config(config);
    let (added, (connection, stream)) = tokio::join!(
        pool.add(AgentConfig::new("agent", &*agent.endpoint).require_connection()),
        agent.accept_handshake_with(response)
    );
    added.unwrap();
    (agent, pool, connection, stream)
}

/// Returns a configuration with one connection that is replaced soon after it is lost.
pub fn grpc_config() -> AgentPoolConfig {
    config(Encoding::Protobuf).reconnect_interval(std::time::Duration::from_millis(10))
}

/// Command that ends a connection.
enum Shutdown {
    Graceful,
    Abrupt(Reason),
}

/// An HTTP/2 connection of a proxy.
pub struct ServerConnection {
    streams: mpsc::UnboundedReceiver<IncomingStream>,
    commands: mpsc::UnboundedSender<Shutdown>,
    driver: JoinHandle<()>,
}

impl ServerConnection {
    /// Waits for the next stream that the proxy opens.
    pub async fn next_stream(&mut self) -> IncomingStream {
        let incoming = timeout(TEST_TIMEOUT, self.streams.recv()).await;
        incoming
            .expect("no stream is opened")
            .expect("the connection ended")
    }

    /// Sends a GOAWAY that rejects new streams.
    pub fn go_away(&self) {
        self.commands.send(Shutdown::Graceful).unwrap();
    }

    /// Sends a GOAWAY with an error, and closes the connection.
    pub fn go_away_because(&self, reason: Reason) {
        self.commands.send(Shutdown::Abrupt(reason)).unwrap();
    }

    /// Waits until the connection is closed.
    pub async fn closed(self) {
        let driver = timeout(TEST_TIMEOUT, self.driver).await;
        driver.expect("the connection stays").unwrap();
    }

    /// Closes the connection as if the process had ended.
    pub fn kill(&self) {
        self.driver.abort();
    }
}

/// Stream without a response.
pub struct IncomingStream {
    pub request: Request<RecvStream>,
    respond: server::SendResponse<Bytes>,
}

impl IncomingStream {
    /// Responds as a gRPC server does.
    pub fn respond(self) -> RawStream {
        self.respond_with(Response::builder().header("content-type", "application/grpc"))
    }

    pub fn respond_with(mut self, response: http::response::Builder) -> RawStream {
        let response = response.body(()).unwrap();
        let sending = self.respond.send_response(response, false).unwrap();
        RawStream::new(sending, self.request.into_body())
    }

    pub fn reset(mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }
}

/// An HTTP/2 connection to an agent.
pub struct ClientConnection {
    requests: client::SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl ClientConnection {
    /// Connects to the agent at an endpoint.
    pub async fn to(endpoint: &std::path::Path) -> Self {
        Self::with_window(endpoint, 1024 * 1024).await
    }

    /// Like [`ClientConnection::to`], with the number of bytes that the agent may send on a stream
    /// before they are read.
    pub async fn with_window(endpoint: &std::path::Path, window: u32) -> Self {
        let address = endpoint.to_str().unwrap().trim_start_matches("grpc://");
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(16 * 1024 * 1024)
            .handshake(stream)
            .await
            .unwrap();
        Self {
            requests,
            driver: tokio::spawn(connection),
        }
    }

    /// Opens a stream as a gRPC client does.
    pub async fn open(&mut self, path: &str) -> OpenStream {
        self.open_as(path, "application/grpc").await
    }

    pub async fn open_as(&mut self, path: &str, content_type: &str) -> OpenStream {
        let opened = self.try_open_as(path, content_type).await;
        opened.unwrap()
    }

    /// Opens a stream on a connection that may have ended.
    pub async fn try_open(&mut self, path: &str) -> Option<OpenStream> {
        self.try_open_as(path, "application/grpc").await.ok()
    }

    async fn try_open_as(
        &mut self,
        path: &str,
        content_type: &str,
    ) -> Result<OpenStream, h2::Error> {
        let request = Request::post(format!("http://localhost{path}"))
            .header("te", "trailers")
            .header("content-type", content_type)
            .body(())
            .unwrap();
        let ready = timeout(TEST_TIMEOUT, self.requests.clone().ready()).await;
        let mut requests = ready.expect("no room for a stream")?;
        let (response, sending) = requests.send_request(request, false)?;
        Ok(OpenStream { response, sending })
    }

    /// Opens a stream and completes the handshake on it, as a proxy on `zentinel-agent-protocol`
    /// does.
    pub async fn shake_hands(&mut self) -> RawStream {
        let shaken = self.try_shake_hands().await;
        shaken.expect("the connection ended")
    }

    /// Like [`ClientConnection::shake_hands`], on a connection that may have ended.
    pub async fn try_shake_hands(&mut self) -> Option<RawStream> {
        let mut opened = self.try_open(PROCESS_STREAM).await?;
        opened.try_send_bytes(framed(&proto::offer_handshake()))?;
        let mut stream = opened.try_responded().await.ok()?;
        let response = stream.message().await.ok()??;
        let response = proto::content(&response, 1);
        assert_eq!(proto::find(&response, 3), Some(proto::Value::Number(1)));
        Some(stream)
    }

    /// Waits until the connection is closed. Returns an error unless it was closed regularly.
    pub async fn closed(self) -> Result<(), h2::Error> {
        let driver = timeout(TEST_TIMEOUT, self.driver).await;
        driver.expect("the connection stays").unwrap()
    }

    /// Returns the number of streams that the agent allows per connection.
    pub fn max_streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    pub fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }
}

/// Sending half of a stream.
pub trait SendHalf {
    fn sending(&mut self) -> &mut SendStream<Bytes>;

    fn send_message(&mut self, message: &[u8]) {
        self.send_bytes(framed(message));
    }

    fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.sending().send_data(bytes.into(), false).unwrap();
    }

    /// Sends bytes on a stream that may have ended. Returns `None` if it has.
    fn try_send_bytes(&mut self, bytes: impl Into<Bytes>) -> Option<()> {
        self.sending().send_data(bytes.into(), false).ok()
    }

    /// Ends the sending half, as clients do.
    fn end(&mut self) {
        self.sending().send_data(Bytes::new(), true).unwrap();
    }

    fn reset(&mut self, reason: Reason) {
        self.sending().send_reset(reason);
    }
}

impl SendHalf for OpenStream {
    fn sending(&mut self) -> &mut SendStream<Bytes> {
        &mut self.sending
    }
}

impl SendHalf for RawStream {
    fn sending(&mut self) -> &mut SendStream<Bytes> {
        &mut self.sending
    }
}

/// Client stream whose response has not arrived.
pub struct OpenStream {
    response: client::ResponseFuture,
    pub sending: SendStream<Bytes>,
}

impl OpenStream {
    pub async fn response(self) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
        let response = timeout(TEST_TIMEOUT, self.response).await;
        Ok((response.expect("no response")?, self.sending))
    }

    pub async fn responded(self) -> RawStream {
        self.try_responded().await.unwrap()
    }

    async fn try_responded(self) -> Result<RawStream, h2::Error> {
        let (response, sending) = self.response().await?;
        assert_eq!(response.headers()["content-type"], "application/grpc");
        Ok(RawStream::new(sending, response.into_body()))
    }

    /// Waits for a failed call. Returns its gRPC status and message.
    pub async fn status(self) -> (String, String) {
        let (response, _sending) = self.response().await.unwrap();
        let (head, mut body) = response.into_parts();
        if head.headers.contains_key("grpc-status") {
            return status_in(&head.headers);
        }
        let trailers = timeout(TEST_TIMEOUT, async {
            while let Some(data) = body.data().await {
                let len = data.unwrap().len();
                body.flow_control().release_capacity(len).unwrap();
            }
            body.trailers().await
        });
        status_in(&trailers.await.expect("no trailers").unwrap().unwrap())
    }
}

/// Both directions of a stream. Waits at most [`TEST_TIMEOUT`].
pub struct RawStream {
    pub sending: SendStream<Bytes>,
    pub receiving: RecvStream,
    received: BytesMut,
}

impl RawStream {
    fn new(sending: SendStream<Bytes>, receiving: RecvStream) -> Self {
        Self {
            sending,
            receiving,
            received: BytesMut::new(),
        }
    }

    /// Ends this side of the stream with a status, as servers do.
    pub fn end_with(&mut self, status: u16) {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status));
        trailers.insert("grpc-message", HeaderValue::from_static("so%20be%20it"));
        self.sending.send_trailers(trailers).unwrap();
    }

    /// Returns the next message, or `None` once the other side has ended its half of the stream.
    pub async fn message(&mut self) -> Result<Option<Vec<u8>>, h2::Error> {
        let received = timeout(TEST_TIMEOUT, async {
            loop {
                if let Some((head, rest)) = self.received.split_first_chunk::<5>() {
                    let [_, len @ ..] = *head;
                    let len = u32::from_be_bytes(len) as usize;
                    if rest.len() >= len {
                        self.received.advance(5);
                        return Ok(Some(self.received.split_to(len).to_vec()));
                    }
                }
                let Some(data) = self.receiving.data().await else {
                    return Ok(None);
                };
                let data = data?;
                self.receiving.flow_control().release_capacity(data.len())?;
                self.received.extend_from_slice(&data);
            }
        });
        received
            .await
            .expect("neither a message nor the end arrives")
    }

    pub async fn expect_message(&mut self) -> Vec<u8> {
        let message = self.message().await.unwrap();
        message.expect("the stream ended")
    }

    /// Waits for the end of the stream, before which no message may come. Returns its gRPC status
    /// and message.
    pub async fn status(&mut self) -> (String, String) {
        assert_eq!(self.message().await.unwrap(), None);
        let trailers = timeout(TEST_TIMEOUT, self.receiving.trailers()).await;
        status_in(&trailers.unwrap().unwrap().expect("no trailers"))
    }

    /// Receives request headers. Returns their correlation id.
    pub async fn event(&mut self) -> String {
        proto::id_of_request(&self.expect_message().await)
    }

    /// Answers with a block. Its status identifies the answer.
    pub fn block(&mut self, correlation_id: &str, status: u64) {
        self.send_message(&proto::blocking(correlation_id, status));
    }
}

/// Returns a message with its flag and length in front.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&[0], &len.to_be_bytes()[..], message].concat()
}

fn status_in(headers: &HeaderMap) -> (String, String) {
    let text = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
    };
    (
        text("grpc-status"),
        text("grpc-message").replace("%20", " "),
    )
}
