//! Events that were pushed and whose answers were not taken yet.

use super::call::Outcome;
use crate::connection::PendingCall;
use crossbeam_queue::ArrayQueue;
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, ready};

/// A pushed event, until its answer is taken.
#[allow(
    clippy::large_enum_variant,
    reason = "an answer takes the place of its call without an allocation"
)]
pub(super) enum Pushed {
    Pending(PendingCall),
    Answered(Outcome),
}

/// Pushed events of one exchange, oldest first.
pub(super) type PushedQueue = VecDeque<Pushed>;

/// Empty queues that exchanges reuse, to save their allocation.
pub(super) struct SpareQueues(ArrayQueue<PushedQueue>);

/// Maximum number of queues that are kept, and so of exchanges that stream bodies at once without
/// an allocation.
const MAX_KEPT: usize = 64;

/// Largest capacity of a queue that is kept.
const MAX_KEPT_LEN: usize = 16;

impl Pushed {
    /// Waits until the answer has arrived, and takes it out of its slot.
    pub(super) fn poll_settled(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Self::Pending(call) = self {
            let answered = ready!(call.poll_answered(cx));
            *self = Self::Answered(answered.and_then(|()| call.take_answer()));
        }
        Poll::Ready(())
    }
}

impl SpareQueues {
    pub(super) fn take(&self) -> PushedQueue {
        self.0.pop().unwrap_or_default()
    }

    /// Gives up the calls in a queue, and keeps the queue for reuse.
    pub(super) fn give_back(&self, mut queue: PushedQueue) {
        queue.clear();
        if (1..=MAX_KEPT_LEN).contains(&queue.capacity()) {
            // Fails if enough are kept already; then the queue is dropped.
            let _ = self.0.push(queue);
        }
    }
}

impl Default for SpareQueues {
    fn default() -> Self {
        Self(ArrayQueue::new(MAX_KEPT))
    }
}

impl fmt::Debug for SpareQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpareQueues").field(&self.0.len()).finish()
    }
}
