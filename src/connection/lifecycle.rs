//! The life of a connection: open or closed, in use or retired.

use super::slots::SlotTable;
use super::wait_queue::WaitQueue;
use super::{Connection, SlotValue};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// State of a connection: open or closed, the exchanges that it takes, and what keeps it in use.
///
/// Every change of a count is SeqCst and is followed by [`WaitQueue::notify_one`], which costs one
/// load while no drain waits.
pub(crate) struct Lifecycle {
    /// Pending calls, which keep the connection in use.
    slots: Arc<SlotTable<SlotValue>>,
    /// Number of exchanges bound to the connection: see [`ExchangeGuard`].
    exchanges: AtomicUsize,
    /// Number of correlation ids pinned to the connection.
    pins: AtomicUsize,
    /// Drains waiting until no call is pending and no exchange is bound.
    ///
    /// Shared with the slot table, which notifies it of every slot that becomes free.
    idle: Arc<WaitQueue>,
    /// Drains waiting until no correlation id is pinned.
    ///
    /// A wait queue wakes only its head, so all its waiters have to wait for the same condition. A
    /// shutdown does not wait for pins; behind a drain that does, it would wait too long.
    unpinned: WaitQueue,
    /// Set while the agent is sent its settings, before it takes exchanges.
    is_configuring: AtomicBool,
    /// Set once the agent has asked the proxy to move to another connection.
    is_moving: AtomicBool,
    /// Set once only exchanges that are bound to the connection may use it.
    is_retired: AtomicBool,
    /// Set once the connection is closed. Ordered against the opening of slots: see
    /// [`Lifecycle::close`].
    is_closed: AtomicBool,
    /// Set once the circuit breaker has counted the loss of the connection.
    is_loss_counted: AtomicBool,
}

/// Relation of a call's exchange to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The exchange is bound to this connection.
    Bound,
    /// The call could use another connection instead.
    Free,
}

impl Lifecycle {
    /// Creates the state of an open connection. `slots` notifies `idle`.
    pub(super) fn new(slots: Arc<SlotTable<SlotValue>>, idle: Arc<WaitQueue>) -> Self {
        Self {
            slots,
            exchanges: AtomicUsize::new(0),
            pins: AtomicUsize::new(0),
            idle,
            unpinned: WaitQueue::default(),
            is_configuring: AtomicBool::new(false),
            is_moving: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_loss_counted: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::SeqCst)
    }

    /// Returns whether a call may be opened.
    pub(super) fn accepts(&self, binding: Binding) -> bool {
        self.is_open() && (binding == Binding::Bound || !self.is_retired())
    }

    /// Returns whether the connection takes new exchanges.
    pub(super) fn takes_exchanges(&self) -> bool {
        self.accepts(Binding::Free) && !self.is_configuring.load(Ordering::Relaxed)
    }

    /// Returns whether a call is pending or an exchange is bound to the connection.
    pub(crate) fn is_used(&self) -> bool {
        self.slots.pending() > 0 || self.exchanges() > 0
    }

    /// Returns the number of exchanges that are bound to the connection.
    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// Returns the number of correlation ids that are pinned to the connection.
    pub(crate) fn pins(&self) -> usize {
        self.pins.load(Ordering::SeqCst)
    }

    /// Counts a correlation id as pinned, before others can see the pin: a count that followed
    /// would fall below zero if the pin were removed in between.
    pub(crate) fn add_pin(&self) {
        self.pins.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a correlation id as no longer pinned.
    pub(crate) fn remove_pin(&self) {
        self.pins.fetch_sub(1, Ordering::SeqCst);
        self.unpinned.notify_one();
    }

    /// Stops taking new exchanges until [`Connection::end_configuring`].
    pub(crate) fn begin_configuring(&self) {
        self.is_configuring.store(true, Ordering::Relaxed);
    }

    /// Takes new exchanges again. Returns whether it did not before.
    pub(super) fn end_configuring(&self) -> bool {
        self.is_configuring.swap(false, Ordering::Relaxed)
    }

    /// Notes that the agent has asked the proxy to move to another connection. This one is used
    /// until there is another.
    pub(super) fn ask_to_move(&self) {
        self.is_moving.store(true, Ordering::Relaxed);
    }

    /// Returns whether the connection is open and need not be replaced.
    pub(crate) fn is_staying(&self) -> bool {
        self.is_open() && !self.is_moving.load(Ordering::Relaxed)
    }

    /// Retires the connection: it takes no new exchanges, and those bound to it go on.
    ///
    /// A caller that has chosen the connection just before either sees that it is retired, or is
    /// seen by a later [`Lifecycle::is_used`]. The fence pairs with the one in `SlotTable::open`.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Marks the connection as closed, and lets drains check again.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Pairs with the fence in `SlotTable::open`: a caller that opened a slot and does not see
        // `is_closed` has its slot in the table before the receive task, woken next, fails all
        // calls in the table.
        fence(Ordering::SeqCst);
        self.idle.notify_one();
        self.unpinned.notify_one();
    }

    /// Returns `true` the first time, for the one call that counts the loss of the connection.
    pub(super) fn count_loss(&self) -> bool {
        !self.is_loss_counted.swap(true, Ordering::Relaxed)
    }

    /// Waits until no call is pending and no exchange is bound, or the connection is closed.
    ///
    /// Pinned correlation ids are not waited for.
    pub(crate) async fn wait_idle(&self) {
        let is_over = || !self.is_open() || !self.is_used();
        self.idle.acquire(|| check(is_over)).await;
    }

    /// Like [`Lifecycle::wait_idle`], and waits until no correlation id is pinned either.
    pub(crate) async fn wait_unused(&self) {
        let is_over = || !self.is_open() || self.pins() == 0;
        loop {
            self.wait_idle().await;
            self.unpinned.acquire(|| check(is_over)).await;
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

/// Binds an exchange to a connection, which counts as in use while this lives.
#[derive(Debug)]
pub(crate) struct ExchangeGuard(Arc<Connection>);

impl ExchangeGuard {
    /// Binds an exchange, or returns `None` if the connection is closed or retired.
    pub(crate) fn of(connection: &Arc<Connection>) -> Option<Self> {
        let lifecycle = &connection.lifecycle;
        // The count is raised before `is_retired` is read, and `retire` sets `is_retired` before
        // the count is read, all of it SeqCst. So either this sees that the connection is retired,
        // or the task that retires it sees this exchange.
        lifecycle.exchanges.fetch_add(1, Ordering::SeqCst);
        let guard = Self(Arc::clone(connection));
        lifecycle.accepts(Binding::Free).then_some(guard)
    }
}

impl Deref for ExchangeGuard {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        let Lifecycle {
            exchanges, idle, ..
        } = &self.0.lifecycle;
        exchanges.fetch_sub(1, Ordering::SeqCst);
        idle.notify_one();
    }
}
