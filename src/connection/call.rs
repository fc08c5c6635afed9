//! The path of one call.

use super::slots::{OpenError, Ticket};
use super::{CallFailure, Connection, Correlation, Reply};
use crate::error::AgentProtocolError;
use crate::protocol::AgentResponse;
use crate::wire::{DecodeError, DecodeErrorKind, Event, encode_event};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

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
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let result = self.attempt(correlation, event, timeout).await;
        if result.is_err() {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn attempt<E: Event>(
        &self,
        correlation: Correlation<'_>,
        event: &E,
        timeout: Duration,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let deadline = deadline_after(timeout);
        let mut call = match self.open_slot(correlation, deadline)? {
            Some(call) => call,
            None => self.wait_for_slot(correlation, deadline, timeout).await?,
        };
        let mut frame = self.outbox.buffer(event.expected_len());
        if let Err(error) = encode_event(event, correlation.id, self.encoding, &mut frame) {
            self.outbox.recycle(frame);
            return Err(self.frame_error(error));
        }
        if let Err(frame) = self.outbox.try_push(frame)
            && let Err(failure) = call.wait_for_room(frame).await
        {
            return Err(self.failure_error(failure, timeout));
        }
        call.is_sent = true;
        self.send();
        poll_fn(|cx| call.poll(cx))
            .await
            .map_err(|failure| self.failure_error(failure, timeout))
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

    /// Opens a slot if one is free and nobody waits for one.
    fn open_slot(
        &self,
        correlation: Correlation<'_>,
        deadline: Instant,
    ) -> Result<Option<PendingCall<'_>>, AgentProtocolError> {
        self.slots
            .room()
            .try_pass(|| self.attempt_to_open(correlation, deadline))
            .transpose()
    }

    async fn wait_for_slot(
        &self,
        correlation: Correlation<'_>,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<PendingCall<'_>, AgentProtocolError> {
        let opened = self
            .slots
            .room()
            .pass(|| self.attempt_to_open(correlation, deadline));
        timeout_at(deadline.into(), opened)
            .await
            .map_err(|_| self.timeout_error(timeout))?
    }

    /// `None` if every slot is taken.
    fn attempt_to_open(
        &self,
        correlation: Correlation<'_>,
        deadline: Instant,
    ) -> Option<Result<PendingCall<'_>, AgentProtocolError>> {
        if !self.is_open() {
            return Some(Err(self.closed_error()));
        }
        if !self.admits(correlation) {
            return Some(Err(AgentProtocolError::FlowControlPaused {
                agent_id: Arc::clone(&self.agent.id),
            }));
        }
        // Coarse time: a deadline is never found before it is over.
        let ticks = self.ticks(deadline).saturating_add(1);
        let ticket = match self.slots.open(correlation.id, correlation.key, ticks) {
            Ok(ticket) => ticket,
            Err(OpenError::Full) => return None,
            Err(OpenError::SameId) => return Some(Err(self.busy_error(correlation.id))),
        };
        // Again, now that the slot is in the table: see `Connection::close`.
        if !self.is_open() {
            return Some(Err(self.closed_error()));
        }
        if self.unanswered.contains(correlation.key) {
            // The missing answer may have come between these two lines.
            if ticket.abandon().is_some_and(|reply| is_answer(&reply)) {
                self.unanswered.remove(correlation.key);
            }
            return Some(Err(self.busy_error(correlation.id)));
        }
        self.start_sweeping();
        Some(Ok(PendingCall {
            connection: self,
            ticket: Some(ticket),
            key: correlation.key,
            is_sent: false,
        }))
    }

    /// Has [`Inbound`](super::Inbound) look for passed deadlines, if it does not do so yet.
    fn start_sweeping(&self) {
        if !self.sweeping.load(Ordering::Relaxed) && !self.sweeping.swap(true, Ordering::AcqRel) {
            self.inbound.wake();
        }
    }

    fn busy_error(&self, correlation_id: &str) -> AgentProtocolError {
        AgentProtocolError::CorrelationBusy {
            agent_id: Arc::clone(&self.agent.id),
            correlation_id: correlation_id.to_owned(),
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
}

/// A call with an open slot.
struct PendingCall<'c> {
    connection: &'c Connection,
    /// `None` once the reply is taken.
    ticket: Option<Ticket<'c, Reply>>,
    key: u64,
    is_sent: bool,
}

impl PendingCall<'_> {
    /// Waits in line for room in the outbox, unless the call ends before there is any.
    async fn wait_for_room(&mut self, frame: Vec<u8>) -> Result<(), CallFailure> {
        let mut push = pin!(self.connection.outbox.push(frame));
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Ready(Ok(_)) => Poll::Ready(Err(CallFailure::Undecodable(DecodeError {
                message: "agent response",
                kind: DecodeErrorKind::Unasked,
            }))),
            Poll::Pending => push.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Takes the reply once it is there, and gives the slot back.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Reply> {
        let Some(ticket) = &mut self.ticket else {
            return Poll::Ready(Err(CallFailure::Cancelled));
        };
        let reply = ready!(ticket.poll(cx));
        self.ticket = None;
        if !self.is_sent {
            self.connection.unanswered.remove(self.key);
        }
        Poll::Ready(reply)
    }
}

impl Drop for PendingCall<'_> {
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

/// Whether the agent has answered, so that no other answer to this call can come.
fn is_answer(reply: &Reply) -> bool {
    matches!(reply, Ok(_) | Err(CallFailure::Undecodable(_)))
}
