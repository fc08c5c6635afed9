//! Where frames travel, and the endpoints that say so.

mod doorway;
mod endpoint;
mod socket;
mod socket_file;
pub(crate) mod tcp;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod unix;

pub(crate) use doorway::{Doorway, Visit};
pub(crate) use endpoint::Endpoint;
pub(crate) use socket_file::SocketFile;
pub(crate) use unix::split_unix;

use crate::connection::link::{LinkReceiver, LinkSender};
use crate::error::ConnectError;
use std::fmt;

/// Both halves of what carries a connection's frames.
pub(crate) struct Link {
    pub(crate) sender: Box<dyn LinkSender>,
    pub(crate) receiver: Box<dyn LinkReceiver>,
}

/// Opens a link to an endpoint.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Link, ConnectError> {
    match endpoint {
        Endpoint::Unix(path) => unix::connect(path).await,
        Endpoint::Tcp { host, port } => tcp::connect(host, *port).await,
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
