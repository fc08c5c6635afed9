use super::PeerKey;
use crate::entropy::RandomState;
use std::collections::{HashMap, VecDeque, hash_map};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Limits the connections that have not completed their handshake.
///
/// A new connection evicts another when the limit is reached, so connections that never complete it
/// cannot keep others out: the oldest of the peer that has most.
#[derive(Debug)]
pub(crate) struct HandshakeLimiter {
    /// One entry per slot, the oldest first.
    slots: VecDeque<Entry>,
    /// Number of slots of each peer that has any.
    counts: HashMap<PeerKey, usize, RandomState>,
    /// Each completes when a slot is dropped that was evicted for a newer connection.
    evicted: Vec<oneshot::Receiver<Infallible>>,
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
    peer: PeerKey,
    /// Dropping it evicts the slot. It is closed once the slot was dropped.
    evict: oneshot::Sender<Infallible>,
    /// Completes when the slot is dropped.
    released: oneshot::Receiver<Infallible>,
}

impl HandshakeLimiter {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            counts: HashMap::default(),
            evicted: Vec::new(),
            capacity,
        }
    }

    /// Adds a connection. If the limiter is full, this evicts another.
    pub(crate) fn enter(&mut self, peer: PeerKey) -> HandshakeSlot {
        if self.slots.len() >= self.capacity {
            self.remove_dropped();
        }
        if self.slots.len() >= self.capacity {
            let evicted = self.remove_one().map(|entry| entry.released);
            self.evicted.extend(evicted);
        }
        let (evict, evicted) = oneshot::channel();
        let (_released, released) = oneshot::channel();
        *self.counts.entry(peer).or_default() += 1;
        self.slots.push_back(Entry {
            peer,
            evict,
            released,
        });
        HandshakeSlot { evicted, _released }
    }

    /// Evicts a connection, if there is any. The returned future completes when the connection has
    /// given up its slot.
    pub(crate) fn evict_one(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.remove_dropped();
        let Entry {
            evict, released, ..
        } = self.remove_one()?;
        drop(evict);
        Some(all_dropped(vec![released]))
    }

    /// Returns a future that completes when the connections have given up their slots that were
    /// evicted for newer ones since the last call, or `None` if there are none.
    pub(crate) fn evicted(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let evicted = std::mem::take(&mut self.evicted);
        (!evicted.is_empty()).then(|| all_dropped(evicted))
    }

    fn remove_dropped(&mut self) {
        let counts = &mut self.counts;
        self.slots.retain(|entry| {
            let is_open = !entry.evict.is_closed();
            if !is_open {
                decrement(counts, entry.peer);
            }
            is_open
        });
    }

    /// Removes the oldest connection of the peer that has most.
    fn remove_one(&mut self) -> Option<Entry> {
        let most = self.counts.values().copied().max()?;
        let is_of_largest = |entry: &Entry| self.counts.get(&entry.peer) == Some(&most);
        let oldest = self.slots.iter().position(is_of_largest)?;
        let removed = self.slots.remove(oldest)?;
        decrement(&mut self.counts, removed.peer);
        Some(removed)
    }

    /// Takes all slots out. They are evicted when the returned limiter is dropped, unless their
    /// connections give them up before.
    #[cfg(feature = "grpc")]
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.capacity))
    }
}

fn decrement(counts: &mut HashMap<PeerKey, usize, RandomState>, peer: PeerKey) {
    if let hash_map::Entry::Occupied(mut count) = counts.entry(peer) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

async fn all_dropped(slots: Vec<oneshot::Receiver<Infallible>>) {
    for slot in slots {
        // Nothing is ever sent, so this is the drop of the slot.
        let _ = slot.await;
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
#[path = "../../tests/unit/transport/handshake_limiter.rs"]
mod tests;
