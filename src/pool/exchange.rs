use super::agents::AgentEntry;
#[cfg(feature = "http")]
use super::ask::read_outcome_of;
use super::ask::{Asked, Inquiry, complete, outcome_of, timings_of};
use super::policy::FlowControlMode;
use super::pushed::{Pushed, PushedQueue};
use super::trace::traced;
use super::{AgentPool, Inner, unknown};
use crate::connection::{AgentRecord, Hold, Refusal, TimeLimit};
use crate::error::AgentProtocolError;
use crate::metrics::CallTimings;
use crate::protocol::{AgentResponse, CancelReason, Decision, EventType, text};
use crate::wire::Event;
use smallvec::SmallVec;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The events of one HTTP request, all on one connection to one agent.
///
/// [`Exchange::send`] puts one event and waits for its answer. [`Exchange::push`] does not wait: several
/// events may be unanswered, they arrive in the order in which they were pushed, and
/// [`Exchange::next_answer`] gives the answers in that order too. Towards an agent without tollgate's
/// extension of the protocol pushing waits until the event before is answered; everything else is the
/// same.
///
/// An exchange never changes its connection: when that ends, its calls fail. Dropped while events are
/// unanswered, or in the middle of a body that the agent has not decided against, it has the agent forget
/// it.
///
/// ```no_run
/// # async fn example(
/// #     pool: &tollgate::AgentPool,
/// #     head: tollgate::RequestHeadersEvent,
/// #     chunks: Vec<tollgate::RequestBodyChunkEvent>,
/// # ) -> Result<bool, tollgate::AgentProtocolError> {
/// use tollgate::Decision;
///
/// let mut exchange = pool.exchange("waf", "request-1")?;
/// if exchange.send(&head).await?.decision != Decision::Allow {
///     return Ok(false);
/// }
/// for chunk in &chunks {
///     // At most eight chunks are on their way or waiting for their answer to be looked at.
///     if exchange.unanswered() == 8 {
///         let answer = exchange.next_answer().await.transpose()?;
///         if answer.is_some_and(|answer| answer.decision != Decision::Allow) {
///             return Ok(false);
///         }
///     }
///     exchange.push(chunk).await?;
/// }
/// while let Some(answer) = exchange.next_answer().await.transpose()? {
///     if answer.decision != Decision::Allow {
///         return Ok(false);
///     }
/// }
/// # Ok(true)
/// # }
/// ```
pub struct Exchange {
    pool: Arc<Inner>,
    other_side: OtherSide,
    correlation_id: InlineText,
    /// Pushed events whose answers are not taken, the oldest first. Invariant: where answers are matched
    /// by correlation id, only the last one may still be pending.
    pushed: PushedQueue,
    stage: Stage,
}

/// Whom an exchange is with.
#[derive(Debug)]
enum OtherSide {
    Connected(Hold),
    /// There was no connection, and the agent's failure mode is open.
    Missing(Arc<AgentRecord>),
}

impl OtherSide {
    fn agent(&self) -> &Arc<AgentRecord> {
        match self {
            Self::Connected(connection) => connection.agent(),
            Self::Missing(agent) => agent,
        }
    }

    fn connection(&self) -> Option<&Hold> {
        match self {
            Self::Connected(connection) => Some(connection),
            Self::Missing(_) => None,
        }
    }
}

/// Room for the usual ids, such as UUIDs, without an allocation.
type InlineText = SmallVec<[u8; 64]>;

/// What the agent still expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing in particular.
    Between,
    /// An event is being put by [`Exchange::send`], or was when its future was dropped.
    Sending,
    /// The rest of a body.
    InBody,
    /// Nothing: it decided against the request, or was told that the request is over.
    Over,
}

impl AgentPool {
    /// Begins an exchange with an agent, on the connection that the next event of `correlation_id` would
    /// take. Nothing is sent yet.
    ///
    /// Where the agent's [`FailureMode`](super::FailureMode) is open and no connection takes new exchanges,
    /// the exchange answers every event with an `allow`.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent),
    /// [`Unavailable`](AgentProtocolError::Unavailable),
    /// [`FlowControlPaused`](AgentProtocolError::FlowControlPaused) and
    /// [`CorrelationBusy`](AgentProtocolError::CorrelationBusy), as for [`AgentPool::send`].
    pub fn exchange(
        &self,
        agent_id: &str,
        correlation_id: &str,
    ) -> Result<Exchange, AgentProtocolError> {
        let pool = &self.inner;
        let (agent, refusal) = loop {
            let agents = pool.agents.load();
            let agent = agents.get(agent_id).ok_or_else(|| unknown(agent_id))?;
            match pool.hold(agent, correlation_id) {
                Ok(hold) => {
                    let other_side = OtherSide::Connected(hold);
                    return Ok(Exchange::with(other_side, pool, correlation_id));
                }
                // It ended after it was chosen, and is not chosen again.
                Err(Refusal::Closed) => {}
                Err(refusal) => break (Arc::clone(&agent.record), refusal),
            }
        };
        let inquiry = Inquiry {
            correlation_id,
            kind: EventType::RequestHeaders,
            limit: TimeLimit::configured(Duration::ZERO),
        };
        let error = pool.refuse(&agent, refusal, inquiry);
        if !(agent.fails_open.load(Ordering::Relaxed) && error.means_unavailable()) {
            return Err(error);
        }
        let other_side = OtherSide::Missing(agent);
        Ok(Exchange::with(other_side, pool, correlation_id))
    }
}

impl Inner {
    fn hold(
        self: &Arc<Self>,
        agent: &Arc<AgentEntry>,
        correlation_id: &str,
    ) -> Result<Hold, Refusal> {
        if self.is_closing() {
            return Err(Refusal::Unavailable);
        }
        let connection = match self.choose(agent, agent.correlation(correlation_id)) {
            Err(Refusal::Paused | Refusal::ExchangePaused)
                if self.config.flow_control_mode != FlowControlMode::FailClosed =>
            {
                self.choose_paused(agent)
            }
            chosen => chosen,
        };
        Hold::of(connection?).ok_or(Refusal::Closed)
    }
}

impl Exchange {
    fn with(other_side: OtherSide, pool: &Arc<Inner>, correlation_id: &str) -> Self {
        Self {
            pool: Arc::clone(pool),
            other_side,
            correlation_id: InlineText::from_slice(correlation_id.as_bytes()),
            pushed: PushedQueue::new(),
            stage: Stage::Between,
        }
    }

    /// The agent that is asked.
    pub fn agent_id(&self) -> &str {
        &self.other_side.agent().id
    }

    /// Whether the agent asked for this kind of event. Where it did not, and
    /// [`skip_unsubscribed_events`](super::AgentPoolConfig::skip_unsubscribed_events) is on, an answer allows
    /// without the agent; then a proxy may as well not make the event.
    pub fn is_subscribed(&self, kind: EventType) -> bool {
        let supports = |connection: &Hold| connection.capabilities().supports_event(kind);
        self.other_side.connection().is_some_and(supports)
    }

    /// Joins the events of the exchange.
    pub fn correlation_id(&self) -> &str {
        // Made of a `str`, so this never falls back.
        text::from_utf8(&self.correlation_id).unwrap_or_default()
    }

    /// Puts an event to the agent and waits for its answer.
    ///
    /// Answers to events that were pushed before stay for [`Exchange::next_answer`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`]; [`ConnectionClosed`](AgentProtocolError::ConnectionClosed) from the
    /// moment that the connection of the exchange has ended.
    pub async fn send<E: Event>(&mut self, event: &E) -> Result<AgentResponse, AgentProtocolError> {
        let timeout = self.pool.config.timeout(E::EVENT_TYPE);
        outcome_of(self.ask(event, TimeLimit::configured(timeout)).await)
    }

    /// The same, and says where the time went; of an event that was allowed without asking the agent it does not.
    /// Errors as for [`Exchange::send`].
    pub async fn send_timed<E: Event>(
        &mut self,
        event: &E,
    ) -> Result<(AgentResponse, Option<CallTimings>), AgentProtocolError> {
        let timeout = self.pool.config.timeout(E::EVENT_TYPE);
        let asked = self
            .ask(event, TimeLimit::configured(timeout).timed())
            .await;
        let timings = timings_of(&asked);
        Ok((outcome_of(asked)?, timings))
    }

    /// The same as [`Exchange::send`] with a time of its own for this call, which is not stretched for an agent that reports that
    /// it is degraded. Errors as for [`Exchange::send`].
    pub async fn send_within<E: Event>(
        &mut self,
        event: &E,
        timeout: Duration,
    ) -> Result<AgentResponse, AgentProtocolError> {
        outcome_of(self.ask(event, TimeLimit::firm(timeout)).await)
    }

    /// The same as [`Exchange::send`], for who needs only parts of the answer and who has given it.
    #[cfg(feature = "http")]
    pub(crate) async fn send_and_read<E: Event, R>(
        &mut self,
        event: &E,
        read: impl FnOnce(&Arc<str>, &mut AgentResponse) -> R,
    ) -> Result<R, AgentProtocolError> {
        let timeout = self.pool.config.timeout(E::EVENT_TYPE);
        let asked = self.ask(event, TimeLimit::configured(timeout)).await;
        read_outcome_of(asked, |answer| read(self.shared_agent_id(), answer))
    }

    async fn ask<E: Event>(&mut self, event: &E, limit: TimeLimit) -> Asked {
        self.settle().await;
        self.stage = Stage::Sending;
        let inquiry = self.inquiry::<E>(limit);
        let answered = traced!(
            self.agent_id(),
            inquiry,
            event,
            self.ask_quietly(inquiry, event)
        );
        let is_final = matches!(&answered, Ok(call) if call.is_denied());
        self.stage = if is_final {
            Stage::Over
        } else {
            stage_of(event)
        };
        answered
    }

    async fn ask_quietly<E: Event>(&self, inquiry: Inquiry<'_>, event: &E) -> Asked {
        let opened = self.open(inquiry).await;
        complete(opened, inquiry.correlation_id, event).await
    }

    /// Puts an event to the agent without waiting for the answer, only for room on its way. Each event
    /// takes one of the connection's places for pending calls until its answer is taken, so take answers
    /// while pushing.
    ///
    /// # Errors
    ///
    /// As for [`Exchange::send`], if the event could not be sent; then there is no answer to it.
    pub async fn push<E: Event>(&mut self, event: &E) -> Result<(), AgentProtocolError> {
        self.settle().await;
        let timeout = self.pool.config.timeout(E::EVENT_TYPE);
        let limit = TimeLimit::configured(timeout).untimed();
        let inquiry = self.inquiry::<E>(limit);
        let pushed = match self.open(inquiry).await {
            Ok(mut call) => match call.send(inquiry.correlation_id, event).await {
                Ok(()) => Pushed::Pending(call),
                Err(error) => {
                    Pushed::Answered(Ok(self.other_side.agent().or_open(error).into_outcome()?))
                }
            },
            Err(unanswered) => Pushed::Answered(Ok(unanswered.into_outcome()?)),
        };
        self.stage = stage_of(event);
        if self.pushed.capacity() == 0 {
            self.pushed = self.pool.spare_queues.take();
        }
        self.pushed.push_back(pushed);
        Ok(())
    }

    fn inquiry<E: Event>(&self, limit: TimeLimit) -> Inquiry<'_> {
        Inquiry {
            correlation_id: self.correlation_id(),
            kind: E::EVENT_TYPE,
            limit,
        }
    }

    async fn open(&self, inquiry: Inquiry<'_>) -> Asked {
        match &self.other_side {
            OtherSide::Connected(connection) => self.pool.open_bound(connection, inquiry).await,
            OtherSide::Missing(agent) => Err(self.pool.settle_unconnected(agent, inquiry)),
        }
    }

    /// The answer to the oldest pushed event whose answer was not taken; `None` if there is no such event.
    ///
    /// Dropping the future loses nothing.
    pub async fn next_answer(&mut self) -> Option<Result<AgentResponse, AgentProtocolError>> {
        let oldest = self.pushed.front_mut()?;
        poll_fn(|cx| oldest.settle(cx)).await;
        let Pushed::Answered(answer) = self.pushed.pop_front()? else {
            return None;
        };
        let outcome = answer.or_else(|error| self.other_side.agent().or_open(error).into_outcome());
        if matches!(&outcome, Ok(answer) if answer.decision != Decision::Allow) {
            self.stage = Stage::Over;
        }
        Some(outcome)
    }

    /// Pushed events whose answers were not taken.
    pub fn unanswered(&self) -> usize {
        self.pushed.len()
    }

    /// Waits for the answer of the event before, where answers would not be told apart.
    async fn settle(&mut self) {
        let has_streams = |connection: &Hold| connection.dialect().has_streams();
        if self.other_side.connection().is_some_and(has_streams) {
            return;
        }
        if let Some(last) = self.pushed.back_mut() {
            poll_fn(|cx| last.settle(cx)).await;
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn shared_agent_id(&self) -> &Arc<str> {
        &self.other_side.agent().id
    }

    /// Ends the exchange and has the agent forget it, for a reason that it is told, unless it knows that the
    /// exchange is over. Dropping the exchange does so only where the agent is at work on it or waits for the rest
    /// of a body.
    pub fn cancel(mut self, reason: CancelReason) {
        if self.stage != Stage::Over || self.is_unfinished() {
            self.have_forgotten(reason);
        }
        self.stage = Stage::Over;
        self.pushed.clear();
    }

    fn have_forgotten(&self, reason: CancelReason) {
        let connection = self.other_side.connection();
        if let Some(connection) = connection.filter(|held| held.is_open()) {
            let cancelled = &connection.agent().incidents.exchanges_cancelled;
            cancelled.fetch_add(1, Ordering::Relaxed);
            connection.forget(self.correlation_id(), reason);
        }
    }

    /// Whether the agent is at work on the exchange or waits for the rest of it.
    fn is_unfinished(&self) -> bool {
        let is_pending = |pushed: &Pushed| matches!(pushed, Pushed::Pending(_));
        matches!(self.stage, Stage::Sending | Stage::InBody) || self.pushed.iter().any(is_pending)
    }
}

/// Where an exchange is once an event was put.
fn stage_of<E: Event>(event: &E) -> Stage {
    match event.body_progress() {
        _ if E::EVENT_TYPE == EventType::RequestComplete => Stage::Over,
        Some(body) if !body.is_last => Stage::InBody,
        _ => Stage::Between,
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_unfinished = self.is_unfinished();
        let pushed = std::mem::take(&mut self.pushed);
        self.pool.spare_queues.give_back(pushed);
        if is_unfinished {
            self.have_forgotten(CancelReason::ClientDisconnect);
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("other_side", &self.other_side)
            .field("correlation_id", &self.correlation_id())
            .field("unanswered", &self.unanswered())
            .finish_non_exhaustive()
    }
}
