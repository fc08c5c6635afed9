//! Settings of a server that listens, and the limits that follow from them.

use crate::protocol::DEFAULT_DRAIN_TIMEOUT;
use crate::wire::Encoding;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Settings that all servers that listen have in common.
#[derive(Debug, Clone)]
pub(super) struct ServerSettings {
    /// Mode of the socket file, if there is one.
    pub(super) mode: u32,
    pub(super) max_connections: usize,
    pub(super) max_concurrent_per_connection: usize,
    pub(super) handshake_timeout: Duration,
    pub(super) drain_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            mode: 0o600,
            max_connections: 1024,
            max_concurrent_per_connection: 1024,
            handshake_timeout: Duration::from_secs(5),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
        }
    }
}

impl ServerSettings {
    pub(super) fn limits(&self, encodings: Vec<Encoding>) -> ConnectionLimits {
        ConnectionLimits {
            encodings,
            max_concurrent: self.max_concurrent_per_connection,
            handshake_timeout: self.handshake_timeout,
            permits: Arc::new(Semaphore::new(self.max_connections)),
        }
    }
}

/// Limits that a server applies to its connections, whatever the transport.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimits {
    pub(super) encodings: Vec<Encoding>,
    pub(super) max_concurrent: usize,
    pub(super) handshake_timeout: Duration,
    /// One permit for each connection that may be served at once.
    pub(super) permits: Arc<Semaphore>,
}
