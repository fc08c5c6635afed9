use super::link::{Batch, Link, LinkReceiver, LinkSender};
use super::{AgentRecord, Connection, ConnectionConfig, Inbound};
use crate::error::ConnectError;
use crate::protocol::{AgentCapabilities, PROTOCOL_VERSION};
use crate::wire::{
    Dialect, Encoding, Extension, FrameBuffer, HandshakeRequest, HandshakeResponse,
    MAX_HANDSHAKE_LEN, MessageType, frame_of,
};
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

/// Shakes hands over a fresh link and makes it a connection.
///
/// The caller bounds the time. Nothing happens on the connection until what is returned beside it, and
/// [`run_writer`](super::run_writer), run.
pub(crate) async fn open(
    agent: Arc<AgentRecord>,
    mut link: Link,
    offer: Offer<'_>,
    config: &ConnectionConfig,
) -> Result<(Arc<Connection>, Inbound), ConnectError> {
    let request = HandshakeRequest::new(offer.proxy_id, offer.encodings, offer.extension);
    let request = request.encode_for(offer.encodings);
    let sent = send_message(&*link.sender, MessageType::HandshakeRequest, &request);
    match sent.await {
        // An agent that has hung up may have said why.
        Ok(()) | Err(ConnectError::ClosedDuringHandshake) => {}
        Err(error) => return Err(error),
    }
    let mut buffer = FrameBuffer::default();
    let (message, payload) = receive_handshake(&mut *link.receiver, &mut buffer).await?;
    if message != MessageType::HandshakeResponse as u8 {
        return Err(ConnectError::InvalidHandshake(format!(
            "message type {message:#04x} where the handshake response should be"
        )));
    }
    let response = HandshakeResponse::decode_for(offer.encodings, &payload)?;
    let dialect = agreed(&response, offer)?;
    let terms = Terms {
        capabilities: response.capabilities.into(),
        dialect,
        origin: Origin::Forward,
    };
    Ok(adopt(agent, link, buffer, terms, config))
}

/// Makes a link over which an agent has registered a connection. `buffer` holds what came behind the
/// registration.
///
/// Nothing happens on the connection until what is returned beside it, and
/// [`run_writer`](super::run_writer), run.
pub(crate) fn adopt(
    agent: Arc<AgentRecord>,
    link: Link,
    buffer: FrameBuffer,
    mut terms: Terms,
    config: &ConnectionConfig,
) -> (Arc<Connection>, Inbound) {
    terms.dialect = terms.dialect.within(link.max_frame);
    let (connection, completer) = Connection::new(agent, terms, link.sender, config);
    let inbound = Inbound::new(Arc::clone(&connection), link.receiver, completer, buffer);
    (connection, inbound)
}

/// What both sides have settled when a connection begins.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) capabilities: AgentCapabilities,
    pub(crate) dialect: Dialect,
    pub(crate) origin: Origin,
}

/// Which side has connected to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The proxy to the agent.
    Forward,
    /// The agent to the proxy.
    Reverse,
}

/// What the agent may choose from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    /// How the proxy calls itself. With our extension, agents take connections of one id for those of one proxy.
    pub(crate) proxy_id: &'a str,
    /// In order of preference; JSON may be chosen although it is not among them.
    pub(crate) encodings: &'a [Encoding],
    pub(crate) extension: Option<Extension>,
}

/// How messages are written from now on, unless the agent refused or chose something else.
fn agreed(response: &HandshakeResponse, offer: Offer<'_>) -> Result<Dialect, ConnectError> {
    if !response.success {
        let reason = response
            .error
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned());
        return Err(ConnectError::HandshakeRefused(reason));
    }
    if response.protocol_version != PROTOCOL_VERSION {
        return Err(ConnectError::VersionMismatch {
            expected: PROTOCOL_VERSION,
            actual: response.protocol_version,
        });
    }
    // Every agent may fall back to JSON.
    if response.encoding != Encoding::Json && !offer.encodings.contains(&response.encoding) {
        return Err(ConnectError::EncodingNotOffered);
    }
    let chosen = response.extension();
    let extension = offer
        .extension
        .filter(|extension| chosen == Some(extension.number()));
    if chosen.is_some() && extension.is_none() {
        return Err(ConnectError::ExtensionNotOffered);
    }
    Ok(Dialect::new(response.encoding, extension))
}

/// Sends one message and waits until it is gone.
pub(crate) async fn send_message(
    sender: &dyn LinkSender,
    message: MessageType,
    payload: &[u8],
) -> Result<(), ConnectError> {
    let mut batch = Batch::default();
    batch.push(frame_of(message, payload)?);
    loop {
        sender.try_send(&mut batch, &drop)?;
        if batch.is_empty() {
            return Ok(());
        }
        poll_fn(|cx| sender.poll_room(cx)).await?;
    }
}

/// Receives the first message of a connection, which may not be larger than a handshake.
pub(crate) async fn receive_handshake(
    receiver: &mut dyn LinkReceiver,
    buffer: &mut FrameBuffer,
) -> Result<(u8, BytesMut), ConnectError> {
    loop {
        if let Some(frame) = buffer.next_frame(MAX_HANDSHAKE_LEN)? {
            return Ok(frame);
        }
        let received = poll_fn(|cx| receiver.poll_receive(cx, buffer.spare())).await?;
        if received == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}
