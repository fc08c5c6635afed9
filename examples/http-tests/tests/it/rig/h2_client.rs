//! A client of HTTP/2 with prior knowledge.

use super::http1_client::pairs;
use super::outcome::Reply;
use super::request::Request;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::future::poll_fn;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection of HTTP/2.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Http2 {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            // Requests see how the connection ended.
            let _ = connection.await;
        });
        let sender = sender.ready().await.unwrap();
        Self { sender, connection }
    }

    /// Sends the head of a request.
    pub(crate) fn head(&mut self, request: &Request) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = match request.host {
            Some(host) => format!("http://{host}{}", request.target),
            None => request.target.clone(),
        };
        let mut builder = http::Request::builder()
            .version(http::Version::HTTP_2)
            .method(request.method)
            .uri(uri);
        for (name, value) in &request.headers {
            builder = builder.header(*name, &value[..]);
        }
        if let Some(body) = request.body.as_ref().filter(|body| !body.is_chunked) {
            builder = builder.header("content-length", body.len());
        }
        let head = builder.body(()).unwrap();
        self.sender
            .send_request(head, request.body.is_none())
            .unwrap()
    }

    pub(crate) async fn send(&mut self, request: &Request) -> Option<Reply> {
        let (response, stream) = self.head(request);
        // Sending ends early if the proxy has answered and reset the stream.
        let (reply, _) = tokio::join!(read(response), send_body(request, stream));
        reply
    }

    /// Ends the connection without a word.
    pub(crate) async fn close(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }
}

async fn send_body(request: &Request, mut stream: SendStream<Bytes>) -> Option<()> {
    let body = request.body.as_ref()?;
    for chunk in &body.chunks {
        send_data(&mut stream, chunk.clone()).await?;
    }
    if body.trailers.is_empty() {
        return stream.send_data(Bytes::new(), true).ok();
    }
    let trailers = body.trailers.iter().map(|(name, value)| {
        let value = HeaderValue::from_static(value);
        (HeaderName::from_static(name), value)
    });
    stream.send_trailers(trailers.collect::<HeaderMap>()).ok()
}

/// Sends bytes as the receiver permits; `None` if the stream is over.
pub(crate) async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        let part = data.split_to(capacity.min(data.len()));
        stream.send_data(part, false).ok()?;
    }
    Some(())
}

pub(crate) async fn read(response: ResponseFuture) -> Option<Reply> {
    let (head, body) = response.await.ok()?.into_parts();
    let mut reply = Reply {
        status: head.status.as_u16(),
        headers: pairs(&head.headers),
        ..Reply::default()
    };
    reply.is_whole = read_body(body, &mut reply).await.is_ok();
    Some(reply)
}

async fn read_body(mut body: RecvStream, reply: &mut Reply) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        reply.body.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let trailers = body.trailers().await?;
    reply.trailers = pairs(&trailers.unwrap_or_default());
    Ok(())
}
