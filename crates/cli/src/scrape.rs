//! Metrics over HTTP: serves them to Prometheus, and reads those of another process.

use crate::exit::UsageError;
use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

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
    tokio::spawn(async move {
        loop {
            // An error may concern one connection only, so keep accepting after a pause.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let text = Arc::clone(&text);
            let service = service_fn(move |request: Request<_>| {
                let answer = answer(&request, &*text);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    Ok(())
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

/// Reads the text at an `http:` URI. `timeout` limits the whole request, connecting included.
pub(crate) async fn get(uri: &Uri, timeout: Duration) -> anyhow::Result<String> {
    match tokio::time::timeout(timeout, fetch(uri)).await {
        Ok(outcome) => outcome.with_context(|| uri.to_string()),
        Err(_) => bail!("{uri}: no answer within {timeout:?}"),
    }
}

async fn fetch(uri: &Uri) -> anyhow::Result<String> {
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
    let body = Limited::new(response.into_body(), MOST_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}

/// Parses an `http:` URI.
pub(crate) fn parse_http_uri(text: &str) -> Result<Uri, String> {
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.authority().is_some() => Ok(uri),
        _ => Err("expected an address such as http://127.0.0.1:9100/metrics".to_owned()),
    }
}
