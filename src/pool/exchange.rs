use super::{AgentPool, unknown};
use crate::connection::{Connection, Correlation, PendingCall};
use crate::error::AgentProtocolError;
use crate::protocol::{AgentResponse, CancelReason};
use crate::wire::Event;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
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
/// unanswered, it has the agent forget them.
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
    connection: Arc<Connection>,
    correlation_id: InlineText,
    timeout: Duration,
    /// Pushed events whose answers are not taken, the oldest first. Invariant: where answers are matched
    /// by correlation id, only the last one may still be pending.
    pushed: VecDeque<Pushed>,
    /// Whether a call by [`Exchange::send`] is under way, or was when its future was dropped.
    is_sending: bool,
}

/// Room for the usual ids, such as UUIDs, without an allocation.
type InlineText = SmallVec<[u8; 64]>;

#[allow(
    clippy::large_enum_variant,
    reason = "an answer takes the place of its call without an allocation"
)]
enum Pushed {
    Pending(PendingCall<Arc<Connection>>),
    Answered(Result<AgentResponse, AgentProtocolError>),
}

impl AgentPool {
    /// Begins an exchange with an agent, on the connection that the next event of `correlation_id` would
    /// take. Nothing is sent yet.
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
        let config = &self.inner.config;
        let agents = self.inner.agents.load();
        let agent = agents.get(agent_id).ok_or_else(|| unknown(agent_id))?;
        let correlation = agent.correlation(correlation_id);
        let connection = agent.choose(config.load_balance_strategy, correlation)?;
        Ok(Exchange {
            connection: Arc::clone(connection),
            correlation_id: InlineText::from_slice(correlation_id.as_bytes()),
            timeout: config.request_timeout,
            pushed: VecDeque::new(),
            is_sending: false,
        })
    }
}

impl Exchange {
    /// Joins the events of the exchange.
    pub fn correlation_id(&self) -> &str {
        // Made of a `str`, so this never falls back.
        std::str::from_utf8(&self.correlation_id).unwrap_or_default()
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
        self.settle().await;
        self.is_sending = true;
        let answer = self
            .connection
            .call(self.correlation(), event, self.timeout)
            .await;
        self.is_sending = false;
        answer
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
        let connection = Arc::clone(&self.connection);
        let call = PendingCall::start(connection, self.correlation(), event, self.timeout).await?;
        self.pushed.push_back(Pushed::Pending(call));
        Ok(())
    }

    /// The answer to the oldest pushed event whose answer was not taken; `None` if there is no such event.
    ///
    /// Dropping the future loses nothing.
    pub async fn next_answer(&mut self) -> Option<Result<AgentResponse, AgentProtocolError>> {
        let oldest = self.pushed.front_mut()?;
        poll_fn(|cx| oldest.settle(cx)).await;
        match self.pushed.pop_front()? {
            Pushed::Answered(answer) => Some(answer),
            Pushed::Pending(_) => None,
        }
    }

    /// Pushed events whose answers were not taken.
    pub fn unanswered(&self) -> usize {
        self.pushed.len()
    }

    fn correlation(&self) -> Correlation<'_> {
        self.connection.correlation(self.correlation_id())
    }

    /// Waits for the answer of the event before, where answers would not be told apart.
    async fn settle(&mut self) {
        if self.connection.dialect().has_streams() {
            return;
        }
        if let Some(last) = self.pushed.back_mut() {
            poll_fn(|cx| last.settle(cx)).await;
        }
    }
}

impl Pushed {
    /// Ready once the answer is there.
    fn settle(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Self::Pending(call) = self {
            let answer = std::task::ready!(call.poll_answer(cx));
            *self = Self::Answered(answer);
        }
        Poll::Ready(())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_pending = |pushed: &Pushed| matches!(pushed, Pushed::Pending(_));
        if !self.is_sending && !self.pushed.iter().any(is_pending) {
            return;
        }
        self.pushed.clear();
        self.connection
            .forget(self.correlation_id(), CancelReason::ClientDisconnect);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("connection", &self.connection)
            .field("correlation_id", &self.correlation_id())
            .field("unanswered", &self.unanswered())
            .finish_non_exhaustive()
    }
}
