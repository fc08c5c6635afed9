//! A client to put before the proxy.

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

/// A request's body.
pub type Body = BoxBody<Bytes, Infallible>;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A connection that requests go over one after another.
pub enum Client {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Body>),
    /// HTTP/2, as both sides know beforehand.
    Http2(http2::SendRequest<Body>),
}

impl Client {
    /// Connects with HTTP/1.1.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
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
    /// Nobody listens there, or not with HTTP/2.
    pub async fn http2(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// The connection ended, in the middle of the answer for one.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Answer> {
        let (head, body) = self.begin(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Sends a request and waits for the head of the answer. Errors as for [`Client::send`].
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

    /// Gets a path. Errors as for [`Client::send`].
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send(request(Method::GET, path, Empty::new().boxed()))
            .await
    }

    /// Posts a body whose length is announced. Errors as for [`Client::send`].
    pub async fn post(&mut self, path: &str, body: &'static str) -> anyhow::Result<Answer> {
        self.send(request(Method::POST, path, Full::from(body).boxed()))
            .await
    }

    /// Posts a body in chunks. Errors as for [`Client::send`].
    pub async fn post_chunks(
        &mut self,
        path: &str,
        chunks: &'static [&'static str],
    ) -> anyhow::Result<Answer> {
        self.send(request(Method::POST, path, chunked(chunks)))
            .await
    }
}

/// A request without headers.
///
/// # Panics
///
/// The path is none.
pub fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("a path");
    request
}

/// A body in chunks.
pub fn chunked(chunks: &'static [&'static str]) -> Body {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for chunk in chunks {
            // The proxy does not want the rest.
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
