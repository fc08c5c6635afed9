use super::Connection;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A connection that an exchange is bound to: it is not ended for want of use as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Connection>);

impl Hold {
    /// `None` if the connection takes no new exchanges.
    pub(crate) fn of(connection: &Arc<Connection>) -> Option<Self> {
        // In the one order of all that is SeqCst, whoever retires the connection finds this holder, or this finds it retired.
        connection.holders.fetch_add(1, Ordering::SeqCst);
        let hold = Self(Arc::clone(connection));
        (connection.is_open() && !connection.is_retired()).then_some(hold)
    }
}

impl Deref for Hold {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connection {
    /// Whether a call is pending or an exchange bound to the connection.
    pub(crate) fn is_used(&self) -> bool {
        self.in_flight() > 0 || self.holders.load(Ordering::SeqCst) > 0
    }

    /// Takes nothing new from now on; what is bound to the connection goes on.
    ///
    /// Whoever has chosen the connection at this moment either sees that, or is seen by
    /// [`Connection::is_used`] afterwards.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Marks the connection as being probed, unless it is already.
    pub(crate) fn begin_probe(self: &Arc<Self>) -> Option<ProbeGuard> {
        let begins = !self.probing.swap(true, Ordering::AcqRel);
        begins.then(|| ProbeGuard(Arc::clone(self)))
    }
}

/// A connection that is being probed for a sign of life.
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
        let probing: &AtomicBool = &self.0.probing;
        probing.store(false, Ordering::Release);
    }
}
