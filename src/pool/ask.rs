//! How a call gets its connection, and what it comes to if it gets none.

use super::affinity::Affinities;
use super::agents::AgentEntry;
use super::policy::FlowControlMode;
use super::trace::traced;
use super::{Inner, unknown};
use crate::connection::{AgentRecord, Binding, Connection, Lines, PendingCall, Refusal, TimeLimit};
use crate::error::AgentProtocolError;
use crate::metrics::{CallTimings, Ending};
use crate::protocol::{AgentResponse, EventType};
use crate::wire::Event;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a call comes to.
pub(super) type Outcome = Result<AgentResponse, AgentProtocolError>;

/// A call that is open, or that the agent has answered.
pub(super) type Asked = Result<PendingCall, Unanswered>;

/// What a call comes to that no agent answers.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The event is allowed all the same.
    Allowed,
    Failed(AgentProtocolError),
}

impl Unanswered {
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Allowed => Ok(AgentResponse::default_allow()),
            Self::Failed(error) => Err(error),
        }
    }
}

/// What an answered call comes to. Called last, as the answer is too large to be handed on and on.
pub(super) fn outcome_of(answered: Asked) -> Outcome {
    match answered {
        Ok(mut call) => call.take_answer(),
        Err(unanswered) => unanswered.into_outcome(),
    }
}

/// The same, but has the answer read where it is.
#[cfg(feature = "http")]
pub(super) fn read_outcome_of<R>(
    answered: Asked,
    read: impl FnOnce(&mut AgentResponse) -> R,
) -> Result<R, AgentProtocolError> {
    match answered {
        Ok(mut call) => call.read_answer(read),
        Err(unanswered) => unanswered
            .into_outcome()
            .map(|mut answer| read(&mut answer)),
    }
}

/// Where the time of an answered call went, if it was timed.
pub(super) fn timings_of(answered: &Asked) -> Option<CallTimings> {
    answered.as_ref().ok().and_then(PendingCall::timings)
}

/// An event on its way: what it is about and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inquiry<'a> {
    pub(super) correlation_id: &'a str,
    pub(super) kind: EventType,
    pub(super) limit: TimeLimit,
}

impl Inner {
    /// Puts an event to an agent, on the connection that its exchange is bound to, and waits for the answer.
    pub(super) async fn ask<E: Event>(
        self: &Arc<Self>,
        agent_id: &str,
        inquiry: Inquiry<'_>,
        event: &E,
    ) -> Asked {
        traced!(
            agent_id,
            inquiry,
            event,
            self.ask_quietly(agent_id, inquiry, event)
        )
    }

    async fn ask_quietly<E: Event>(
        self: &Arc<Self>,
        agent_id: &str,
        inquiry: Inquiry<'_>,
        event: &E,
    ) -> Asked {
        match inquiry.kind {
            EventType::RequestHeaders => {
                let opened = self.open_anywhere(agent_id, inquiry).await;
                self.ask_first(opened, inquiry, event).await
            }
            EventType::GuardrailInspect | EventType::Configure => {
                let opened = self.open_anywhere(agent_id, inquiry).await;
                complete(opened, inquiry.correlation_id, event).await
            }
            kind => {
                let pinned = self.affinities.pinned(inquiry.correlation_id, agent_id);
                let opened = match &pinned {
                    Some(connection) => self.open_bound(connection, inquiry).await,
                    None => self.open_anywhere(agent_id, inquiry).await,
                };
                let answered = complete(opened, inquiry.correlation_id, event).await;
                if pinned.is_some() && kind == EventType::RequestComplete {
                    self.affinities.unpin(inquiry.correlation_id, agent_id);
                }
                answered
            }
        }
    }

    /// Puts the first event of an exchange to an agent, which binds the exchange to the connection unless the
    /// event fails.
    async fn ask_first<E: Event>(&self, opened: Asked, inquiry: Inquiry<'_>, event: &E) -> Asked {
        let call = opened?;
        let binding = NewBinding::of(&self.affinities, inquiry.correlation_id, call.connection());
        let answered = complete(Ok(call), inquiry.correlation_id, event).await;
        if !matches!(answered, Err(Unanswered::Failed(_))) {
            binding.stays();
        }
        answered
    }

    /// The same on one connection.
    pub(super) async fn ask_first_on<E: Event>(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        inquiry: Inquiry<'_>,
        event: &E,
    ) -> Asked {
        let opened = self.open_bound(connection, inquiry).await;
        self.ask_first(opened, inquiry, event).await
    }

    /// Opens a call on any connection of an agent. Otherwise says what the call comes to.
    pub(super) async fn open_anywhere(
        self: &Arc<Self>,
        agent_id: &str,
        inquiry: Inquiry<'_>,
    ) -> Asked {
        // The snapshot is let go before anything is waited for.
        let (record, refusal) = {
            let agents = self.agents.load();
            let agent = agents
                .get(agent_id)
                .ok_or_else(|| Unanswered::Failed(unknown(agent_id)))?;
            agent.record.calls.made();
            let mut attempt = || self.open_at(agent, inquiry);
            match agent.record.lines.in_turn(&mut attempt) {
                Ok(call) => return Ok(call),
                Err(refusal) => (Arc::clone(&agent.record), refusal),
            }
        };
        let attempt = || self.attempt(agent_id, inquiry);
        self.wait(&record, &record.lines, refusal, inquiry, attempt)
            .await
    }

    /// Opens a call on one connection, which its exchange is bound to.
    pub(super) async fn open_bound(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        inquiry: Inquiry<'_>,
    ) -> Asked {
        let (record, lines) = (connection.agent(), connection.lines());
        record.calls.made();
        let mut attempt = || self.open_on(connection, Binding::Bound, inquiry);
        match lines.in_turn(&mut attempt) {
            Ok(call) => Ok(call),
            Err(refusal) => self.wait(record, lines, refusal, inquiry, attempt).await,
        }
    }

    /// Puts an event to an agent now or not at all, on a call that `open` opens. Unavailability is an error, whatever
    /// the failure mode.
    pub(super) async fn ask_strictly<E: Event>(
        &self,
        record: &AgentRecord,
        inquiry: Inquiry<'_>,
        event: &E,
        open: impl FnOnce() -> Result<PendingCall, Refusal>,
    ) -> Outcome {
        record.calls.made();
        match open() {
            Ok(mut call) => {
                call.ask(inquiry.correlation_id, event).await?;
                call.take_answer()
            }
            Err(refusal) => {
                record.calls.ended(ending_of(refusal));
                Err(self.error(record, refusal, inquiry))
            }
        }
    }

    /// Goes on with a call that was refused at first.
    async fn wait(
        self: &Arc<Self>,
        record: &AgentRecord,
        lines: &Lines,
        refusal: Refusal,
        inquiry: Inquiry<'_>,
        attempt: impl FnMut() -> Result<PendingCall, Refusal>,
    ) -> Asked {
        if refusal.is_final() {
            return Err(self.settle(record, refusal, inquiry));
        }
        let waiting = Waiting(record);
        let opened = lines
            .open_call(self.config.patience(), inquiry.limit, attempt)
            .await;
        std::mem::forget(waiting);
        opened.map_err(|refusal| self.settle(record, refusal, inquiry))
    }

    /// Opens a call on whichever connection takes it now.
    pub(super) fn attempt(
        self: &Arc<Self>,
        agent_id: &str,
        inquiry: Inquiry<'_>,
    ) -> Result<PendingCall, Refusal> {
        loop {
            let agents = self.agents.load();
            let agent = agents.get(agent_id).ok_or(Refusal::UnknownAgent)?;
            match self.open_at(agent, inquiry) {
                // It ended after it was chosen, and is not chosen again.
                Err(Refusal::Closed) => {}
                opened => return opened,
            }
        }
    }

    fn open_at(
        self: &Arc<Self>,
        agent: &Arc<AgentEntry>,
        inquiry: Inquiry<'_>,
    ) -> Result<PendingCall, Refusal> {
        if self.is_closing() {
            return Err(Refusal::Unavailable);
        }
        let correlation = agent.correlation(inquiry.correlation_id);
        let connection = self.choose(agent, correlation)?;
        self.open_on(connection, Binding::Free, inquiry)
    }

    pub(super) fn open_on(
        &self,
        connection: &Arc<Connection>,
        binding: Binding,
        inquiry: Inquiry<'_>,
    ) -> Result<PendingCall, Refusal> {
        let is_skipped = self.config.skip_unsubscribed_events
            && inquiry.kind != EventType::Configure
            && !connection.capabilities().supports_event(inquiry.kind);
        if is_skipped {
            return Err(Refusal::Unsubscribed);
        }
        let correlation = connection.correlation(inquiry.correlation_id);
        connection.open_call(correlation, binding, inquiry.limit)
    }

    /// Counts a call that was refused and says what it comes to.
    fn settle(
        self: &Arc<Self>,
        record: &AgentRecord,
        refusal: Refusal,
        inquiry: Inquiry<'_>,
    ) -> Unanswered {
        record.calls.ended(ending_of(refusal));
        if refusal == Refusal::Unsubscribed {
            return Unanswered::Allowed;
        }
        if is_pause(refusal) && self.config.flow_control_mode == FlowControlMode::FailOpen {
            let allowed = &record.incidents.allowed_while_paused;
            allowed.fetch_add(1, Ordering::Relaxed);
            return Unanswered::Allowed;
        }
        record.or_open(self.refuse(record, refusal, inquiry))
    }

    /// What an event comes to whose exchange has no connection.
    pub(super) fn settle_unconnected(
        self: &Arc<Self>,
        record: &AgentRecord,
        inquiry: Inquiry<'_>,
    ) -> Unanswered {
        record.calls.made();
        self.settle(record, Refusal::Unavailable, inquiry)
    }

    /// The error that says why there is no call.
    pub(super) fn refuse(
        self: &Arc<Self>,
        record: &AgentRecord,
        refusal: Refusal,
        inquiry: Inquiry<'_>,
    ) -> AgentProtocolError {
        if refusal == Refusal::Unavailable {
            self.demand(&record.id);
        }
        self.error(record, refusal, inquiry)
    }

    fn error(
        &self,
        record: &AgentRecord,
        refusal: Refusal,
        inquiry: Inquiry<'_>,
    ) -> AgentProtocolError {
        let agent_id = Arc::clone(&record.id);
        match refusal {
            Refusal::Paused | Refusal::ExchangePaused => {
                AgentProtocolError::FlowControlPaused { agent_id }
            }
            Refusal::Closed => AgentProtocolError::ConnectionClosed { agent_id },
            Refusal::UnknownAgent => AgentProtocolError::UnknownAgent { agent_id },
            Refusal::Unavailable | Refusal::Unsubscribed => {
                AgentProtocolError::Unavailable { agent_id }
            }
            Refusal::CircuitOpen => AgentProtocolError::CircuitOpen { agent_id },
            Refusal::Full | Refusal::QueueFull => AgentProtocolError::QueueFull {
                agent_id,
                limit: self.config.max_queued_calls,
            },
            Refusal::QueueTimedOut => AgentProtocolError::QueueTimeout {
                agent_id,
                after: self.config.queue_timeout,
            },
            Refusal::TimedOut => AgentProtocolError::Timeout {
                agent_id,
                after: inquiry.limit.timeout(),
            },
            Refusal::Busy => AgentProtocolError::CorrelationBusy {
                agent_id,
                correlation_id: inquiry.correlation_id.to_owned(),
            },
        }
    }
}

/// Puts an event to the agent on an opened call, and waits until that has answered.
pub(super) async fn complete<E: Event>(opened: Asked, correlation_id: &str, event: &E) -> Asked {
    let mut call = opened?;
    match call.ask(correlation_id, event).await {
        Ok(()) => Ok(call),
        Err(error) => Err(call.connection().agent().or_open(error)),
    }
}

impl AgentRecord {
    /// What a failed call comes to: an `allow` if the agent was unavailable and the user chose to allow that.
    pub(super) fn or_open(&self, error: AgentProtocolError) -> Unanswered {
        if self.fails_open.load(Ordering::Relaxed) && error.means_unavailable() {
            self.incidents.failed_open.fetch_add(1, Ordering::Relaxed);
            return Unanswered::Allowed;
        }
        Unanswered::Failed(error)
    }
}

/// A call that waits in line; if it is dropped there, its caller gave it up.
struct Waiting<'r>(&'r AgentRecord);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.calls.ended(Ending::GivenUp);
    }
}

/// A binding of an exchange to a connection that is undone unless its first event succeeds.
struct NewBinding<'a> {
    affinities: &'a Affinities,
    correlation_id: &'a str,
    agent_id: Arc<str>,
    stays: bool,
}

impl<'a> NewBinding<'a> {
    fn of(
        affinities: &'a Affinities,
        correlation_id: &'a str,
        connection: &Arc<Connection>,
    ) -> Self {
        affinities.pin(correlation_id, connection);
        Self {
            affinities,
            correlation_id,
            agent_id: Arc::clone(&connection.agent().id),
            stays: false,
        }
    }

    fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for NewBinding<'_> {
    fn drop(&mut self) {
        if !self.stays {
            self.affinities.unpin(self.correlation_id, &self.agent_id);
        }
    }
}

fn is_pause(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Paused | Refusal::ExchangePaused)
}

fn ending_of(refusal: Refusal) -> Ending {
    match refusal {
        Refusal::Paused | Refusal::ExchangePaused => Ending::Paused,
        Refusal::Busy => Ending::Busy,
        Refusal::Closed => Ending::ConnectionClosed,
        Refusal::UnknownAgent | Refusal::Unavailable => Ending::Unavailable,
        Refusal::CircuitOpen => Ending::CircuitOpen,
        Refusal::Full | Refusal::QueueFull => Ending::QueueFull,
        Refusal::QueueTimedOut => Ending::QueueTimedOut,
        Refusal::TimedOut => Ending::TimedOut,
        Refusal::Unsubscribed => Ending::Skipped,
    }
}
