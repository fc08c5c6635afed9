//! Metrics over HTTP: serves them to Prometheus, and reads those of another process.

use crate::exit::UsageError;
use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Maximum number of connections that are served. Beyond it the oldest is closed, so that slow or
/// silent ones keep no scrape out. A sixteenth of the descriptors, if that is less, since the other
/// sockets of the process need theirs.
const MAX_CONNECTIONS: u64 = 64;

/// Time limit for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for a request and its response. A connection serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Size limit of the head of a request.
const MAX_HEAD: usize = 16 << 10;

/// Size limit of a response that is read.
const MOST_BYTES: usize = 64 << 20;

/// Serves `/metrics` at `address` from a task, until the runtime ends.
pub(crate) async fn serve(
    address: SocketAddr,
    text: impl Fn() -> String + Send + Sync + 'static,
) -> Result<(), UsageError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| UsageError(format!("metrics at {address}: {error}")))?;
    let text = Arc::new(text);
    let descriptors = rlimit::Resource::NOFILE
        .get_soft()
        .unwrap_or(MAX_CONNECTIONS);
    let most = MAX_CONNECTIONS.min(descriptors / 16).max(1) as usize;
    tokio::spawn(async move {
        let mut connections = VecDeque::<JoinHandle<()>>::new();
        loop {
            // An error may concern one connection only, so keep accepting after a pause.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            connections.retain(|connection| !connection.is_finished());
            if connections.len() >= most
                && let Some(oldest) = connections.pop_front()
            {
                oldest.abort();
            }
            let text = Arc::clone(&text);
            connections.push_back(tokio::spawn(serve_one(stream, move || text())));
        }
    });
    Ok(())
}

/// Serves the only request of a connection.
async fn serve_one(stream: TcpStream, text: impl Fn() -> String) {
    let service = service_fn(|request: Request<_>| {
        let answer = answer(&request, &text);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // How the connection ends does not matter: a failure concerns its peer only.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

fn answer<B>(request: &Request<B>, text: &dyn Fn() -> String) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, text()),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        _ => (
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
    response
}

/// Reads the page at an `http:` URI and passes its pieces on. `timeout` limits the whole request,
/// connecting included.
pub(crate) async fn get(
    uri: &Uri,
    timeout: Duration,
    take: impl FnMut(&[u8]),
) -> anyhow::Result<()> {
    match tokio::time::timeout(timeout, fetch(uri, take)).await {
        Ok(outcome) => outcome.with_context(|| uri.to_string()),
        Err(_) => bail!("{uri}: no answer within {timeout:?}"),
    }
}

async fn fetch(uri: &Uri, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let authority = uri.authority().context("the address has no host")?;
    let address = (authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("answered with status {}", response.status());
    }
    let mut body = Limited::new(response.into_body(), MOST_BYTES);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!(error))?;
        frame.data_ref().into_iter().for_each(|data| take(data));
    }
    Ok(())
}

/// Parses an `http:` URI.
pub(crate) fn parse_http_uri(text: &str) -> Result<Uri, String> {
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.authority().is_some() => Ok(uri),
        _ => Err("expected an address such as http://127.0.0.1:9100/metrics".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn response_that_is_not_read_ends_with_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        peer.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let began = Instant::now();
        // More than the system keeps.
        serve_one(stream, || "x".repeat(64 << 20)).await;
        let took = began.elapsed();
        assert!((10..12).contains(&took.as_secs()), "{took:?}");
    }
}
