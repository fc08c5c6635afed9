use super::sync::{AtomicUsize, Ordering};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Hashes correlation ids, with a seed that no peer knows.
#[derive(Debug, Default)]
pub(crate) struct Keys(RandomState);

impl Keys {
    pub(crate) fn key(&self, correlation_id: &str) -> u64 {
        self.0.hash_one(correlation_id)
    }
}

/// A bounded set of keys that is nearly always empty; asking it while it is costs one load.
#[derive(Debug)]
pub(crate) struct KeySet {
    len: AtomicUsize,
    added: Mutex<HashMap<u64, Instant>>,
    capacity: usize,
    lifetime: Duration,
}

/// The set holds as many keys as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overfull;

impl KeySet {
    /// A set of at most `capacity` keys, each forgotten `lifetime` after it was added.
    pub(crate) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self {
            len: AtomicUsize::new(0),
            added: Mutex::default(),
            capacity,
            lifetime,
        }
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        if self.len.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.lock()
            .get(&key)
            .is_some_and(|added| added.elapsed() < self.lifetime)
    }

    pub(crate) fn insert(&self, key: u64) -> Result<(), Overfull> {
        let mut added = self.lock();
        if added.len() >= self.capacity {
            added.retain(|_, added| added.elapsed() < self.lifetime);
        }
        let result = if added.len() < self.capacity || added.contains_key(&key) {
            added.insert(key, Instant::now());
            Ok(())
        } else {
            Err(Overfull)
        };
        self.len.store(added.len(), Ordering::Release);
        result
    }

    /// Adds a key in the place of the oldest one, if need be.
    pub(crate) fn insert_over_oldest(&self, key: u64) {
        if self.insert(key) == Err(Overfull) {
            self.remove_oldest();
            // Somebody else may have taken the place; then that key is the newer one.
            let _ = self.insert(key);
        }
    }

    fn remove_oldest(&self) {
        let mut added = self.lock();
        let oldest = added.iter().min_by_key(|(_, added)| **added);
        if let Some(oldest) = oldest.map(|(&key, _)| key) {
            added.remove(&oldest);
        }
    }

    /// Removes a key; says whether it was there.
    pub(crate) fn remove(&self, key: u64) -> bool {
        if self.len.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut added = self.lock();
        let removed = added.remove(&key).is_some();
        self.len.store(added.len(), Ordering::Release);
        removed
    }

    pub(crate) fn clear(&self) {
        let mut added = self.lock();
        added.clear();
        self.len.store(0, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        // Nothing that holds the lock can leave the map half changed.
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds() {
        let set = KeySet::new(2, Duration::MAX);
        assert_eq!(set.insert(1), Ok(()));
        assert_eq!(set.insert(2), Ok(()));
        assert_eq!(set.insert(2), Ok(()));
        assert_eq!(set.insert(3), Err(Overfull));
        assert!(set.remove(1));
        assert!(!set.remove(1));
        assert_eq!(set.insert(3), Ok(()));
        assert!(set.contains(3) && !set.contains(1));
        set.insert_over_oldest(4);
        assert!(set.contains(3) && set.contains(4) && !set.contains(2));
        set.clear();
        assert!(!set.contains(3));
    }

    #[test]
    fn keys_are_forgotten() {
        let set = KeySet::new(1, Duration::ZERO);
        assert_eq!(set.insert(1), Ok(()));
        assert!(!set.contains(1));
        assert_eq!(set.insert(2), Ok(()));
    }
}
