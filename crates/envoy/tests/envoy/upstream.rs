//! An upstream that echoes requests and remembers what it got.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A request as the upstream got it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    /// The body; `None` if it did not end.
    pub(crate) body: Option<Bytes>,
}

/// An upstream. It answers with the body that the request's header `x-answer` says, or with `ok`.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let this = upstream.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let this = this.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let this = this.clone();
                        async move { Ok::<_, Infallible>(this.answer(request).await) }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        upstream
    }

    /// Returns the requests of a case.
    pub(crate) fn seen(&self, case: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        let of_case = |seen: &&Seen| seen.headers.get("x-case").is_some_and(|it| it == case);
        seen.iter().filter(of_case).cloned().collect()
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let at = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(Seen {
                headers: head.headers.clone(),
                body: None,
            });
            seen.len() - 1
        };
        if let Ok(body) = body.collect().await {
            self.seen.lock().unwrap()[at].body = Some(body.to_bytes());
        }
        let text = head.headers.get("x-answer");
        let text = text.map_or(Bytes::from_static(b"ok"), |it| {
            Bytes::copy_from_slice(it.as_bytes())
        });
        let body = Full::new(text);
        let body = match head.headers.contains_key("x-answer-trailers") {
            true => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-trailer", "1".parse().unwrap());
                let body = body.with_trailers(async move { Some(Ok(trailers)) });
                UnsyncBoxBody::new(body)
            }
            false => UnsyncBoxBody::new(body),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("x-old", "1".parse().unwrap());
        response
    }
}
