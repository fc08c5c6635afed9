use super::sync::{AtomicUsize, Ordering};
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
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
    keys: Mutex<AgedKeys>,
    capacity: usize,
    lifetime: Duration,
}

/// Outdated additions that may be kept beside as many as there are keys.
const MAX_OUTDATED: usize = 64;

/// Keys with the time each was added last.
#[derive(Debug, Default)]
struct AgedKeys {
    added: HashMap<u64, Instant>,
    /// Every addition, the oldest first; those whose time is not the key's are outdated.
    by_age: VecDeque<(Instant, u64)>,
}

/// The set holds as many keys as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overfull;

impl KeySet {
    /// A set of at most `capacity` keys, each forgotten `lifetime` after it was added.
    pub(crate) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self {
            len: AtomicUsize::new(0),
            keys: Mutex::default(),
            capacity,
            lifetime,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        !self.is_empty() && self.change(|keys| keys.added.contains_key(&key))
    }

    pub(crate) fn insert(&self, key: u64) -> Result<(), Overfull> {
        self.change(|keys| {
            if keys.added.len() >= self.capacity && !keys.added.contains_key(&key) {
                return Err(Overfull);
            }
            keys.add(key);
            Ok(())
        })
    }

    /// Adds a key in the place of the oldest one, if need be.
    pub(crate) fn insert_over_oldest(&self, key: u64) {
        self.change(|keys| {
            keys.add(key);
            while keys.added.len() > self.capacity {
                keys.forget_oldest();
            }
        });
    }

    /// Removes a key; says whether it was there.
    pub(crate) fn remove(&self, key: u64) -> bool {
        !self.is_empty() && self.change(|keys| keys.added.remove(&key).is_some())
    }

    pub(crate) fn clear(&self) {
        self.change(|keys| *keys = AgedKeys::default());
    }

    /// Forgets what is too old, then does `change`.
    fn change<T>(&self, change: impl FnOnce(&mut AgedKeys) -> T) -> T {
        // Nothing that holds the lock can leave the keys half changed.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.forget_outdated(self.lifetime);
        let result = change(&mut keys);
        self.len.store(keys.added.len(), Ordering::Release);
        result
    }
}

impl AgedKeys {
    fn add(&mut self, key: u64) {
        let now = Instant::now();
        self.added.insert(key, now);
        self.by_age.push_back((now, key));
        // Removed keys behind one that stays would pile up; a sweep at every doubling costs next to nothing.
        if self.by_age.len() > 2 * self.added.len() + MAX_OUTDATED {
            let added = &self.added;
            self.by_age.retain(|(at, key)| added.get(key) == Some(at));
        }
    }

    fn forget_outdated(&mut self, lifetime: Duration) {
        while let Some(&(added, key)) = self.by_age.front() {
            let is_current = self.added.get(&key) == Some(&added);
            if is_current && added.elapsed() < lifetime {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((added, key)) = self.by_age.pop_front()
            && self.added.get(&key) == Some(&added)
        {
            self.added.remove(&key);
        }
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
    fn keys_that_come_and_go_leave_nothing_behind() {
        let set = KeySet::new(100, Duration::MAX);
        set.insert_over_oldest(0);
        for key in 1..10_000 {
            set.insert_over_oldest(key);
            assert!(set.remove(key));
        }
        assert!(set.contains(0));
        let kept = set.change(|keys| keys.by_age.len());
        assert!(kept < 200, "{kept} additions are kept for one key");
    }

    #[test]
    fn keys_are_forgotten() {
        let set = KeySet::new(1, Duration::ZERO);
        assert_eq!(set.insert(1), Ok(()));
        assert!(!set.contains(1));
        assert_eq!(set.insert(2), Ok(()));
    }
}
