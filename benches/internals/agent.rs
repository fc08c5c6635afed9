//! Access to an agent's session for the benchmarks.

use super::session::{SessionParts, serve};
use super::{AgentControl, AgentHandler};
use crate::connection::link::{Link, LinkReceiver, LinkSender};
use crate::wire::{Dialect, FrameBuffer, MAX_FRAME_LEN};
use std::sync::Arc;

/// Serves one connection after its handshake until it ends.
pub(crate) async fn serve_link<H: AgentHandler>(
    handler: Arc<H>,
    sender: impl LinkSender,
    receiver: impl LinkReceiver,
    dialect: Dialect,
) {
    let parts = SessionParts {
        handler,
        link: Link {
            sender: Box::new(sender),
            receiver: Box::new(receiver),
            max_frame: MAX_FRAME_LEN,
        },
        buffer: FrameBuffer::default(),
        dialect,
        handle: AgentControl::default().register_session(),
        max_concurrent: 1024,
    };
    if let Err(error) = serve(parts).await {
        tracing::warn!(%error, "the connection of a proxy failed");
    }
}
