//! Sessions over TLS.

use super::super::session_handle::SessionHandle;
use super::sessions::{Sessions, interrupted};
use crate::handler::AgentHandler;
use crate::transport::HandshakeSlot;
use crate::transport::tls::Acceptor;
use std::sync::Arc;
use tokio::net::TcpStream;

impl<H: AgentHandler> Sessions<H> {
    /// Performs the TLS handshake of a connection, and serves it until it ends.
    pub(super) async fn serve_tls(
        &self,
        stream: TcpStream,
        acceptor: &Acceptor,
        handle: Arc<SessionHandle>,
        mut slot: HandshakeSlot,
    ) {
        // On the heap, because every connection would have room for it otherwise.
        let handshake = Box::pin(acceptor.accept(stream));
        match self.admit(handshake, interrupted(&mut slot, &handle)).await {
            Ok((link, _)) => {
                self.serve(link, handle, slot, &self.limits.encodings).await;
            }
            Err(rejected) => self.log(handle.peer(), &rejected),
        }
    }
}
