//! One multiplexed connection: many concurrent calls over one link.
//!
//! A call opens a slot, encodes its event, puts the frame into the send queue and waits for its
//! slot to be filled. [`Inbound`], the receive task, reads answers and fills slots. [`run_writer`],
//! the writer task, sends the frames that callers do not send themselves. Both tasks end with the
//! connection, and every pending call fails then.

mod admission;
mod admission_queues;
#[cfg(feature = "__bench")]
#[path = "../../benches/internals/connection.rs"]
pub(crate) mod bench;
mod breaker;
mod call;
mod call_end;
mod control;
mod expiring_keys;
mod failure_window;
mod flow;
mod frame_timer;
mod guards;
mod handshake;
mod health;
mod inbound;
pub(crate) mod link;
mod link_error;
mod receive_error;
mod runtime_id;
mod send_queue;
mod shared_state;
#[cfg(feature = "__sim")]
#[path = "../../tests/simulator/hooks/connection.rs"]
pub(crate) mod simulated;
mod slot_bitmap;
mod slots;
mod state;
mod stopwatch;
mod sync;
mod time_limit;
mod turn;
mod usage;
mod wait_queue;
mod writer;

pub(crate) use admission::Binding;
pub(crate) use admission_queues::AdmissionQueues;
pub(crate) use breaker::CircuitBreakerSettings;
pub use breaker::CircuitBreakerState;
pub(crate) use call::PendingCall;
pub(crate) use call_end::{CallContext, CallEnd};
pub(crate) use frame_timer::FrameTimer;
pub(crate) use guards::{ExchangeGuard, ProbeGuard};
pub(crate) use handshake::{HandshakeOffer, NegotiatedParams, Origin, connection_over_link, open};
pub(crate) use health::ConnectionHealth;
pub(crate) use inbound::{AgentEvent, Inbound};
pub(crate) use runtime_id::RuntimeId;
pub(crate) use shared_state::{Correlation, SharedState};
pub(crate) use stopwatch::{Sampling, Stopwatch};
pub(crate) use time_limit::TimeLimit;
pub(crate) use turn::Turn;
pub(crate) use writer::run_writer;

use crate::clock;
use crate::entropy::RandomState;
use crate::error::CallError;
use crate::metrics::Fault;
use crate::protocol::{AgentCapabilities, AgentResponse};
use crate::wire::Dialect;
use crossbeam_queue::SegQueue;
use expiring_keys::ExpiringKeySet;
use flow::FlowState;
use link::LinkSender;
use send_queue::{Drained, SendQueue};
use slots::{Completer, Matching, SlotTable};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use sync::AtomicWaker;
use tokio::sync::oneshot;
use usage::Usage;

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
}

/// One connection to an agent. Its link is served by [`Inbound`] and [`run_writer`].
///
/// Callers, both tasks and the pool share it. Times are in ticks since `epoch`, see
/// [`Connection::ticks`].
pub(crate) struct Connection {
    /// State shared by all connections to the agent.
    agent: Arc<SharedState>,
    /// Capabilities that the agent announced in the handshake or registration.
    capabilities: AgentCapabilities,
    /// Encoding, extension and largest frame, as both sides agreed.
    dialect: Dialect,
    /// Side that opened the connection.
    origin: Origin,
    /// Runtime of the connection's tasks; `None` if it was created outside of a runtime.
    runtime: Option<RuntimeId>,
    /// Sending half of the link. The lock inside `send_queue` lets one task at a time send frames.
    sender: Box<dyn LinkSender>,
    /// Frames waiting to be sent.
    send_queue: SendQueue,
    /// Calls waiting for an answer.
    slots: Arc<SlotTable<SlotValue>>,
    /// Exchanges whose answer may still arrive although no call waits for it any more.
    ///
    /// Where answers are matched by correlation id, the next call of such an exchange could receive
    /// that answer. So no call is opened for it until the answer has arrived or the entry has
    /// expired. With stream ids the set stays empty.
    expected_late_answers: ExpiringKeySet,
    /// Pauses requested by the agent.
    flow: FlowState,
    /// Consecutive failures and the agent's last health report.
    health: ConnectionHealth,
    /// Selects the calls that are timed.
    sampling: Sampling,
    /// Calls waiting for this very connection, because their exchange is bound to it. Calls that
    /// may use any connection wait in the queues of `agent`.
    queues: AdmissionQueues,
    /// Exchanges and pins that keep the connection in use, even while no call is pending. The count
    /// of exchanges is ordered against `is_retired`: see [`ExchangeGuard::of`].
    usage: Usage,
    /// Set once only exchanges that are bound to this connection may use it.
    is_retired: AtomicBool,
    /// Set once the connection is closed. Ordered against the opening of slots: see
    /// [`Connection::close`].
    is_closed: AtomicBool,
    /// Set once the circuit breaker has counted the loss of the connection.
    is_loss_counted: AtomicBool,
    /// Zero point of all times in this struct and in `slots`.
    epoch: Instant,
    /// Set while [`Inbound`] checks deadlines periodically. It stops while no call is pending, so
    /// that an idle connection needs no timer; the next call starts it again.
    is_sweeping: AtomicBool,
    /// Cancellations for [`Inbound`], which alone may complete calls.
    commands: SegQueue<Command>,
    /// Wakes [`Inbound`] for commands, for sweeping and for the end of the connection.
    inbound_waker: AtomicWaker,
    /// Pings that wait for their pong, by sequence number.
    pings: Mutex<HashMap<u64, oneshot::Sender<()>, RandomState>>,
    /// Sequence number of the next ping.
    ping_sequence: AtomicU64,
    /// Set while a [`ProbeGuard`] lives, so that the pool runs one probe at a time.
    is_probed: AtomicBool,
    /// Time of the last call; 0 if there was none.
    last_used: AtomicU64,
    /// Time at which bytes were last received; 0 if there were none since the handshake.
    last_received: AtomicU64,
    /// Number of the settings that the agent was given on this connection, or is being given; 0 for
    /// none.
    settings: AtomicU64,
    /// Set while the agent is sent its settings, before it takes exchanges.
    is_configuring: AtomicBool,
    /// Why the agent's side of the link ended, if that rejects settings; empty before.
    end_of_receiving: OnceLock<String>,
}

/// Outcome of a call, as its slot holds it.
type SlotValue = Result<AgentResponse, CallEnd>;

/// A cancellation for [`Inbound`], which alone completes calls.
#[derive(Debug)]
enum Command {
    /// Cancels the pending calls of one exchange.
    Cancel { correlation_id: String },
    /// Cancels every pending call and sends back their correlation ids.
    CancelAll {
        cancelled: oneshot::Sender<Vec<String>>,
    },
}

/// Length of a tick, the unit of deadlines: see [`Connection::ticks`].
const NANOSECONDS_PER_TICK: u64 = 1_000_000;

/// Maximum number of entries in `expected_late_answers`; the oldest are evicted first.
const MAX_LATE_ANSWERS: usize = 10_000;

/// Time after which an entry in `expected_late_answers` expires.
const LATE_ANSWER_LIFETIME: Duration = Duration::from_secs(5 * 60);

impl Connection {
    fn new(
        agent: Arc<SharedState>,
        negotiated: NegotiatedParams,
        sender: Box<dyn LinkSender>,
        config: &ConnectionConfig,
    ) -> (Arc<Self>, Completer<SlotValue>) {
        let NegotiatedParams {
            capabilities,
            dialect,
            origin,
        } = negotiated;
        let matching = if dialect.has_streams() {
            Matching::ByStream
        } else {
            Matching::ById
        };
        let queues = AdmissionQueues::default();
        let usage = Usage::default();
        let slot_queues = [
            Arc::clone(&queues.free_slot),
            Arc::clone(&agent.queues.free_slot),
            usage.idle_queue(),
        ];
        let capacity = max_concurrent(config.max_concurrent, &capabilities);
        let (slots, completer) = SlotTable::new(capacity, matching, slot_queues);
        let connection = Self {
            agent,
            capabilities,
            dialect,
            origin,
            runtime: RuntimeId::current(),
            sender,
            send_queue: SendQueue::new(config.send_queue_capacity),
            slots,
            expected_late_answers: ExpiringKeySet::new(MAX_LATE_ANSWERS, LATE_ANSWER_LIFETIME),
            flow: FlowState::new(),
            health: ConnectionHealth::new(config.max_failures),
            sampling: config.sampling,
            queues,
            usage,
            is_retired: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_loss_counted: AtomicBool::new(false),
            epoch: clock::now(),
            is_sweeping: AtomicBool::new(false),
            commands: SegQueue::new(),
            inbound_waker: AtomicWaker::new(),
            pings: Mutex::default(),
            ping_sequence: AtomicU64::new(0),
            is_probed: AtomicBool::new(false),
            last_used: AtomicU64::new(0),
            last_received: AtomicU64::new(0),
            settings: AtomicU64::new(0),
            is_configuring: AtomicBool::new(false),
            end_of_receiving: OnceLock::new(),
        };
        let connection = Arc::new(connection);
        #[cfg(feature = "__sim")]
        simulated::note_connection(&connection);
        (connection, completer)
    }

    /// Stops taking new exchanges until [`Connection::end_configuring`].
    pub(crate) fn begin_configuring(&self) {
        self.is_configuring.store(true, Ordering::Relaxed);
    }

    /// Takes new exchanges again, and wakes calls that wait for a connection.
    pub(crate) fn end_configuring(&self) {
        if self.is_configuring.swap(false, Ordering::Relaxed) {
            self.agent.queues.wake();
        }
    }

    /// Closes the connection because the agent does not respond.
    pub(crate) fn close_unresponsive(&self) {
        self.close_on_error(&"the agent does not respond");
    }

    /// Closes the connection. Every pending call fails.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Pairs with the fence in `SlotTable::open`: a caller that opened a slot and does not see
        // `is_closed` has its slot in the table before the receive task, woken below, fails all
        // calls in the table.
        fence(Ordering::SeqCst);
        self.inbound_waker.wake();
        self.send_queue.stop_writer();
        self.queues.wake();
        self.agent.queues.wake();
        self.usage.wake();
        self.agent.request_maintenance();
    }

    /// Records that an answer to this exchange may still arrive although no call waits for it.
    ///
    /// Not needed where answers are matched by stream id: a late one cannot be taken for another.
    fn expect_late_answer(&self, key: u64) {
        if !self.dialect.has_streams() {
            self.expected_late_answers.insert_over_oldest(key);
        }
    }

    /// Sends the frames in the send queue from the caller's task, or leaves them to the writer task
    /// if another task is sending or the link is full.
    fn send_now(&self) {
        match self.send_queue.drain(&*self.sender) {
            Ok(Drained::Empty) => {}
            Ok(Drained::NoRoom | Drained::Busy) => self.send_queue.request_writer(),
            Err(error) => self.close_on_error(&error),
        }
    }

    /// Closes the connection because of a failure, which is counted and logged once.
    fn close_on_error(&self, cause: &dyn std::fmt::Display) {
        if self.is_open() {
            self.record_fault(Fault::ConnectionLost, cause);
        }
        self.close();
    }

    /// Records that a message of `len` bytes was dropped because memory is scarce.
    pub(crate) fn record_over_memory(&self, len: usize) {
        let detail = format_args!("{len} bytes, dropped because the memory limit is reached");
        self.record_fault(Fault::UnexpectedMessage, &detail);
    }

    fn record_fault(&self, fault: Fault, detail: &dyn std::fmt::Display) {
        self.agent.faults.note(&self.agent.id, fault, detail);
    }

    fn pings(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<()>, RandomState>> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Converts a point in time to the unit of the slots' deadlines: milliseconds since `epoch`.
    fn ticks(&self, at: Instant) -> u64 {
        self.nanoseconds(at) / NANOSECONDS_PER_TICK
    }

    /// Converts a point in time to the unit of [`Ticket::received`](slots::Ticket::received):
    /// nanoseconds since `epoch`, 0 before it.
    fn nanoseconds(&self, at: Instant) -> u64 {
        time_limit::nanoseconds(at.saturating_duration_since(self.epoch))
    }

    /// Returns the error of an operation on this connection.
    fn error(&self, end: CallEnd, timeout: Duration) -> CallError {
        end.error(CallContext {
            agent_id: &self.agent.id,
            timeout,
            correlation_id: "",
            max_queued: 0,
        })
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

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("agent", &self.agent.id)
            .field("dialect", &self.dialect)
            .field("open", &self.is_open())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
