//! A connection that a server has accepted: its handshake, within the limits of the server, and its
//! session.

use super::control::SessionHandle;
use super::handler::AgentHandler;
use super::server_settings::ConnectionLimits;
use super::session::{AcceptedProxy, SessionParts, accept_handshake, serve};
use crate::connection::link::{CloseReason, Link};
use crate::error::ConnectError;
use crate::transport::HandshakeSlot;
use crate::wire::FrameBuffer;
use std::fmt::Display;
use std::sync::Arc;
use tokio::time::timeout;

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
            biased;
            handshake = handshake => handshake,
            () = slot.evicted() => {
                let error = "too many connections have not completed their handshake";
                return reject(&link, CloseReason::LimitExceeded, &error);
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
                return reject(&link, CloseReason::HandshakeTimeout, &error);
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
