//! The client: opens gRPC streams to agents.

use super::endpoint::{GrpcAddress, GrpcEndpoint, Security};
use super::messages::{MessageReceiver, rpc_error};
use super::observed::{ObservedStream, TlsErrorCell};
use super::pipe::request_pipe;
use super::{
    GrpcConfig, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_DATA_FRAME, PROCESS_STREAM, WINDOW,
    is_grpc, max_frame,
};
use crate::connection::link::{Link, LinkError, LinkPoll, LinkReceiver};
use crate::error::{ConnectError, TlsFailure};
use crate::transport::tls::TlsConfig;
use crate::transport::unix::connect_stream;
use crate::transport::{Stream, tcp};
use crate::wire::Direction;
use bytes::BytesMut;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, ready};
use tonic::transport::{Channel, Endpoint};
use tower::Service;

/// Opens a stream to a server. It returns before the server has responded; a failure of the call is
/// reported by the receiver.
pub(in crate::transport) async fn connect(
    endpoint: &GrpcEndpoint,
    config: &GrpcConfig,
) -> Result<Link, ConnectError> {
    let (stream, tls_error) = ObservedStream::new(open(endpoint, &config.tls).await?);
    let failed = |error| ConnectError::from(tls_error.explain(http2_error(error)));
    let mut channel = channel(stream, endpoint).await.map_err(failed)?;
    let (sender, body) = request_pipe();
    let mut request = Request::post(PROCESS_STREAM)
        .body(tonic::body::Body::new(body))
        .map_err(|error| ConnectError::InvalidHandshake(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    poll_fn(|cx| channel.poll_ready(cx)).await.map_err(failed)?;
    let response = Box::pin(channel.call(request));
    Ok(Link {
        sender: Box::new(sender),
        receiver: Box::new(ClientReceiver {
            state: State::Requested(response),
            tls_error,
            max_message: config.max_message,
            _channel: channel,
        }),
        max_frame: max_frame(config.max_message),
    })
}

/// Opens the connection below HTTP/2.
async fn open(endpoint: &GrpcEndpoint, tls: &TlsConfig) -> Result<Stream, ConnectError> {
    let (host, port) = match &endpoint.address {
        GrpcAddress::Unix(path) => return Ok(Stream::unix(connect_stream(path).await?)),
        GrpcAddress::Tcp { host, port } => (host, *port),
    };
    if endpoint.security == Security::Plain {
        return Ok(Stream::tcp(tcp::connect_stream(host, port).await?));
    }
    let connector = tls
        .http2_connector()
        .map_err(|error| TlsFailure::Other(error.reason().to_owned()))?;
    let stream = connector.connect_http2(host, port).await?;
    Ok(Stream::tls(stream))
}

/// Starts HTTP/2 on an open connection. The channel does not reconnect; the pool does that.
async fn channel(
    stream: ObservedStream,
    endpoint: &GrpcEndpoint,
) -> Result<Channel, tonic::transport::Error> {
    let origin = match (&endpoint.address, endpoint.security) {
        (GrpcAddress::Unix(_), _) => "http://localhost".to_owned(),
        (GrpcAddress::Tcp { .. }, Security::Plain) => {
            endpoint.to_string().replacen("grpc", "http", 1)
        }
        (GrpcAddress::Tcp { .. }, Security::Tls) => {
            endpoint.to_string().replacen("grpcs", "https", 1)
        }
    };
    let uri = origin
        .parse()
        .unwrap_or_else(|_| http::Uri::from_static("http://localhost"));
    let mut stream = Some(TokioIo::new(stream));
    Endpoint::from_static("http://localhost")
        .origin(uri)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(MAX_DATA_FRAME)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(tower::service_fn(move |_| {
            let once = stream.take();
            std::future::ready(once.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        }))
        .await
}

fn http2_error(error: tonic::transport::Error) -> LinkError {
    rpc_error(&tonic::Status::from_error(error.into()))
}

type ResponseFuture = Pin<
    Box<dyn Future<Output = Result<Response<tonic::body::Body>, tonic::transport::Error>> + Send>,
>;

/// The receiving half of a client's stream.
struct ClientReceiver {
    state: State,
    tls_error: TlsErrorCell,
    max_message: usize,
    /// Keeps the HTTP/2 connection open.
    _channel: Channel,
}

enum State {
    /// The response headers have not arrived. Some servers send them only with their first message.
    Requested(ResponseFuture),
    Receiving(MessageReceiver),
}

impl LinkReceiver for ClientReceiver {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize> {
        loop {
            match &mut self.state {
                State::Receiving(messages) => return messages.poll_receive(cx, into),
                State::Requested(response) => {
                    let response = ready!(response.as_mut().poll(cx))
                        .map_err(|error| self.tls_error.explain(http2_error(error)))?;
                    let body = response_body(response)?;
                    let messages = MessageReceiver::new(body, Direction::ToProxy, self.max_message);
                    self.state = State::Receiving(messages);
                }
            }
        }
    }
}

/// Returns the body of a response, or an error if the response is not a successful one of a gRPC
/// service.
fn response_body(response: Response<tonic::body::Body>) -> Result<tonic::body::Body, LinkError> {
    let (head, body) = response.into_parts();
    if let Some(status) = tonic::Status::from_header_map(&head.headers) {
        return Err(rpc_error(&status));
    }
    if head.status != StatusCode::OK || !is_grpc(&head.headers) {
        return Err(LinkError::Rpc {
            status: "Unknown".to_owned(),
            message: format!(
                "the server does not speak gRPC: HTTP status {}",
                head.status
            ),
        });
    }
    Ok(body)
}
