//! Where frames travel, and the endpoints that say so.

mod endpoint;
mod unix;

pub(crate) use endpoint::Endpoint;
pub(crate) use unix::split_unix;

use crate::connection::link::{LinkReceiver, LinkSender};
use crate::error::ConnectError;

/// Opens a link to an endpoint.
pub(crate) async fn connect(
    endpoint: &Endpoint,
) -> Result<(Box<dyn LinkSender>, Box<dyn LinkReceiver>), ConnectError> {
    match endpoint {
        Endpoint::Unix(path) => {
            let (sender, receiver) = unix::connect(path).await?;
            Ok((Box::new(sender), Box::new(receiver)))
        }
    }
}
