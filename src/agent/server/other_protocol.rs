//! Sessions of other protocols: their crates speak to the peer, and the server asks the handler.

use super::super::session_handle::SessionHandle;
use super::places::Places;
use super::sessions::{Rejected, Sessions, interrupted};
use crate::debug_fields::debug_fields;
use crate::error::ConnectError;
use crate::handler::{AgentHandler, AnyHandler};
use crate::memory::SharedAccount;
use crate::protocol::events::RequestHeaders;
use crate::protocol::{AgentCapabilities, AgentResponse, CancelReason, HeaderSource};
use crate::transport::HandshakeSlot;
use crate::wire::{BorrowedHeaders, Event, IncomingEvent};
use futures_util::future::BoxFuture;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

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
    handler: Arc<dyn AnyHandler>,
    stopping: watch::Receiver<bool>,
    places: Arc<Places>,
    place: Option<OwnedSemaphorePermit>,
    established: Option<oneshot::Sender<()>>,
    /// Account of the charges, once there is one.
    pub(super) memory: OnceLock<Arc<SharedAccount>>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) max_concurrent: usize,
    pub(super) frame_timeout: Duration,
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
        self.handle.set_place(true);
        if let Some(established) = self.established.take() {
            // Fails only if the server is closing the session.
            let _ = established.send(());
        }
    }

    /// Asks the handler about an event of an exchange, and returns its answer.
    ///
    /// The handler gets a view of the event as it is: nothing is encoded, and header values and
    /// bodies are not copied. Nothing is allocated either, unless the future of the handler takes
    /// more than 1 KiB.
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
        self.handle.mark_active();
        let mut headers = BorrowedHeaders::new();
        let event = IncomingEvent::borrowed(event, correlation_id, &mut headers)
            .map_err(|error| NotAsked(error.to_string()))?;
        Ok(self.handler.answer(event).await)
    }

    /// Tells the handler what the peer says again of a request's head, before an event about the
    /// response to it.
    ///
    /// # Errors
    ///
    /// As for [`ask`](Self::ask).
    pub fn recall<S: HeaderSource>(
        &self,
        correlation_id: &str,
        head: &RequestHeaders<'_, S>,
    ) -> Result<(), NotAsked> {
        let mut headers = BorrowedHeaders::new();
        let event = IncomingEvent::borrowed(head, correlation_id, &mut headers)
            .map_err(|error| NotAsked(error.to_string()))?;
        if let IncomingEvent::RequestHeaders(head) = event {
            self.handler.on_request_recalled(head);
        }
        Ok(())
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

/// Starts a session.
pub(super) type StartSession = Box<dyn FnOnce(OtherSession) -> BoxFuture<'static, ()> + Send>;

/// Runs a session within the server's limits until it ends.
pub(super) async fn serve_other<H: AgentHandler>(
    sessions: Arc<Sessions<H>>,
    start: StartSession,
    handle: Arc<SessionHandle>,
    mut slot: HandshakeSlot,
) {
    let (established, is_established) = oneshot::channel();
    let mut session = start(OtherSession {
        handler: Arc::clone(&sessions.handler) as Arc<dyn AnyHandler>,
        stopping: sessions.stopping(),
        places: Arc::clone(&sessions.places),
        place: None,
        established: Some(established),
        memory: OnceLock::new(),
        handle: Arc::clone(&handle),
        max_concurrent: sessions.limits.max_concurrent,
        frame_timeout: sessions.limits.frame_timeout,
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
