//! The path of one call.

use super::admission::{Admission, is_answer};
use super::slots::{SlotTable, TableRef, Ticket};
use super::{CallFailure, Connection, Correlation, Reply};
use crate::error::AgentProtocolError;
use crate::protocol::AgentResponse;
use crate::wire::{
    Address, DecodeError, DecodeErrorKind, Event, OutgoingFrame, encode_event, expected_len,
};
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

impl Connection {
    /// Puts an event to the agent and waits for the answer.
    ///
    /// `timeout` covers everything: waiting for a slot, for room in the outbox, and for the answer.
    pub(crate) async fn call<E: Event>(
        &self,
        correlation: Correlation<'_>,
        event: &E,
        timeout: Duration,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let mut call = PendingCall::start(self, correlation, event, timeout).await?;
        poll_fn(|cx| call.poll_answer(cx)).await
    }

    /// A lone caller sends at once, which saves waking another task. Where several are at work the
    /// writer takes what all of them have, with one system call.
    fn send(&self) {
        if self.slots.pending() <= 1 {
            self.send_now();
        } else {
            self.outbox.request_writer();
        }
    }

    fn failure_error(&self, failure: CallFailure, timeout: Duration) -> AgentProtocolError {
        let agent_id = Arc::clone(&self.agent.id);
        match failure {
            CallFailure::Closed => AgentProtocolError::ConnectionClosed { agent_id },
            CallFailure::TimedOut => self.timeout_error(timeout),
            CallFailure::Undecodable(cause) => {
                AgentProtocolError::InvalidMessage { agent_id, cause }
            }
            CallFailure::Cancelled => AgentProtocolError::Cancelled { agent_id },
        }
    }

    fn count_error(&self) {
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a call holds on to its connection: borrowed where it is awaited at once, shared where it is kept.
pub(crate) trait Hold: Deref<Target = Connection> {
    type Slots: TableRef<Reply>;

    fn slots(&self) -> Self::Slots;
}

impl<'c> Hold for &'c Connection {
    type Slots = &'c SlotTable<Reply>;

    fn slots(&self) -> Self::Slots {
        &self.slots
    }
}

impl Hold for Arc<Connection> {
    type Slots = Arc<SlotTable<Reply>>;

    fn slots(&self) -> Self::Slots {
        Arc::clone(&self.slots)
    }
}

/// A call with an open slot. Dropping it gives the call up.
pub(crate) struct PendingCall<H: Hold> {
    connection: H,
    /// `None` once the reply is taken.
    ticket: Option<Ticket<H::Slots, Reply>>,
    key: u64,
    timeout: Duration,
    is_sent: bool,
}

impl<H: Hold> PendingCall<H> {
    /// Opens a slot and puts the event into the outbox, waiting for room in both.
    pub(crate) async fn start<E: Event>(
        connection: H,
        correlation: Correlation<'_>,
        event: &E,
        timeout: Duration,
    ) -> Result<Self, AgentProtocolError> {
        connection.counts.requests.fetch_add(1, Ordering::Relaxed);
        let admission = Admission {
            connection: &connection,
            correlation,
            deadline: deadline_after(timeout),
            timeout,
        };
        let ticket = match admission.open_slot().await {
            Ok(ticket) => ticket,
            Err(error) => {
                connection.count_error();
                return Err(error);
            }
        };
        let address = Address {
            correlation_id: correlation.id,
            stream: ticket.stream(),
        };
        let mut call = Self {
            connection,
            ticket: Some(ticket),
            key: correlation.key,
            timeout,
            is_sent: false,
        };
        match call.send(address, event).await {
            Ok(()) => Ok(call),
            Err(error) => {
                call.connection.count_error();
                Err(error)
            }
        }
    }

    /// The agent's answer once it is there; it can be taken once.
    pub(crate) fn poll_answer(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Result<AgentResponse, AgentProtocolError>> {
        let reply = ready!(poll_reply(&mut self.ticket, cx));
        Poll::Ready(reply.map_err(|failure| {
            self.connection.count_error();
            self.connection.failure_error(failure, self.timeout)
        }))
    }

    async fn send<E: Event>(
        &mut self,
        address: Address<'_>,
        event: &E,
    ) -> Result<(), AgentProtocolError> {
        let frame = self.encode(address, event)?;
        if let Err(frame) = self.connection.outbox.try_push(frame) {
            self.wait_for_room(frame)
                .await
                .map_err(|failure| self.connection.failure_error(failure, self.timeout))?;
        }
        self.is_sent = true;
        self.connection.send();
        Ok(())
    }

    fn encode<E: Event>(
        &self,
        address: Address<'_>,
        event: &E,
    ) -> Result<OutgoingFrame, AgentProtocolError> {
        let connection = &*self.connection;
        let dialect = connection.dialect;
        let mut written = connection.outbox.buffer(expected_len(event, dialect));
        match encode_event(event, address, dialect, &mut written) {
            Ok(body) => Ok(OutgoingFrame { written, body }),
            Err(error) => {
                connection.outbox.recycle(written);
                Err(connection.frame_error(error))
            }
        }
    }

    /// Waits in line for room in the outbox, unless the call ends before there is any.
    async fn wait_for_room(&mut self, frame: OutgoingFrame) -> Result<(), CallFailure> {
        let (connection, ticket) = (&*self.connection, &mut self.ticket);
        let mut push = pin!(connection.outbox.push(frame));
        let waited = poll_fn(|cx| match poll_reply(ticket, cx) {
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Ready(Ok(_)) => Poll::Ready(Err(CallFailure::Undecodable(DecodeError {
                message: "agent response",
                kind: DecodeErrorKind::Unasked,
            }))),
            Poll::Pending => push.as_mut().poll(cx).map(Ok),
        })
        .await;
        if waited.is_err() {
            // Nothing was sent, so no answer is missing.
            connection.unanswered.remove(self.key);
        }
        waited
    }
}

/// Takes the reply once it is there, and gives the slot back.
fn poll_reply<P: TableRef<Reply>>(
    ticket: &mut Option<Ticket<P, Reply>>,
    cx: &Context<'_>,
) -> Poll<Reply> {
    let Some(held) = ticket else {
        return Poll::Ready(Err(CallFailure::Cancelled));
    };
    let reply = ready!(held.poll(cx));
    *ticket = None;
    Poll::Ready(reply)
}

impl<H: Hold> Drop for PendingCall<H> {
    /// Keeps account of an answer that nobody waits for any more.
    ///
    /// The key is noted before the slot is given back, so that an answer finds one or the other.
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let unanswered = &self.connection.unanswered;
        if self.is_sent {
            self.connection.note_unanswered(self.key);
        }
        let reply = ticket.abandon();
        if !self.is_sent || reply.is_some_and(|reply| is_answer(&reply)) {
            unanswered.remove(self.key);
        }
    }
}

/// A deadline so far away that it never passes stands for one that cannot be expressed.
fn deadline_after(timeout: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + NEVER)
}
