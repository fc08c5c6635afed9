//! Sessions of other protocols: their crates speak to the peer, and the server asks the handler.

use super::super::answer::configured;
use super::super::handler_forms::DynAgentHandler;
use super::super::session_handle::SessionHandle;
use super::places::Places;
use super::sessions::{Rejected, Sessions, interrupted};
use crate::debug_fields::debug_fields;
use crate::error::ConnectError;
use crate::protocol::{AgentCapabilities, AgentResponse, CancelReason};
use crate::transport::HandshakeSlot;
use crate::wire::{
    DecodeError, Dialect, Encoding, Event, EventTarget, Extension, IncomingEvent, StreamId,
    encode_event,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// The form in which events are passed to the handler: MessagePack with binary bodies.
const DIALECT: Dialect = Dialect::new(Encoding::MessagePack, Some(Extension::V1));

/// Bytes of a frame before its payload: length, message type and stream id.
const PREFIX: usize = 4 + 1 + 8;

/// A session of a protocol other than agent protocol v2, for
/// [`Incoming::session`](super::Incoming::session).
///
/// The server closes a session that has not called [`established`](Self::established) within the
/// handshake timeout, or that is the oldest of too many such sessions.
///
/// ```
/// use tollgate::{Metadata, RequestHeaders, listener::OtherSession};
///
/// /// Decides on a request that has arrived in some other protocol.
/// async fn is_allowed(session: &OtherSession, id: &str, path: &str) -> bool {
///     let event = RequestHeaders {
///         metadata: Metadata { request_id: id, ..Metadata::default() },
///         method: "GET",
///         uri: path,
///         headers: &[("host", "example.com")][..],
///     };
///     let answer = session.ask(id, &event).await;
///     // An event that does not fit the protocol is not allowed.
///     answer.is_ok_and(|answer| answer.decision == tollgate::Decision::Allow)
/// }
/// ```
pub struct OtherSession {
    handler: Arc<dyn DynAgentHandler>,
    stopping: watch::Receiver<bool>,
    places: Arc<Places>,
    place: Option<OwnedSemaphorePermit>,
    established: Option<oneshot::Sender<()>>,
}

impl OtherSession {
    /// Returns what the agent can do.
    pub fn capabilities(&self) -> AgentCapabilities {
        (*self.handler).capabilities()
    }

    /// Records that the peer has completed its handshake, and waits until the server has fewer
    /// connections than its limit. Events may be asked for afterwards.
    pub async fn established(&mut self) {
        self.place = Some(self.places.acquire().await);
        if let Some(established) = self.established.take() {
            // Fails only if the server is closing the session.
            let _ = established.send(());
        }
    }

    /// Asks the handler about an event of an exchange, and returns its answer.
    ///
    /// Wait for the answer before asking about the next event of the same exchange.
    ///
    /// # Errors
    ///
    /// An event that agents would not accept from a proxy, such as one of more than 16 MiB. It must
    /// not be taken for allowed.
    pub async fn ask<E: Event>(
        &self,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, NotAsked> {
        let mut frame = Vec::new();
        let target = EventTarget {
            correlation_id,
            stream: StreamId(0),
            time_left: None,
        };
        let body = encode_event(event, target, DIALECT, &mut frame)
            .map_err(|error| NotAsked(error.to_string()))?;
        frame.extend_from_slice(&body);
        let payload = Bytes::from(frame).split_off(PREFIX);
        let undecodable = |error: DecodeError| NotAsked(error.to_string());
        let event = IncomingEvent::from_msgpack(E::EVENT_TYPE, &payload)
            .map_err(|fault| undecodable(fault.error))?;
        Ok(handle(&*self.handler, event).await)
    }

    /// Tells the handler that the peer has cancelled an exchange. Drop the futures of
    /// [`ask`](Self::ask) for that exchange first.
    pub fn cancel(&self, correlation_id: &str, reason: CancelReason) {
        (*self.handler).on_cancel(correlation_id, reason);
    }

    /// Waits until the server stops. The session then finishes what it has begun and ends, within
    /// the server's drain timeout.
    pub async fn stopping(&self) {
        // An error means that the server was dropped.
        let _ = self.stopping.clone().wait_for(|stops| *stops).await;
    }
}

/// An event that the handler was not asked about, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the handler was not asked: {0}")]
pub struct NotAsked(String);

impl Drop for OtherSession {
    fn drop(&mut self) {
        (*self.handler).on_connection_closed();
    }
}

debug_fields!(OtherSession, |self| is_established: self.established.is_none());

async fn handle(handler: &dyn DynAgentHandler, event: IncomingEvent<'_>) -> AgentResponse {
    match event {
        IncomingEvent::RequestHeaders(event) => handler.on_request_headers(event).await,
        IncomingEvent::RequestBodyChunk(event) => handler.on_request_body_chunk(event).await,
        IncomingEvent::ResponseHeaders(event) => handler.on_response_headers(event).await,
        IncomingEvent::ResponseBodyChunk(event) => handler.on_response_body_chunk(event).await,
        IncomingEvent::RequestComplete(event) => handler.on_request_complete(event).await,
        IncomingEvent::WebSocketFrame(event) => handler.on_websocket_frame(event).await,
        IncomingEvent::GuardrailInspect(event) => handler.on_guardrail_inspect(event).await,
        IncomingEvent::Configure(event) => configured(handler.on_configure(event).await),
    }
}

/// Starts a session.
pub(super) type StartSession = Box<dyn FnOnce(OtherSession) -> BoxFuture<'static, ()> + Send>;

/// Runs a session within the server's limits until it ends.
pub(super) async fn serve_other<H: super::super::AgentHandler>(
    sessions: Arc<Sessions<H>>,
    start: StartSession,
    handle: Arc<SessionHandle>,
    mut slot: HandshakeSlot,
) {
    let (established, is_established) = oneshot::channel();
    let mut session = start(OtherSession {
        handler: Arc::clone(&sessions.handler) as Arc<dyn DynAgentHandler>,
        stopping: sessions.stopping(),
        places: Arc::clone(&sessions.places),
        place: None,
        established: Some(established),
    });
    let mut has_ended = false;
    let handshake = async {
        tokio::select! {
            biased;
            () = &mut session => has_ended = true,
            Ok(()) = is_established => {}
        }
        Ok::<_, ConnectError>(())
    };
    let interrupted = interrupted(&mut slot, &handle);
    match sessions.admit(handshake, interrupted).await {
        Ok(()) => drop(slot),
        // It ends by itself, as it is told as well.
        Err(Rejected::Stopping) => drop(slot),
        Err(rejected) => return sessions.log(handle.peer(), &rejected),
    }
    if !has_ended {
        session.await;
    }
}
