//! Where frames travel, and the endpoints that say so.

mod doorway;
mod endpoint;
#[cfg(feature = "grpc")]
pub(crate) mod grpc;
mod socket;
mod socket_file;
pub(crate) mod tcp;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod unix;

pub(crate) use doorway::{Doorway, Visit};
pub(crate) use endpoint::Endpoint;
pub(crate) use socket_file::SocketFile;
pub(crate) use unix::{connect_agent, split_unix, split_unix_of_agent};

use crate::connection::link::Link;
use crate::error::ConnectError;

/// What links beyond plain sockets need.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkConfig {
    #[cfg(feature = "grpc")]
    pub(crate) grpc: grpc::GrpcConfig,
}

/// Opens a link to an endpoint.
#[cfg_attr(
    not(feature = "grpc"),
    allow(unused_variables, reason = "plain sockets need nothing")
)]
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: &LinkConfig,
) -> Result<Link, ConnectError> {
    match endpoint {
        Endpoint::Unix(path) => unix::connect(path).await,
        Endpoint::Tcp { host, port } => tcp::connect(host, *port).await,
        #[cfg(feature = "grpc")]
        Endpoint::Grpc(place) => grpc::connect(place, &config.grpc).await,
    }
}
