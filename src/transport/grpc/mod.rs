//! gRPC: each connection of the pool is one bidirectional stream on an HTTP/2 connection of its
//! own.
//!
//! tonic and hyper implement HTTP/2. Messages are passed through in their encoded form.

#[cfg(feature = "__bench")]
#[path = "../../../benches/internals/grpc.rs"]
pub(crate) mod bench;
mod charged_body;
mod client;
mod endpoint;
mod http2_connection;
mod messages;
mod observed;
mod pipe;

pub(crate) use charged_body::ChargedBody;
pub(super) use client::connect;
pub(crate) use endpoint::{GrpcAddress, GrpcEndpoint, Security};
pub(crate) use http2_connection::{
    CountedBody, Http2Connection, Http2ConnectionState, StreamGuard,
};
pub(crate) use messages::MessageReceiver;
pub(crate) use pipe::response_pipe;

use crate::transport::tls::TlsConfig;
use crate::wire::MAX_FRAME_LEN;
use http::{HeaderMap, header};
use std::time::Duration;

/// Name of the service, as in the paths of its methods.
pub(crate) const SERVICE: &str = "zentinel.agent.v2.AgentServiceV2";

/// Path of the method that connections use.
pub(crate) const PROCESS_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessStream";

/// Default limit of the size of messages: 10 MiB, as in `zentinel-agent-protocol`.
pub(crate) const MAX_MESSAGE: usize = 10 * 1024 * 1024;

/// HTTP/2 flow control window of a stream, and of a client's connection, in bytes.
pub(crate) const WINDOW: u32 = 256 * 1024;

/// Largest HTTP/2 DATA frame in bytes: enough for a whole batch, or for a body chunk of the usual
/// size.
pub(crate) const MAX_DATA_FRAME: u32 = 64 * 1024;

/// Window of all streams of a server's connection together. Larger than [`WINDOW`], so that a
/// stream that is not read does not block the others.
pub(crate) const SERVER_WINDOW: u32 = 4 * WINDOW;

/// Interval between the pings of an HTTP/2 connection.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Time limit for the answer to a ping, after which the connection is closed.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a gRPC client.
#[derive(Debug, Clone)]
pub(crate) struct GrpcConfig {
    pub(crate) tls: TlsConfig,
    /// Largest message that is sent or accepted, in bytes.
    pub(crate) max_message: usize,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            tls: TlsConfig::default(),
            max_message: MAX_MESSAGE,
        }
    }
}

/// Returns the largest frame for messages of at most `max_message` bytes.
///
/// A frame's length counts the type, which a message does not have. A message of exactly
/// `max_message` bytes would need one byte more, so that size is not used.
pub(crate) fn max_frame(max_message: usize) -> usize {
    max_message.min(MAX_FRAME_LEN)
}

/// Returns whether the headers announce gRPC messages.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
