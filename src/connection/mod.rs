//! One multiplexed connection: many calls at once over one link.
//!
//! A call opens a slot, encodes its event, puts the frame into the outbox and waits for its slot to be
//! filled. [`Inbound`] reads answers and fills slots; [`run_writer`] sends what callers do not send
//! themselves. Both end with the connection, and every pending call with them.

mod admission;
mod call;
mod control;
mod flow;
mod inbound;
mod keys;
pub(crate) mod link;
mod occupancy;
mod opening;
mod outbound;
mod outbox;
mod slots;
mod sync;
mod turnstile;

pub(crate) use call::PendingCall;
pub(crate) use inbound::Inbound;
pub(crate) use opening::{Offer, open, receive_handshake, send_message};
pub(crate) use outbound::run_writer;

use crate::error::AgentProtocolError;
use crate::metrics::{Counters, Fault};
use crate::protocol::{AgentCapabilities, AgentNotice, AgentResponse, HealthState};
use crate::wire::{DecodeError, Dialect, FrameError};
use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use flow::FlowState;
use keys::{KeySet, Keys};
use link::LinkSender;
use outbox::{Drained, Outbox};
use slots::{Completer, Matching, SlotTable};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sync::AtomicWaker;
use tokio::sync::{broadcast, oneshot};

/// What the connections of one agent share.
#[derive(Debug)]
pub(crate) struct AgentRecord {
    pub(crate) id: Arc<str>,
    pub(crate) counters: Counters,
    keys: Keys,
    notices: broadcast::Sender<AgentNotice>,
}

impl AgentRecord {
    pub(crate) fn new(id: String, notices: broadcast::Sender<AgentNotice>) -> Self {
        Self {
            id: id.into(),
            counters: Counters::default(),
            keys: Keys::default(),
            notices,
        }
    }

    /// Tells whoever listens what the agent said unasked.
    fn notify(&self, notice: impl FnOnce(Arc<str>) -> AgentNotice) {
        if self.notices.receiver_count() > 0 {
            // The last listener may have left meanwhile.
            let _ = self.notices.send(notice(Arc::clone(&self.id)));
        }
    }

    /// An exchange with this agent.
    pub(crate) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        Correlation {
            id,
            key: self.keys.key(id),
        }
    }
}

/// What joins the events of one exchange: the id that the wire carries and a hash of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Correlation<'a> {
    pub(crate) id: &'a str,
    /// Equal for all connections of one agent, different between agents.
    key: u64,
}

/// How a connection is set up.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionConfig {
    /// Calls that may be pending at once.
    pub(crate) max_concurrent: usize,
    /// Frames that may wait to be sent.
    pub(crate) outbox_capacity: usize,
}

/// One connection to an agent. Its link is served by [`Inbound`] and [`run_writer`].
pub(crate) struct Connection {
    agent: Arc<AgentRecord>,
    capabilities: AgentCapabilities,
    dialect: Dialect,
    sender: Box<dyn LinkSender>,
    outbox: Outbox,
    slots: Arc<SlotTable<Reply>>,
    /// Exchanges with an event whose answer may still come although nobody waits for it. Their id names
    /// that answer too, so it is not used for another call until the answer came or is forgotten.
    unanswered: KeySet,
    flow: FlowState,
    /// The number of the last [`HealthState`] that the agent reported.
    health: AtomicI64,
    closed: AtomicBool,
    /// Zero point of the deadlines in `slots`.
    epoch: Instant,
    /// Whether [`Inbound`] looks for passed deadlines.
    sweeping: AtomicBool,
    commands: SegQueue<Command>,
    inbound: AtomicWaker,
    pings: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    ping_sequence: AtomicU64,
    counts: CachePadded<CallCounts>,
}

/// What a slot is filled with.
type Reply = Result<AgentResponse, CallFailure>;

/// Why a pending call ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallFailure {
    Closed,
    TimedOut,
    Undecodable(DecodeError),
    Cancelled,
}

/// What is asked of [`Inbound`], which alone completes calls.
#[derive(Debug)]
enum Command {
    Cancel {
        correlation_id: String,
    },
    CancelAll {
        cancelled: oneshot::Sender<Vec<String>>,
    },
}

#[derive(Debug, Default)]
struct CallCounts {
    requests: AtomicU64,
    errors: AtomicU64,
}

/// Most exchanges with a missing answer; the oldest are forgotten first.
const MAX_UNANSWERED: usize = 10_000;

/// How long a missing answer is awaited.
const UNANSWERED_LIFETIME: Duration = Duration::from_secs(5 * 60);

impl Connection {
    fn new(
        agent: Arc<AgentRecord>,
        capabilities: AgentCapabilities,
        dialect: Dialect,
        sender: Box<dyn LinkSender>,
        config: &ConnectionConfig,
    ) -> (Arc<Self>, Completer<Reply>) {
        let matching = if dialect.has_streams() {
            Matching::ByStream
        } else {
            Matching::ById
        };
        let (slots, completer) = SlotTable::new(config.max_concurrent.max(1), matching);
        let connection = Self {
            agent,
            capabilities,
            dialect,
            sender,
            outbox: Outbox::new(config.outbox_capacity),
            slots,
            unanswered: KeySet::new(MAX_UNANSWERED, UNANSWERED_LIFETIME),
            flow: FlowState::new(),
            health: AtomicI64::new(HealthState::Healthy.number()),
            closed: AtomicBool::new(false),
            epoch: Instant::now(),
            sweeping: AtomicBool::new(false),
            commands: SegQueue::new(),
            inbound: AtomicWaker::new(),
            pings: Mutex::default(),
            ping_sequence: AtomicU64::new(0),
            counts: CachePadded::default(),
        };
        (Arc::new(connection), completer)
    }

    pub(crate) fn capabilities(&self) -> &AgentCapabilities {
        &self.capabilities
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// An exchange over this connection.
    pub(crate) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        self.agent.correlation(id)
    }

    /// Calls that wait for an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.pending()
    }

    /// Whether a call can be made without waiting for a slot.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.pending() < self.slots.capacity()
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Whether an event of this exchange can be sent, though perhaps only after waiting for a slot.
    pub(crate) fn is_usable(&self, correlation: Correlation<'_>) -> bool {
        self.is_open()
            && self.admits(correlation)
            && !self.unanswered.contains(correlation.key)
            && self.slots.admits(correlation.key)
    }

    /// Whether the agent's flow control lets an event of this exchange through.
    pub(crate) fn admits(&self, correlation: Correlation<'_>) -> bool {
        self.flow.admits(correlation.key)
    }

    /// Whether an event of this exchange waits for its answer.
    pub(crate) fn is_busy_with(&self, correlation_id: &str) -> bool {
        self.slots.contains(self.agent.keys.key(correlation_id))
    }

    /// Whether the agent has not reported that it is unhealthy or draining.
    pub(crate) fn is_healthy(&self) -> bool {
        self.reported_health() <= 2
    }

    /// The number of the last [`HealthState`] that the agent reported.
    pub(crate) fn reported_health(&self) -> i64 {
        self.health.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.counts.errors.load(Ordering::Relaxed)
    }

    /// Ends the connection. Every pending call fails.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Pairs with the fence in `SlotTable::open`: a call that does not see `closed` is in the table
        // before its calls are failed.
        fence(Ordering::SeqCst);
        self.inbound.wake();
        self.outbox.stop_writer();
        self.slots.room().made_room();
    }

    /// Notes that the answer to an exchange's last event may still come although nobody waits for it.
    /// Where answers are matched by stream, it could not be taken for another.
    fn note_unanswered(&self, key: u64) {
        if !self.dialect.has_streams() {
            self.unanswered.insert_over_oldest(key);
        }
    }

    /// Sends what is in the outbox, from the caller's own task if nobody else is sending.
    fn send_now(&self) {
        match self.outbox.drain(&*self.sender) {
            Ok(Drained::Empty) => {}
            Ok(Drained::NoRoom | Drained::Busy) => self.outbox.request_writer(),
            Err(error) => self.lose(&error),
        }
    }

    /// Ends the connection because its link failed.
    fn lose(&self, cause: &dyn std::fmt::Display) {
        if self.is_open() {
            self.fault(Fault::ConnectionLost, cause);
        }
        self.close();
    }

    fn fault(&self, fault: Fault, detail: &dyn std::fmt::Display) {
        self.agent.counters.fault(&self.agent.id, fault, detail);
    }

    fn pings(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A point in time in the unit of the slots' deadlines: milliseconds since the connection began.
    fn ticks(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn closed_error(&self) -> AgentProtocolError {
        AgentProtocolError::ConnectionClosed {
            agent_id: Arc::clone(&self.agent.id),
        }
    }

    fn timeout_error(&self, after: Duration) -> AgentProtocolError {
        AgentProtocolError::Timeout {
            agent_id: Arc::clone(&self.agent.id),
            after,
        }
    }

    fn frame_error(&self, error: FrameError) -> AgentProtocolError {
        let (size, max) = match error {
            FrameError::Empty => (0, 0),
            FrameError::TooLarge { length, limit } => (length, limit),
        };
        AgentProtocolError::MessageTooLarge {
            agent_id: Arc::clone(&self.agent.id),
            size,
            max,
        }
    }
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
