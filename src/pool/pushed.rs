use super::ask::Outcome;
use crate::connection::PendingCall;
use crossbeam_queue::ArrayQueue;
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, ready};

/// An event that was pushed, until its answer is taken.
#[allow(
    clippy::large_enum_variant,
    reason = "an answer takes the place of its call without an allocation"
)]
pub(super) enum Pushed {
    Pending(PendingCall),
    Answered(Outcome),
}

/// The pushed events of one exchange, the oldest first.
pub(super) type PushedQueue = VecDeque<Pushed>;

/// Queues that are handed from exchange to exchange with their memory.
pub(super) struct SpareQueues(ArrayQueue<PushedQueue>);

/// So many exchanges stream bodies at once without an allocation, if others did so before.
const MAX_KEPT: usize = 64;

/// A queue that grew longer is not kept.
const MAX_KEPT_LEN: usize = 16;

impl Pushed {
    /// Ready once the answer is there.
    pub(super) fn settle(&mut self, cx: &Context<'_>) -> Poll<()> {
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

    /// Takes a queue back, and gives up the calls in it.
    pub(super) fn give_back(&self, mut queue: PushedQueue) {
        queue.clear();
        if (1..=MAX_KEPT_LEN).contains(&queue.capacity()) {
            // Where enough are kept, this one is not.
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
