//! Waiting for admission: for a free slot or for the end of a pause.

use super::call::PendingCall;
use super::not_opened::NotOpened;
use super::time_limit::TimeLimit;
use super::wait_queue::WaitQueue;
use crate::clock;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout_at;

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
    resumed: WaitQueue,
    /// Calls waiting for the end of a pause of their own exchange.
    ///
    /// Not a queue, because each waits for a different exchange. At the head of a queue, one whose
    /// exchange stays paused would block all others. So every resumption wakes all of them, and
    /// each checks its own exchange.
    exchange_resumed: Notify,
}

/// Limits of waiting for admission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Maximum number of calls waiting for a slot.
    pub(crate) max_queued: usize,
    /// Maximum time that a call waits for a slot.
    pub(crate) queue_timeout: Duration,
    /// Maximum time that a call waits for the end of a pause; zero rejects it at once.
    pub(crate) pause_timeout: Duration,
}

impl AdmissionQueues {
    /// Returns the number of calls waiting for the end of a pause of a whole connection.
    #[cfg(feature = "__sim")]
    pub(crate) fn waiting_for_resume(&self) -> usize {
        self.resumed.waiting()
    }

    /// Lets all waiting calls try again.
    pub(crate) fn wake(&self) {
        self.free_slot.notify_one();
        self.resumed.notify_one();
        self.exchange_resumed.notify_waiters();
    }

    /// Opens a call by `attempt`, and waits while no slot is free or a pause is in effect.
    ///
    /// Each arm below waits until `attempt` is no longer rejected for the reason of that arm. The
    /// attempt may then be rejected for another reason: a freed slot, for example, may belong to a
    /// connection that was paused meanwhile. Its outcome therefore goes round the loop, and the
    /// call moves on to the queue for the new reason. Both deadlines are fixed at the start, so
    /// moving between queues does not prolong the wait.
    pub(crate) async fn open_call(
        &self,
        limits: QueueLimits,
        limit: TimeLimit,
        mut attempt: impl FnMut() -> Result<PendingCall, NotOpened>,
    ) -> Result<PendingCall, NotOpened> {
        let (queue_end, pause_end) = (
            WaitDeadline::new(limit, limits.queue_timeout, NotOpened::QueueTimedOut),
            WaitDeadline::new(limit, limits.pause_timeout, NotOpened::Paused),
        );
        let mut opened = self.try_open_call(&mut attempt);
        loop {
            opened = match opened {
                Err(NotOpened::Full) if self.free_slot.waiting() >= limits.max_queued => {
                    return Err(NotOpened::QueueFull);
                }
                // Waits in order for a free slot.
                Err(NotOpened::Full) => {
                    let acquired = self
                        .free_slot
                        .acquire(|| retry(NotOpened::Full, &mut attempt));
                    queue_end.apply(acquired).await?
                }
                Err(NotOpened::Paused | NotOpened::ExchangePaused)
                    if limits.pause_timeout.is_zero() =>
                {
                    return Err(NotOpened::Paused);
                }
                // Waits in order for the end of a pause.
                Err(NotOpened::Paused) => {
                    let acquired = self
                        .resumed
                        .acquire(|| retry(NotOpened::Paused, &mut attempt));
                    pause_end.apply(acquired).await?
                }
                // Waits for the next resumption of any exchange, and tries again.
                Err(NotOpened::ExchangePaused) => {
                    let mut resumed = std::pin::pin!(self.exchange_resumed.notified());
                    // `notify_waiters` wakes only those that are registered. Registering before the
                    // attempt keeps a resumption in between from being missed.
                    resumed.as_mut().enable();
                    match retry(NotOpened::ExchangePaused, &mut attempt) {
                        Some(opened) => opened,
                        None => {
                            pause_end.apply(resumed).await?;
                            attempt()
                        }
                    }
                }
                opened => return opened,
            };
        }
    }

    /// Makes one attempt, unless it would overtake a call that waits already.
    pub(crate) fn try_open_call(
        &self,
        attempt: &mut impl FnMut() -> Result<PendingCall, NotOpened>,
    ) -> Result<PendingCall, NotOpened> {
        if self.free_slot.waiting() > 0 {
            Err(NotOpened::Full)
        } else if self.resumed.waiting() > 0 {
            Err(NotOpened::Paused)
        } else {
            attempt()
        }
    }
}

/// Makes an attempt for a call that waits because it was not opened for the reason `awaited`.
/// Returns `None` if it is not opened for that reason again.
fn retry(
    awaited: NotOpened,
    attempt: &mut impl FnMut() -> Result<PendingCall, NotOpened>,
) -> Option<Result<PendingCall, NotOpened>> {
    match attempt() {
        Err(not_opened) if not_opened == awaited => None,
        opened => Some(opened),
    }
}

/// End of one kind of waiting, and the reason with which the call fails then.
struct WaitDeadline {
    end: Instant,
    not_opened: NotOpened,
}

impl WaitDeadline {
    /// Ends waiting after `timeout`, or at the deadline of the call if that is earlier.
    fn new(limit: TimeLimit, timeout: Duration, not_opened: NotOpened) -> Self {
        let deadline = limit.deadline();
        match clock::now().checked_add(timeout) {
            Some(end) if end < deadline => Self { end, not_opened },
            _ => Self {
                end: deadline,
                not_opened: NotOpened::TimedOut,
            },
        }
    }

    /// Awaits `waiting`, at most until the end.
    async fn apply<T>(&self, waiting: impl Future<Output = T>) -> Result<T, NotOpened> {
        timeout_at(clock::timer(self.end), waiting)
            .await
            .map_err(|_| self.not_opened)
    }
}
