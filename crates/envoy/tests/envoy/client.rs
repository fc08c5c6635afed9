//! Clients of Envoy.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for one request, on a machine that does much else.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A response as the client got it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body; `None` if it broke off.
    pub(crate) body: Option<Bytes>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(self.body.as_deref().unwrap_or(b"(broken off)")).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    case: String,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    chunks: Vec<Bytes>,
    has_trailers: bool,
    has_length: bool,
    stalls: bool,
}

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Call {
    pub(crate) fn get(case: &str, path: &str) -> Self {
        Self {
            case: case.to_owned(),
            method: "GET",
            path: path.to_owned(),
            headers: Vec::new(),
            chunks: Vec::new(),
            has_trailers: false,
            has_length: true,
            stalls: false,
        }
    }

    pub(crate) fn post(case: &str, path: &str, body: &str) -> Self {
        let mut call = Self::get(case, path);
        call.method = "POST";
        call.chunks = vec![Bytes::copy_from_slice(body.as_bytes())];
        call
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends the body in several chunks, without a length.
    pub(crate) fn chunks(mut self, chunks: &[&str]) -> Self {
        let bytes = |chunk: &&str| Bytes::copy_from_slice(chunk.as_bytes());
        self.chunks = chunks.iter().map(bytes).collect();
        self.has_length = false;
        self
    }

    /// Never ends the body.
    pub(crate) fn stall(mut self) -> Self {
        self.stalls = true;
        self.has_length = false;
        self
    }

    pub(crate) fn trailers(mut self) -> Self {
        self.has_trailers = true;
        self.has_length = false;
        self
    }

    pub(crate) async fn send(self, to: SocketAddr, version: Version) -> Answer {
        let case = self.case.clone();
        let sent = timeout(TIMEOUT, self.try_send(to, version)).await;
        sent.unwrap_or_else(|_| panic!("{case}: no answer"))
            .unwrap_or_else(|error| panic!("{case}: {error}"))
    }

    pub(crate) async fn try_send(
        self,
        to: SocketAddr,
        version: Version,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::builder()
            .method(self.method)
            .header("x-case", &self.case);
        request = match version {
            Version::Http1 => request.uri(&self.path).header("host", "test"),
            Version::Http2 => request.uri(format!("http://test{}", self.path)),
        };
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if self.has_length {
            let whole = self.chunks.concat();
            return exchange(request.body(Full::new(Bytes::from(whole)))?, to, version).await;
        }
        if self.has_trailers && version == Version::Http1 {
            request = request
                .header("trailer", "x-trailer")
                .header("te", "trailers");
        }
        let data = self.chunks.into_iter().map(Frame::data);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "1".parse()?);
        let end = self.has_trailers.then(|| Frame::trailers(trailers));
        let frames = data.chain(end).map(Ok::<_, Infallible>);
        let frames = futures_util::stream::iter(frames);
        if self.stalls {
            let body = StreamBody::new(frames.chain(futures_util::stream::pending()));
            return exchange(request.body(body)?, to, version).await;
        }
        let body = StreamBody::new(frames);
        exchange(request.body(body)?, to, version).await
    }
}

async fn exchange<B>(
    request: Request<B>,
    to: SocketAddr,
    version: Version,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TokioIo::new(TcpStream::connect(to).await?);
    let response = match version {
        Version::Http1 => {
            let (mut sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        }
        Version::Http2 => {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        }
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok().map(|body| body.to_bytes());
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
