//! Pings that wait for their pong, and the probe that sends them.

use super::Connection;
use crate::entropy::RandomState;
use crate::lock::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Pings sent on one connection.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// Those that wait for their pong, by sequence number.
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>, RandomState>>,
    /// Sequence number of the next ping.
    next: AtomicU64,
    /// Set while a [`ProbeGuard`] lives, so that the pool runs one probe at a time.
    is_probed: AtomicBool,
}

impl Pings {
    /// Expects the pong of a new ping.
    pub(super) fn expect(&self) -> ExpectedPong<'_> {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, pong) = oneshot::channel();
        lock(&self.waiting).insert(sequence, sender);
        ExpectedPong {
            pings: self,
            sequence,
            pong,
        }
    }

    /// Completes the ping with this sequence number, if it waits.
    pub(super) fn complete(&self, sequence: u64) {
        if let Some(waiting) = lock(&self.waiting).remove(&sequence) {
            // The caller may have dropped its future meanwhile.
            let _ = waiting.send(());
        }
    }

    /// Fails all pings that wait.
    pub(super) fn clear(&self) {
        lock(&self.waiting).clear();
    }
}

/// A ping that waits for its pong until this is dropped.
pub(super) struct ExpectedPong<'p> {
    pings: &'p Pings,
    pub(super) sequence: u64,
    /// Receives the pong. Fails once the connection has ended.
    pub(super) pong: oneshot::Receiver<()>,
}

impl Drop for ExpectedPong<'_> {
    fn drop(&mut self) {
        lock(&self.pings.waiting).remove(&self.sequence);
    }
}

/// Marks a connection as being probed while it lives.
#[derive(Debug)]
pub(crate) struct ProbeGuard(pub(crate) Arc<Connection>);

impl ProbeGuard {
    /// Marks a connection as being probed, or returns `None` if it already is.
    pub(crate) fn of(connection: &Arc<Connection>) -> Option<Self> {
        let begins = !connection.pings.is_probed.swap(true, Ordering::AcqRel);
        begins.then(|| Self(Arc::clone(connection)))
    }
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        self.0.pings.is_probed.store(false, Ordering::Release);
    }
}
