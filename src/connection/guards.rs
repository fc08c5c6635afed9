//! Guards that keep a connection in use or mark it as being probed.

use super::Connection;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Binds an exchange to a connection, which counts as in use while this lives.
#[derive(Debug)]
pub(crate) struct ExchangeGuard(Arc<Connection>);

impl ExchangeGuard {
    /// Binds an exchange, or returns `None` if the connection is closed or retired.
    pub(crate) fn of(connection: &Arc<Connection>) -> Option<Self> {
        // The count is raised before `is_retired` is read, and `retire` sets `is_retired` before
        // the count is read, all of it SeqCst. So either this sees that the connection is retired,
        // or the task that retires it sees this exchange.
        connection.usage.add_exchange();
        let guard = Self(Arc::clone(connection));
        (connection.is_open() && !connection.is_retired()).then_some(guard)
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
        self.0.usage.remove_exchange();
    }
}

impl Connection {
    /// Returns whether a call is pending or an exchange is bound to the connection.
    pub(crate) fn is_used(&self) -> bool {
        self.in_flight() > 0 || self.usage.exchanges() > 0
    }

    /// Retires the connection: it takes no new exchanges, and those bound to it go on.
    ///
    /// A caller that has chosen the connection just before either sees that it is retired, or is
    /// seen by a later [`Connection::is_used`]. The fence pairs with the one in `SlotTable::open`.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::SeqCst)
    }

    /// Marks the connection as being probed, or returns `None` if it already is.
    pub(crate) fn begin_probe(self: &Arc<Self>) -> Option<ProbeGuard> {
        let begins = !self.is_probed.swap(true, Ordering::AcqRel);
        begins.then(|| ProbeGuard(Arc::clone(self)))
    }
}

/// Marks a connection as being probed while it lives.
#[derive(Debug)]
pub(crate) struct ProbeGuard(Arc<Connection>);

impl Deref for ProbeGuard {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        let probing: &AtomicBool = &self.0.is_probed;
        probing.store(false, Ordering::Release);
    }
}
