//! Forwards requests to the upstream over HTTP/1.1.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use tollgate_tower::RequestBody;

/// Body of a request as the agents let it go.
type Body = RequestBody<Incoming>;

/// Body of a response: the upstream's, or none.
pub type UpstreamBody = Either<Incoming, Empty<Bytes>>;

/// The upstream, with connections that are used for several requests. Clones share them.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: Client<HttpConnector, Body>,
    authority: Authority,
}

impl Upstream {
    /// Creates an upstream without a connection.
    ///
    /// # Errors
    ///
    /// Never fails for a valid address.
    pub fn new(address: SocketAddr) -> Result<Self, http::uri::InvalidUri> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            authority: address.to_string().parse()?,
        })
    }

    /// Forwards a request. The response is 502 if the upstream does not answer, and 501
    /// to `CONNECT`.
    pub async fn forward(
        self,
        mut request: Request<Body>,
    ) -> Result<Response<UpstreamBody>, Infallible> {
        if request.method() == Method::CONNECT {
            return Ok(plain(StatusCode::NOT_IMPLEMENTED));
        }
        let client = request.extensions_mut().remove::<OnUpgrade>();
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = self.target(request.uri());
        // The server has told the client to go on once the body is read.
        request.headers_mut().remove(EXPECT);
        keep_connection(request.headers_mut());
        announce_body(&mut request);
        match self.client.request(request).await {
            Ok(mut response) => {
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    let upstream = hyper::upgrade::on(&mut response);
                    client.map(|client| tokio::spawn(tunnel(client, upstream)));
                }
                Ok(response.map(Either::Left))
            }
            Err(error) => {
                tracing::debug!(%error, "the upstream does not answer");
                Ok(plain(StatusCode::BAD_GATEWAY))
            }
        }
    }

    fn target(&self, uri: &Uri) -> Uri {
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        let path = parts.path_and_query.take();
        parts.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// Removes what the client wants of its own connection. That to the upstream serves others as well.
fn keep_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(UPGRADE) {
        headers.remove(CONNECTION);
    }
}

/// Announces a body of unknown length. hyper's client does it for methods that usually have a body
/// only, and drops that of others, which agents may have seen.
fn announce_body<B: http_body::Body>(request: &mut Request<B>) {
    let body = request.body();
    let has_unknown_length = !body.is_end_stream() && body.size_hint().exact().is_none();
    let headers = request.headers_mut();
    if has_unknown_length && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn plain(status: StatusCode) -> Response<UpstreamBody> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = status;
    response
}

/// Copies bytes between two connections that go on with another protocol.
async fn tunnel(client: OnUpgrade, upstream: OnUpgrade) {
    let Ok((client, upstream)) = tokio::try_join!(client, upstream) else {
        return;
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
        tracing::debug!(%error, "a connection that was upgraded ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::{Body, Frame};
    use http_body_util::Full;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// A body whose length nobody knows.
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn coding<B: Body>(request: http::request::Builder, body: B) -> Option<HeaderValue> {
        let mut request = request.body(body).unwrap();
        announce_body(&mut request);
        request.headers_mut().remove(TRANSFER_ENCODING)
    }

    #[test]
    fn body_of_unknown_length_is_chunked_whatever_the_method() {
        assert_eq!(coding(Request::get("/"), Endless).unwrap(), "chunked");
        let with_length = Request::get("/").header(CONTENT_LENGTH, 5);
        assert_eq!(coding(with_length, Endless), None);
        let whole = Full::new(Bytes::from_static(b"whole"));
        assert_eq!(coding(Request::get("/"), whole), None);
        assert_eq!(coding(Request::get("/"), Empty::<Bytes>::new()), None);
    }

    #[test]
    fn connection_to_the_upstream_stays_open() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        keep_connection(&mut headers);
        assert!(headers.is_empty());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        keep_connection(&mut headers);
        assert_eq!(headers.len(), 2);
    }
}
