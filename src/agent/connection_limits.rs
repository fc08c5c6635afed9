//! Settings of a server that listens, and the limits that it applies to each connection.

use super::control::SessionHandle;
use super::handler::AgentHandler;
use super::session::{AcceptedProxy, SessionParts, accept_handshake, serve};
use crate::connection::link::{CloseReason, Link};
use crate::error::ConnectError;
use crate::transport::HandshakeSlot;
use crate::wire::{Encoding, FrameBuffer};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

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
            drain_timeout: Duration::from_secs(30),
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

impl ConnectionLimits {
    /// Serves one connection from the handshake until it ends.
    pub(super) async fn serve_connection<H: AgentHandler>(
        self,
        handler: Arc<H>,
        mut link: Link,
        handle: Arc<SessionHandle>,
        mut slot: HandshakeSlot,
    ) {
        let mut buffer = FrameBuffer::default();
        let handshake = timeout(
            self.handshake_timeout,
            accept_handshake(
                &*handler,
                &self.encodings,
                &mut link,
                &mut buffer,
                &self.permits,
            ),
        );
        let handshake = tokio::select! {
            handshake = handshake => handshake,
            () = slot.evicted() => {
                let error = "too many connections have not completed their handshake";
                return reject(&link, CloseReason::TooMuch, &error);
            }
            () = handle.drain_requested() => {
                let detail = "the agent is shutting down";
                return link.sender.send_close_reason(CloseReason::Stopping, &detail);
            }
        };
        drop(slot);
        let AcceptedProxy {
            dialect,
            permit: _permit,
            proxy_id,
        } = match handshake {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => return reject(&link, CloseReason::Invalid, &error),
            Err(_) => {
                let error = ConnectError::TimedOut(self.handshake_timeout);
                return reject(&link, CloseReason::TooSlow, &error);
            }
        };
        if dialect.has_streams() {
            handle.set_proxy_id(proxy_id);
        }
        let parts = SessionParts {
            handler,
            buffer,
            dialect: dialect.within(link.max_frame),
            link,
            handle,
            max_concurrent: self.max_concurrent,
        };
        if let Err(error) = serve(parts).await {
            tracing::warn!(%error, "the connection of a proxy failed");
        }
    }
}

fn reject(link: &Link, reason: CloseReason, error: &dyn Display) {
    tracing::warn!(%error, "rejected a proxy");
    link.sender.send_close_reason(reason, error);
}
