//! Calls: how an event gets a connection, and what its caller gets without one.

use super::member::{Member, Membership, Snapshot};
use super::policy::{FailureMode, FlowControlMode};
use crate::connection::{
    Binding, CallContext, CallEnd, Connection, Correlation, PendingCall, SharedState, TimeLimit,
};
use crate::error::CallError;
use crate::metrics::{CallCounter, CallTimings};
use crate::protocol::{AgentResponse, EventType};
use crate::wire::Event;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The response of a call, or the error that its caller gets.
pub(super) type Outcome = Result<AgentResponse, CallError>;

/// An open or answered call, or the reason why there is none.
pub(super) type CallResult = Result<PendingCall, NoAnswer>;

/// An open call, or the reason why none was opened.
pub(super) type Opened = Result<PendingCall, CallEnd>;

/// Result of a call that got no answer from the agent.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The event is allowed without an answer.
    Allowed,
    Failed(CallError),
}

impl NoAnswer {
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Allowed => Ok(AgentResponse::default_allow()),
            Self::Failed(error) => Err(error),
        }
    }
}

/// Takes the answer of a call out of its slot.
///
/// Called last: an [`AgentResponse`] is large, and every function that returns it copies it.
pub(super) fn take_answer(answered: CallResult) -> Outcome {
    match answered {
        Ok(mut call) => call.take_answer(),
        Err(unanswered) => unanswered.into_outcome(),
    }
}

/// Like [`take_answer`], but lets `read` borrow the answer in its slot.
#[cfg(feature = "http")]
pub(super) fn read_answer<R>(
    answered: CallResult,
    read: impl FnOnce(&mut AgentResponse) -> R,
) -> Result<R, CallError> {
    match answered {
        Ok(mut call) => call.read_answer(read),
        Err(unanswered) => unanswered
            .into_outcome()
            .map(|mut answer| read(&mut answer)),
    }
}

/// Returns the timing breakdown of an answered call, if it was timed.
pub(super) fn timings_of(answered: &CallResult) -> Option<CallTimings> {
    answered.as_ref().ok().and_then(PendingCall::timings)
}

/// Parameters of a call, apart from the event.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallParams<'a> {
    pub(super) correlation: Correlation<'a>,
    pub(super) kind: EventType,
    pub(super) limit: TimeLimit,
}

impl Member {
    /// Sends an event on a call that `open` opens, without waiting for a slot.
    ///
    /// An unavailable agent is an error, whatever the failure mode.
    pub(super) async fn call_now<E: Event>(
        &self,
        params: CallParams<'_>,
        event: &E,
        open: impl FnOnce() -> Opened,
    ) -> Outcome {
        let mut call = self.open_counted(params, open)?;
        call.send_and_wait(params.correlation.id, event).await?;
        call.take_answer()
    }

    /// Like [`call_now`](Self::call_now), and sends a ping behind the event. If its pong arrives
    /// before an answer, the event is allowed.
    pub(super) async fn call_confirmed_by_pong<E: Event>(
        &self,
        params: CallParams<'_>,
        event: &E,
        open: impl FnOnce() -> Opened,
    ) -> Outcome {
        let mut call = self.open_counted(params, open)?;
        call.send(params.correlation.id, event).await?;
        let connection = Arc::clone(call.connection());
        tokio::select! {
            // An answer that precedes the pong counts.
            biased;
            answered = poll_fn(|cx| call.poll_answered(cx)) => {
                answered?;
                return call.take_answer();
            }
            () = pong_arrives(&connection, params.limit) => {}
        }
        call.allowed_without_answer();
        Ok(AgentResponse::default_allow())
    }

    /// Opens and counts a call.
    fn open_counted(
        &self,
        params: CallParams<'_>,
        open: impl FnOnce() -> Opened,
    ) -> Result<PendingCall, CallError> {
        self.state.shared.calls.made();
        open().map_err(|not_opened| {
            self.state.shared.calls.ended(not_opened.counter());
            self.error(not_opened, params)
        })
    }

    /// Opens a call on any connection that takes it now. If the agent was replaced, its successor
    /// takes the call.
    ///
    /// Never returns [`CallEnd::ConnectionClosed`]: a call that is not bound chooses again.
    pub(super) fn open_now(self: &Arc<Self>, params: CallParams<'_>) -> Opened {
        loop {
            let snapshot = self.snapshot();
            match &snapshot.membership {
                Membership::Current => {}
                Membership::Replaced(successor) => return successor.open_now(params),
                Membership::Removed | Membership::PoolDropped => return Err(CallEnd::AgentGone),
            }
            match self.open_at(&snapshot, params) {
                // The connection was closed or retired after it was chosen, or the snapshot is
                // outdated. The next attempt loads the snapshot and chooses again.
                Err(CallEnd::ConnectionClosed) => {}
                opened => return opened,
            }
        }
    }

    /// Opens a call on a connection of this snapshot of the agent.
    pub(super) fn open_at(self: &Arc<Self>, snapshot: &Snapshot, params: CallParams<'_>) -> Opened {
        if self.pool.is_closing() {
            return Err(CallEnd::Unavailable);
        }
        let connection = self.choose(snapshot, params.correlation)?;
        match self.open_on(connection, Binding::Free, params) {
            Err(CallEnd::Full) => Err(snapshot.why_no_slot(params.correlation)),
            opened => opened,
        }
    }

    /// Opens a call on a connection, unless the agent did not subscribe to the event or does not
    /// declare that it answers it.
    pub(super) fn open_on(
        &self,
        connection: &Arc<Connection>,
        binding: Binding,
        params: CallParams<'_>,
    ) -> Opened {
        let capabilities = &connection.capabilities;
        if params.kind == EventType::GuardrailInspect && !capabilities.answers_guardrails() {
            return Err(CallEnd::Undeclared(params.kind));
        }
        let is_skipped = self.config.skip_unsubscribed_events
            && params.kind != EventType::Configure
            && !capabilities.supports_event(params.kind);
        if is_skipped {
            return Err(CallEnd::Unsubscribed);
        }
        connection.open_call(params.correlation, binding, params.limit)
    }

    /// Counts in `state` the end of a call that was not opened, and returns its result by the
    /// flow-control and failure modes.
    pub(super) fn resolve_not_opened(
        self: &Arc<Self>,
        state: &SharedState,
        not_opened: CallEnd,
        params: CallParams<'_>,
    ) -> NoAnswer {
        let counter = not_opened.counter();
        state.calls.ended(counter);
        if not_opened == CallEnd::Unsubscribed {
            return NoAnswer::Allowed;
        }
        if counter == CallCounter::Paused
            && self.config.flow_control_mode == FlowControlMode::FailOpen
        {
            let allowed = &self.state.counters.allowed_while_paused;
            allowed.fetch_add(1, Ordering::Relaxed);
            return NoAnswer::Allowed;
        }
        self.apply_failure_mode(self.not_opened_error(not_opened, params))
    }

    /// Counts a call of an exchange that has no connection, and returns its result.
    pub(super) fn resolve_unconnected(self: &Arc<Self>, params: CallParams<'_>) -> NoAnswer {
        self.state.shared.calls.made();
        self.resolve_not_opened(&self.state.shared, CallEnd::Unavailable, params)
    }

    /// Returns the error for a call that was not opened. Requests a reconnect if the agent is
    /// unavailable.
    pub(super) fn not_opened_error(
        self: &Arc<Self>,
        not_opened: CallEnd,
        params: CallParams<'_>,
    ) -> CallError {
        if not_opened == CallEnd::Unavailable {
            self.request_reconnect();
        }
        self.error(not_opened, params)
    }

    fn error(&self, not_opened: CallEnd, params: CallParams<'_>) -> CallError {
        if not_opened == CallEnd::AgentGone
            && let Some(error) = self.gone()
        {
            return error;
        }
        not_opened.error(CallContext {
            agent_id: self.id(),
            timeout: params.limit.timeout(),
            correlation_id: params.correlation.id,
            max_queued: self.config.max_queued_calls,
        })
    }

    /// Sends an event on an open call and waits until the agent has answered.
    pub(super) async fn complete<E: Event>(
        &self,
        opened: CallResult,
        correlation_id: &str,
        event: &E,
    ) -> CallResult {
        let mut call = opened?;
        match call.send_and_wait(correlation_id, event).await {
            Ok(()) => Ok(call),
            Err(error) => Err(self.apply_failure_mode(error)),
        }
    }

    /// Turns an error into an `allow` if it means that the agent is unavailable and the failure
    /// mode is open.
    pub(super) fn apply_failure_mode(&self, error: CallError) -> NoAnswer {
        if self.fails_open_on(&error) {
            self.state
                .counters
                .failed_open
                .fetch_add(1, Ordering::Relaxed);
            return NoAnswer::Allowed;
        }
        NoAnswer::Failed(error)
    }

    /// Returns whether the failure mode turns an error into an `allow`.
    pub(super) fn fails_open_on(&self, error: &CallError) -> bool {
        self.config.failure_mode == FailureMode::Open && error.means_unavailable()
    }
}

/// Pings the agent and completes with the pong. Without one it does not complete.
async fn pong_arrives(connection: &Connection, limit: TimeLimit) {
    if connection.ping(limit.timeout()).await.is_err() {
        pending::<()>().await;
    }
}
