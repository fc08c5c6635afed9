//! Parts of a connection for benchmarks: the code that a call runs, one step at a time.

use super::link::{Batch, Link, LinkError, LinkReceiver, LinkSender};
use super::send_queue::{Drained, SendQueue};
use super::slots::{Completer, Matching, SlotTable, Ticket};
use super::{AdmissionQueues, NegotiatedParams, Origin, SlotValue, connection_over_link};
use super::{
    Connection, ConnectionConfig, ExchangeGuard, Inbound, LinkKind, SharedMemoryRefusal,
    SharedState,
};
use crate::protocol::{
    AgentCapabilities, AgentResponse, FlowControl, FlowControlAction, HealthState,
};
use crate::wire::{Dialect, FrameBuffer, MAX_FRAME_LEN, OutgoingFrame};
use bytes::BytesMut;
use std::fmt;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The slot table of a connection, without the connection. Its memory is leaked.
pub struct PendingCalls {
    table: &'static SlotTable<SlotValue>,
    completer: Completer<SlotValue>,
    matching: Matching,
    others: Vec<Ticket<&'static SlotTable<SlotValue>, SlotValue>>,
}

impl PendingCalls {
    /// Creates a table that matches answers by correlation id, as for peers that use
    /// `zentinel-agent-protocol`.
    pub fn matched_by_id(capacity: usize) -> Self {
        Self::new(capacity, Matching::ById)
    }

    /// Creates a table that matches answers by stream id, as between two peers that use this crate.
    pub fn matched_by_stream(capacity: usize) -> Self {
        Self::new(capacity, Matching::ByStream)
    }

    fn new(capacity: usize, matching: Matching) -> Self {
        let queues = [
            AdmissionQueues::default().free_slot,
            AdmissionQueues::default().free_slot,
        ];
        let (table, completer) = SlotTable::new(capacity, matching, queues);
        Self {
            table: Box::leak(Box::new(table)),
            completer,
            matching,
            others: Vec::new(),
        }
    }

    /// Opens slots for a number of other calls, which stay pending.
    pub fn hold(&mut self, others: u64) {
        for key in 1..=others {
            let ticket = SlotTable::open(self.table, "another call", key, u64::MAX);
            self.others.extend(ticket.ok());
        }
    }

    /// Opens a slot, completes it with an `allow` and takes that out. Returns whether all of that
    /// succeeded. `key` is a hash of `id`.
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

/// A send queue, drained into a link that accepts and discards everything.
#[derive(Debug)]
pub struct Ring(SendQueue);

impl Ring {
    /// Creates a ring for `capacity` frames.
    pub fn new(capacity: usize) -> Self {
        Self(SendQueue::new(capacity))
    }

    /// Pushes a frame with this payload, in a buffer of the ring. Returns whether there was room.
    pub fn push(&self, payload: &[u8]) -> bool {
        let mut frame = self.0.buffer(payload.len());
        frame.extend_from_slice(payload);
        self.0.try_push(OutgoingFrame::from(frame)).is_ok()
    }

    /// Sends all frames. Returns whether that succeeded.
    pub fn drain(&self) -> bool {
        self.0
            .drain(&DiscardingLink)
            .is_ok_and(|drained| drained == Drained::Empty)
    }
}

/// A link that accepts and discards everything.
struct DiscardingLink;

impl LinkSender for DiscardingLink {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        take_all(batch, recycle, |_| {});
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}
}

/// One direction of a link in memory. The benchmark polls both ends itself, so no task is woken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Arc<Mutex<BytesMut>>);

impl LinkSender for Pipe {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        take_all(batch, recycle, |piece| bytes.extend_from_slice(piece));
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}
}

impl LinkReceiver for Pipe {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<Result<usize, LinkError>> {
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

/// Creates a connection in the state after its handshake, and the agent's end of it.
pub(crate) fn connect_in_memory(
    agent: &Arc<SharedState>,
    dialect: Dialect,
    config: &ConnectionConfig,
) -> (Arc<Connection>, Inbound, AgentEnd) {
    let (events, answers) = (Pipe::default(), Pipe::default());
    let negotiated = NegotiatedParams {
        capabilities: AgentCapabilities::new("bench", "Benchmark", "1.0.0"),
        dialect,
        origin: Origin::Forward,
        link_kind: LinkKind::Transport(SharedMemoryRefusal::NotSupported),
    };
    let (sender, receiver) = (Box::new(events.clone()), Box::new(answers.clone()));
    let buffer = FrameBuffer::default();
    let (connection, inbound) = connection_over_link(
        Arc::clone(agent),
        Link {
            sender,
            receiver,
            max_frame: MAX_FRAME_LEN,
        },
        buffer,
        negotiated,
        config,
    );
    let agent_end = AgentEnd {
        sender: answers,
        receiver: events,
    };
    (connection, inbound, agent_end)
}

/// An idle connection, and the checks that a call makes before it uses one.
#[derive(Debug)]
pub struct IdleConnection(pub(crate) Arc<Connection>);

impl IdleConnection {
    /// Pauses one exchange, as on a message of the agent.
    pub fn pause(&self, correlation_id: &str) {
        let message = FlowControl {
            correlation_id: Some(correlation_id.to_owned()),
            action: FlowControlAction::Pause,
            timestamp_ms: 0,
        };
        self.0.flow.apply(&message, &self.0.agent.keys);
    }

    /// Returns whether flow control lets an event of an exchange pass.
    pub fn check_flow(&self, correlation_id: &str) -> bool {
        let correlation = self.0.agent.correlation(correlation_id);
        self.0.flow.check(correlation.key).is_ok()
    }

    /// Returns whether the connection takes new exchanges.
    pub fn is_healthy(&self) -> bool {
        self.0.is_healthy()
    }

    /// Returns whether the connection is open.
    pub fn is_open(&self) -> bool {
        self.0.lifecycle.is_open()
    }

    /// Closes the connection.
    pub fn close(&self) {
        self.0.close();
    }

    /// Takes the connection out of use.
    pub fn retire(&self) {
        self.0.lifecycle.retire();
    }

    /// Reports that the agent is degraded, as on a message of it.
    pub fn degrade(&self) {
        let state = HealthState::Degraded {
            disabled_features: Vec::new(),
            timeout_multiplier: 1.0,
        };
        self.0.health.report(&state, None);
    }

    /// Returns the number of pins to the connection.
    pub fn pins(&self) -> usize {
        self.0.lifecycle.pins()
    }

    /// Binds an exchange to the connection, which must be open.
    pub fn bind(&self) -> BoundExchange {
        BoundExchange(ExchangeGuard::of(&self.0).expect("an open connection"))
    }

    /// Records the time of a call.
    pub fn touch(&self, now: Instant) {
        let timeline = &self.0.timeline;
        timeline.note_call(timeline.nanoseconds(now));
    }
}

/// An exchange that is bound to a connection until this is dropped.
pub struct BoundExchange(#[allow(dead_code, reason = "held for its drop")] ExchangeGuard);

impl fmt::Debug for BoundExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundExchange").finish_non_exhaustive()
    }
}
