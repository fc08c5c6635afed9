//! Acts as Envoy: asks an agent about requests by ext_proc, for tools and tests (feature `caller`).
//!
//! ```no_run
//! use tollgate_envoy::caller::EnvoyCaller;
//!
//! # async fn example() -> Result<(), tollgate_envoy::caller::CallerError> {
//! let mut caller = EnvoyCaller::connect("envoy://127.0.0.1:50061", None).await?;
//! let mut call = caller.begin().await?;
//! let head = [(":method", "GET"), (":path", "/admin"), (":authority", "example.com")];
//! let answer = call.request_headers(&head, true).await?;
//! println!("{:?}", answer.response.decision);
//! # Ok(())
//! # }
//! ```

mod answer;
mod question;

pub use answer::CallerAnswer;

use crate::endpoint::{EnvoyEndpoint, InvalidEnvoyEndpoint};
use answer::read_answer;
use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, header};
use question::{body_frame, head_frame, trailers_frame};
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::timeout;
use tollgate::TlsConfig;
use tollgate::error::ConnectError;
use tollgate::listener::Stream;

/// Bytes in front of a message: a flag and the length.
const PREFIX: usize = 5;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Time in which an agent has to end a call after a response in place of the upstream's. Envoy does
/// not wait for that, so some agents leave it open.
const END_TIMEOUT: Duration = Duration::from_secs(1);

const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Error of an agent that was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallerError {
    /// The endpoint is not one of those that Envoy's protocols have.
    #[error("{0}")]
    InvalidEndpoint(&'static str),
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// HTTP/2 failed.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// The agent ended the call with this status of gRPC.
    #[error("the agent ended the call with gRPC status {code} {message}")]
    Status {
        /// Status of gRPC.
        code: u16,
        /// Text of the agent.
        message: String,
    },
    /// The agent could not judge the request: the client gets this response, and the call ended
    /// with an error.
    #[error("the agent failed: status {status}, gRPC status {code} {message}")]
    Failed {
        /// Status of the response that the client gets.
        status: u16,
        /// Status of gRPC.
        code: u16,
        /// Text of the agent.
        message: String,
    },
    /// The agent's answer is not one to the question.
    #[error("the agent's answer means nothing here: {0}")]
    Answer(&'static str),
}

impl From<std::io::Error> for CallerError {
    fn from(error: std::io::Error) -> Self {
        Self::Connect(error.into())
    }
}

/// A connection to an agent. Clones share it.
#[derive(Debug, Clone)]
pub struct EnvoyCaller {
    sender: SendRequest<Bytes>,
}

impl EnvoyCaller {
    /// Connects to an `envoy://`, `envoys://` or `envoy+unix://` endpoint.
    ///
    /// # Errors
    ///
    /// The endpoint is invalid, or the connection or its handshakes fail.
    pub async fn connect(endpoint: &str, tls: Option<&TlsConfig>) -> Result<Self, CallerError> {
        let stream = open(endpoint, tls).await?;
        let mut settings = h2::client::Builder::new();
        settings
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20);
        let (sender, connection) = settings.handshake(stream).await?;
        tokio::spawn(async move {
            // Calls report the error as well.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Returns whether the agent says that it takes requests (`grpc.health.v1`).
    ///
    /// # Errors
    ///
    /// The agent cannot be asked.
    pub async fn is_healthy(&mut self) -> Result<bool, CallerError> {
        let mut call = self.call(HEALTH).await?;
        call.sending
            .send_data(Bytes::from_static(&[0; PREFIX]), true)?;
        let answer = call.next().await?;
        Ok(answer.as_ref() == [8, 1])
    }

    /// Begins an exchange.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn begin(&mut self) -> Result<EnvoyCall, CallerError> {
        self.call(PROCESS).await
    }

    async fn call(&mut self, method: &str) -> Result<EnvoyCall, CallerError> {
        let request = Request::post(format!("http://agent{method}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(|_| CallerError::InvalidEndpoint("the method is no path"))?;
        poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, sending) = self.sender.send_request(request, false)?;
        Ok(EnvoyCall {
            sending,
            response: Some(response),
            received: None,
            buffer: BytesMut::new(),
            is_first: true,
        })
    }
}

async fn open(endpoint: &str, tls: Option<&TlsConfig>) -> Result<Stream, CallerError> {
    let endpoint: EnvoyEndpoint = endpoint
        .parse()
        .map_err(|error: InvalidEnvoyEndpoint| CallerError::InvalidEndpoint(error.reason()))?;
    match (&endpoint, tls) {
        (EnvoyEndpoint::Unix(path), _) => Ok(Stream::connect_unix(path).await?),
        (EnvoyEndpoint::Tcp(host, port), _) => Ok(Stream::connect_tcp(host, *port).await?),
        (EnvoyEndpoint::Tls(host, port), Some(tls)) => {
            Ok(Stream::connect_http2(tls, host, *port).await?)
        }
        (EnvoyEndpoint::Tls(..), None) => Err(CallerError::InvalidEndpoint("TLS needs settings")),
    }
}

/// An exchange: one HTTP request and its response, with bodies in the mode `STREAMED`.
#[derive(Debug)]
pub struct EnvoyCall {
    sending: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    received: Option<RecvStream>,
    buffer: BytesMut,
    is_first: bool,
}

/// Message of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RequestHeaders,
    ResponseHeaders,
    RequestBody,
    ResponseBody,
    RequestTrailers,
    ResponseTrailers,
}

impl EnvoyCall {
    /// Sends the request's header fields, pseudo-headers first, and returns the answer.
    ///
    /// # Errors
    ///
    /// The agent ends the exchange or fails, or its answer is none to this message.
    pub async fn request_headers(
        &mut self,
        head: &[(&str, &str)],
        end_of_stream: bool,
    ) -> Result<CallerAnswer, CallerError> {
        let frame = head_frame(Kind::RequestHeaders, head, end_of_stream, self.is_first);
        self.ask(Kind::RequestHeaders, frame).await
    }

    /// Sends the response's header fields and returns the answer.
    ///
    /// # Errors
    ///
    /// As for [`request_headers`](Self::request_headers).
    pub async fn response_headers(
        &mut self,
        head: &[(&str, &str)],
        end_of_stream: bool,
    ) -> Result<CallerAnswer, CallerError> {
        let frame = head_frame(Kind::ResponseHeaders, head, end_of_stream, self.is_first);
        self.ask(Kind::ResponseHeaders, frame).await
    }

    /// Sends a chunk of the request's body and returns the answer.
    ///
    /// # Errors
    ///
    /// As for [`request_headers`](Self::request_headers).
    pub async fn request_body(
        &mut self,
        data: &[u8],
        end_of_stream: bool,
    ) -> Result<CallerAnswer, CallerError> {
        let frame = body_frame(Kind::RequestBody, data, end_of_stream);
        self.ask(Kind::RequestBody, frame).await
    }

    /// Sends a chunk of the response's body and returns the answer.
    ///
    /// # Errors
    ///
    /// As for [`request_headers`](Self::request_headers).
    pub async fn response_body(
        &mut self,
        data: &[u8],
        end_of_stream: bool,
    ) -> Result<CallerAnswer, CallerError> {
        let frame = body_frame(Kind::ResponseBody, data, end_of_stream);
        self.ask(Kind::ResponseBody, frame).await
    }

    /// Sends the request's trailers and returns the answer.
    ///
    /// # Errors
    ///
    /// As for [`request_headers`](Self::request_headers).
    pub async fn request_trailers(
        &mut self,
        trailers: &[(&str, &str)],
    ) -> Result<CallerAnswer, CallerError> {
        let frame = trailers_frame(Kind::RequestTrailers, trailers);
        self.ask(Kind::RequestTrailers, frame).await
    }

    /// Sends the response's trailers and returns the answer.
    ///
    /// # Errors
    ///
    /// As for [`request_headers`](Self::request_headers).
    pub async fn response_trailers(
        &mut self,
        trailers: &[(&str, &str)],
    ) -> Result<CallerAnswer, CallerError> {
        let frame = trailers_frame(Kind::ResponseTrailers, trailers);
        self.ask(Kind::ResponseTrailers, frame).await
    }

    /// Closes this side, and waits until the agent has ended the exchange.
    ///
    /// # Errors
    ///
    /// The agent does not end it with status 0.
    pub async fn finish(&mut self) -> Result<(), CallerError> {
        self.sending.send_data(Bytes::new(), true)?;
        match self.next().await {
            Err(CallerError::Status { code: 0, .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(CallerError::Answer("a further message")),
        }
    }

    async fn ask(&mut self, kind: Kind, mut frame: Bytes) -> Result<CallerAnswer, CallerError> {
        self.is_first = false;
        while !frame.is_empty() {
            self.sending.reserve_capacity(frame.len());
            let granted = poll_fn(|cx| self.sending.poll_capacity(cx)).await;
            let capacity = granted.ok_or(CallerError::Answer("the stream was closed"))??;
            let part = frame.split_to(capacity.min(frame.len()));
            self.sending.send_data(part, false)?;
        }
        loop {
            let message = self.next().await?;
            // An answer that only asks for more time is followed by another one.
            let Some(answer) = read_answer(kind, &message)? else {
                continue;
            };
            return match answer.immediate_status {
                None => Ok(answer),
                Some(status) => self.end_of(status).await.map(|()| answer),
            };
        }
    }

    /// Waits for the end of the call after a response in place of the upstream's. Its status tells
    /// a decision from a failure.
    async fn end_of(&mut self, status: u16) -> Result<(), CallerError> {
        // The agent may have ended the call already.
        let _ = self.sending.send_data(Bytes::new(), true);
        match timeout(END_TIMEOUT, self.next()).await {
            Err(_) | Ok(Err(CallerError::Status { code: 0, .. })) => Ok(()),
            Ok(Err(CallerError::Status { code, message })) => Err(CallerError::Failed {
                status,
                code,
                message,
            }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Err(CallerError::Answer("a further message")),
        }
    }

    /// Returns the next message of the agent.
    async fn next(&mut self) -> Result<Bytes, CallerError> {
        if let Some(response) = self.response.take() {
            let response = response.await?;
            if let Some(status) = status_of(response.headers()) {
                return Err(status);
            }
            self.received = Some(response.into_body());
        }
        let Some(received) = &mut self.received else {
            return Err(CallerError::Answer("the exchange has ended"));
        };
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok(message);
            }
            let Some(data) = received.data().await else {
                let trailers = received.trailers().await?.unwrap_or_default();
                let missing = CallerError::Answer("the call ended without a status");
                return Err(status_of(&trailers).unwrap_or(missing));
            };
            let data = data?;
            received.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }
}

fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, CallerError> {
    let Some(&[flag, a, b, c, d]) = buffer.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if flag != 0 || len > MAX_ANSWER {
        return Err(CallerError::Answer(
            "a message that is compressed or too large",
        ));
    }
    if buffer.len() < PREFIX + len {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(len).freeze()))
}

fn status_of(headers: &HeaderMap) -> Option<CallerError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Some(CallerError::Status {
        code: text("grpc-status")?.parse().unwrap_or(2),
        message: text("grpc-message").unwrap_or_default().to_owned(),
    })
}
