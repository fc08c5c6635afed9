//! The handshake that begins a session, from the agent's side.

use super::handler::AgentHandler;
use crate::connection::link::Link;
use crate::connection::{Offered, SharedMemoryConfig, Side};
use crate::error::ConnectError;
use crate::memory::MemoryBudget;
use crate::protocol::AgentCapabilities;
use crate::wire::{
    Dialect, Encoding, FrameBuffer, HandshakeRequest, HandshakeResponse, MessageType,
};
use tokio::sync::OwnedSemaphorePermit;

/// A proxy whose handshake was accepted.
pub(super) struct AcceptedProxy {
    /// Dialect that both sides use from now on.
    pub(super) dialect: Dialect,
    pub(super) permit: OwnedSemaphorePermit,
    /// Id of the proxy, from its handshake.
    pub(super) proxy_id: String,
}

/// Receives a proxy's handshake, waits for a place for the connection and sends the response.
pub(super) async fn accept_handshake<H: AgentHandler>(
    handler: &H,
    encodings: &[Encoding],
    link: &mut Link,
    buffer: &mut FrameBuffer,
    place: impl Future<Output = OwnedSemaphorePermit>,
    (shared_memory, memory): (SharedMemoryConfig, &MemoryBudget),
) -> Result<AcceptedProxy, ConnectError> {
    let (expected, name) = (MessageType::HandshakeRequest, "a handshake request");
    let payload = link.receive_handshake(buffer, expected, name).await?;
    let request = HandshakeRequest::decode_for(encodings, &payload)?;
    let permit = place.await;
    let dialect = request.negotiate(encodings);
    let response = handshake_response(&request, &handler.capabilities(), encodings);
    let peer = request
        .shared_memory()
        .filter(|_| dialect.has_streams() && response.success);
    let offered = link.accept_shared_memory(shared_memory, peer);
    let response = response.with_shared_memory(Offered::offer(&offered));
    let payload = response.encode_for(encodings);
    link.send_handshake(MessageType::HandshakeResponse, &payload)
        .await?;
    if let Some(reason) = response.error {
        return Err(ConnectError::HandshakeRefused(reason));
    }
    let upgraded = link.upgrade(offered, peer, buffer, Side::Agent, memory);
    upgraded.await?;
    Ok(AcceptedProxy {
        dialect,
        permit,
        proxy_id: request.proxy_id,
    })
}

/// Returns the response to a proxy's handshake.
pub(super) fn handshake_response(
    request: &HandshakeRequest,
    capabilities: &AgentCapabilities,
    encodings: &[Encoding],
) -> HandshakeResponse {
    if request.supports_our_version() {
        HandshakeResponse::accept(capabilities, request.negotiate(encodings))
    } else {
        HandshakeResponse::reject(capabilities, "only protocol version 2 is supported")
    }
}
