//! Clients that go away, as far as only the server's socket knows it.

use std::fmt;
use tokio_util::sync::CancellationToken;

/// Tells whether the client of a connection has gone, in the extensions of its requests.
///
/// A server on hyper notices that a client of HTTP/1 has gone when it reads, which it does not do
/// while bytes are unread: a request's body, or another request. A server that watches the socket
/// by itself puts a clone of this into the extensions of each request of the connection, and calls
/// [`notify`](Self::notify) when the client has ended its side. The layer then stops waiting for
/// agents and for the service, and agents are told.
///
/// ```
/// use tollgate_tower::Disconnect;
///
/// let disconnect = Disconnect::new();
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(disconnect.clone());
/// disconnect.notify();
/// assert!(disconnect.is_notified());
/// ```
#[derive(Clone, Default)]
pub struct Disconnect(CancellationToken);

impl Disconnect {
    /// Creates one for a connection whose client is there.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the client has gone.
    pub fn notify(&self) {
        self.0.cancel();
    }

    /// Returns whether the client has gone.
    pub fn is_notified(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the client has gone.
    pub(crate) async fn notified(&self) {
        self.0.cancelled().await;
    }
}

impl fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disconnect")
            .field("is_notified", &self.is_notified())
            .finish()
    }
}
