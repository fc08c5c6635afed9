//! A call to an agent in this process: the caller's task runs the handler.

use super::call::{PendingCall, check_body_size};
use super::{CallEnd, Connection};
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
        let view = self.view(event, correlation_id, &connection, &mut headers)?;
        let mut asked = pin!(local.answer(view).ok());
        let deadline = self.deadline();
        let answered = poll_fn(|cx| {
            let Some(answer) = asked.as_mut().as_pin_mut() else {
                return Poll::Ready(Err(Panicked));
            };
            // The answer goes straight to the slot: it is large, and every move copies it.
            let polled = answer.poll(deadline, cx, |answer| self.put_answer(answer));
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

    fn view<'v, 'e: 'v, E: Event>(
        &mut self,
        event: &'e E,
        correlation_id: &'v str,
        connection: &Connection,
        headers: &'v mut BorrowedHeaders<'e>,
    ) -> Result<IncomingEvent<'v>, CallError> {
        if let Some(watch) = &self.watch {
            watch.begin_encoding();
        }
        check_body_size(event, connection.capabilities.limits.max_body_size)
            .map_err(|error| self.refuse(CallEnd::TooLarge(error)))?;
        let view = IncomingEvent::borrowed(event, correlation_id, headers);
        if let Some(watch) = &self.watch {
            watch.end_encoding();
        }
        view.map_err(|error| {
            self.refuse(match error {
                NotAccepted::TooLarge(error) => CallEnd::TooLarge(error),
                NotAccepted::Settings(kind) => {
                    CallEnd::Undecodable(DecodeError::in_message("configure")(kind))
                }
            })
        })
    }

    /// Puts the answer into the slot, unless the call has ended meanwhile.
    fn put_answer(&mut self, answer: AgentResponse) {
        let received = self.connection().timeline.note_received();
        // Fails if the call has ended at this moment. Its end is in the slot then.
        let _ = self.ticket.fill(received, Ok(answer));
    }
}
