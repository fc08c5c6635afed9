//! The clients that send each request.

use super::h2_client::Http2;
use super::http1_client::{send_hyper, send_raw};
use super::outcome::Reply;
use super::request::Request;
use super::wire::HeadText;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A client and the version of HTTP that it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// Bytes of HTTP/1.0.
    Bytes10,
    /// Bytes of HTTP/1.1.
    Bytes11,
    /// hyper's client of HTTP/1.1.
    Hyper11,
    /// The client of HTTP/2 of the crate `h2`.
    H2,
    /// curl with HTTP/1.0.
    Curl10,
    /// curl with HTTP/1.1.
    Curl11,
    /// curl with HTTP/2.
    Curl2,
}

impl Via {
    /// Every client but curl, whose processes take longest.
    pub(crate) const LIBRARIES: &[Self] = &[Self::Bytes10, Self::Bytes11, Self::Hyper11, Self::H2];
    pub(crate) const ALL: &[Self] = &[
        Self::Bytes10,
        Self::Bytes11,
        Self::Hyper11,
        Self::H2,
        Self::Curl10,
        Self::Curl11,
        Self::Curl2,
    ];

    pub(crate) const fn is_http2(self) -> bool {
        matches!(self, Self::H2 | Self::Curl2)
    }

    pub(crate) const fn is_http10(self) -> bool {
        matches!(self, Self::Bytes10 | Self::Curl10)
    }

    /// Returns the version as agents see it.
    pub(crate) const fn protocol(self) -> &'static str {
        match self {
            Self::Bytes10 | Self::Curl10 => "HTTP/1.0",
            Self::Bytes11 | Self::Hyper11 | Self::Curl11 => "HTTP/1.1",
            Self::H2 | Self::Curl2 => "HTTP/2.0",
        }
    }

    /// Returns whether the client can send a request.
    pub(crate) fn can_send(self, request: &Request) -> bool {
        let (is_chunked, has_trailers) = request.body.as_ref().map_or((false, false), |body| {
            (body.is_chunked, !body.trailers.is_empty())
        });
        match self {
            _ if request.raw.is_some() => self == Self::Bytes11,
            Self::Bytes10 => !is_chunked,
            Self::Bytes11 => true,
            Self::H2 => true,
            Self::Hyper11 => !has_trailers,
            Self::Curl10 | Self::Curl11 | Self::Curl2 => {
                !is_chunked && request.method != "HEAD" && request.host.is_some()
            }
        }
    }

    /// Sends a request; `None` if the connection ends without a response.
    pub(crate) async fn send(self, address: SocketAddr, request: &Request) -> Option<Reply> {
        match self {
            Self::Bytes10 => send_raw(address, request, "HTTP/1.0").await,
            Self::Bytes11 => send_raw(address, request, "HTTP/1.1").await,
            Self::Hyper11 => send_hyper(address, request).await,
            Self::H2 => Http2::open(address).await.send(request).await,
            Self::Curl10 => curl(address, request, "--http1.0").await,
            Self::Curl11 => curl(address, request, "--http1.1").await,
            Self::Curl2 => curl(address, request, "--http2-prior-knowledge").await,
        }
    }
}

async fn curl(address: SocketAddr, request: &Request, version: &str) -> Option<Reply> {
    let host = request.host.unwrap_or_default();
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--include", "--path-as-is", "--max-time", "20"])
        .args([version, "--request", request.method])
        .args(["--connect-to", &format!("::{address}")])
        .args(["--header", "accept:", "--header", "user-agent:"])
        .args(["--header", "expect:"]);
    for (name, value) in &request.headers {
        let value = String::from_utf8_lossy(value);
        command.args(["--header", &format!("{name}: {value}")]);
    }
    if request.body.is_some() {
        command.args(["--header", "content-type:", "--data-binary", "@-"]);
    }
    command
        .arg(format!("http://{host}{}", request.target))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("curl runs");
    let mut stdin = child.stdin.take().unwrap();
    if let Some(body) = &request.body {
        for chunk in &body.chunks {
            // Fails if curl has ended.
            let _ = stdin.write_all(chunk).await;
        }
    }
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let mut rest = &output.stdout[..];
    let mut interim = Vec::new();
    loop {
        let end = rest.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = HeadText::parse(&rest[..end]);
        rest = &rest[end + 4..];
        if (100..200).contains(&head.status()) {
            interim.push(head);
            continue;
        }
        return Some(Reply {
            status: head.status(),
            headers: head.headers,
            body: rest.to_vec(),
            is_whole: output.status.success(),
            interim,
            ..Reply::default()
        });
    }
}
