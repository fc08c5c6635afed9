//! The state of connections and wait queues, for simulations.

use super::{Connection, Origin};
use crate::clock::simulated::is_active;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// State of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionView {
    /// Name of the agent.
    pub agent: String,
    /// Position among the connections of the simulation.
    pub number: usize,
    /// `true` if the agent opened it.
    pub is_reverse: bool,
    /// `true` until it is closed.
    pub is_open: bool,
    /// `true` once it takes no new exchanges.
    pub is_retired: bool,
    /// Time at which it was first seen to be retired, since the start of the simulation.
    pub retired_at: Option<Duration>,
    /// `true` if it takes new exchanges.
    pub is_healthy: bool,
    /// `true` while the agent has paused it.
    pub is_paused: bool,
    /// Calls waiting for an answer.
    pub in_flight: usize,
    /// Calls that were opened so far.
    pub opened: u64,
    /// Maximum number of calls waiting for an answer.
    pub capacity: usize,
    /// Exchanges bound to it.
    pub exchanges: usize,
    /// Correlation ids pinned to it.
    pub pins: usize,
    /// Calls waiting for a slot of this connection.
    pub waiting_for_slot: usize,
    /// Calls waiting for the end of a pause.
    pub waiting_for_resume: usize,
    /// Correlation ids with a missing answer.
    pub expected_late_answers: usize,
    /// Fill level of the send queue.
    pub utilization: f64,
}

#[derive(Default)]
struct Journal {
    connections: Vec<Weak<Connection>>,
    /// Time at which connections were first seen to be retired, by number.
    retired: HashMap<usize, Duration>,
    /// The number of the waiter that had the last turn in each queue.
    turns: HashMap<usize, u64>,
    /// Waiters that had a turn after a later one.
    overtaken: Vec<String>,
}

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::default();
}

/// Forgets what was noted on this thread.
pub fn reset() {
    JOURNAL.take();
}

/// Returns the state of all connections that still exist in memory.
pub fn connections() -> Vec<ConnectionView> {
    let existing: Vec<_> = JOURNAL.with_borrow(|journal| {
        let all = journal.connections.iter();
        all.filter_map(Weak::upgrade).collect()
    });
    existing
        .iter()
        .map(|connection| connection.view())
        .collect()
}

/// Takes the descriptions of waiters that had their turn out of order.
pub fn take_overtaken() -> Vec<String> {
    JOURNAL.with_borrow_mut(|journal| std::mem::take(&mut journal.overtaken))
}

pub(super) fn note_connection(connection: &Arc<Connection>) {
    if is_active() {
        let connection = Arc::downgrade(connection);
        JOURNAL.with_borrow_mut(|journal| journal.connections.push(connection));
    }
}

/// Notes that a queue is new, as it has given the first number.
pub(super) fn note_joined(queue: usize, number: u64) {
    if is_active() && number == 0 {
        JOURNAL.with_borrow_mut(|journal| journal.turns.remove(&queue));
    }
}

pub(super) fn note_turn(queue: usize, number: u64) {
    if !is_active() {
        return;
    }
    JOURNAL.with_borrow_mut(|journal| {
        let last = journal.turns.insert(queue, number);
        if let Some(last) = last.filter(|last| *last > number) {
            let text = format!("waiter {number} had a turn after waiter {last} of its queue");
            journal.overtaken.push(text);
        }
    });
}

impl Connection {
    /// Returns the present state.
    pub(crate) fn view(&self) -> ConnectionView {
        let number = JOURNAL.with_borrow(|journal| {
            let is_self = |one: &Weak<Self>| std::ptr::eq(one.as_ptr(), self);
            journal.connections.iter().rposition(is_self)
        });
        let number = number.unwrap_or(usize::MAX);
        let retired_at = self.lifecycle.is_retired().then(|| {
            JOURNAL.with_borrow_mut(|journal| {
                let now = crate::clock::simulated::since_start();
                *journal.retired.entry(number).or_insert(now)
            })
        });
        ConnectionView {
            retired_at,
            agent: self.agent.id.to_string(),
            number,
            is_reverse: self.origin == Origin::Reverse,
            is_open: self.lifecycle.is_open(),
            is_retired: self.lifecycle.is_retired(),
            is_healthy: self.is_healthy(),
            is_paused: self.flow.is_paused(),
            in_flight: self.calls.slots.pending(),
            opened: self.calls.slots.opened(),
            capacity: self.calls.slots.capacity(),
            exchanges: self.lifecycle.exchanges(),
            pins: self.lifecycle.pins(),
            waiting_for_slot: self.calls.queues.free_slot.waiting(),
            waiting_for_resume: self.calls.queues.resumed.waiting(),
            expected_late_answers: self.calls.expected_late_answers.len(),
            utilization: self.outbound.queue.utilization(),
        }
    }
}
