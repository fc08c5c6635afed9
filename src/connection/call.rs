//! A call from its open slot to its answer.

use super::breaker::Permit;
use super::failure_window::Failure;
use super::send_queue::QueuedFrame;
use super::slots::Ticket;
use super::stopwatch::Stopwatch;
use super::time_limit::{TimeLimit, Timing};
use super::{CallEnd, Connection, Correlation, SharedState, SlotValue};
use crate::clock;
use crate::error::CallError;
use crate::log::log_line;
use crate::metrics::{CallCounter, CallTimings};
use crate::protocol::{AgentResponse, Decision};
use crate::wire::{
    DecodeError, DecodeErrorKind, Event, EventTarget, FrameError, OutgoingFrame, encode_event,
    expected_len,
};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A call with an open slot. Dropping it abandons the call.
pub(crate) struct PendingCall {
    pub(super) ticket: Ticket<Arc<Connection>, SlotValue>,
    /// Hash of the correlation id.
    pub(super) key: u64,
    started: Instant,
    timeout: Duration,
    /// Set if the call waited before it was opened, so that a part of its timeout has passed.
    has_waited: bool,
    permit: Permit,
    /// Present if the call is timed.
    pub(super) watch: Option<Stopwatch>,
    /// Set once the event is in the send queue, so that an answer may arrive.
    is_sent: bool,
    /// Set once the end of the call is counted and its permit returned.
    is_over: bool,
}

impl PendingCall {
    pub(super) fn new(
        ticket: Ticket<Arc<Connection>, SlotValue>,
        correlation: Correlation<'_>,
        limit: TimeLimit,
        permit: Permit,
    ) -> Self {
        let connection = &**ticket.table_ref();
        let is_timed = match limit.timing {
            Timing::Sampled => connection.sampling.selects(ticket.generation()),
            Timing::Requested => true,
            Timing::Off => false,
        };
        let watch = is_timed.then(|| connection.agent.stopwatch());
        Self {
            ticket,
            key: correlation.key,
            started: limit.started,
            timeout: limit.timeout(),
            has_waited: false,
            permit,
            watch,
            is_sent: false,
            is_over: false,
        }
    }

    /// Records that the call waited before it was opened.
    pub(crate) fn after_waiting(mut self) -> Self {
        self.has_waited = true;
        self
    }

    /// Returns the end of the timeout, unless it is too far away for an [`Instant`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.started.checked_add(self.timeout)
    }

    /// Returns the time after which the call ends without an answer.
    fn time_left(&self) -> Duration {
        if self.has_waited {
            return self.timeout.saturating_sub(clock::elapsed(self.started));
        }
        // The call has just begun, so the clock is not read again.
        self.timeout
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        self.ticket.table_ref()
    }

    /// Puts the event into the send queue, waiting for room there.
    pub(crate) async fn send<E: Event>(
        &mut self,
        correlation_id: &str,
        event: &E,
    ) -> Result<(), CallError> {
        if self.connection().outbound.local.is_some() {
            return self.ask_local(correlation_id, event).await;
        }
        if let Some(watch) = &self.watch {
            watch.begin_encoding();
        }
        let frame = match self.encode(correlation_id, event) {
            Ok(frame) => frame,
            Err(error) => return Err(self.refuse(CallEnd::TooLarge(error))),
        };
        if let Some(watch) = &self.watch {
            watch.end_encoding();
        }
        let frame = QueuedFrame::new(frame, self.watch.clone());
        if let Err(frame) = self.connection().outbound.queue.try_push(frame)
            && let Err(failure) = self.wait_for_room(frame).await
        {
            return Err(self.fail(failure));
        }
        self.is_sent = true;
        self.flush();
        Ok(())
    }

    /// Puts the event into the send queue and waits for the agent's answer.
    pub(crate) async fn send_and_wait<E: Event>(
        &mut self,
        correlation_id: &str,
        event: &E,
    ) -> Result<(), CallError> {
        self.send(correlation_id, event).await?;
        poll_fn(|cx| self.poll_answered(cx)).await
    }

    /// Polls until the call is answered or has failed. The answer stays in its slot until it is
    /// taken: it is large, and every move copies it.
    pub(crate) fn poll_answered(&mut self, cx: &Context<'_>) -> Poll<Result<(), CallError>> {
        ready!(self.ticket.poll_filled(cx));
        let calls = &self.connection().agent.calls;
        let failure = self.ticket.peek(|value| match value {
            Ok(answer) => {
                calls.decided(&answer.decision);
                None
            }
            Err(failure) => Some(*failure),
        });
        Poll::Ready(match failure.flatten() {
            None => {
                self.succeed();
                Ok(())
            }
            Some(failure) => Err(self.fail(failure)),
        })
    }

    /// Returns whether the agent has answered with a decision other than `allow`.
    pub(crate) fn is_denied(&self) -> bool {
        let denies = |value: &SlotValue| matches!(value, Ok(answer) if !matches!(answer.decision, Decision::Allow));
        self.ticket.peek(denies).unwrap_or(false)
    }

    /// Ends the call as allowed, although no answer has arrived and none will.
    pub(crate) fn allowed_without_answer(mut self) {
        self.connection().agent.calls.decided(&Decision::Allow);
        self.end_answered(clock::elapsed(self.started));
    }

    /// Returns the name of the decision in the answer, if there is one.
    pub(crate) fn decision(&self) -> Option<&'static str> {
        let decision = |value: &SlotValue| Some(value.as_ref().ok()?.decision.as_str());
        self.ticket.peek(decision).flatten()
    }

    /// Takes the answer of an answered call out of its slot.
    pub(crate) fn take_answer(&mut self) -> Result<AgentResponse, CallError> {
        let failure = match self.ticket.abandon() {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(failure)) => failure,
            None => CallEnd::ConnectionClosed,
        };
        Err(self.error(failure))
    }

    /// Lets `read` use the answer of an answered call in its slot, without moving it.
    #[cfg(feature = "http")]
    pub(crate) fn read_answer<R>(
        &mut self,
        read: impl FnOnce(&mut AgentResponse) -> R,
    ) -> Result<R, CallError> {
        let outcome = self.ticket.update(|value| match value {
            Ok(answer) => Ok(read(answer)),
            Err(failure) => Err(*failure),
        });
        outcome
            .unwrap_or(Err(CallEnd::ConnectionClosed))
            .map_err(|end| self.error(end))
    }

    /// Returns the timing breakdown of an answered call, if it was timed.
    pub(crate) fn timings(&self) -> Option<CallTimings> {
        self.watch.as_ref()?.timings(self.started)
    }

    fn encode<E: Event>(
        &self,
        correlation_id: &str,
        event: &E,
    ) -> Result<OutgoingFrame, FrameError> {
        let connection = &**self.connection();
        if connection.enforce_body_limit {
            check_body_size(event, connection.capabilities.limits.max_body_size)?;
        }
        let (dialect, send_queue) = (connection.dialect, &connection.outbound.queue);
        let target = EventTarget {
            correlation_id,
            stream: self.ticket.stream(),
            time_left: Some(self.time_left()),
        };
        let mut written = send_queue.buffer(expected_len(event, dialect));
        match encode_event(event, target, dialect, &mut written) {
            Ok(body) => Ok(OutgoingFrame { written, body }),
            Err(error) => {
                send_queue.recycle(written);
                Err(error)
            }
        }
    }

    /// Sends the frames in the send queue, from this task or the writer task.
    ///
    /// If no other call is pending, this task sends, which saves waking another. Otherwise the
    /// writer task makes the system call for several callers: it sends their frames, or wakes the
    /// peer after they were sent over a cheap link.
    fn flush(&self) {
        let connection = self.connection();
        let outbound = &connection.outbound;
        if !connection.calls.slots.has_several() {
            connection.send_now();
        } else if outbound.is_cheap {
            connection.end_on_error(outbound.send_and_ring_later());
        } else {
            outbound.queue.request_writer();
        }
    }

    /// Waits for room in the send queue. Fails if the call ends first, by its deadline for example.
    async fn wait_for_room(&mut self, frame: QueuedFrame) -> Result<(), CallEnd> {
        let connection = Arc::clone(self.connection());
        let mut push = pin!(connection.outbound.queue.push(frame));
        let waited = poll_fn(|cx| {
            if self.ticket.poll_filled(cx).is_pending() {
                return push.as_mut().poll(cx).map(Ok);
            }
            Poll::Ready(Err(match self.ticket.abandon() {
                Some(Err(failure)) => failure,
                _ => CallEnd::Undecodable(DecodeError {
                    message: "agent response",
                    kind: DecodeErrorKind::Unasked,
                }),
            }))
        })
        .await;
        if waited.is_err() {
            // The event was not sent, so no answer can be missing.
            connection.calls.expected_late_answers.remove(self.key);
        }
        waited
    }

    fn succeed(&mut self) {
        let connection = &**self.ticket.table_ref();
        let received = connection.timeline.instant(self.ticket.received());
        self.end_answered(received.saturating_duration_since(self.started));
        let connection = &**self.ticket.table_ref();
        if let Some(watch) = &self.watch {
            note_stages(watch, self.started, received, &connection.agent);
        }
    }

    fn end_answered(&mut self, took: Duration) {
        self.is_over = true;
        let connection = &**self.ticket.table_ref();
        connection.health.succeeded();
        let agent = &connection.agent;
        agent.calls.answered();
        agent
            .breaker
            .succeeded(self.permit, || agent.calls.answers());
        agent.calls.took(took);
    }

    /// Ends a call whose event the agent would not accept.
    pub(super) fn refuse(&mut self, end: CallEnd) -> CallError {
        self.end(end.counter());
        self.error(end)
    }

    pub(super) fn fail(&mut self, end: CallEnd) -> CallError {
        self.is_over = true;
        let connection = &**self.ticket.table_ref();
        note_failure(connection, end, self.permit);
        connection.agent.calls.took(clock::elapsed(self.started));
        connection.agent.error(end, self.timeout)
    }

    fn error(&self, end: CallEnd) -> CallError {
        self.connection().agent.error(end, self.timeout)
    }

    /// Ends the call for a reason that shows nothing about the agent's health.
    fn end(&mut self, counter: CallCounter) {
        self.is_over = true;
        let agent = &self.ticket.table_ref().agent;
        agent.breaker.release(self.permit);
        agent.calls.ended(counter);
    }
}

impl Drop for PendingCall {
    /// Abandons the call if it has not ended, and records that its answer may still arrive.
    ///
    /// That is recorded before the slot is released, so that an answer which arrives meanwhile
    /// finds the slot or the record. If the answer is in the slot already, the record is removed
    /// again.
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.connection().agent.recycle_stopwatch(watch);
        }
        if self.is_over {
            return;
        }
        self.end(CallCounter::GivenUp);
        if self.is_sent {
            self.connection().calls.expect_late_answer(self.key);
        }
        let value = self.ticket.abandon();
        if !self.is_sent || value.is_some_and(|value| is_answer(&value)) {
            let late_answers = &self.connection().calls.expected_late_answers;
            late_answers.remove(self.key);
        }
    }
}

#[cold]
fn note_stages(watch: &Stopwatch, started: Instant, received: Instant, agent: &SharedState) {
    watch.answered(received);
    if let Some(timings) = watch.timings(started) {
        agent.stages.record(&timings);
    }
}

/// Returns whether the value came from the agent, so that no other answer to this call can arrive.
pub(super) fn is_answer(value: &SlotValue) -> bool {
    matches!(value, Ok(_) | Err(CallEnd::Undecodable(_)))
}

/// Fails if the body is larger than the agent accepts (0 for any), as soon as that is known.
pub(super) fn check_body_size<E: Event>(event: &E, limit: usize) -> Result<(), FrameError> {
    match event.body_progress() {
        Some(body) if limit > 0 && body.size > limit => Err(FrameError::TooLarge {
            length: body.size,
            limit,
        }),
        _ => Ok(()),
    }
}

/// Counts a failed call, for its agent and for its connection.
fn note_failure(connection: &Connection, end: CallEnd, permit: Permit) {
    let (agent, id) = (&connection.agent, &connection.agent.id);
    agent.calls.ended(end.counter());
    let failure = match end {
        CallEnd::Cancelled => return agent.breaker.release(permit),
        // The loss of a connection is one failure, however many calls end with it.
        CallEnd::ConnectionClosed if !connection.lifecycle.count_loss() => {
            return agent.breaker.release(permit);
        }
        CallEnd::TimedOut => Failure::Timeout,
        _ => Failure::Fault,
    };
    if agent.breaker.failed(permit, failure, agent.calls.answers()) {
        log_line!(warn, id, { agent = id }, "circuit breaker opened");
    }
    let now = || connection.timeline.ticks(clock::now());
    if end != CallEnd::ConnectionClosed && connection.health.failed(now()) {
        log_line!(
            warn,
            id,
            { agent = id },
            "too many calls in a row failed; the connection takes no new exchanges until the \
             agent answers a ping"
        );
        agent.request_maintenance();
    }
}
