//! Keeps the events of an exchange in order.

use crate::entropy::RandomState;
use crate::lock::lock;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Keeps the events of one exchange in order while handlers are pending.
///
/// Only exchanges with a pending handler are recorded, so [`enter`](Self::enter) costs one atomic
/// load while there is none. Exchanges whose ids have the same hash are ordered together, which is
/// harmless.
#[derive(Debug)]
pub(crate) struct ExchangeOrder {
    /// Peer of the session, or id of the agent in this process, for the log.
    peer: Arc<str>,
    hasher: RandomState,
    /// Number of entries in `queues`: exchanges with a pending handler.
    pending_exchanges: AtomicUsize,
    queues: Mutex<Queues>,
}

impl ExchangeOrder {
    pub(crate) fn new(peer: Arc<str>) -> Self {
        Self {
            peer,
            hasher: RandomState::default(),
            pending_exchanges: AtomicUsize::new(0),
            queues: Mutex::default(),
        }
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Returns the key of an exchange in [`enter`](Self::enter), [`hold`](Self::hold) and
    /// [`release`](Self::release).
    pub(crate) fn key(&self, correlation_id: &str) -> u64 {
        self.hasher.hash_one(correlation_id)
    }

    /// Returns what an event has to wait for before its handler is called; `None` if it can be
    /// called at once.
    pub(crate) fn enter(&self, key: u64) -> Option<oneshot::Receiver<()>> {
        if self.pending_exchanges.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut queues = lock(&self.queues);
        let queue = queues.get_mut(&key)?;
        let (turn, receiver) = oneshot::channel();
        queue.push_back(turn);
        Some(receiver)
    }

    /// Records that an event's handler is pending, so that later events of its exchange queue up.
    pub(crate) fn hold(&self, key: u64) {
        lock(&self.queues).entry(key).or_insert_with(|| {
            self.pending_exchanges.fetch_add(1, Ordering::Relaxed);
            VecDeque::new()
        });
    }

    /// Returns whether an event of the exchange is pending or queued.
    pub(crate) fn is_held(&self, key: u64) -> bool {
        lock(&self.queues).contains_key(&key)
    }

    /// Lets the next queued event run, after a pending or queued one has ended.
    pub(crate) fn release(&self, key: u64) {
        let mut queues = lock(&self.queues);
        let Some(queue) = queues.get_mut(&key) else {
            return;
        };
        while let Some(turn) = queue.pop_front() {
            if turn.send(()).is_ok() {
                return;
            }
        }
        queues.remove(&key);
        self.pending_exchanges.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waiting events by the key of their exchange, oldest first.
type Queues = HashMap<u64, VecDeque<oneshot::Sender<()>>, RandomState>;

#[cfg(test)]
#[path = "../../tests/unit/handler/exchange_order.rs"]
mod tests;
