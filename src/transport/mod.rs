//! Links that carry frames over sockets, TLS and gRPC, and the endpoints that name them.

mod accept;
mod data_counter;
mod endpoint;
#[cfg(feature = "grpc")]
pub(crate) mod grpc;
mod handshake_limiter;
mod local;
mod peer;
mod quiet_stream;
#[cfg(target_os = "linux")]
mod shared;
#[cfg(feature = "__sim")]
#[path = "../../tests/simulator/hooks/transport.rs"]
pub(crate) mod simulated;
mod socket;
mod socket_file;
mod stream;
pub(crate) mod tcp;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod unix;

pub(crate) use accept::accept;
pub use data_counter::DataCounter;
pub(crate) use endpoint::{Endpoint, split_address};
pub(crate) use handshake_limiter::{HandshakeLimiter, HandshakeSlot, SharedLimiter};
pub(crate) use peer::{Peer, PeerKey};
pub(crate) use socket_file::{Existing, FileIdentity, SocketFile};
pub use stream::Stream;
pub(crate) use unix::{connect_to_proxy, second_descriptor, split_unix, split_unix_of_agent};

use crate::connection::link::Link;
use crate::error::ConnectError;

/// Connections to an agent's server that the kernel keeps until they are accepted.
pub(crate) const BACKLOG: u32 = 1024;

/// Settings of links other than plain sockets.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkConfig {
    #[cfg(feature = "grpc")]
    pub(crate) grpc: grpc::GrpcConfig,
}

/// Opens a link to an endpoint.
#[cfg_attr(
    not(feature = "grpc"),
    allow(unused_variables, reason = "plain sockets have no settings")
)]
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: &LinkConfig,
) -> Result<Link, ConnectError> {
    match endpoint {
        Endpoint::Local(handler) => Ok(local::connect(handler)),
        Endpoint::Unix(path) => unix::connect(path).await,
        Endpoint::Tcp { host, port } => tcp::connect(host, *port).await,
        #[cfg(feature = "__sim")]
        Endpoint::Simulated(name) => simulated::connect(name).await,
        #[cfg(feature = "grpc")]
        Endpoint::Grpc(endpoint) => grpc::connect(endpoint, &config.grpc).await,
    }
}
