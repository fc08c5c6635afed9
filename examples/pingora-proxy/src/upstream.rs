//! An upstream server for the demonstration and the tests, which records its requests.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as the upstream received it.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Method.
    pub method: http::Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Received part of the body.
    pub body: Bytes,
    /// Set if the whole body was received.
    pub is_whole: bool,
}

/// Selects the requests that an upstream records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// Every request.
    All,
    /// No requests, for measurements.
    Off,
}

/// An upstream on tasks of this process. Dropping this ends it.
///
/// It answers `POST` with the request's body and other methods with `hello\n`, except for these
/// paths:
///
/// | path | answer |
/// |---|---|
/// | `/status/CODE` | that status, without a body |
/// | `/sink` | `hello\n` for `POST` too |
/// | `/leak` | has the header `x-leak` |
/// | `/chunks/A/B/…` | a body of the chunks `A`, `B`, … |
/// | `/echo` | each chunk of the body as soon as it arrives; such requests are not recorded |
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    serving: JoinHandle<()>,
}

type Body = BoxBody<Bytes, Infallible>;

impl Upstream {
    /// Starts an upstream at an address. Port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be bound.
    pub async fn start(address: SocketAddr, recording: Recording) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&seen), recording));
        Ok(Self {
            address,
            seen,
            serving,
        })
    }

    /// Returns the address that the upstream listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the recorded requests. A request is recorded once its body is complete or breaks
    /// off.
    pub fn seen(&self) -> MutexGuard<'_, Vec<ReceivedRequest>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    recording: Recording,
) {
    while let Ok((stream, _)) = listener.accept().await {
        // Fails only if the socket is already closed.
        let _ = stream.set_nodelay(true);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &seen, recording));
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Ignored: the other side sees how the connection ended.
            let _ = served.await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<ReceivedRequest>>,
    recording: Recording,
) -> Result<Response<Body>, Infallible> {
    let (head, mut incoming) = request.into_parts();
    if head.uri.path() == "/echo" {
        return Ok(Response::new(echo(incoming)));
    }
    let mut body = Vec::new();
    let mut is_whole = true;
    while let Some(frame) = incoming.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => body.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    let body = Bytes::from(body);
    let path = head.uri.path().to_owned();
    let is_post = head.method == http::Method::POST;
    if recording == Recording::All {
        let arrived = ReceivedRequest {
            method: head.method,
            path: head.uri.to_string(),
            headers: head.headers,
            body: body.clone(),
            is_whole,
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(arrived);
    }
    let mut response = Response::new(match () {
        () if is_post && path != "/sink" => Full::new(body).boxed(),
        () => Full::from("hello\n").boxed(),
    });
    if let Some(status) = path.strip_prefix("/status/") {
        *response.body_mut() = Empty::new().boxed();
        *response.status_mut() = status.parse().unwrap_or(StatusCode::BAD_REQUEST);
    }
    if path == "/leak" {
        response
            .headers_mut()
            .insert("x-leak", http::HeaderValue::from_static("yes"));
    }
    if let Some(chunks) = path.strip_prefix("/chunks/") {
        *response.body_mut() = in_chunks(chunks);
    }
    Ok(response)
}

/// Creates a body from chunks separated by `/`. Each chunk is sent separately.
fn in_chunks(chunks: &str) -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let chunks: Vec<Bytes> = chunks
        .split('/')
        .map(|chunk| Bytes::from(chunk.replace("%20", " ")))
        .collect();
    tokio::spawn(async move {
        for chunk in chunks {
            // Fails if the receiver stops reading the body.
            if sender.send_data(chunk).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    body.boxed()
}

/// Returns the incoming body as it arrives. Breaks off if the incoming body does.
fn echo(mut incoming: Incoming) -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            // Fails if the receiver stops reading the body.
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}
