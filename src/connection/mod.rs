//! One multiplexed connection: many concurrent calls over one link.
//!
//! A call opens a slot, encodes its event, puts the frame into the send queue and waits for its
//! slot to be filled. [`Inbound`], the receive task, reads answers and fills slots. [`run_writer`],
//! the writer task, sends the frames that callers do not send themselves. Both tasks end with the
//! connection, and every pending call fails then.

mod admission_queues;
#[cfg(feature = "__bench")]
#[path = "../../benches/internals/connection.rs"]
pub(crate) mod bench;
mod breaker;
mod call;
mod call_end;
mod calls;
mod expiring_keys;
mod failure_window;
mod flow;
mod frame_timer;
mod handshake;
mod health;
mod inbound;
mod lifecycle;
pub(crate) mod link;
mod link_error;
mod local_call;
mod outbound;
mod pings;
mod receive_error;
mod runtime_id;
mod send_queue;
mod shared_memory;
mod shared_state;
#[cfg(feature = "__sim")]
#[path = "../../tests/simulator/hooks/connection.rs"]
pub(crate) mod simulated;
mod slot_bitmap;
mod slots;
mod stopwatch;
pub(crate) mod sync;
mod time_limit;
mod timeline;
mod turn;
mod upgrade;
mod wait_queue;

pub(crate) use admission_queues::AdmissionQueues;
pub(crate) use breaker::CircuitBreakerSettings;
pub use breaker::CircuitBreakerState;
pub(crate) use call::PendingCall;
pub(crate) use call_end::{CallContext, CallEnd};
pub(crate) use frame_timer::FrameTimer;
pub(crate) use handshake::{HandshakeOffer, NegotiatedParams, Origin, connection_over_link, open};
pub(crate) use inbound::{AgentEvent, Inbound};
pub(crate) use lifecycle::{Binding, ExchangeGuard, Lifecycle};
pub(crate) use outbound::run_writer;
pub(crate) use pings::ProbeGuard;
pub(crate) use runtime_id::RuntimeId;
pub(crate) use shared_memory::{
    BYTES_TO_AGENT, BYTES_TO_PROXY, LinkCounters, LinkKind, RingCounters, SharedMemoryConfig, Side,
    Terms,
};
pub use shared_memory::{SharedMemory, SharedMemoryRefusal};
pub(crate) use shared_state::{Correlation, SharedState};
pub(crate) use stopwatch::{Sampling, Stopwatch};
pub(crate) use time_limit::TimeLimit;
pub(crate) use turn::{Turn, give_way};
pub(crate) use upgrade::Offered;

use crate::clock;
use crate::debug_fields::debug_fields;
use crate::error::CallError;
use crate::metrics::Fault;
use crate::protocol::{AgentCapabilities, AgentResponse, CancelReason};
use crate::wire::control::{self, ControlMessage};
use crate::wire::{Dialect, MessageType};
use call::is_answer;
use calls::{Calls, Command};
use flow::FlowState;
use health::ConnectionHealth;
use link::{LinkError, LinkSender};
use outbound::Outbound;
use pings::Pings;
use slots::{Completer, Matching, OpenError, SlotTable, Ticket};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use timeline::Timeline;
use tokio::sync::oneshot;
use wait_queue::WaitQueue;

/// Limits and sampling of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionConfig {
    /// Maximum number of pending calls.
    pub(crate) max_concurrent: usize,
    /// Maximum number of frames waiting to be sent.
    pub(crate) send_queue_capacity: usize,
    /// Number of consecutive failed calls after which the connection is avoided.
    pub(crate) max_failures: u32,
    /// Selects the calls that are timed.
    pub(crate) sampling: Sampling,
    /// Time in which an incomplete frame has to make progress.
    pub(crate) frame_timeout: Duration,
    /// Fails events whose body exceeds the limit that the agent announced.
    pub(crate) enforce_body_limit: bool,
}

/// Time after its last bytes for which an agent that owes answers counts as awake.
const AWAKE_FOR: Duration = Duration::from_millis(2);

/// One connection to an agent. Its link is served by [`Inbound`] and [`run_writer`].
///
/// Callers, both tasks and the pool share it. Each part has its own state and methods; those of the
/// connection itself concern several parts.
pub(crate) struct Connection {
    /// State shared by all connections to the agent.
    pub(crate) agent: Arc<SharedState>,
    /// Capabilities that the agent announced in the handshake or registration.
    pub(crate) capabilities: AgentCapabilities,
    /// Encoding, extension and largest frame, as both sides agreed.
    pub(crate) dialect: Dialect,
    /// Side that opened the connection.
    pub(crate) origin: Origin,
    /// The kind of link that carries the frames.
    pub(crate) link_kind: LinkKind,
    /// Runtime of the connection's tasks; `None` if it was created outside of a runtime.
    pub(crate) runtime: Option<RuntimeId>,
    /// Selects the calls that are timed.
    sampling: Sampling,
    /// Fails events whose body exceeds the limit that the agent announced.
    enforce_body_limit: bool,
    /// Frames waiting to be sent, and the link.
    pub(crate) outbound: Outbound,
    /// Calls waiting for an answer or for a slot.
    pub(crate) calls: Calls,
    /// Pauses requested by the agent.
    pub(crate) flow: FlowState,
    /// Consecutive failures and the agent's last health report.
    pub(crate) health: ConnectionHealth,
    /// Pings that wait for their pong.
    pings: Pings,
    /// Decides which exchanges may use the connection, and knows what keeps it in use.
    pub(crate) lifecycle: Lifecycle,
    /// Times of the last call and of what was last received.
    pub(crate) timeline: Timeline,
    /// Number of the settings that the agent was given on this connection, or is being given; 0 for
    /// none.
    pub(crate) settings: AtomicU64,
    /// Why the agent's side of the link ended, if that rejects settings; empty before.
    pub(crate) end_of_receiving: OnceLock<String>,
}

/// Outcome of a call, as its slot holds it.
type SlotValue = Result<AgentResponse, CallEnd>;

/// Time for which a connection whose calls fail is still used if there is no better one, in ticks.
/// The agent is pinged at once, and one that is alive answers within it.
const PING_GRACE_TICKS: u64 = 50;

/// Maximum time that cancel messages wait for room in the send queue.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(100);

impl Connection {
    fn new(
        agent: Arc<SharedState>,
        negotiated: NegotiatedParams,
        link: Box<dyn LinkSender>,
        config: &ConnectionConfig,
    ) -> (Arc<Self>, Completer<SlotValue>) {
        let matching = if negotiated.dialect.has_streams() {
            Matching::ByStream
        } else {
            Matching::ById
        };
        let idle = Arc::<WaitQueue>::default();
        let (calls, completer) = Calls::new(
            max_concurrent(config.max_concurrent, &negotiated.capabilities),
            matching,
            [Arc::clone(&agent.queues.free_slot), Arc::clone(&idle)],
        );
        let connection = Arc::new(Self {
            agent,
            capabilities: negotiated.capabilities,
            dialect: negotiated.dialect,
            origin: negotiated.origin,
            link_kind: negotiated.link_kind,
            runtime: RuntimeId::current(),
            sampling: config.sampling,
            enforce_body_limit: config.enforce_body_limit,
            outbound: Outbound::new(config.send_queue_capacity, link),
            flow: FlowState::new(),
            health: ConnectionHealth::new(config.max_failures),
            pings: Pings::default(),
            lifecycle: Lifecycle::new(Arc::clone(&calls.slots), idle),
            calls,
            timeline: Timeline::new(),
            settings: AtomicU64::new(0),
            end_of_receiving: OnceLock::new(),
        });
        #[cfg(feature = "__sim")]
        simulated::note_connection(&connection);
        (connection, completer)
    }

    /// Opens a call if its event can be sent now.
    pub(crate) fn open_call(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
        binding: Binding,
        limit: TimeLimit,
    ) -> Result<PendingCall, CallEnd> {
        if !self.lifecycle.accepts(binding) {
            return Err(CallEnd::ConnectionClosed);
        }
        self.flow.check(correlation.key)?;
        let breaker = &self.agent.breaker;
        let permit = breaker.try_acquire().ok_or(CallEnd::CircuitOpen)?;
        let limit = limit.scaled_by(self.health.timeout_factor());
        match self.open_slot(correlation, binding, limit) {
            Ok(ticket) => Ok(PendingCall::new(ticket, correlation, limit, permit)),
            Err(not_opened) => {
                breaker.release(permit);
                Err(not_opened)
            }
        }
    }

    fn open_slot(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
        binding: Binding,
        limit: TimeLimit,
    ) -> Result<Ticket<Arc<Self>, SlotValue>, CallEnd> {
        let started = self.timeline.nanoseconds(limit.started);
        let deadline = self.timeline.deadline(limit, started);
        let opened = SlotTable::open(Arc::clone(self), correlation.id, correlation.key, deadline);
        let mut ticket = opened.map_err(|error| match error {
            OpenError::Full => CallEnd::Full,
            OpenError::SameId => CallEnd::Busy,
        })?;
        // Checked again now that the slot is in the table: see `Lifecycle::close` and
        // `Lifecycle::retire`.
        if !self.lifecycle.accepts(binding) {
            return Err(CallEnd::ConnectionClosed);
        }
        let late_answers = &self.calls.expected_late_answers;
        if late_answers.contains(correlation.key) {
            // The missing answer may have arrived since the slot was opened, and filled it.
            if ticket.abandon().is_some_and(|value| is_answer(&value)) {
                late_answers.remove(correlation.key);
            }
            return Err(CallEnd::Busy);
        }
        self.calls.start_sweeping();
        self.timeline.note_call(started);
        Ok(ticket)
    }

    /// Fails the pending calls of an exchange and sends the agent a cancel message.
    pub(crate) async fn cancel(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), CallError> {
        let command = Command::Cancel(correlation_id.to_owned());
        self.calls.command(command, &self.lifecycle);
        self.send_cancels([correlation_id], reason).await
    }

    /// Sends a cancel message for an exchange whose calls were dropped, if the send queue has room.
    pub(crate) fn try_send_cancel(&self, correlation_id: &str, reason: CancelReason) {
        let payload = control::encode_cancel(correlation_id, reason, self.dialect.encoding);
        self.outbound.try_push(MessageType::Cancel, &payload);
    }

    /// Fails every pending call and sends cancel messages for them. Returns the number of calls.
    pub(crate) async fn cancel_all(&self, reason: CancelReason) -> Result<usize, CallError> {
        let (sender, cancelled) = oneshot::channel();
        let command = Command::CancelAll(sender);
        self.calls.command(command, &self.lifecycle);
        let cancelled = cancelled.await.unwrap_or_default();
        let ids = cancelled.iter().map(String::as_str);
        self.send_cancels(ids, reason).await?;
        // Sent at once, as the caller may close the connection next.
        self.send_now();
        Ok(cancelled.len())
    }

    /// Sends cancel messages, and gives up after [`CANCEL_TIMEOUT`]: an agent that does not read
    /// would not act on them either.
    async fn send_cancels(
        &self,
        ids: impl IntoIterator<Item = &str>,
        reason: CancelReason,
    ) -> Result<(), CallError> {
        let sent = async {
            for id in ids {
                if let Some(local) = &self.outbound.local {
                    // The callers drop the handlers.
                    local.wait_until_left(self.agent.keys.key(id)).await;
                }
                let payload = control::encode_cancel(id, reason, self.dialect.encoding);
                self.send_control(MessageType::Cancel, &payload).await?;
            }
            Ok(())
        };
        tokio::time::timeout(CANCEL_TIMEOUT, sent)
            .await
            .unwrap_or(Ok(()))
            .map_err(|end| self.agent.error(end, CANCEL_TIMEOUT))
    }

    /// Sends a ping and returns the time until its pong.
    pub(crate) async fn ping(&self, timeout: Duration) -> Result<Duration, CallError> {
        if self.outbound.local.is_some() {
            return Ok(Duration::ZERO);
        }
        let mut expected = self.pings.expect();
        let started = clock::now();
        let answered = tokio::time::timeout(timeout, async {
            let payload = control::encode_ping(expected.sequence, self.dialect.encoding);
            self.send_control(MessageType::Ping, &payload).await?;
            let pong = &mut expected.pong;
            pong.await.map_err(|_| CallEnd::ConnectionClosed)
        })
        .await;
        match answered.unwrap_or(Err(CallEnd::TimedOut)) {
            Ok(()) => Ok(clock::elapsed(started)),
            Err(end) => Err(self.agent.error(end, timeout)),
        }
    }

    /// Sends a message of the extension. Returns `false` if the agent does not speak the extension.
    pub(crate) async fn send_extension<M: ControlMessage>(
        &self,
        content: &M,
    ) -> Result<bool, CallError> {
        if !self.dialect.has_streams() {
            return Ok(false);
        }
        let payload = control::encode(content, self.dialect.encoding);
        let sent = self.send_control(M::MESSAGE, &payload).await;
        sent.map(|()| true)
            .map_err(|end| self.agent.error(end, Duration::MAX))
    }

    /// Like [`Connection::send_extension`], and drops the message if the send queue is full.
    pub(crate) fn try_send_extension<M: ControlMessage>(&self, content: &M) {
        if self.dialect.has_streams() && self.lifecycle.is_open() {
            let payload = control::encode(content, self.dialect.encoding);
            self.outbound.try_push(M::MESSAGE, &payload);
        }
    }

    async fn send_control(&self, message: MessageType, payload: &[u8]) -> Result<(), CallEnd> {
        if !self.lifecycle.is_open() {
            return Err(CallEnd::ConnectionClosed);
        }
        let sent = self.outbound.push(message, payload).await;
        sent.map_err(CallEnd::TooLarge)
    }

    /// Returns whether the connection takes new exchanges and did not fail too many calls in a row.
    /// The agent's circuit breaker is not considered.
    pub(crate) fn is_healthy(&self) -> bool {
        self.takes_exchanges() && !self.health.is_failing()
    }

    /// Returns whether the connection takes new exchanges if there is no better one: its calls may
    /// fail, but the agent may still answer the ping that asks whether it is alive.
    pub(crate) fn is_last_resort(&self) -> bool {
        let now = || self.timeline.ticks(clock::now());
        let grace_ends = || self.health.failing_since() + PING_GRACE_TICKS;
        self.takes_exchanges() && (!self.health.is_failing() || now() < grace_ends())
    }

    /// Returns whether the connection takes new exchanges, although its calls may be failing.
    fn takes_exchanges(&self) -> bool {
        self.lifecycle.takes_exchanges() && self.health.is_available()
    }

    /// Returns whether the writer task is about to send a batch that one more frame can join at
    /// almost no cost.
    ///
    /// `false` while at most one call is pending: then a call that has another connection to itself
    /// is answered sooner.
    pub(crate) fn is_batching(&self) -> bool {
        self.outbound.queue.is_batching() && self.calls.slots.has_several()
    }

    /// Returns whether the agent waits for calls on this connection without sleeping. Calls that
    /// keep to it cost neither side a system call, and one agent's task looks at one connection
    /// rather than at several in turn.
    ///
    /// An agent that owes answers and has sent nothing for a while counts as asleep: it may be
    /// stuck.
    pub(crate) fn is_awake(&self) -> bool {
        self.outbound.link.is_peer_awake()
            && (!self.calls.slots.has_several() || self.timeline.silence() < AWAKE_FOR)
    }

    /// Ends a row of failures, because the agent answered a ping, or a call too late. Calls that
    /// wait may take the connection now. An answer in time needs no more than the slot that it
    /// frees, which wakes them as well.
    pub(crate) fn recover(&self) {
        self.health.succeeded();
        self.agent.queues.wake();
    }

    /// Drops the agent's health report if it has expired. Calls that wait may take the connection
    /// then.
    pub(crate) fn forget_stale_report(&self, now_ms: u64) {
        if self.health.forget_stale_report(now_ms) {
            self.agent.queues.wake();
        }
    }

    /// Takes new exchanges again, and wakes calls that wait for a connection.
    pub(crate) fn end_configuring(&self) {
        if self.lifecycle.end_configuring() {
            self.agent.queues.wake();
        }
    }

    /// Sends the frames in the send queue from the caller's task, if it can.
    fn send_now(&self) {
        self.end_on_error(self.outbound.send_now());
    }

    fn end_on_error(&self, sent: Result<(), LinkError>) {
        if let Err(error) = sent {
            self.close_on_error(&error);
        }
    }

    /// Closes the connection because of a failure, which is counted and logged once.
    pub(crate) fn close_on_error(&self, cause: &dyn std::fmt::Display) {
        if self.lifecycle.is_open() {
            self.agent.record_fault(Fault::ConnectionLost, cause);
        }
        self.close();
    }

    /// Closes the connection. Every pending call fails.
    pub(crate) fn close(&self) {
        self.lifecycle.close();
        self.calls.inbound_waker.wake();
        self.outbound.queue.stop_writer();
        self.calls.queues.wake();
        self.agent.queues.wake();
        self.agent.request_maintenance();
    }
}

/// Returns the smaller of the pool's and the agent's limit. An agent's limit of 0 means no limit.
fn max_concurrent(allowed: usize, capabilities: &AgentCapabilities) -> usize {
    let agent_limit = match capabilities.limits.max_concurrency {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    allowed.min(agent_limit).max(1)
}

debug_fields!(Connection, |self|
    agent: self.agent.id, dialect: self.dialect, open: self.lifecycle.is_open(),
    in_flight: self.calls.slots.pending(),
);
