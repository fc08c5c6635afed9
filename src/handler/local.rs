//! An agent in the process of its proxy, as one connection to it sees it.

use super::any_handler::{AnyHandler, HandlerFuture, SharedHandler};
use super::deadline::poll_until;
use super::exchange_order::ExchangeOrder;
use crate::log::log_line;
use crate::protocol::{AgentCapabilities, AgentResponse};
use crate::wire::{Encoding, IncomingEvent, MessageType, control};
use bytes::Bytes;
use pin_project_lite::pin_project;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

/// The other side of a connection to an agent in this process.
pub(crate) struct LocalAgent {
    handler: Arc<dyn AnyHandler>,
    order: ExchangeOrder,
    /// Notified when an event leaves [`ExchangeOrder`].
    left: Notify,
}

/// The handler panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

impl LocalAgent {
    pub(crate) fn new(shared: &SharedHandler) -> Self {
        Self {
            handler: Arc::clone(&shared.handler),
            order: ExchangeOrder::new(Arc::clone(&shared.agent_id)),
            left: Notify::new(),
        }
    }

    pub(crate) fn capabilities(&self) -> Result<AgentCapabilities, Panicked> {
        contained(|| self.handler.capabilities())
    }

    /// Takes a place among the events of an exchange, whose key is a hash of its correlation id.
    pub(crate) fn enter(&self, key: u64) -> Turn<'_> {
        let waits = self.order.enter(key);
        Turn {
            agent: self,
            key,
            place: waits.map_or(Place::Free, Place::Waiting),
        }
    }

    /// Returns the place of an answer, for an event that is not asked about yet.
    pub(crate) fn answer(&self) -> Answer<'_> {
        Answer {
            agent: self,
            future: None,
        }
    }

    /// Waits until no handler runs for an exchange.
    pub(crate) async fn wait_until_left(&self, key: u64) {
        loop {
            let left = self.left.notified();
            if !self.order.is_held(key) {
                return;
            }
            left.await;
        }
    }

    /// Hands the handler a message about the connection.
    pub(crate) fn receive(&self, message: MessageType, payload: &[u8]) {
        let (handler, payload) = (&*self.handler, &Bytes::copy_from_slice(payload));
        let encoding = Encoding::MessagePack;
        let handled = contained(|| match message {
            MessageType::Cancel => control::decode_cancel(payload, encoding)
                .map(|cancel| handler.on_cancel(&cancel.correlation_id, cancel.reason)),
            MessageType::ConfigUpdateResponse => control::decode(payload, encoding)
                .map(|response| handler.on_config_update_response(response)),
            MessageType::Drain => {
                control::decode(payload, encoding).map(|drain| handler.on_drain(drain))
            }
            MessageType::Shutdown => {
                control::decode(payload, encoding).map(|shutdown| handler.on_shutdown(shutdown))
            }
            _ => Ok(()),
        });
        let agent = self.order.peer();
        match handled {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log_line!(warn, agent, { agent, error }, "ignored a message"),
            Err(Panicked) => self.note_panic(),
        }
    }

    /// Tells the handler that the connection has ended.
    pub(crate) fn closed(&self) {
        if contained(|| self.handler.on_connection_closed()).is_err() {
            self.note_panic();
        }
    }

    /// Logs that the handler panicked.
    #[cold]
    pub(crate) fn note_panic(&self) {
        let agent = self.order.peer();
        log_line!(error, agent, { agent }, "the handler panicked");
    }
}

/// Calls a handler, and keeps its panic from the caller.
#[inline]
fn contained<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    // What the handler shares with other calls is its own, as on a connection.
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}

pin_project! {
    /// The answer of a handler. Its panics do not reach the caller, nor those of destructors.
    pub(crate) struct Answer<'a> {
        agent: &'a LocalAgent,
        #[pin]
        future: Option<HandlerFuture<'a>>,
    }

    impl PinnedDrop for Answer<'_> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if contained(|| this.future.set(None)).is_err() {
                this.agent.note_panic();
            }
        }
    }
}

impl<'a> Answer<'a> {
    /// Calls the handler's method for an event.
    pub(crate) fn ask(self: Pin<&mut Self>, event: IncomingEvent<'a>) {
        let mut this = self.project();
        let mut event = Some(event);
        // The closure has neither the event nor the future, since both are large. A panic leaves no
        // future behind.
        let _ = contained(|| {
            if let Some(event) = event.take() {
                this.future.set(Some(this.agent.handler.answer(event)));
            }
        });
    }

    /// Polls the handler, and passes its answer to `answered` without moving it again.
    ///
    /// # Errors
    ///
    /// [`Panicked`] if the handler panics, or did when it was asked.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
        answered: impl FnOnce(AgentResponse),
    ) -> Result<Poll<()>, Panicked> {
        let future = self.project().future.as_pin_mut().ok_or(Panicked)?;
        contained(|| poll_until(deadline, future, cx).map(answered))
    }
}

/// The place of an event among those of its exchange, until this is dropped.
pub(crate) struct Turn<'a> {
    agent: &'a LocalAgent,
    key: u64,
    place: Place,
}

enum Place {
    /// No other event of the exchange is unanswered, and this one is not known to others.
    Free,
    /// Completes when the events before are answered.
    Waiting(oneshot::Receiver<()>),
    /// Later events of the exchange wait for this one.
    Held,
}

impl Turn<'_> {
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting(_))
    }

    /// Polls until the events before are answered.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Place::Waiting(turn) = &mut self.place {
            // The sender is dropped only after it has sent.
            let _ = ready!(Pin::new(turn).poll(cx));
            self.place = Place::Held;
        }
        Poll::Ready(())
    }

    /// Lets later events of the exchange wait, because the handler does.
    pub(crate) fn hold(&mut self) {
        if let Place::Free = self.place {
            self.agent.order.hold(self.key);
            self.place = Place::Held;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let holds = match &mut self.place {
            Place::Free => return,
            Place::Held => true,
            Place::Waiting(turn) => {
                // The turn may have come without being noticed. It goes to the next event then.
                turn.close();
                turn.try_recv().is_ok()
            }
        };
        if holds {
            self.agent.order.release(self.key);
            self.agent.left.notify_waiters();
        }
    }
}
