use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Limits the connections that have not completed their handshake. A new connection evicts the
/// oldest one when the limit is reached, so connections that never complete it cannot keep others
/// out.
#[derive(Debug)]
pub(crate) struct HandshakeLimiter {
    /// One entry per slot, the oldest first.
    slots: VecDeque<Entry>,
    capacity: usize,
}

/// A limiter that several tasks share.
pub(crate) type SharedLimiter = Mutex<HandshakeLimiter>;

/// Held by a connection until its handshake is complete.
#[derive(Debug)]
pub(crate) struct HandshakeSlot {
    evicted: oneshot::Receiver<Infallible>,
    _released: oneshot::Sender<Infallible>,
}

/// The limiter's side of a slot.
#[derive(Debug)]
struct Entry {
    /// Dropping it evicts the slot. It is closed once the slot was dropped.
    evict: oneshot::Sender<Infallible>,
    /// Completes when the slot is dropped.
    released: oneshot::Receiver<Infallible>,
}

/// Locks a mutex that is held for short, non-blocking sections, none of which can panic halfway
/// through a change. So one that is poisoned is usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HandshakeLimiter {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            capacity,
        }
    }

    /// Adds a connection. If the limiter is full, this evicts the oldest.
    pub(crate) fn enter(&mut self) -> HandshakeSlot {
        if self.slots.len() >= self.capacity {
            self.slots.retain(|entry| !entry.evict.is_closed());
        }
        if self.slots.len() >= self.capacity {
            self.slots.pop_front();
        }
        let (evict, evicted) = oneshot::channel();
        let (_released, released) = oneshot::channel();
        self.slots.push_back(Entry { evict, released });
        HandshakeSlot { evicted, _released }
    }

    /// Evicts the oldest connection, if there is any. The returned future completes when the
    /// connection has given up its slot.
    pub(crate) fn evict_oldest(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.slots.retain(|entry| !entry.evict.is_closed());
        let Entry { evict, released } = self.slots.pop_front()?;
        drop(evict);
        Some(async {
            // Nothing is ever sent, so this is the drop of the slot.
            let _ = released.await;
        })
    }

    /// Takes all slots out. They are evicted when the returned limiter is dropped, unless their
    /// connections give them up before.
    #[cfg(feature = "grpc")]
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.capacity))
    }
}

impl HandshakeSlot {
    /// Completes when the connection is evicted.
    pub(crate) async fn evicted(&mut self) {
        poll_fn(|cx| self.poll_evicted(cx)).await;
    }

    /// Polls for the eviction of the connection.
    pub(crate) fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Nothing is ever sent, so the receiver completes only when the sender is dropped.
        Pin::new(&mut self.evicted).poll(cx).map(|Err(_)| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_evicted(slot: &mut HandshakeSlot) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    #[test]
    fn oldest_slot_is_evicted() {
        let mut limiter = HandshakeLimiter::new(2);
        let (mut first, mut second) = (limiter.enter(), limiter.enter());
        assert!(!is_evicted(&mut first) && !is_evicted(&mut second));
        let mut third = limiter.enter();
        assert!(is_evicted(&mut first));
        assert!(!is_evicted(&mut second) && !is_evicted(&mut third));
    }

    #[test]
    fn evicted_connection_is_awaited() {
        let mut limiter = HandshakeLimiter::new(2);
        drop(limiter.enter());
        let mut open = limiter.enter();
        let mut released = Box::pin(limiter.evict_oldest().expect("a connection"));
        assert!(is_evicted(&mut open));
        assert!((&mut released).now_or_never().is_none());
        drop(open);
        assert!(released.now_or_never().is_some());
        assert!(limiter.evict_oldest().is_none());
    }

    #[test]
    fn dropped_slots_are_free() {
        let mut limiter = HandshakeLimiter::new(2);
        let (mut first, second) = (limiter.enter(), limiter.enter());
        drop(second);
        let mut third = limiter.enter();
        assert!(!is_evicted(&mut first) && !is_evicted(&mut third));
        (0..100).for_each(|_| drop(limiter.enter()));
        assert!(limiter.slots.len() <= 2);
    }
}
