//! A call to an agent in this process: the caller's task runs the handler.

use super::CallEnd;
use super::call::{PendingCall, check_body_size};
use crate::error::CallError;
use crate::handler::Panicked;
use crate::protocol::AgentResponse;
use crate::wire::{BorrowedHeaders, DecodeError, Event, IncomingEvent, NotAccepted};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

impl PendingCall {
    /// Lets the handler answer the event, and puts its answer into the slot.
    ///
    /// If the call ends first, by its deadline for example, the receive task has filled the slot
    /// and the handler is dropped.
    pub(super) async fn ask_local<E: Event>(
        &mut self,
        correlation_id: &str,
        event: &E,
    ) -> Result<(), CallError> {
        let connection = Arc::clone(self.connection());
        let Some(local) = &connection.outbound.local else {
            return Ok(());
        };
        // Handlers that never wait would keep a task running that only asks them.
        tokio::task::consume_budget().await;
        let mut turn = local.enter(self.key);
        if turn.is_waiting() {
            let came = poll_fn(|cx| match turn.poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => self.ticket.poll_filled(cx).map(|()| false),
            });
            if !came.await {
                return Ok(());
            }
        }
        let mut headers = BorrowedHeaders::new();
        let mut answer = pin!(local.answer());
        if let Some(watch) = &self.watch {
            watch.begin_encoding();
        }
        if let Err(error) = check_body_size(event, connection.capabilities.limits.max_body_size) {
            return Err(self.refuse(CallEnd::TooLarge(error)));
        }
        event.headers(&mut headers);
        // Not returned by a function: it is large, and every move copies it.
        let view = IncomingEvent::view_of(event, correlation_id, &headers);
        if let Some(watch) = &self.watch {
            watch.end_encoding();
        }
        if let Err(error) = view.check(event, &headers) {
            return Err(self.refuse(not_accepted(error)));
        }
        answer.as_mut().ask(view);
        let deadline = self.deadline();
        let answered = poll_fn(|cx| {
            // The answer goes straight to the slot: it is large, and every move copies it.
            let put = |answer| self.put_answer(answer);
            let polled = answer.as_mut().poll(deadline, cx, put);
            if let Ok(Poll::Pending) = polled {
                turn.hold();
                return self.ticket.poll_filled(cx).map(Ok);
            }
            Poll::Ready(polled.map(|_| ()))
        });
        if let Err(Panicked) = answered.await {
            local.note_panic();
            return Err(self.fail(CallEnd::Panicked));
        }
        Ok(())
    }

    /// Puts the answer into the slot, unless the call has ended meanwhile.
    fn put_answer(&mut self, answer: AgentResponse) {
        let received = self.connection().timeline.note_received();
        // Fails if the call has ended at this moment. Its end is in the slot then.
        let _ = self.ticket.fill(received, Ok(answer));
    }
}

/// Returns the end of a call whose event the agent would not accept from a connection.
#[cold]
fn not_accepted(error: NotAccepted) -> CallEnd {
    match error {
        NotAccepted::TooLarge(error) => CallEnd::TooLarge(error),
        NotAccepted::Settings(kind) => {
            CallEnd::Undecodable(DecodeError::in_message("configure")(kind))
        }
    }
}
