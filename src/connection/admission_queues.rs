//! Waiting for admission: for a free slot or for the end of a pause.

use super::wait_queue::WaitQueue;
use std::sync::Arc;
use tokio::sync::Notify;

/// Calls that an agent, or one of its connections, cannot take yet.
///
/// Calls wait in order for a slot, or for the end of a pause of a whole connection, in a
/// [`WaitQueue`] each. Only the head of a queue is woken. When it succeeds, or finds something else
/// to wait for, the next one is woken. So neither a freed slot nor a resumption makes all waiting
/// calls compete at once, and no call overtakes another of its queue.
#[derive(Debug, Default)]
pub(crate) struct AdmissionQueues {
    /// Calls waiting for a free slot.
    ///
    /// Shared with the slot tables, which notify it of every slot that becomes free.
    pub(crate) free_slot: Arc<WaitQueue>,
    /// Calls waiting for the end of a pause of a whole connection.
    ///
    /// Not one queue with `free_slot`: its head could wait for the end of a pause while calls
    /// behind it could use a free slot, or the other way round. All waiters of a [`WaitQueue`] have
    /// to wait for the same thing.
    pub(crate) resumed: WaitQueue,
    /// Calls waiting for the end of a pause of their own exchange.
    ///
    /// Not a queue, because each waits for a different exchange. At the head of a queue, one whose
    /// exchange stays paused would block all others. So every resumption wakes all of them, and
    /// each checks its own exchange.
    pub(crate) exchange_resumed: Notify,
}

impl AdmissionQueues {
    /// Lets all waiting calls try again.
    pub(crate) fn wake(&self) {
        self.free_slot.notify_one();
        self.resumed.notify_one();
        self.exchange_resumed.notify_waiters();
    }
}
