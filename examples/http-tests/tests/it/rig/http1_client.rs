//! Clients of HTTP/1: one that sends and reads bytes, and hyper's.

use super::LIMIT;
use super::outcome::Reply;
use super::request::Request;
use super::wire::{HeadText, Reader};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// A connection on which tests send and read bytes.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) reader: Reader<OwnedReadHalf>,
    pub(crate) writer: OwnedWriteHalf,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (read, writer) = stream.into_split();
        Self {
            reader: Reader::new(read),
            writer,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads a response; `None` if the connection ends before.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        let reply = timeout(LIMIT, self.reader.reply(false)).await;
        reply.expect("no response in time")
    }

    /// Reads the head of an interim or final response.
    pub(crate) async fn head(&mut self) -> HeadText {
        let head = timeout(LIMIT, self.reader.head()).await;
        head.expect("no head in time").unwrap()
    }
}

impl Reader<OwnedReadHalf> {
    /// Reads a response; `None` if the connection ends before.
    pub(crate) async fn reply(&mut self, is_head: bool) -> Option<Reply> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head().await.ok()?;
            if (100..200).contains(&head.status()) && head.status() != 101 {
                interim.push(head);
            } else {
                break head;
            }
        };
        let mut reply = Reply {
            status: head.status(),
            headers: head.headers.clone(),
            interim,
            ..Reply::default()
        };
        let is_bodyless = is_head || matches!(reply.status, 101 | 204 | 304);
        let read = match is_bodyless {
            true => Ok(()),
            false => read_body(self, &head, &mut reply).await,
        };
        reply.is_whole = read.is_ok();
        Some(reply)
    }
}

async fn read_body(
    reader: &mut Reader<OwnedReadHalf>,
    head: &HeadText,
    reply: &mut Reply,
) -> std::io::Result<()> {
    if head.get("transfer-encoding").is_some() {
        while let Some(chunk) = reader.chunk().await? {
            reply.body.extend_from_slice(&chunk);
        }
        reply.trailers = reader.trailers().await?;
        return Ok(());
    }
    let length = head.get("content-length");
    let is_until_close = length.is_none();
    let mut left = length.map_or(usize::MAX, |len| len.parse().unwrap());
    loop {
        match reader.part(&mut left).await {
            Ok(Some(part)) => reply.body.extend_from_slice(&part),
            Ok(None) => return Ok(()),
            Err(error) if is_until_close && error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends a request as bytes, while it reads the response.
pub(crate) async fn send_raw(
    address: SocketAddr,
    request: &Request,
    version: &str,
) -> Option<Reply> {
    let Connection {
        mut reader,
        mut writer,
    } = Connection::open(address).await;
    let bytes = request.bytes(version);
    let is_head = bytes.starts_with(b"HEAD ");
    // Writing fails if the proxy has answered and hung up.
    let (reply, _) = tokio::join!(reader.reply(is_head), writer.write_all(&bytes));
    reply
}

/// Sends a request by hyper's client.
pub(crate) async fn send_hyper(address: SocketAddr, request: &Request) -> Option<Reply> {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let mut builder = http::Request::builder()
        .method(request.method)
        .uri(&request.target);
    if let Some(host) = request.host {
        builder = builder.header("host", host);
    }
    for (name, value) in &request.headers {
        builder = builder.header(*name, &value[..]);
    }
    if let Some(body) = request.body.as_ref().filter(|body| !body.is_chunked) {
        builder = builder.header("content-length", body.len());
    }
    let sent = sender.send_request(builder.body(body_of(request)).unwrap());
    let (head, mut body) = sent.await.ok()?.into_parts();
    let mut reply = Reply {
        status: head.status.as_u16(),
        headers: pairs(&head.headers),
        is_whole: true,
        ..Reply::default()
    };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => reply.body.extend_from_slice(&data),
            Ok(Err(trailers)) => {
                let trailers = trailers.into_trailers().unwrap_or_default();
                reply.trailers = pairs(&trailers);
            }
            Err(_) => reply.is_whole = false,
        }
    }
    Some(reply)
}

fn body_of(request: &Request) -> BoxBody<Bytes, Infallible> {
    let chunks = request.body.iter().flat_map(|body| body.chunks.clone());
    let frames: Vec<_> = chunks.map(|chunk| Ok(Frame::data(chunk))).collect();
    if frames.is_empty() {
        return http_body_util::Empty::new().boxed();
    }
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

pub(crate) fn pairs(headers: &http::HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        })
        .collect()
}
