//! Calls: how an event gets a connection, and what its caller gets without one.
//!
//! A call is opened in two steps. The first attempt runs against the current snapshot and waits for
//! nothing. Only if that fails for a reason that may pass (no free slot, a pause) does the call go
//! to the wait queues, from where every further attempt loads the snapshot again.

use super::affinity::Affinities;
use super::agents::AgentEntry;
use super::policy::FlowControlMode;
use super::trace::traced;
use super::{Inner, unknown};
use crate::connection::{
    AdmissionQueues, AgentState, Binding, Connection, NotOpened, PendingCall, TimeLimit,
};
use crate::error::AgentProtocolError;
use crate::metrics::{CallEnd, CallTimings};
use crate::protocol::{AgentResponse, EventType};
use crate::wire::Event;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The response of a call, or the error that its caller gets.
pub(super) type Outcome = Result<AgentResponse, AgentProtocolError>;

/// An open or answered call, or the reason why there is none.
pub(super) type CallResult = Result<PendingCall, NoAnswer>;

/// Result of a call that got no answer from the agent.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The event is allowed without an answer.
    Allowed,
    Failed(AgentProtocolError),
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
) -> Result<R, AgentProtocolError> {
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
    pub(super) correlation_id: &'a str,
    pub(super) kind: EventType,
    pub(super) limit: TimeLimit,
}

impl Inner {
    /// Sends an event on the connection that its correlation id is pinned to, or on any, and waits
    /// for the answer.
    pub(super) async fn send_event<E: Event>(
        self: &Arc<Self>,
        agent_id: &str,
        params: CallParams<'_>,
        event: &E,
    ) -> CallResult {
        traced!(
            agent_id,
            params,
            event,
            self.send_untraced(agent_id, params, event)
        )
    }

    /// The kind of the event decides whether it pins the exchange, follows the pin, or needs none.
    async fn send_untraced<E: Event>(
        self: &Arc<Self>,
        agent_id: &str,
        params: CallParams<'_>,
        event: &E,
    ) -> CallResult {
        match params.kind {
            EventType::RequestHeaders => {
                let opened = self.open_anywhere(agent_id, params).await;
                self.send_first(opened, params, event).await
            }
            EventType::GuardrailInspect | EventType::Configure => {
                let opened = self.open_anywhere(agent_id, params).await;
                complete(opened, params.correlation_id, event).await
            }
            kind => {
                let pinned = self.affinities.pinned(params.correlation_id, agent_id);
                let opened = match &pinned {
                    Some(connection) => self.open_bound(connection, params).await,
                    None => self.open_anywhere(agent_id, params).await,
                };
                let answered = complete(opened, params.correlation_id, event).await;
                if pinned.is_some() && kind == EventType::RequestComplete {
                    self.affinities.unpin(params.correlation_id, agent_id);
                }
                answered
            }
        }
    }

    /// Sends the first event of an exchange, and pins the exchange to the connection unless the
    /// event fails.
    ///
    /// The pin is made before the event is sent, so that events which the caller sends concurrently
    /// follow it.
    async fn send_first<E: Event>(
        &self,
        opened: CallResult,
        params: CallParams<'_>,
        event: &E,
    ) -> CallResult {
        let call = opened?;
        let pin = PinGuard::new(&self.affinities, params.correlation_id, call.connection());
        let answered = complete(Ok(call), params.correlation_id, event).await;
        if !matches!(answered, Err(NoAnswer::Failed(_))) {
            pin.keep();
        }
        answered
    }

    /// Like [`Inner::send_first`], on a given connection.
    pub(super) async fn send_first_on<E: Event>(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        params: CallParams<'_>,
        event: &E,
    ) -> CallResult {
        let opened = self.open_bound(connection, params).await;
        self.send_first(opened, params, event).await
    }

    /// Opens a call on any connection of an agent, and waits for one if necessary.
    pub(super) async fn open_anywhere(
        self: &Arc<Self>,
        agent_id: &str,
        params: CallParams<'_>,
    ) -> CallResult {
        // The snapshot is released before the call waits.
        let (state, not_opened) = {
            let agents = self.agents.load();
            let agent = agents
                .get(agent_id)
                .ok_or_else(|| NoAnswer::Failed(unknown(agent_id)))?;
            agent.state.calls.made();
            let mut attempt = || self.open_at(agent, params);
            match agent.state.queues.try_open_call(&mut attempt) {
                Ok(call) => return Ok(call),
                Err(not_opened) => (Arc::clone(&agent.state), not_opened),
            }
        };
        let attempt = || self.attempt(agent_id, params);
        self.wait(&state, &state.queues, not_opened, params, attempt)
            .await
    }

    /// Opens a call on the connection that its exchange is bound to, and waits for it if necessary.
    pub(super) async fn open_bound(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        params: CallParams<'_>,
    ) -> CallResult {
        let (state, queues) = (connection.agent(), connection.queues());
        state.calls.made();
        let mut attempt = || self.open_on(connection, Binding::Bound, params);
        match queues.try_open_call(&mut attempt) {
            Ok(call) => Ok(call),
            Err(not_opened) => self.wait(state, queues, not_opened, params, attempt).await,
        }
    }

    /// Sends an event on a call that `open` opens, without waiting for a slot.
    ///
    /// An unavailable agent is an error, whatever the failure mode.
    pub(super) async fn call_now<E: Event>(
        &self,
        state: &AgentState,
        params: CallParams<'_>,
        event: &E,
        open: impl FnOnce() -> Result<PendingCall, NotOpened>,
    ) -> Outcome {
        state.calls.made();
        match open() {
            Ok(mut call) => {
                call.send_and_wait(params.correlation_id, event).await?;
                call.take_answer()
            }
            Err(not_opened) => {
                state.calls.ended(call_end_of(not_opened));
                Err(self.error(state, not_opened, params))
            }
        }
    }

    /// Continues a call whose first attempt did not open it: waits unless the reason is final.
    async fn wait(
        self: &Arc<Self>,
        state: &AgentState,
        queues: &AdmissionQueues,
        not_opened: NotOpened,
        params: CallParams<'_>,
        attempt: impl FnMut() -> Result<PendingCall, NotOpened>,
    ) -> CallResult {
        // A call that is not bound is attempted again after `ClosedOrRetired`. So is a bound one,
        // which ends for that reason in `open_call`.
        if not_opened.is_final() {
            return Err(self.resolve_not_opened(state, not_opened, params));
        }
        // `calls.made()` has counted this call, so exactly one end has to be counted for it. If the
        // caller drops this future while it waits, nothing below runs and the guard counts the end.
        // If the wait returns, the guard is forgotten: the end of an opened call is counted by
        // `PendingCall`, and that of any other by `resolve_not_opened`.
        let waiting = WaitGuard(state);
        let opened = queues
            .open_call(self.config.queue_limits(), params.limit, attempt)
            .await;
        std::mem::forget(waiting);
        opened.map_err(|not_opened| self.resolve_not_opened(state, not_opened, params))
    }

    /// Opens a call on any connection that takes it now.
    ///
    /// Never returns [`NotOpened::ClosedOrRetired`]: a call that is not bound chooses again.
    pub(super) fn attempt(
        self: &Arc<Self>,
        agent_id: &str,
        params: CallParams<'_>,
    ) -> Result<PendingCall, NotOpened> {
        loop {
            let agents = self.agents.load();
            let agent = agents.get(agent_id).ok_or(NotOpened::UnknownAgent)?;
            match self.open_at(agent, params) {
                // The connection was closed or retired after it was chosen, or the snapshot is
                // outdated. The next attempt loads the snapshot and chooses again.
                Err(NotOpened::ClosedOrRetired) => {}
                opened => return opened,
            }
        }
    }

    /// Opens a call on a connection of this snapshot of an agent.
    fn open_at(
        self: &Arc<Self>,
        agent: &Arc<AgentEntry>,
        params: CallParams<'_>,
    ) -> Result<PendingCall, NotOpened> {
        if self.is_closing() {
            return Err(NotOpened::Unavailable);
        }
        let correlation = agent.correlation(params.correlation_id);
        let connection = self.choose(agent, correlation)?;
        match self.open_on(connection, Binding::Free, params) {
            Err(NotOpened::Full) => Err(agent.why_no_slot(correlation)),
            opened => opened,
        }
    }

    /// Opens a call on a connection, unless the agent did not subscribe to the event.
    pub(super) fn open_on(
        &self,
        connection: &Arc<Connection>,
        binding: Binding,
        params: CallParams<'_>,
    ) -> Result<PendingCall, NotOpened> {
        let is_skipped = self.config.skip_unsubscribed_events
            && params.kind != EventType::Configure
            && !connection.capabilities().supports_event(params.kind);
        if is_skipped {
            return Err(NotOpened::Unsubscribed);
        }
        let correlation = connection.correlation(params.correlation_id);
        connection.open_call(correlation, binding, params.limit)
    }

    /// Counts the end of a call that was not opened and returns its result, by the flow-control and
    /// failure modes.
    fn resolve_not_opened(
        self: &Arc<Self>,
        state: &AgentState,
        not_opened: NotOpened,
        params: CallParams<'_>,
    ) -> NoAnswer {
        state.calls.ended(call_end_of(not_opened));
        if not_opened == NotOpened::Unsubscribed {
            return NoAnswer::Allowed;
        }
        if is_pause(not_opened) && self.config.flow_control_mode == FlowControlMode::FailOpen {
            let allowed = &state.counters.allowed_while_paused;
            allowed.fetch_add(1, Ordering::Relaxed);
            return NoAnswer::Allowed;
        }
        state.apply_failure_mode(self.not_opened_error(state, not_opened, params))
    }

    /// Counts a call of an exchange that has no connection, and returns its result.
    pub(super) fn resolve_unconnected(
        self: &Arc<Self>,
        state: &AgentState,
        params: CallParams<'_>,
    ) -> NoAnswer {
        state.calls.made();
        self.resolve_not_opened(state, NotOpened::Unavailable, params)
    }

    /// Returns the error for a call that was not opened. Requests a reconnect if the agent is
    /// unavailable.
    pub(super) fn not_opened_error(
        self: &Arc<Self>,
        state: &AgentState,
        not_opened: NotOpened,
        params: CallParams<'_>,
    ) -> AgentProtocolError {
        if not_opened == NotOpened::Unavailable {
            self.request_reconnect(&state.id);
        }
        self.error(state, not_opened, params)
    }

    fn error(
        &self,
        state: &AgentState,
        not_opened: NotOpened,
        params: CallParams<'_>,
    ) -> AgentProtocolError {
        let agent_id = Arc::clone(&state.id);
        match not_opened {
            NotOpened::Paused | NotOpened::ExchangePaused => {
                AgentProtocolError::FlowControlPaused { agent_id }
            }
            NotOpened::ClosedOrRetired => AgentProtocolError::ConnectionClosed { agent_id },
            NotOpened::UnknownAgent => AgentProtocolError::UnknownAgent { agent_id },
            NotOpened::Unavailable | NotOpened::Unsubscribed => {
                AgentProtocolError::Unavailable { agent_id }
            }
            NotOpened::CircuitOpen => AgentProtocolError::CircuitOpen { agent_id },
            NotOpened::Full | NotOpened::QueueFull => AgentProtocolError::QueueFull {
                agent_id,
                limit: self.config.max_queued_calls,
            },
            NotOpened::QueueTimedOut => AgentProtocolError::QueueTimeout {
                agent_id,
                after: self.config.queue_timeout,
            },
            NotOpened::TimedOut => AgentProtocolError::Timeout {
                agent_id,
                after: params.limit.timeout(),
            },
            NotOpened::Busy => AgentProtocolError::CorrelationBusy {
                agent_id,
                correlation_id: params.correlation_id.to_owned(),
            },
        }
    }
}

/// Sends an event on an open call and waits until the agent has answered.
pub(super) async fn complete<E: Event>(
    opened: CallResult,
    correlation_id: &str,
    event: &E,
) -> CallResult {
    let mut call = opened?;
    match call.send_and_wait(correlation_id, event).await {
        Ok(()) => Ok(call),
        Err(error) => Err(call.connection().agent().apply_failure_mode(error)),
    }
}

impl AgentState {
    /// Turns an error into an `allow` if it means that the agent is unavailable and the failure
    /// mode is open.
    pub(super) fn apply_failure_mode(&self, error: AgentProtocolError) -> NoAnswer {
        if self.fails_open.load(Ordering::Relaxed) && error.means_unavailable() {
            self.counters.failed_open.fetch_add(1, Ordering::Relaxed);
            return NoAnswer::Allowed;
        }
        NoAnswer::Failed(error)
    }
}

/// A call in a wait queue. If it is dropped there, its caller gave it up, which is counted.
struct WaitGuard<'r>(&'r AgentState);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.calls.ended(CallEnd::GivenUp);
    }
}

/// A new pin, which is removed again unless the first event of the exchange succeeds.
struct PinGuard<'a> {
    affinities: &'a Affinities,
    correlation_id: &'a str,
    agent_id: Arc<str>,
    is_kept: bool,
}

impl<'a> PinGuard<'a> {
    fn new(
        affinities: &'a Affinities,
        correlation_id: &'a str,
        connection: &Arc<Connection>,
    ) -> Self {
        affinities.pin(correlation_id, connection);
        Self {
            affinities,
            correlation_id,
            agent_id: Arc::clone(&connection.agent().id),
            is_kept: false,
        }
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for PinGuard<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.affinities.unpin(self.correlation_id, &self.agent_id);
        }
    }
}

fn is_pause(not_opened: NotOpened) -> bool {
    matches!(not_opened, NotOpened::Paused | NotOpened::ExchangePaused)
}

fn call_end_of(not_opened: NotOpened) -> CallEnd {
    match not_opened {
        NotOpened::Paused | NotOpened::ExchangePaused => CallEnd::Paused,
        NotOpened::Busy => CallEnd::Busy,
        NotOpened::ClosedOrRetired => CallEnd::ConnectionClosed,
        NotOpened::UnknownAgent | NotOpened::Unavailable => CallEnd::Unavailable,
        NotOpened::CircuitOpen => CallEnd::CircuitOpen,
        NotOpened::Full | NotOpened::QueueFull => CallEnd::QueueFull,
        NotOpened::QueueTimedOut => CallEnd::QueueTimedOut,
        NotOpened::TimedOut => CallEnd::TimedOut,
        NotOpened::Unsubscribed => CallEnd::Skipped,
    }
}
