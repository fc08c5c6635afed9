//! The path of one call.

use super::breaker::Pass;
use super::clock::Stopwatch;
use super::outbox::QueuedFrame;
use super::slots::Ticket;
use super::time_limit::{TimeLimit, Timing};
use super::{AgentRecord, CallFailure, Connection, Correlation, Reply};
use crate::error::AgentProtocolError;
use crate::metrics::{CallTimings, Ending};
use crate::protocol::{AgentResponse, Decision};
use crate::wire::{
    Address, DecodeError, DecodeErrorKind, Event, FrameError, OutgoingFrame, encode_event,
    expected_len,
};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A call with an open slot. Dropping it gives the call up.
pub(crate) struct PendingCall {
    ticket: Ticket<Arc<Connection>, Reply>,
    key: u64,
    started: Instant,
    timeout: Duration,
    pass: Pass,
    /// If the call is timed.
    watch: Option<Stopwatch>,
    is_sent: bool,
    /// Whether the call has come to its end, which is counted.
    is_over: bool,
}

impl PendingCall {
    pub(super) fn new(
        ticket: Ticket<Arc<Connection>, Reply>,
        correlation: Correlation<'_>,
        limit: TimeLimit,
        pass: Pass,
    ) -> Self {
        let connection = &**ticket.holder();
        let is_timed = match limit.timing {
            Timing::Sampled => connection.sampling.takes(ticket.generation()),
            Timing::Demanded => true,
            Timing::Off => false,
        };
        let watch = is_timed.then(|| connection.agent.stopwatch());
        Self {
            ticket,
            key: correlation.key,
            started: limit.started,
            timeout: limit.timeout(),
            pass,
            watch,
            is_sent: false,
            is_over: false,
        }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        self.ticket.holder()
    }

    /// Puts the event into the outbox, waiting for room there.
    pub(crate) async fn send<E: Event>(
        &mut self,
        correlation_id: &str,
        event: &E,
    ) -> Result<(), AgentProtocolError> {
        if let Some(watch) = &self.watch {
            watch.begin_encoding();
        }
        let frame = match self.encode(correlation_id, event) {
            Ok(frame) => frame,
            Err(error) => {
                self.end(Ending::TooLarge);
                return Err(self.connection().frame_error(error));
            }
        };
        if let Some(watch) = &self.watch {
            watch.end_encoding();
        }
        let frame = QueuedFrame::new(frame, self.watch.clone());
        if let Err(frame) = self.connection().outbox.try_push(frame)
            && let Err(failure) = self.wait_for_room(frame).await
        {
            return Err(self.fail(failure));
        }
        self.is_sent = true;
        self.connection().send();
        Ok(())
    }

    /// Puts the event into the outbox and waits until the agent has answered.
    pub(crate) async fn ask<E: Event>(
        &mut self,
        correlation_id: &str,
        event: &E,
    ) -> Result<(), AgentProtocolError> {
        self.send(correlation_id, event).await?;
        poll_fn(|cx| self.poll_answered(cx)).await
    }

    /// Ready once the agent has answered. Its answer, which is large, stays in its slot until it is taken.
    pub(crate) fn poll_answered(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Result<(), AgentProtocolError>> {
        ready!(self.ticket.poll_filled(cx));
        let calls = &self.connection().agent.calls;
        let failure = self.ticket.look(|reply| match reply {
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

    /// Whether the agent has decided against the request.
    pub(crate) fn is_denied(&self) -> bool {
        let denies = |reply: &Reply| matches!(reply, Ok(answer) if !matches!(answer.decision, Decision::Allow));
        self.ticket.look(denies).unwrap_or(false)
    }

    /// The name of the decision that the agent has answered with.
    pub(crate) fn decision(&self) -> Option<&'static str> {
        let decision = |reply: &Reply| Some(reply.as_ref().ok()?.decision.as_str());
        self.ticket.look(decision).flatten()
    }

    /// The answer of a call that is answered.
    pub(crate) fn take_answer(&mut self) -> Result<AgentResponse, AgentProtocolError> {
        let failure = match self.ticket.abandon() {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(failure)) => failure,
            None => CallFailure::Closed,
        };
        Err(self.connection().failure_error(failure, self.timeout))
    }

    /// Reads the answer of a call that is answered where it is, since it is large.
    pub(crate) fn read_answer<R>(
        &mut self,
        read: impl FnOnce(&mut AgentResponse) -> R,
    ) -> Result<R, AgentProtocolError> {
        let outcome = self.ticket.change(|reply| match reply {
            Ok(answer) => Ok(read(answer)),
            Err(failure) => Err(*failure),
        });
        outcome
            .unwrap_or(Err(CallFailure::Closed))
            .map_err(|failure| self.connection().failure_error(failure, self.timeout))
    }

    /// Where the time of an answered call went, if it was timed.
    pub(crate) fn timings(&self) -> Option<CallTimings> {
        self.watch.as_ref()?.timings(self.started)
    }

    fn encode<E: Event>(
        &self,
        correlation_id: &str,
        event: &E,
    ) -> Result<OutgoingFrame, FrameError> {
        let connection = &**self.connection();
        connection.check_body_size(event)?;
        let (dialect, outbox) = (connection.dialect, &connection.outbox);
        let address = Address {
            correlation_id,
            stream: self.ticket.stream(),
        };
        let mut written = outbox.buffer(expected_len(event, dialect));
        match encode_event(event, address, dialect, &mut written) {
            Ok(body) => Ok(OutgoingFrame { written, body }),
            Err(error) => {
                outbox.recycle(written);
                Err(error)
            }
        }
    }

    /// Waits in line for room in the outbox, unless the call ends before there is any.
    async fn wait_for_room(&mut self, frame: QueuedFrame) -> Result<(), CallFailure> {
        let connection = Arc::clone(self.connection());
        let mut push = pin!(connection.outbox.push(frame));
        let waited = poll_fn(|cx| {
            if self.ticket.poll_filled(cx).is_pending() {
                return push.as_mut().poll(cx).map(Ok);
            }
            Poll::Ready(Err(match self.ticket.abandon() {
                Some(Err(failure)) => failure,
                _ => CallFailure::Undecodable(DecodeError {
                    message: "agent response",
                    kind: DecodeErrorKind::Unasked,
                }),
            }))
        })
        .await;
        if waited.is_err() {
            // Nothing was sent, so no answer is missing.
            connection.unanswered.remove(self.key);
        }
        waited
    }

    fn succeed(&mut self) {
        self.is_over = true;
        let connection = &**self.ticket.holder();
        connection.condition.succeeded();
        connection.agent.breaker.succeeded(self.pass);
        connection.agent.calls.answered();
        let received = connection.epoch + Duration::from_nanos(self.ticket.received());
        let took = received.saturating_duration_since(self.started);
        connection.agent.calls.took(took);
        if let Some(watch) = &self.watch {
            note_stages(watch, self.started, received, &connection.agent);
        }
    }

    fn fail(&mut self, failure: CallFailure) -> AgentProtocolError {
        self.is_over = true;
        let connection = &**self.ticket.holder();
        connection.note_failure(failure, self.pass);
        connection.agent.calls.took(self.started.elapsed());
        connection.failure_error(failure, self.timeout)
    }

    /// Ends the call for a reason that says nothing about the agent.
    fn end(&mut self, ending: Ending) {
        self.is_over = true;
        let agent = &self.ticket.holder().agent;
        agent.breaker.undecided(self.pass);
        agent.calls.ended(ending);
    }
}

impl Drop for PendingCall {
    /// Keeps account of an answer that nobody waits for any more.
    ///
    /// The key is noted before the slot is given back, so that an answer finds one or the other.
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.connection().agent.recycle_stopwatch(watch);
        }
        if self.is_over {
            return;
        }
        self.end(Ending::GivenUp);
        if self.is_sent {
            self.connection().note_unanswered(self.key);
        }
        let reply = self.ticket.abandon();
        if !self.is_sent || reply.is_some_and(|reply| is_answer(&reply)) {
            self.connection().unanswered.remove(self.key);
        }
    }
}

#[cold]
fn note_stages(watch: &Stopwatch, started: Instant, received: Instant, agent: &AgentRecord) {
    watch.answered(received);
    if let Some(timings) = watch.timings(started) {
        agent.stages.record(&timings);
    }
}

/// Whether the agent has answered, so that no other answer to this call can come.
pub(super) fn is_answer(reply: &Reply) -> bool {
    matches!(reply, Ok(_) | Err(CallFailure::Undecodable(_)))
}

impl Connection {
    /// A lone caller sends at once, which saves waking another task. Where several are at work the
    /// writer takes what all of them have, with one system call.
    fn send(&self) {
        if self.slots.has_several() {
            self.outbox.request_writer();
        } else {
            self.send_now();
        }
    }

    /// Refuses a body that is larger than the agent takes, as soon as that is known.
    fn check_body_size<E: Event>(&self, event: &E) -> Result<(), FrameError> {
        let limit = self.capabilities.limits.max_body_size;
        match event.body_progress() {
            Some(body) if limit > 0 && body.size > limit => Err(FrameError::TooLarge {
                length: body.size,
                limit,
            }),
            _ => Ok(()),
        }
    }

    fn note_failure(&self, failure: CallFailure, pass: Pass) {
        let agent = &self.agent;
        let ending = match failure {
            CallFailure::Closed => Ending::ConnectionClosed,
            CallFailure::TimedOut => Ending::TimedOut,
            CallFailure::Undecodable(_) => Ending::Undecodable,
            CallFailure::Cancelled => Ending::Cancelled,
        };
        agent.calls.ended(ending);
        if ending == Ending::Cancelled {
            return agent.breaker.undecided(pass);
        }
        if agent.breaker.failed(pass) {
            tracing::warn!(agent = &*agent.id, "circuit breaker opened");
        }
        if ending != Ending::ConnectionClosed && self.condition.failed() {
            tracing::warn!(
                agent = &*agent.id,
                "too many calls in a row failed on a connection; it takes no more until the agent answers a ping"
            );
            agent.request_upkeep();
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
