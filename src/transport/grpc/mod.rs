//! gRPC: each connection is one bidirectional stream over an HTTP/2 connection of its own.
//!
//! tonic and hyper do HTTP/2; messages pass through as the bytes they are sent in.

mod client;
mod messages;
mod pipe;
mod place;
mod stream;

pub(super) use client::connect;
pub(crate) use messages::{MessageReceiver, RpcFailure};
pub(crate) use pipe::pipe;
pub(crate) use place::{Address, GrpcPlace, Security};
pub(crate) use stream::Stream;

use std::time::Duration;

/// The service, as HTTP/2 paths begin with it.
pub(crate) const SERVICE: &str = "zentinel.agent.v2.AgentServiceV2";

/// The path of the method that connections use.
pub(crate) const PROCESS_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessStream";

/// The largest message that is taken unless configured otherwise: 10 MiB, as the published crate has it.
pub(crate) const MAX_MESSAGE: usize = 10 * 1024 * 1024;

/// Bytes that a peer may send before it has to wait for them to be read, on a stream and its connection.
pub(crate) const WINDOW: u32 = 1024 * 1024;

/// How often an HTTP/2 connection is pinged.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Time for the answer to such a ping; the connection is given up after it.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
