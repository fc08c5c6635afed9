//! What benchmarks reach of a connection: the same code that a call runs, one part at a time.

use super::link::{Batch, Link, LinkReceiver, LinkSender};
use super::outbox::{Drained, Outbox};
use super::slots::{Completer, Matching, SlotTable, Ticket};
use super::{AgentRecord, Audience, CircuitBreakerSettings, Connection, ConnectionConfig, Inbound};
use super::{Lines, Origin, Reply, Sampling, Terms, adopt};
use crate::protocol::{AgentCapabilities, AgentResponse, FlowControl, FlowControlAction};
use crate::wire::{Dialect, Encoding, FrameBuffer, MAX_FRAME_LEN, OutgoingFrame};
use bytes::BytesMut;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};

/// The slots of pending calls, without the connection around them. Its memory is never given back.
pub struct PendingCalls {
    table: &'static SlotTable<Reply>,
    completer: Completer<Reply>,
    matching: Matching,
    others: Vec<Ticket<&'static SlotTable<Reply>, Reply>>,
}

impl PendingCalls {
    /// Slots whose answers are matched by correlation id, as towards the published crate.
    pub fn matched_by_id(capacity: usize) -> Self {
        Self::new(capacity, Matching::ById)
    }

    /// Slots whose answers are matched by stream id, as between two tollgates.
    pub fn matched_by_stream(capacity: usize) -> Self {
        Self::new(capacity, Matching::ByStream)
    }

    fn new(capacity: usize, matching: Matching) -> Self {
        let rooms = [Lines::default().room, Lines::default().room];
        let (table, completer) = SlotTable::new(capacity, matching, rooms);
        Self {
            table: Box::leak(Box::new(table)),
            completer,
            matching,
            others: Vec::new(),
        }
    }

    /// Takes slots for so many other calls, which stay pending.
    pub fn hold(&mut self, others: u64) {
        for key in 1..=others {
            let ticket = SlotTable::open(self.table, "another call", key, u64::MAX);
            self.others.extend(ticket.ok());
        }
    }

    /// Takes a slot, has it completed with an `allow` and takes that out. Says whether it came. `key` is a hash
    /// of `id`.
    pub fn take_and_complete(&mut self, id: &str, key: u64) -> bool {
        let Ok(mut ticket) = SlotTable::open(self.table, id, key, u64::MAX) else {
            return false;
        };
        let cx = Context::from_waker(Waker::noop());
        let waits = ticket.poll_filled(&cx).is_pending();
        let answer = Ok(AgentResponse::default_allow());
        let completed = match self.matching {
            Matching::ById => self.completer.complete(id, key, answer),
            Matching::ByStream => self.completer.complete_stream(ticket.stream(), answer),
        };
        waits && completed.is_ok() && ticket.abandon().is_some()
    }
}

impl fmt::Debug for PendingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

/// The ring of frames that wait to be sent, drained into a link that takes everything.
#[derive(Debug)]
pub struct Ring(Outbox);

impl Ring {
    /// A ring for so many frames.
    pub fn new(capacity: usize) -> Self {
        Self(Outbox::new(capacity))
    }

    /// Pushes a frame with this payload, in a buffer of the ring. Says whether there was room.
    pub fn push(&self, payload: &[u8]) -> bool {
        let mut frame = self.0.buffer(payload.len());
        frame.extend_from_slice(payload);
        self.0.try_push(OutgoingFrame::from(frame)).is_ok()
    }

    /// Sends everything. Says whether that went.
    pub fn drain(&self) -> bool {
        self.0
            .drain(&Swallower)
            .is_ok_and(|drained| drained == Drained::Empty)
    }
}

/// A link that takes everything and sends it nowhere.
struct Swallower;

impl LinkSender for Swallower {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()> {
        take_all(batch, recycle, |_| {});
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}
}

/// One direction of a link in memory. Both ends are polled by hand, so nobody is woken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Arc<Mutex<BytesMut>>);

impl LinkSender for Pipe {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        take_all(batch, recycle, |piece| bytes.extend_from_slice(piece));
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}
}

impl LinkReceiver for Pipe {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.is_empty() {
            return Poll::Pending;
        }
        into.extend_from_slice(&bytes);
        let received = bytes.len();
        bytes.clear();
        Poll::Ready(Ok(received))
    }
}

fn take_all(batch: &mut Batch, recycle: &dyn Fn(Vec<u8>), mut take: impl FnMut(&[u8])) {
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = batch.fill(&mut slices);
        let pieces = &slices[..filled];
        pieces.iter().for_each(|piece| take(piece));
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        batch.advance(bytes, recycle);
    }
}

/// The agent's end of a connection in memory.
pub(crate) struct AgentEnd {
    pub(crate) sender: Pipe,
    pub(crate) receiver: Pipe,
}

/// A connection as it is after its handshake.
pub(crate) fn connect_in_memory(
    agent: &Arc<AgentRecord>,
    dialect: Dialect,
    config: &ConnectionConfig,
) -> (Arc<Connection>, Inbound, AgentEnd) {
    let (events, answers) = (Pipe::default(), Pipe::default());
    let terms = Terms {
        capabilities: AgentCapabilities::new("bench", "Benchmark", "1.0.0"),
        dialect,
        origin: Origin::Forward,
    };
    let (sender, receiver) = (Box::new(events.clone()), Box::new(answers.clone()));
    let buffer = FrameBuffer::default();
    let (connection, inbound) = adopt(
        Arc::clone(agent),
        Link {
            sender,
            receiver,
            max_frame: MAX_FRAME_LEN,
        },
        buffer,
        terms,
        config,
    );
    let agent_end = AgentEnd {
        sender: answers,
        receiver: events,
    };
    (connection, inbound, agent_end)
}

/// A connection that nothing goes over, and what a call looks at before it takes it.
#[derive(Debug)]
pub struct IdleConnection(Arc<Connection>);

impl Default for IdleConnection {
    fn default() -> Self {
        let breaker = CircuitBreakerSettings {
            threshold: 5,
            reset_timeout: Duration::from_secs(30),
        };
        let (notices, _) = broadcast::channel(1);
        let audience = Audience {
            notices,
            reported: Arc::default(),
            updates: Arc::default(),
        };
        let upkeep = Arc::new(Notify::new());
        let agent = Arc::new(AgentRecord::new(
            "bench".to_owned(),
            breaker,
            audience,
            100,
            upkeep,
        ));
        let config = ConnectionConfig {
            max_concurrent: 100,
            outbox_capacity: 64,
            max_errors: 3,
            sampling: Sampling::one_in(64),
        };
        let dialect = Dialect::published(Encoding::MessagePack);
        let (connection, inbound, _) = connect_in_memory(&agent, dialect, &config);
        // Its end would be the connection's.
        std::mem::forget(inbound);
        Self(connection)
    }
}

impl IdleConnection {
    /// Has the agent pause one exchange.
    pub fn pause(&self, correlation_id: &str) {
        let message = FlowControl {
            correlation_id: Some(correlation_id.to_owned()),
            action: FlowControlAction::Pause,
            timestamp_ms: 0,
        };
        self.0.flow.apply(&message, &self.0.agent.keys);
    }

    /// Whether flow control lets an event of an exchange through.
    pub fn check_flow(&self, correlation_id: &str) -> bool {
        let correlation = self.0.correlation(correlation_id);
        self.0.check_flow(correlation).is_ok()
    }

    /// Whether it takes new exchanges.
    pub fn is_healthy(&self) -> bool {
        self.0.is_healthy()
    }

    /// Notes when a call was made.
    pub fn touch(&self, now: Instant) {
        let ticks = self.0.ticks(now);
        self.0.last_used.store(ticks, Ordering::Relaxed);
    }
}
