//! Access to an agent's session for the benchmarks.

use super::AgentControl;
use super::session::{SessionParts, serve};
use crate::connection::Origin;
use crate::connection::link::{Link, LinkReceiver, LinkSender};
use crate::handler::AgentHandler;
use crate::log::{NO_PEER, log_line};
use crate::transport::Peer;
use crate::wire::{DEFAULT_FRAME_TIMEOUT, Dialect, FrameBuffer, MAX_FRAME_LEN};
use std::sync::Arc;

/// Serves one connection after its handshake until it ends.
pub(crate) async fn serve_link<H: AgentHandler>(
    handler: Arc<H>,
    sender: impl LinkSender,
    receiver: impl LinkReceiver,
    dialect: Dialect,
) {
    let handle = AgentControl::default().register(Origin::Forward, Peer::named(NO_PEER));
    let parts = SessionParts {
        handler,
        link: Link {
            sender: Box::new(sender),
            receiver: Box::new(receiver),
            max_frame: MAX_FRAME_LEN,
        },
        buffer: FrameBuffer::default(),
        dialect,
        memory: handle.open_account(),
        handle,
        max_concurrent: 1024,
        frame_timeout: DEFAULT_FRAME_TIMEOUT,
    };
    if let Err(error) = serve(parts).await {
        log_line!(warn, NO_PEER, { error }, "the connection of a proxy failed");
    }
}
