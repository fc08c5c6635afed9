use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Keeps the events of one exchange in order while handlers wait.
///
/// Only handlers that wait are known here, so as long as none does, entering costs one load. Exchanges
/// whose ids share a hash are kept in order too, which is harmless.
#[derive(Debug, Default)]
pub(super) struct Order {
    hasher: RandomState,
    /// How many exchanges have a handler that waits.
    busy: AtomicUsize,
    lines: Mutex<HashMap<u64, VecDeque<oneshot::Sender<()>>>>,
}

impl Order {
    pub(super) fn key(&self, correlation_id: &str) -> u64 {
        self.hasher.hash_one(correlation_id)
    }

    /// What an event has to wait for before its handler is called; `None` if it may go at once.
    pub(super) fn enter(&self, key: u64) -> Option<oneshot::Receiver<()>> {
        if self.busy.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut lines = self.lines();
        let line = lines.get_mut(&key)?;
        let (turn, comes) = oneshot::channel();
        line.push_back(turn);
        Some(comes)
    }

    /// Notes that an event's handler waits, so that later ones of its exchange get in line.
    pub(super) fn hold(&self, key: u64) {
        self.lines().entry(key).or_insert_with(|| {
            self.busy.fetch_add(1, Ordering::Relaxed);
            VecDeque::new()
        });
    }

    /// Gives the next event in line its turn, once one that was held or was in line is done.
    pub(super) fn release(&self, key: u64) {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(&key) else {
            return;
        };
        while let Some(turn) = line.pop_front() {
            if turn.send(()).is_ok() {
                return;
            }
        }
        lines.remove(&key);
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<u64, VecDeque<oneshot::Sender<()>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_one_after_another_within_their_exchange_only() {
        let order = Order::default();
        assert!(order.enter(1).is_none());
        order.hold(1);
        let mut second = order.enter(1).unwrap();
        let mut third = order.enter(1).unwrap();
        assert!(order.enter(2).is_none());
        order.release(1);
        assert!(second.try_recv().is_ok());
        assert!(third.try_recv().is_err());
        order.release(1);
        assert!(third.try_recv().is_ok());
        order.release(1);
        assert!(order.enter(1).is_none());
        assert_eq!(order.busy.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_event_that_left_is_passed_over() {
        let order = Order::default();
        order.hold(1);
        drop(order.enter(1));
        let mut third = order.enter(1).unwrap();
        order.release(1);
        assert!(third.try_recv().is_ok());
    }
}
