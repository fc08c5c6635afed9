//! A server to put behind the proxy: it says what it got.

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

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: http::Method,
    /// Its path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it came.
    pub body: Bytes,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

/// Whether an upstream remembers what it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Every request, for as long as it runs.
    Everything,
    /// None, for measuring.
    Nothing,
}

/// An upstream on tasks of this process. It ends when this is dropped.
///
/// It answers `POST` with the body that it got, and everything else with `hello\n`, but for:
///
/// | path | answer |
/// |---|---|
/// | `/status/CODE` | that status, without a body |
/// | `/sink` | `hello\n` to a `POST` too |
/// | `/leak` | has the header `x-leak` |
/// | `/chunks/A/B/…` | the body `A`, `B`, …, in a chunk each |
/// | `/echo` | each piece of the body as soon as it arrives; such requests are not remembered |
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

type Body = BoxBody<Bytes, Infallible>;

impl Upstream {
    /// Starts one at an address, which may have the port 0.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub async fn start(address: SocketAddr, memory: Memory) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&seen), memory));
        Ok(Self {
            address,
            seen,
            serving,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What arrived so far; a request is there once its body has ended, one way or the other.
    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, memory: Memory) {
    while let Ok((stream, _)) = listener.accept().await {
        // Only a socket that is gone refuses it.
        let _ = stream.set_nodelay(true);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &seen, memory));
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // How a connection ended is seen at the other side.
            let _ = served.await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Seen>>,
    memory: Memory,
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
    if memory == Memory::Everything {
        let arrived = Seen {
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

/// A body in pieces, each of which goes out by itself.
fn in_chunks(chunks: &str) -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let chunks: Vec<Bytes> = chunks
        .split('/')
        .map(|chunk| Bytes::from(chunk.replace("%20", " ")))
        .collect();
    tokio::spawn(async move {
        for chunk in chunks {
            // Nobody wants the rest.
            if sender.send_data(chunk).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    body.boxed()
}

/// The same body, which breaks off if that does.
fn echo(mut incoming: Incoming) -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            // Nobody wants the rest.
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}
