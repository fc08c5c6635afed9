//! One multiplexed connection: many calls at once over one link.
//!
//! A call opens a slot, encodes its event, puts the frame into the outbox and waits for its slot to be
//! filled. [`Inbound`] reads answers and fills slots; [`run_writer`] sends what callers do not send
//! themselves. Both end with the connection, and every pending call with them.

mod admission;
#[cfg(feature = "__bench")]
pub(crate) mod bench;
mod breaker;
mod call;
mod clock;
mod condition;
mod control;
mod flow;
mod hold;
mod home;
mod inbound;
mod keys;
mod lines;
pub(crate) mod link;
mod logs;
mod lost;
mod occupancy;
mod opening;
mod outbound;
mod outbox;
mod record;
mod refusal;
mod slots;
mod sync;
mod time_limit;
mod turnstile;
mod updates;

pub(crate) use admission::Binding;
pub(crate) use breaker::CircuitBreakerSettings;
pub use breaker::CircuitBreakerState;
pub(crate) use call::PendingCall;
pub(crate) use clock::{Sampling, Stopwatch};
pub(crate) use condition::Condition;
pub(crate) use hold::{Hold, ProbeGuard};
pub(crate) use home::Home;
pub(crate) use inbound::Inbound;
pub(crate) use lines::{Lines, Patience};
pub(crate) use opening::{Offer, Origin, Terms, adopt, open, receive_handshake, send_message};
pub(crate) use outbound::run_writer;
pub(crate) use record::{AgentRecord, Audience, Correlation};
pub(crate) use refusal::Refusal;
pub(crate) use time_limit::TimeLimit;

use crate::error::AgentProtocolError;
use crate::metrics::Fault;
use crate::protocol::{AgentCapabilities, AgentResponse};
use crate::wire::{DecodeError, Dialect, FrameError};
use crossbeam_queue::SegQueue;
use flow::FlowState;
use keys::KeySet;
use link::LinkSender;
use outbox::{Drained, Outbox};
use slots::{Completer, Matching, SlotTable};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sync::AtomicWaker;
use tokio::sync::oneshot;

/// How a connection is set up.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionConfig {
    /// Calls that may be pending at once.
    pub(crate) max_concurrent: usize,
    /// Frames that may wait to be sent.
    pub(crate) outbox_capacity: usize,
    /// Failed calls in a row from which on the connection takes no new exchange.
    pub(crate) max_errors: u32,
    /// Which calls are timed.
    pub(crate) sampling: Sampling,
}

/// One connection to an agent. Its link is served by [`Inbound`] and [`run_writer`].
pub(crate) struct Connection {
    agent: Arc<AgentRecord>,
    capabilities: AgentCapabilities,
    dialect: Dialect,
    origin: Origin,
    /// Where its tasks run; `None` if it was made outside of a runtime.
    home: Option<Home>,
    sender: Box<dyn LinkSender>,
    outbox: Outbox,
    slots: Arc<SlotTable<Reply>>,
    /// Exchanges with an event whose answer may still come although nobody waits for it. Their id names
    /// that answer too, so it is not used for another call until the answer came or is forgotten.
    unanswered: KeySet,
    flow: FlowState,
    condition: Condition,
    sampling: Sampling,
    /// Where calls wait that are bound to this connection.
    lines: Lines,
    /// Exchanges that are bound to this connection: see [`Hold`].
    holders: AtomicUsize,
    /// Whether only what is bound to this connection may use it.
    retired: AtomicBool,
    closed: AtomicBool,
    /// Zero point of the deadlines in `slots`.
    epoch: Instant,
    /// Whether [`Inbound`] looks for passed deadlines.
    sweeping: AtomicBool,
    commands: SegQueue<Command>,
    inbound: AtomicWaker,
    pings: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    ping_sequence: AtomicU64,
    /// Whether the pool is waiting for a sign of life.
    probing: AtomicBool,
    /// When the last call was made, in the unit of the deadlines.
    last_used: AtomicU64,
    /// When something was received last, in the unit of the deadlines.
    last_received: AtomicU64,
    /// Which settings the agent was given on this connection, or is being given; 0 for none.
    settings: AtomicU64,
    /// Whether the agent is being told something before it may be asked.
    is_held_back: AtomicBool,
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

/// See [`Connection::ticks`].
const NANOSECONDS_PER_TICK: u64 = 1_000_000;

/// Most exchanges with a missing answer; the oldest are forgotten first.
const MAX_UNANSWERED: usize = 10_000;

/// How long a missing answer is awaited.
const UNANSWERED_LIFETIME: Duration = Duration::from_secs(5 * 60);

impl Connection {
    fn new(
        agent: Arc<AgentRecord>,
        terms: Terms,
        sender: Box<dyn LinkSender>,
        config: &ConnectionConfig,
    ) -> (Arc<Self>, Completer<Reply>) {
        let Terms {
            capabilities,
            dialect,
            origin,
        } = terms;
        let matching = if dialect.has_streams() {
            Matching::ByStream
        } else {
            Matching::ById
        };
        let lines = Lines::default();
        let rooms = [Arc::clone(&lines.room), Arc::clone(&agent.lines.room)];
        let capacity = max_concurrent(config.max_concurrent, &capabilities);
        let (slots, completer) = SlotTable::new(capacity, matching, rooms);
        let connection = Self {
            agent,
            capabilities,
            dialect,
            origin,
            home: Home::current(),
            sender,
            outbox: Outbox::new(config.outbox_capacity),
            slots,
            unanswered: KeySet::new(MAX_UNANSWERED, UNANSWERED_LIFETIME),
            flow: FlowState::new(),
            condition: Condition::new(config.max_errors),
            sampling: config.sampling,
            lines,
            holders: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            epoch: Instant::now(),
            sweeping: AtomicBool::new(false),
            commands: SegQueue::new(),
            inbound: AtomicWaker::new(),
            pings: Mutex::default(),
            ping_sequence: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            last_used: AtomicU64::new(0),
            last_received: AtomicU64::new(0),
            settings: AtomicU64::new(0),
            is_held_back: AtomicBool::new(false),
        };
        (Arc::new(connection), completer)
    }

    pub(crate) fn capabilities(&self) -> &AgentCapabilities {
        &self.capabilities
    }

    /// Which settings the agent was given on this connection, or is being given; 0 for none.
    pub(crate) fn settings(&self) -> &AtomicU64 {
        &self.settings
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Which side has connected to the other.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Where its tasks run.
    pub(crate) fn home(&self) -> Option<Home> {
        self.home
    }

    /// An exchange over this connection.
    pub(crate) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        self.agent.correlation(id)
    }

    /// What it shares with the agent's other connections.
    pub(crate) fn agent(&self) -> &Arc<AgentRecord> {
        &self.agent
    }

    /// What became of the agent, as far as this connection knows.
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Where calls wait that are bound to this connection.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Calls that wait for an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.pending()
    }

    /// Whether a call can be made without waiting for a slot or overtaking one that waits.
    pub(crate) fn has_room(&self) -> bool {
        !self.slots.is_full() && self.lines.room.waiting() == 0
    }

    /// Whether calls had better go together than over several connections; see [`LinkSender::is_costly`].
    pub(crate) fn is_costly(&self) -> bool {
        self.sender.is_costly()
    }

    /// Whether calls that were made just now are about to be sent together, and one more would cost nothing to go with
    /// them. Where hardly any are in flight, one that is alone on another connection is answered sooner.
    pub(crate) fn gathers(&self) -> bool {
        self.outbox.gathers() && self.slots.has_several()
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Whether the connection takes new exchanges.
    pub(crate) fn is_healthy(&self) -> bool {
        self.is_open()
            && self.condition.is_good()
            && !self.is_retired()
            && !self.is_held_back.load(Ordering::Relaxed)
    }

    /// Takes no new exchanges until it is let go.
    pub(crate) fn hold_back(&self) {
        self.is_held_back.store(true, Ordering::Relaxed);
    }

    pub(crate) fn let_go(&self) {
        if self.is_held_back.swap(false, Ordering::Relaxed) {
            self.agent.lines.wake();
        }
    }

    /// Whether an answer to an event of this exchange could be told from others.
    pub(crate) fn is_free_for(&self, correlation: Correlation<'_>) -> bool {
        !self.unanswered.contains(correlation.key) && self.slots.admits(correlation.key)
    }

    /// Whether the agent asked that nothing be sent.
    pub(crate) fn is_paused(&self) -> bool {
        self.flow.is_paused()
    }

    /// How full the ring of frames that wait to be sent is, 0.0 to 1.0.
    pub(crate) fn ring_utilization(&self) -> f64 {
        self.outbox.utilization()
    }

    /// Whether the agent's flow control lets an event of this exchange through.
    pub(crate) fn check_flow(&self, correlation: Correlation<'_>) -> Result<(), Refusal> {
        self.flow.check(correlation.key)
    }

    /// Whether an event of this exchange waits for its answer.
    pub(crate) fn is_busy_with(&self, correlation_id: &str) -> bool {
        self.slots.contains(self.agent.keys.key(correlation_id))
    }

    /// How long ago the last call was made; the age of the connection if there was none.
    pub(crate) fn idle_time(&self) -> Duration {
        self.since(&self.last_used)
    }

    /// How long nothing was received.
    pub(crate) fn silence(&self) -> Duration {
        self.since(&self.last_received)
    }

    /// How long ago the handshake was.
    pub(crate) fn age(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Ends the connection because the agent gives no sign of life.
    pub(crate) fn lose_silent(&self) {
        self.lose(&"no sign of life");
    }

    /// Whether the agent has sent anything since the handshake.
    pub(crate) fn has_received(&self) -> bool {
        self.last_received.load(Ordering::Relaxed) != 0
    }

    fn since(&self, ticks: &AtomicU64) -> Duration {
        let at = Duration::from_millis(ticks.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(at)
    }

    /// Ends the connection. Every pending call fails.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Pairs with the fence in `SlotTable::open`: a call that does not see `closed` is in the table
        // before its calls are failed.
        fence(Ordering::SeqCst);
        self.inbound.wake();
        self.outbox.stop_writer();
        self.lines.wake();
        self.agent.lines.wake();
        self.agent.request_upkeep();
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
        self.nanoseconds(at) / NANOSECONDS_PER_TICK
    }

    /// A point in time in the unit of [`Ticket::received`](slots::Ticket::received): nanoseconds since the
    /// connection began, 0 before that.
    fn nanoseconds(&self, at: Instant) -> u64 {
        time_limit::nanoseconds(at.saturating_duration_since(self.epoch))
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
            #[cfg(feature = "grpc")]
            FrameError::Compressed => (0, 0),
            FrameError::TooLarge { length, limit } => (length, limit),
        };
        AgentProtocolError::MessageTooLarge {
            agent_id: Arc::clone(&self.agent.id),
            size,
            max,
        }
    }
}

/// What the pool allows, unless the agent takes less. An agent that says 0 says nothing.
fn max_concurrent(allowed: usize, capabilities: &AgentCapabilities) -> usize {
    let taken = match capabilities.limits.max_concurrency {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    allowed.min(taken).max(1)
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
