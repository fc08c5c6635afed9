//! A queue of tasks that wait for something scarce, such as slots or room in a ring.
//!
//! The queue does not know the resource. A waiter awaits its turn, makes an attempt to take the
//! resource, and awaits its next turn if the attempt fails. A task that releases some of the
//! resource notifies the queue.
//!
//! # Why no wake-up is lost
//!
//! A waiter first counts itself in `len`, then makes its attempts. A releaser first changes the
//! resource, then reads `len`. All four accesses are SeqCst, so they have one total order, in which
//! one of two cases holds:
//!
//! * The releaser reads `len` before the waiter has counted itself. Then it has changed the
//!   resource before the first attempt, which therefore sees the change.
//! * The releaser sees a waiter and takes the waker of the head, under the lock. From then on, the
//!   head has none, which says that its turn is still to come. The turn begins by registering a
//!   waker under the same lock, and the attempt follows it, so that attempt sees the change. It
//!   does not matter whether the head is suspended, and woken by the releaser, or is making an
//!   attempt that misses the change: that one is followed by another turn at once.
//!
//! A waiter that becomes the head has no waker either, since it was taken when the head before it
//! left. So every head gets a turn.
//!
//! Weaker orderings allow both sides to miss each other: acquire and release do not order a store
//! before a later load of another variable. The resource must therefore be accessed with SeqCst
//! too, or behind SeqCst fences.
//!
//! `len` is raised before a waiter joins and lowered after it has left, so it is never less than
//! the number of waiters in the queue, and `notify_one` may skip the lock while it is 0.

use super::sync::{AtomicUsize, Mutex, Ordering, seq_cst_for_loom};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Poll, Waker};

/// Lets tasks wait in order for a resource.
///
/// All waiters must wait for the same condition, since only the head of the queue makes attempts.
/// A task that releases some of the resource calls [`WaitQueue::notify_one`], which costs one load
/// while nothing waits.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// Number of waiters, including those that are about to join or have just left. Never less than
    /// the length of the queue.
    len: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Waiters in order of arrival, and so of number. Only the first makes attempts.
    queue: VecDeque<Entry>,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// `None` before the waiter was first polled, and after it was notified until it is polled
    /// again. In both cases a turn is still to come, so there is nothing to wake.
    waker: Option<Waker>,
}

/// A task's membership in a queue. When it is dropped, after success or because the task gave up,
/// the next waiter gets its turn.
#[derive(Debug)]
pub(crate) struct Waiter<'q> {
    queue: &'q WaitQueue,
    number: u64,
}

impl WaitQueue {
    /// Makes one attempt, unless a task is waiting that would be overtaken.
    pub(crate) fn try_acquire<T>(&self, attempt: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.waiting() > 0 {
            return None;
        }
        attempt()
    }

    /// Waits in the queue until an attempt succeeds.
    pub(crate) async fn acquire<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let mut waiter = self.join();
        loop {
            waiter.turn().await;
            if let Some(acquired) = attempt() {
                return acquired;
            }
        }
    }

    /// Joins the end of the queue.
    pub(crate) fn join(&self) -> Waiter<'_> {
        self.len.fetch_add(1, Ordering::SeqCst);
        seq_cst_for_loom();
        let number = self.with_lock(Waiters::join);
        #[cfg(feature = "__sim")]
        super::simulated::note_joined(self.address(), number);
        Waiter {
            queue: self,
            number,
        }
    }

    /// Returns the number of waiting tasks.
    pub(crate) fn waiting(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Lets the head of the queue try again. Called after the resource was released.
    ///
    /// The load of `len` is SeqCst and comes after the release: see the module documentation.
    pub(crate) fn notify_one(&self) {
        seq_cst_for_loom();
        if self.waiting() > 0 {
            let head = self.with_lock(Waiters::take_head_waker);
            wake(head);
        }
    }

    #[cfg(feature = "__sim")]
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn with_lock<T>(&self, change: impl FnOnce(&mut Waiters) -> T) -> T {
        // No code under the lock panics halfway through a change.
        change(&mut self.waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiters {
    fn join(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push_back(Entry {
            number,
            waker: None,
        });
        number
    }

    /// Stores the waker of a waiter. Returns whether its turn has come: it is the head, and had no
    /// waker.
    fn begin_turn(&mut self, number: u64, waker: &Waker) -> bool {
        let Ok(index) = self.index_of(number) else {
            return false;
        };
        match &mut self.queue[index].waker {
            Some(known) => {
                known.clone_from(waker);
                false
            }
            missing => {
                *missing = Some(waker.clone());
                index == 0
            }
        }
    }

    /// Removes a waiter. If it was the head, returns the waker of the next one: there may be more
    /// of the resource, or the head may leave after a notification without having used it.
    fn leave(&mut self, number: u64) -> Option<Waker> {
        let index = self.index_of(number).ok()?;
        self.queue.remove(index);
        if index == 0 {
            self.take_head_waker()
        } else {
            None
        }
    }

    fn take_head_waker(&mut self) -> Option<Waker> {
        self.queue.front_mut()?.waker.take()
    }

    /// Returns the position of a waiter. Numbers are given in order, so the queue is sorted.
    fn index_of(&self, number: u64) -> Result<usize, usize> {
        self.queue
            .binary_search_by_key(&number, |entry| entry.number)
    }
}

/// Wakes a task. Called outside the lock, since wakers are foreign code.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Waiter<'_> {
    /// Waits until an attempt is due: once when the task has become the head of the queue, and
    /// after every notification from then on.
    ///
    /// A release that the attempt misses finds the waker, which is registered by then, and makes
    /// the next turn come.
    pub(crate) async fn turn(&mut self) {
        poll_fn(|cx| {
            let (number, waker) = (self.number, cx.waker());
            let begins = self
                .queue
                .with_lock(|waiters| waiters.begin_turn(number, waker));
            if begins {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        #[cfg(feature = "__sim")]
        super::simulated::note_turn(self.queue.address(), self.number);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let next = self.queue.with_lock(|waiters| waiters.leave(self.number));
        self.queue.len.fetch_sub(1, Ordering::SeqCst);
        wake(next);
    }
}

/// Tests of every interleaving of a few threads, by loom (`scripts/loom`).
#[cfg(all(test, tollgate_loom))]
#[path = "../../tests/unit/connection/wait_queue_loom.rs"]
mod loom_tests;

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/wait_queue.rs"]
mod tests;
