//! The handshake that begins a session, from the agent's side.

use crate::connection::link::Link;
use crate::connection::{Offered, SharedMemoryConfig, Side};
use crate::error::ConnectError;
use crate::handler::{AgentHandler, Handshake};
use crate::memory::MemoryBudget;
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
    let mut response = handshake_response(handler, &request, encodings).await;
    let peer = request
        .tollgate
        .shared_memory()
        .filter(|_| dialect.has_streams() && response.success);
    let offered = link.accept_shared_memory(shared_memory, peer);
    response
        .tollgate
        .set_shared_memory(Offered::offer(&offered));
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

/// Returns the response to a proxy's handshake, which the handler may refuse.
pub(super) async fn handshake_response<H: AgentHandler>(
    handler: &H,
    request: &HandshakeRequest,
    encodings: &[Encoding],
) -> HandshakeResponse {
    let capabilities = handler.capabilities();
    if !request.supports_our_version() {
        let reason = "only protocol version 2 is supported";
        return HandshakeResponse::reject(&capabilities, reason);
    }
    let handshake = Handshake {
        proxy_id: &request.proxy_id,
        proxy_version: &request.proxy_version,
        supported_versions: &request.supported_versions,
        config: &request.config,
    };
    match handler.on_handshake(handshake).await {
        Ok(()) => HandshakeResponse::accept(&capabilities, request.negotiate(encodings)),
        Err(reason) => HandshakeResponse::reject(&capabilities, &reason),
    }
}
