//! gRPC: each connection is one bidirectional stream over an HTTP/2 connection of its own.
//!
//! tonic and hyper do HTTP/2; messages pass through as the bytes they are sent in.

mod client;
mod messages;
mod observed;
mod pipe;
mod place;
mod stream;
mod visitor;

pub(super) use client::connect;
#[cfg(test)]
pub(crate) use messages::Unframer;
pub(crate) use messages::{MessageReceiver, RpcFailure};
pub(crate) use pipe::pipe;
pub(crate) use place::{Address, GrpcPlace, Security};
pub(crate) use stream::Stream;
pub(crate) use visitor::{Standing, Stay, Visitor};

use crate::transport::tls::TlsConfig;
use crate::wire::MAX_FRAME_LEN;
use http::{HeaderMap, header};
use std::time::Duration;

/// What a client is set up with.
#[derive(Debug, Clone)]
pub(crate) struct GrpcConfig {
    pub(crate) tls: TlsConfig,
    /// The largest message that is sent or taken.
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

/// The length of a frame that becomes a message of that size at most. It counts the type too, which the message
/// does not have, so the last byte is given away.
pub(crate) fn max_frame(max_message: usize) -> usize {
    max_message.min(MAX_FRAME_LEN)
}

/// The service, as HTTP/2 paths begin with it.
pub(crate) const SERVICE: &str = "zentinel.agent.v2.AgentServiceV2";

/// The path of the method that connections use.
pub(crate) const PROCESS_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessStream";

/// The largest message that is sent or taken unless configured otherwise: 10 MiB, as the published crate has it.
pub(crate) const MAX_MESSAGE: usize = 10 * 1024 * 1024;

/// Bytes that a peer may send on a stream before it has to wait for them to be read.
pub(crate) const WINDOW: u32 = 1024 * 1024;

/// Bytes of a stream that may come in one piece: a whole batch, or a body chunk as proxies have them.
pub(crate) const MAX_DATA_FRAME: u32 = 64 * 1024;

/// The same for all streams of a proxy's connection, so that a stream that is not read holds up no other.
pub(crate) const SERVER_WINDOW: u32 = 4 * WINDOW;

/// Whether the messages behind these headers are those of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How often an HTTP/2 connection is pinged.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Time for the answer to such a ping; the connection is given up after it.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
