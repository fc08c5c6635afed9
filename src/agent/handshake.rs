//! The handshake that begins a session, from the agent's side.

use crate::connection::link::Link;
use crate::error::ConnectError;
use crate::handler::{AgentHandler, Handshake};
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
) -> Result<AcceptedProxy, ConnectError> {
    let (expected, name) = (MessageType::HandshakeRequest, "a handshake request");
    let payload = link.receive_handshake(buffer, expected, name).await?;
    let request = HandshakeRequest::decode_for(encodings, &payload)?;
    let permit = place.await;
    let dialect = request.negotiate(encodings);
    let response = handshake_response(handler, &request, encodings).await;
    let payload = response.encode_for(encodings);
    link.send_handshake(MessageType::HandshakeResponse, &payload)
        .await?;
    match response.error {
        None => Ok(AcceptedProxy {
            dialect,
            permit,
            proxy_id: request.proxy_id,
        }),
        Some(reason) => Err(ConnectError::HandshakeRefused(reason)),
    }
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
