//! The handshake that begins every connection, from the proxy's side.
//!
//! On a forward connection, [`open`] sends the request and checks the response. On a reverse
//! connection, the registration takes its place; it is received elsewhere, and
//! [`connection_over_link`] creates the connection from what was negotiated. Agents use
//! [`Link::send_handshake`] and [`Link::receive_handshake`] for their side of it.

use super::link::{Batch, Link};
use super::{
    Connection, ConnectionConfig, Inbound, LinkKind, Offered, SharedMemoryConfig,
    SharedMemoryRefusal, SharedState, Side,
};
use crate::error::ConnectError;
use crate::handler::Panicked;
use crate::protocol::{AgentCapabilities, PROTOCOL_VERSION};
use crate::wire::{
    Dialect, Encoding, Extension, FrameBuffer, HandshakeRequest, HandshakeResponse,
    MAX_HANDSHAKE_LEN, MessageType, SharedMemoryOffer, frame_of,
};
use bytes::BytesMut;
use serde_json::Value;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Dialect of connections to agents in this process. Calls on them are matched like those with
/// stream ids, and only messages about the connection are encoded.
const LOCAL_DIALECT: Dialect = Dialect::new(Encoding::MessagePack, Some(Extension::V1));

/// Performs the handshake over a new link and creates the connection.
///
/// There is no time limit: the caller has to set one. The connection does nothing until the
/// returned [`Inbound`] and [`run_writer`](super::run_writer) run.
pub(crate) async fn open(
    agent: Arc<SharedState>,
    mut link: Link,
    offer: HandshakeOffer<'_>,
    config: &ConnectionConfig,
) -> Result<(Arc<Connection>, Inbound), ConnectError> {
    if let Some(local) = link.sender.local_agent() {
        let panicked = |Panicked| ConnectError::HandshakeRefused("the handler panicked".to_owned());
        let negotiated = NegotiatedParams {
            capabilities: local.capabilities().map_err(panicked)?,
            dialect: LOCAL_DIALECT,
            origin: Origin::Forward,
            link_kind: LinkKind::Transport(SharedMemoryRefusal::NotSupported),
        };
        let buffer = FrameBuffer::default();
        return Ok(connection_over_link(
            agent, link, buffer, negotiated, config,
        ));
    }
    let offered = link.offer_shared_memory(offer.shared_memory);
    let request = encode_request(offer, Offered::offer(&offered));
    let sent = link.send_handshake(MessageType::HandshakeRequest, &request);
    match sent.await {
        // An agent that closed the link without reading the request may have sent a rejection
        // before, which tells more than the failed write.
        Ok(()) | Err(ConnectError::ClosedDuringHandshake) => {}
        Err(error) => return Err(error),
    }
    let mut buffer = FrameBuffer::default();
    let (expected, name) = (MessageType::HandshakeResponse, "the handshake response");
    let payload = link.receive_handshake(&mut buffer, expected, name).await?;
    let response = HandshakeResponse::decode_for(offer.encodings, &payload)?;
    let dialect = check_response(&response, offer)?;
    let peer = response.tollgate.shared_memory();
    let upgraded = link.upgrade(offered, peer, &mut buffer, Side::Proxy, &agent.memory);
    let link_kind = upgraded.await?;
    let negotiated = NegotiatedParams {
        capabilities: response.capabilities.into(),
        dialect,
        origin: Origin::Forward,
        link_kind,
    };
    Ok(connection_over_link(
        agent, link, buffer, negotiated, config,
    ))
}

/// Creates a connection over a link whose handshake or registration is done.
///
/// `buffer` holds the bytes that were received after it. The connection does nothing until the
/// returned [`Inbound`] and [`run_writer`](super::run_writer) run.
pub(crate) fn connection_over_link(
    agent: Arc<SharedState>,
    link: Link,
    buffer: FrameBuffer,
    mut negotiated: NegotiatedParams,
    config: &ConnectionConfig,
) -> (Arc<Connection>, Inbound) {
    match &negotiated.link_kind {
        LinkKind::SharedMemory(counters) => counters.belong_to(&agent.rings),
        LinkKind::Transport(refusal) if refusal.is_failure() => {
            agent.failed_upgrades.fetch_add(1, Ordering::Relaxed);
        }
        LinkKind::Transport(_) => {}
    }
    // A transport may carry smaller frames than the protocol allows.
    negotiated.dialect = negotiated.dialect.within(link.max_frame);
    let (connection, completer) = Connection::new(agent, negotiated, link.sender, config);
    let inbound = Inbound::new(
        Arc::clone(&connection),
        link.receiver,
        completer,
        buffer,
        config,
    );
    (connection, inbound)
}

/// Outcome of a handshake or registration.
#[derive(Debug)]
pub(crate) struct NegotiatedParams {
    pub(crate) capabilities: AgentCapabilities,
    pub(crate) dialect: Dialect,
    pub(crate) origin: Origin,
    pub(crate) link_kind: LinkKind,
}

/// Side that opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The proxy connected to the agent.
    Forward,
    /// The agent connected to the proxy.
    Reverse,
}

/// Options that the proxy offers to the agent in the handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandshakeOffer<'a> {
    /// Id of the proxy. With the extension, agents treat all connections with one id as those of
    /// one proxy.
    pub(crate) proxy_id: &'a str,
    /// Encodings in order of preference. The agent may choose JSON even if it is not listed.
    pub(crate) encodings: &'a [Encoding],
    /// Versions of the protocol extension of this crate among which the agent may choose, in order
    /// of preference.
    pub(crate) extensions: &'a [Extension],
    pub(crate) shared_memory: SharedMemoryConfig,
    /// Settings of the agent. Some agents read them in the handshake, so that they can reject it.
    pub(crate) config: Option<&'a Value>,
}

/// Encodes the request, without the settings if they would make it too large for agents of this
/// crate. They are sent after the handshake in any case.
fn encode_request(offer: HandshakeOffer<'_>, shared_memory: Option<&SharedMemoryOffer>) -> Vec<u8> {
    let mut request = HandshakeRequest::new(offer.proxy_id, offer.encodings, offer.extensions);
    request.tollgate.set_shared_memory(shared_memory);
    let with_config = request.clone().with_config(offer.config);
    let encoded = with_config.encode_for(offer.encodings);
    // A frame counts the type of its message.
    if encoded.len() < MAX_HANDSHAKE_LEN {
        return encoded;
    }
    request.encode_for(offer.encodings)
}

/// Checks that the agent accepted and chose only what was offered. Returns the dialect for all
/// further messages.
fn check_response(
    response: &HandshakeResponse,
    offer: HandshakeOffer<'_>,
) -> Result<Dialect, ConnectError> {
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
    // Every agent may fall back to JSON, even if it was not offered.
    if response.encoding != Encoding::Json && !offer.encodings.contains(&response.encoding) {
        return Err(ConnectError::EncodingNotOffered);
    }
    // An extension that was not offered is an error: the agent would write messages in a form that
    // this side does not expect.
    let chosen = response.extension();
    let mut offered = offer.extensions.iter().copied();
    let extension = offered.find(|version| chosen == Some(version.number()));
    if chosen.is_some() && extension.is_none() {
        return Err(ConnectError::ExtensionNotOffered);
    }
    Ok(Dialect::new(response.encoding, extension))
}

/// The messages before a connection uses the link, which bypass the send queue.
impl Link {
    /// Sends one message and waits until the link has taken all of it.
    pub(crate) async fn send_handshake(
        &mut self,
        message: MessageType,
        payload: &[u8],
    ) -> Result<(), ConnectError> {
        let mut batch = Batch::default();
        batch.push(frame_of(message, payload)?);
        loop {
            self.sender.try_send(&mut batch, &drop)?;
            if batch.is_empty() {
                return Ok(());
            }
            poll_fn(|cx| self.sender.poll_room(cx)).await?;
        }
    }

    /// Receives the first message of a connection, which has to be `expected`, in errors `name`.
    ///
    /// Its length is limited by `MAX_HANDSHAKE_LEN`, so that an unknown peer cannot make this side
    /// buffer a large frame.
    pub(crate) async fn receive_handshake(
        &mut self,
        buffer: &mut FrameBuffer,
        expected: MessageType,
        name: &str,
    ) -> Result<BytesMut, ConnectError> {
        loop {
            match buffer.next_frame(MAX_HANDSHAKE_LEN)? {
                Some((message, payload)) if message == expected as u8 => return Ok(payload),
                Some((message, _)) => {
                    return Err(ConnectError::InvalidHandshake(format!(
                        "expected {name}, got message type {message:#04x}"
                    )));
                }
                None => {}
            }
            let received = poll_fn(|cx| self.receiver.poll_receive(cx, buffer.spare())).await?;
            if received == 0 {
                return Err(ConnectError::ClosedDuringHandshake);
            }
        }
    }
}
