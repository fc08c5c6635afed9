//! Exchanges: the events of one HTTP request, on one connection to one agent.

use super::agent::Agent;
#[cfg(feature = "http")]
use super::call::read_answer;
use super::call::{CallParams, CallResult};
use super::member::{Member, Membership, Snapshot};
use super::policy::FlowControlMode;
use super::pushed_events::{Pushed, PushedQueue};
use super::send::{Answered, Call, CallOptions, StartCall};
use super::trace::traced;
use crate::connection::{CallEnd, Connection, Correlation, ExchangeGuard, TimeLimit};
use crate::debug_fields::debug_fields;
use crate::error::CallError;
use crate::protocol::{AgentResponse, CancelReason, Decision, EventType, text};
use crate::wire::Event;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

/// The events of one HTTP request, all on one connection to one agent.
///
/// [`Exchange::send`] sends one event and waits for its answer. [`Exchange::push`] does not wait
/// for the answer: several events may be unanswered, they arrive in the order in which they were
/// pushed, and [`Exchange::next_answer`] returns the answers in that order. If the agent does not
/// speak tollgate's extension of the protocol, `push` waits until the previous event is answered;
/// nothing else differs.
///
/// An exchange never changes its connection. If the connection closes, the calls of the exchange
/// fail.
///
/// Dropping an exchange cancels it at the agent if events are unanswered, or if a body is
/// incomplete and the agent has not decided against the request.
///
/// ```no_run
/// # async fn example(
/// #     waf: &tollgate::Agent,
/// #     head: tollgate::RequestHeadersEvent,
/// #     chunks: Vec<tollgate::events::RequestBodyChunkEvent>,
/// # ) -> Result<bool, tollgate::CallError> {
/// use tollgate::Decision;
///
/// let mut exchange = waf.exchange("request-1")?;
/// if exchange.send(&head).await?.decision != Decision::Allow {
///     return Ok(false);
/// }
/// for chunk in &chunks {
///     // Limits the chunks that are unanswered, or whose answers were not taken, to eight.
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
    agent: Arc<Member>,
    /// `None` if no connection was available, and the agent's failure mode is open.
    connection: Option<ExchangeGuard>,
    correlation_id: InlineText,
    /// Key of `correlation_id`.
    key: u64,
    /// Pushed events whose answers were not taken, oldest first. Invariant: if answers are matched
    /// by correlation id, only the last one may be pending.
    pushed: PushedQueue,
    stage: Stage,
}

/// Text that is stored without an allocation up to the usual lengths of ids, such as UUIDs.
type InlineText = SmallVec<[u8; 64]>;

/// State of an exchange at the agent. It decides whether a dropped exchange is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The last event was answered or pushed, and no body is incomplete.
    Between,
    /// [`Exchange::send`] is in progress, or its future was dropped before it completed.
    Sending,
    /// The agent expects the rest of a body.
    InBody,
    /// The agent expects nothing more: it decided against the request, or knows that the request is
    /// over.
    Over,
}

impl Agent {
    /// Begins an exchange and binds it to a connection. Nothing is sent yet.
    ///
    /// The connection is chosen as for the first event of a new exchange. If the agent's
    /// [`FailureMode`](super::FailureMode) is open and no connection takes new exchanges, the
    /// exchange answers every event with an `allow`.
    ///
    /// # Errors
    ///
    /// [`Removed`](CallError::Removed), [`Replaced`](CallError::Replaced) and
    /// [`PoolDropped`](CallError::PoolDropped) if the handle is outdated;
    /// [`Unavailable`](CallError::Unavailable),
    /// [`FlowControlPaused`](CallError::FlowControlPaused) and
    /// [`CorrelationBusy`](CallError::CorrelationBusy), as for [`Agent::send`].
    pub fn exchange(&self, correlation_id: &str) -> Result<Exchange, CallError> {
        let agent = &self.0;
        let correlation = agent.correlation(correlation_id);
        let not_opened = match agent.bind_exchange(correlation) {
            Ok(guard) => return Ok(Exchange::new(agent, Some(guard), correlation)),
            Err(not_opened) => not_opened,
        };
        let params = CallParams {
            correlation,
            kind: EventType::RequestHeaders,
            limit: TimeLimit::configured(Duration::ZERO),
        };
        let error = agent.not_opened_error(not_opened, params);
        if agent.fails_open_on(&error) {
            Ok(Exchange::new(agent, None, correlation))
        } else {
            Err(error)
        }
    }
}

impl Member {
    /// Binds an exchange to a connection.
    fn bind_exchange(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
    ) -> Result<ExchangeGuard, CallEnd> {
        loop {
            let snapshot = self.snapshot();
            if !matches!(snapshot.membership, Membership::Current) {
                return Err(CallEnd::AgentGone);
            }
            match self.bind_exchange_at(&snapshot, correlation) {
                // The connection was closed or retired after it was chosen, or the snapshot is
                // outdated. The next attempt loads the snapshot and chooses again.
                Err(CallEnd::ConnectionClosed) => {}
                bound => return bound,
            }
        }
    }

    fn bind_exchange_at(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        correlation: Correlation<'_>,
    ) -> Result<ExchangeGuard, CallEnd> {
        if self.pool.is_closing() {
            return Err(CallEnd::Unavailable);
        }
        let connection = match self.choose(snapshot, correlation) {
            Err(CallEnd::Paused | CallEnd::ExchangePaused)
                if self.config.flow_control_mode != FlowControlMode::FailClosed =>
            {
                self.choose_paused(snapshot)
            }
            chosen => chosen,
        };
        ExchangeGuard::of(connection?).ok_or(CallEnd::ConnectionClosed)
    }
}

impl Exchange {
    fn new(
        agent: &Arc<Member>,
        connection: Option<ExchangeGuard>,
        correlation: Correlation<'_>,
    ) -> Self {
        Self {
            agent: Arc::clone(agent),
            connection,
            correlation_id: InlineText::from_slice(correlation.id.as_bytes()),
            key: correlation.key,
            pushed: PushedQueue::new(),
            stage: Stage::Between,
        }
    }

    /// Returns the id of the agent.
    pub fn agent_id(&self) -> &str {
        self.agent.id()
    }

    /// Returns whether the exchange has a connection that is open. Once it is closed, every call
    /// fails.
    pub fn is_open(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.lifecycle.is_open())
    }

    /// Returns the agent, and the connection if there is one.
    pub(super) fn parts(&self) -> (&Arc<Member>, Option<&Arc<Connection>>) {
        (&self.agent, self.connection.as_deref())
    }

    /// Returns whether the agent subscribed to this kind of event.
    ///
    /// If not, and [`skip_unsubscribed_events`](super::AgentPoolConfig::skip_unsubscribed_events)
    /// is set, `send` returns an `allow` at once, so callers can skip building the event.
    pub fn is_subscribed(&self, kind: EventType) -> bool {
        let supports = |connection: &ExchangeGuard| connection.capabilities.supports_event(kind);
        self.connection.as_ref().is_some_and(supports)
    }

    /// Returns the correlation id, which joins the events of the exchange.
    pub fn correlation_id(&self) -> &str {
        // The bytes come from a `str`, so they are always valid.
        text::from_utf8(&self.correlation_id).unwrap_or_default()
    }

    /// Sends an event to the agent and waits for its answer.
    ///
    /// Answers to events that were pushed before remain available to [`Exchange::next_answer`].
    ///
    /// # Errors
    ///
    /// As for [`Agent::send`]. Once the connection of the exchange has closed, every call fails
    /// with [`ConnectionClosed`](CallError::ConnectionClosed).
    pub fn send<'a, E: Event>(
        &'a mut self,
        event: &'a E,
    ) -> Call<impl StartCall<Future: Send> + use<'a, E>> {
        Call::new(move |options: CallOptions| async move {
            Answered(self.send_event(event, options).await)
        })
    }

    /// Like [`Exchange::send`], but lets `read` borrow the agent's id and the response in its slot.
    #[cfg(feature = "http")]
    pub(crate) async fn send_and_read<E: Event, R>(
        &mut self,
        event: &E,
        read: impl FnOnce(&Arc<str>, &mut AgentResponse) -> R,
    ) -> Result<R, CallError> {
        let answered = self.send_event(event, CallOptions::default()).await;
        read_answer(answered, |answer| read(self.shared_agent_id(), answer))
    }

    async fn send_event<E: Event>(&mut self, event: &E, options: CallOptions) -> CallResult {
        let limit = options.limit(self.agent.config.timeout(E::EVENT_TYPE));
        self.wait_for_previous().await;
        // If this future is dropped while it waits, the stage remains, so that dropping the
        // exchange cancels it. The event may or may not have been sent by then; the cancel is sent
        // either way.
        self.stage = Stage::Sending;
        let params = self.params::<E>(limit);
        let answered = traced!(
            self.agent_id(),
            params,
            event,
            self.send_untraced(params, event)
        );
        // An agent that decided against the request expects no more of its body. After an error or
        // an `allow` it does, if the event carried an incomplete body.
        let is_final = matches!(&answered, Ok(call) if call.is_denied());
        self.stage = if is_final {
            Stage::Over
        } else {
            stage_of(event)
        };
        answered
    }

    async fn send_untraced<E: Event>(&self, params: CallParams<'_>, event: &E) -> CallResult {
        let opened = open(&self.agent, self.connection.as_ref(), params).await;
        let agent = &self.agent;
        agent.complete(opened, params.correlation.id, event).await
    }

    /// Sends an event to the agent without waiting for the answer.
    ///
    /// Waits only for a free slot and for room in the send queue, and for the answer if the agent
    /// is in this process. Each event occupies one of the connection's slots until its answer is
    /// taken, so take answers between pushes. Answers that arrive while this waits for a slot leave
    /// theirs.
    ///
    /// # Errors
    ///
    /// As for [`Exchange::send`], if the event could not be sent. In this case there is no answer
    /// to it.
    pub async fn push<E: Event>(&mut self, event: &E) -> Result<(), CallError> {
        self.wait_for_previous().await;
        let timeout = self.agent.config.timeout(E::EVENT_TYPE);
        let limit = TimeLimit::configured(timeout).untimed();
        let Self {
            agent,
            connection,
            correlation_id,
            key,
            pushed,
            ..
        } = &mut *self;
        let correlation = Correlation {
            id: text::from_utf8(correlation_id).unwrap_or_default(),
            key: *key,
        };
        let params = CallParams {
            correlation,
            kind: E::EVENT_TYPE,
            limit,
        };
        let opened = {
            let mut opening = pin!(open(agent, connection.as_ref(), params));
            poll_fn(|cx| {
                let opened = opening.as_mut().poll(cx);
                if opened.is_pending() {
                    leave_slots(pushed, cx);
                }
                opened
            })
            .await
        };
        let pushed = match opened {
            Ok(mut call) => match call.send(correlation.id, event).await {
                Ok(()) => Pushed::Pending(call),
                Err(error) => {
                    Pushed::Answered(Ok(self.agent.apply_failure_mode(error).into_outcome()?))
                }
            },
            Err(unanswered) => Pushed::Answered(Ok(unanswered.into_outcome()?)),
        };
        self.stage = stage_of(event);
        if self.pushed.capacity() == 0 {
            self.pushed = self.agent.pool.spare_queues.take();
        }
        self.pushed.push_back(pushed);
        Ok(())
    }

    fn params<E: Event>(&self, limit: TimeLimit) -> CallParams<'_> {
        CallParams {
            correlation: Correlation {
                id: self.correlation_id(),
                key: self.key,
            },
            kind: E::EVENT_TYPE,
            limit,
        }
    }

    /// Returns the answer to the oldest pushed event whose answer was not taken; `None` if there is
    /// no such event.
    ///
    /// This method is cancel safe: dropping the future loses no answer.
    pub async fn next_answer(&mut self) -> Option<Result<AgentResponse, CallError>> {
        let oldest = self.pushed.front_mut()?;
        poll_fn(|cx| oldest.poll_settled(cx)).await;
        let Pushed::Answered(answer) = self.pushed.pop_front()? else {
            return None;
        };
        let outcome = answer.or_else(|error| self.agent.apply_failure_mode(error).into_outcome());
        if matches!(&outcome, Ok(answer) if answer.decision != Decision::Allow) {
            self.stage = Stage::Over;
        }
        Some(outcome)
    }

    /// Returns the number of pushed events whose answers were not taken.
    pub fn unanswered(&self) -> usize {
        self.pushed.len()
    }

    /// Waits until the previous event is answered, if the answers could not be told apart
    /// otherwise.
    async fn wait_for_previous(&mut self) {
        let has_streams = |connection: &ExchangeGuard| connection.dialect.has_streams();
        if self.connection.as_ref().is_some_and(has_streams) {
            return;
        }
        if let Some(last) = self.pushed.back_mut() {
            poll_fn(|cx| last.poll_settled(cx)).await;
        }
    }

    /// Returns the size that the agent prefers for chunks of bodies, in bytes.
    #[cfg(feature = "http")]
    pub(crate) fn preferred_chunk_size(&self) -> Option<usize> {
        let connection = self.connection.as_ref()?;
        Some(connection.capabilities.limits.preferred_chunk_size)
    }

    #[cfg(feature = "http")]
    pub(crate) fn shared_agent_id(&self) -> &Arc<str> {
        self.agent.id()
    }

    /// Ends the exchange, and cancels it at the agent with a reason unless the agent knows that the
    /// exchange is over.
    ///
    /// Dropping the exchange cancels it only if events are unanswered or a body is incomplete.
    pub fn cancel(mut self, reason: CancelReason) {
        if self.stage != Stage::Over || self.is_unfinished() {
            self.notify_cancelled(reason);
        }
        self.stage = Stage::Over;
        self.pushed.clear();
    }

    /// Tells the agent to abandon the exchange.
    fn notify_cancelled(&self, reason: CancelReason) {
        let connection = self.connection.as_ref();
        if let Some(connection) = connection.filter(|connection| connection.lifecycle.is_open()) {
            let cancelled = &self.agent.state.counters.exchanges_cancelled;
            cancelled.fetch_add(1, Ordering::Relaxed);
            connection.try_send_cancel(self.correlation_id(), reason);
        }
    }

    /// Returns whether an event is unanswered or a body is incomplete.
    fn is_unfinished(&self) -> bool {
        let is_pending = |pushed: &Pushed| matches!(pushed, Pushed::Pending(_));
        matches!(self.stage, Stage::Sending | Stage::InBody) || self.pushed.iter().any(is_pending)
    }
}

async fn open(
    agent: &Arc<Member>,
    connection: Option<&ExchangeGuard>,
    params: CallParams<'_>,
) -> CallResult {
    match connection {
        Some(connection) => agent.open(Some(connection), params).await,
        None => Err(agent.resolve_unconnected(params)),
    }
}

/// Takes answers that have arrived out of their slots. Otherwise exchanges that wait for slots
/// could occupy all of them with answers that they do not take meanwhile.
#[cold]
fn leave_slots(pushed: &mut PushedQueue, cx: &Context<'_>) {
    for pushed in pushed {
        // Whoever is pending wakes this task by its answer.
        let _ = pushed.poll_settled(cx);
    }
}

/// Returns the stage of an exchange after an event was sent.
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
        self.agent.pool.spare_queues.give_back(pushed);
        if is_unfinished {
            self.notify_cancelled(CancelReason::ClientDisconnect);
        }
    }
}

debug_fields!(Exchange, |self|
    agent: self.agent, connection: self.connection, correlation_id: self.correlation_id(),
    unanswered: self.unanswered(),
);
