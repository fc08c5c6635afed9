//! Counts what keeps a connection in use, and lets drains wait until nothing does.

use super::Connection;
use super::wait_queue::WaitQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// Exchanges and pins of one connection, and the drains that wait for their end.
///
/// Pending calls are counted by the slot table, which notifies `idle` whenever a slot becomes free.
///
/// Every change of a count is SeqCst and is followed by [`WaitQueue::notify_one`], which costs one
/// load while no drain waits.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Number of exchanges bound to the connection: see [`ExchangeGuard`](super::ExchangeGuard).
    exchanges: AtomicUsize,
    /// Number of correlation ids pinned to the connection.
    pins: AtomicUsize,
    /// Drains waiting until no call is pending and no exchange is bound.
    idle: Arc<WaitQueue>,
    /// Drains waiting until no correlation id is pinned.
    ///
    /// A wait queue wakes only its head, so all its waiters have to wait for the same condition. A
    /// shutdown does not wait for pins; behind a drain that does, it would wait too long.
    unpinned: WaitQueue,
}

impl Usage {
    /// Returns the queue to notify when a slot becomes free.
    pub(super) fn idle_queue(&self) -> Arc<WaitQueue> {
        Arc::clone(&self.idle)
    }

    /// Lets drains check again, after the connection was closed.
    pub(super) fn wake(&self) {
        self.idle.notify_one();
        self.unpinned.notify_one();
    }

    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    pub(super) fn add_exchange(&self) {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn remove_exchange(&self) {
        self.exchanges.fetch_sub(1, Ordering::SeqCst);
        self.idle.notify_one();
    }
}

impl Connection {
    /// Returns the number of correlation ids that are pinned to the connection.
    pub(crate) fn pins(&self) -> usize {
        self.usage.pins.load(Ordering::SeqCst)
    }

    /// Counts a correlation id as pinned, before others can see the pin: a count that followed
    /// would fall below zero if the pin were removed in between.
    pub(crate) fn add_pin(&self) {
        self.usage.pins.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a correlation id as no longer pinned.
    pub(crate) fn remove_pin(&self) {
        self.usage.pins.fetch_sub(1, Ordering::SeqCst);
        self.usage.unpinned.notify_one();
    }

    /// Waits until no call is pending and no exchange is bound, or the connection is closed.
    ///
    /// Pinned correlation ids are not waited for.
    pub(crate) async fn wait_idle(&self) {
        let is_over = || !self.is_open() || !self.is_used();
        self.usage.idle.acquire(|| check(is_over)).await;
    }

    /// Like [`Connection::wait_idle`], and waits until no correlation id is pinned either.
    pub(crate) async fn wait_unused(&self) {
        let is_over = || !self.is_open() || self.pins() == 0;
        loop {
            self.wait_idle().await;
            self.usage.unpinned.acquire(|| check(is_over)).await;
            // A call of a pinned exchange may have begun while the pins were waited for.
            if !self.is_open() || !self.is_used() {
                return;
            }
        }
    }
}

/// Checks a condition whose reads need not be SeqCst themselves.
///
/// The fence stands between joining the queue and these reads: a change that they miss comes after
/// it, so the one who makes the change finds the waiter in the queue.
fn check(is_over: impl Fn() -> bool) -> Option<()> {
    fence(Ordering::SeqCst);
    is_over().then_some(())
}
