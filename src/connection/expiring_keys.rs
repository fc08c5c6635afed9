//! Hashes of correlation ids, and a bounded set of them whose entries expire.

use super::sync::{AtomicUsize, Ordering};
use crate::clock;
use crate::entropy::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hashes correlation ids with a random seed, so that no peer can choose ids that collide.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(RandomState);

impl IdHasher {
    pub(crate) fn key(&self, correlation_id: &str) -> u64 {
        self.0.hash_one(correlation_id)
    }
}

/// A bounded set of keys that expire. It is nearly always empty, and a lookup costs one load then.
#[derive(Debug)]
pub(crate) struct ExpiringKeySet {
    /// Number of keys, readable without the lock.
    len: AtomicUsize,
    keys: Mutex<AgedKeys>,
    capacity: usize,
    lifetime: Duration,
}

/// Number of stale entries in `by_age` that are tolerated before it is compacted, beside one per
/// key.
const MAX_STALE: usize = 64;

/// Keys with the time each was added last.
#[derive(Debug, Default)]
struct AgedKeys {
    added: HashMap<u64, Instant>,
    /// Additions, oldest first. An entry is stale if its key was removed or added again since,
    /// which shows in a time that differs from the one in `added`.
    by_age: VecDeque<(Instant, u64)>,
}

/// Error of an insertion into a full set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AtCapacity;

impl ExpiringKeySet {
    /// Creates a set of at most `capacity` keys, each of which expires `lifetime` after it was
    /// added.
    pub(crate) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self {
            len: AtomicUsize::new(0),
            keys: Mutex::default(),
            capacity,
            lifetime,
        }
    }

    #[cfg(feature = "__sim")]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        !self.is_empty() && self.contains_after_expiry(key)
    }

    /// Kept out of the callers, whose usual path is one load.
    #[cold]
    #[inline(never)]
    fn contains_after_expiry(&self, key: u64) -> bool {
        self.with_keys(|keys| keys.added.contains_key(&key))
    }

    pub(crate) fn insert(&self, key: u64) -> Result<(), AtCapacity> {
        self.with_keys(|keys| {
            if keys.added.len() >= self.capacity && !keys.added.contains_key(&key) {
                return Err(AtCapacity);
            }
            keys.add(key);
            Ok(())
        })
    }

    /// Adds a key, and evicts the oldest one if the set is full.
    pub(crate) fn insert_over_oldest(&self, key: u64) {
        self.with_keys(|keys| {
            keys.add(key);
            while keys.added.len() > self.capacity {
                keys.evict_oldest();
            }
        });
    }

    /// Removes a key. Returns whether it was in the set.
    pub(crate) fn remove(&self, key: u64) -> bool {
        !self.is_empty() && self.with_keys(|keys| keys.added.remove(&key).is_some())
    }

    pub(crate) fn clear(&self) {
        self.with_keys(|keys| *keys = AgedKeys::default());
    }

    /// Drops expired keys, then runs `change`.
    fn with_keys<T>(&self, change: impl FnOnce(&mut AgedKeys) -> T) -> T {
        // No code under the lock panics halfway through a change.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.expire(self.lifetime);
        let result = change(&mut keys);
        self.len.store(keys.added.len(), Ordering::Release);
        result
    }
}

impl AgedKeys {
    fn add(&mut self, key: u64) {
        let now = clock::now();
        self.added.insert(key, now);
        self.by_age.push_back((now, key));
        // Stale entries behind a key that stays would accumulate. Compacting when they outnumber
        // the keys has constant amortized cost.
        if self.by_age.len() > 2 * self.added.len() + MAX_STALE {
            let added = &self.added;
            self.by_age.retain(|(at, key)| added.get(key) == Some(at));
        }
    }

    fn expire(&mut self, lifetime: Duration) {
        while let Some(&(added, key)) = self.by_age.front() {
            let is_current = self.added.get(&key) == Some(&added);
            if is_current && clock::elapsed(added) < lifetime {
                return;
            }
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        if let Some((added, key)) = self.by_age.pop_front()
            && self.added.get(&key) == Some(&added)
        {
            self.added.remove(&key);
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/expiring_keys.rs"]
mod tests;
