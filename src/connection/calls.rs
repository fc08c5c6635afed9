//! The pending calls of a connection.

use super::admission_queues::AdmissionQueues;
use super::expiring_keys::ExpiringKeySet;
use super::slots::{Completer, Matching, SlotTable};
use super::sync::AtomicWaker;
use super::wait_queue::WaitQueue;
use super::{Correlation, Lifecycle, SlotValue};
use crossbeam_queue::SegQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;
use tokio::sync::oneshot;

/// Calls waiting for an answer on one connection, and those waiting for a slot of it.
pub(crate) struct Calls {
    pub(crate) slots: Arc<SlotTable<SlotValue>>,
    /// Exchanges whose answer may still arrive although no call waits for it any more.
    ///
    /// Where answers are matched by correlation id, the next call of such an exchange could receive
    /// that answer. So no call is opened for it until the answer has arrived or the entry has
    /// expired. With stream ids the set stays empty.
    pub(super) expected_late_answers: ExpiringKeySet,
    /// Calls waiting for this very connection, because their exchange is bound to it. Calls that
    /// may use any connection wait in the queues of the agent.
    pub(crate) queues: AdmissionQueues,
    /// Set while [`Inbound`](super::Inbound) checks deadlines periodically. It stops while no call
    /// is pending, so that an idle connection needs no timer; the next call starts it again.
    is_sweeping: AtomicBool,
    /// Cancellations for [`Inbound`](super::Inbound), which alone may complete calls.
    pub(super) commands: SegQueue<Command>,
    /// Wakes [`Inbound`](super::Inbound) for commands, for sweeping and for the end of the
    /// connection.
    pub(super) inbound_waker: AtomicWaker,
}

/// A cancellation for [`Inbound`](super::Inbound).
#[derive(Debug)]
pub(super) enum Command {
    /// Cancels the pending calls of the exchange with this correlation id.
    Cancel(String),
    /// Cancels every pending call and sends back their correlation ids.
    CancelAll(oneshot::Sender<Vec<String>>),
}

/// Maximum number of entries in `expected_late_answers`; the oldest are evicted first.
const MAX_LATE_ANSWERS: usize = 10_000;

/// Time after which an entry in `expected_late_answers` expires.
const LATE_ANSWER_LIFETIME: Duration = Duration::from_secs(5 * 60);

impl Calls {
    /// Creates an empty table, whose free slots are announced to `slot_queues` as well as to the
    /// calls that wait for this connection.
    pub(super) fn new(
        capacity: usize,
        matching: Matching,
        [any, idle]: [Arc<WaitQueue>; 2],
    ) -> (Self, Completer<SlotValue>) {
        let queues = AdmissionQueues::default();
        let slot_queues = [Arc::clone(&queues.free_slot), any, idle];
        let (slots, completer) = SlotTable::new(capacity, matching, slot_queues);
        let calls = Self {
            slots,
            expected_late_answers: ExpiringKeySet::new(MAX_LATE_ANSWERS, LATE_ANSWER_LIFETIME),
            queues,
            is_sweeping: AtomicBool::new(false),
            commands: SegQueue::new(),
            inbound_waker: AtomicWaker::new(),
        };
        (calls, completer)
    }

    /// Returns whether a call can take a slot now, without overtaking a waiting call.
    pub(crate) fn has_free_slot(&self) -> bool {
        !self.slots.is_full() && self.queues.free_slot.waiting() == 0
    }

    /// Returns whether a call of this exchange can be opened: no earlier answer to the exchange is
    /// missing that could be taken for the new one.
    pub(crate) fn is_free_for(&self, correlation: Correlation<'_>) -> bool {
        !self.expected_late_answers.contains(correlation.key)
            && self.slots.accepts_key(correlation.key)
    }

    /// Records that an answer to this exchange may still arrive although no call waits for it.
    ///
    /// Not needed where answers are matched by stream id: a late one cannot be taken for another.
    pub(super) fn expect_late_answer(&self, key: u64) {
        if self.slots.matching == Matching::ById {
            self.expected_late_answers.insert_over_oldest(key);
        }
    }

    /// Adds a command for the receive task, if that still runs.
    pub(super) fn command(&self, command: Command, lifecycle: &Lifecycle) {
        self.commands.push(command);
        self.inbound_waker.wake();
        // Pairs with the fence in `Lifecycle::close`. Either this sees that the connection is
        // closed and drops the command here, or the receive task, which drops the rest when it
        // ends, finds it. A caller that waits for a dropped command is woken by the drop of its
        // channel.
        fence(Ordering::SeqCst);
        if !lifecycle.is_open() {
            self.drop_commands();
        }
    }

    pub(super) fn drop_commands(&self) {
        while self.commands.pop().is_some() {}
    }

    pub(super) fn is_sweeping(&self) -> bool {
        self.is_sweeping.load(Ordering::Acquire)
    }

    /// Makes [`Inbound`](super::Inbound) check deadlines, unless it already does.
    pub(super) fn start_sweeping(&self) {
        if !self.is_sweeping.load(Ordering::Relaxed)
            && !self.is_sweeping.swap(true, Ordering::AcqRel)
        {
            self.inbound_waker.wake();
        }
    }

    /// Returns whether to go on checking deadlines. Stops it while no call is pending; the next
    /// call starts it again.
    pub(super) fn keeps_sweeping(&self) -> bool {
        if self.slots.pending() > 0 {
            return true;
        }
        self.is_sweeping.store(false, Ordering::Release);
        // Pairs with the fence in `SlotTable::open`. A caller opens its slot first and reads
        // `is_sweeping` afterwards. If it still reads `true` here, and so does not wake this task,
        // its slot is seen by the count below.
        fence(Ordering::SeqCst);
        self.slots.pending() > 0 && !self.is_sweeping.swap(true, Ordering::AcqRel)
    }
}
