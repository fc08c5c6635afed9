//! An HTTP client for the demonstration and the tests.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Body of a request.
pub type Body = BoxBody<Bytes, Infallible>;

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// A connection for one request at a time.
pub enum Client {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Body>),
    /// HTTP/2 with prior knowledge.
    Http2(http2::SendRequest<Body>),
}

impl Client {
    /// Connects with HTTP/1.1.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails.
    pub async fn http1(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    /// Connects with HTTP/2.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails or the server does not support HTTP/2.
    pub async fn http2(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// Sends a request and waits for the complete response.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection ends before the response is complete.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Answer> {
        let (head, body) = self.begin(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Sends a request and waits for the head of the response. Errors are those of
    /// [`Client::send`].
    pub async fn begin(
        &mut self,
        mut request: Request<Body>,
    ) -> anyhow::Result<http::Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                let host = http::HeaderValue::from_static("example.com");
                request.headers_mut().insert(http::header::HOST, host);
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                let path = request.uri().path().to_owned();
                *request.uri_mut() = format!("http://example.com{path}").parse()?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// Sends a GET request for a path. Errors are those of [`Client::send`].
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send(request(Method::GET, path, Empty::new().boxed()))
            .await
    }

    /// Sends a POST request whose body has a `content-length`. Errors are those of
    /// [`Client::send`].
    pub async fn post(&mut self, path: &str, body: &'static str) -> anyhow::Result<Answer> {
        self.send(request(Method::POST, path, Full::from(body).boxed()))
            .await
    }

    /// Sends a POST request with a body in chunks. Errors are those of [`Client::send`].
    pub async fn post_chunks(
        &mut self,
        path: &str,
        chunks: &'static [&'static str],
    ) -> anyhow::Result<Answer> {
        self.send(request(Method::POST, path, chunked(chunks)))
            .await
    }
}

/// Creates a request without headers.
///
/// # Panics
///
/// Panics if the path is invalid.
pub fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("a valid path");
    request
}

/// Creates a body that is sent in these chunks.
pub fn chunked(chunks: &'static [&'static str]) -> Body {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for chunk in chunks {
            // Fails if the proxy stops reading the body.
            if sender
                .send_data(Bytes::from_static(chunk.as_bytes()))
                .await
                .is_err()
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    body.boxed()
}
