//! A bounded map whose entries expire when they are not used.

use crate::clock;
use crate::entropy::RandomState;
use papaya::{Compute, Equivalent, HashMap, Operation};
use seize::Collector;
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Number of removed entries that are reclaimed together.
///
/// Each batch costs a few allocations, whatever its size.
const RECLAIM_BATCH: usize = 128;

/// Initial capacity of the map. A smaller map is rebuilt again and again as ids come and go.
const INITIAL_CAPACITY: usize = 1024;

/// A bounded map from ids to values that expire when they are not used. It takes no locks.
///
/// Removed values are dropped late, once no reader can hold a reference to them. What has to happen
/// at once when a value leaves the map is therefore not done by its `Drop`, but by `on_removed` and
/// by the `replaced` argument of [`ExpiringMap::change`]. Between them, each value that leaves the
/// map is reported exactly once.
#[derive(Debug)]
pub(super) struct ExpiringMap<V> {
    entries: HashMap<Id, Entry<V>, RandomState>,
    /// Number of entries, and of insertions in progress.
    len: AtomicUsize,
    max: usize,
    lifetime: Duration,
    /// Called with each value that is removed or that expires.
    on_removed: fn(&V),
    epoch: Instant,
}

/// An owned id. Ids of the usual lengths, such as UUIDs, are stored without an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id(SmallVec<[u8; 36]>);

/// A borrowed id for look-ups.
struct BorrowedId<'a>(&'a str);

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// Time of the last use, in milliseconds since the map's epoch.
    last_used: AtomicU64,
}

/// The map holds its maximum number of entries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl Hash for BorrowedId<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

impl Equivalent<Id> for BorrowedId<'_> {
    fn equivalent(&self, id: &Id) -> bool {
        *self.0.as_bytes() == id.0[..]
    }
}

impl<V: Clone> ExpiringMap<V> {
    /// Creates a map of at most `max` entries, each of which expires when it was not used for
    /// `lifetime`.
    pub(super) fn new(max: usize, lifetime: Duration, on_removed: fn(&V)) -> Self {
        Self {
            entries: HashMap::builder()
                .capacity(INITIAL_CAPACITY)
                .hasher(RandomState::default())
                .collector(Collector::new().batch_size(RECLAIM_BATCH))
                .build(),
            len: AtomicUsize::new(0),
            max,
            lifetime,
            on_removed,
            epoch: clock::now(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Reads the value of an id, which counts as a use. Removes the entry instead if it has
    /// expired.
    pub(super) fn get<T>(&self, id: &str, read: impl FnOnce(&V) -> T) -> Option<T> {
        let entries = self.entries.pin();
        let entry = entries.get(&BorrowedId(id))?;
        if self.has_expired(entry) {
            self.remove_if_expired(id);
            return None;
        }
        entry.last_used.store(self.now(), Ordering::Relaxed);
        Some(read(&entry.value))
    }

    /// Sets the value of an id to the result of `change`, which counts as a use; `None` removes the
    /// entry.
    ///
    /// `change` is called with the present value, and again if another thread changed the entry
    /// meanwhile. `replaced` is called with the value that was replaced or removed, if there was
    /// one.
    pub(super) fn change(
        &self,
        id: &str,
        change: impl Fn(Option<&V>) -> Option<V>,
        replaced: impl FnOnce(&V),
    ) -> Result<(), Full> {
        let entries = self.entries.pin();
        // Counted in advance, so that the bound is never exceeded, and subtracted below if no entry
        // was added.
        let has_room = self.len.fetch_add(1, Ordering::Relaxed) < self.max;
        let mut is_rejected = false;
        let changed = entries.compute(Id(SmallVec::from_slice(id.as_bytes())), |present| {
            is_rejected = false;
            match (present, change(present.map(|(_, entry)| &entry.value))) {
                (Some(_), None) => Operation::Remove,
                (None, None) => Operation::Abort(()),
                (None, Some(_)) if !has_room => {
                    is_rejected = true;
                    Operation::Abort(())
                }
                (_, Some(value)) => Operation::Insert(self.entry(value)),
            }
        });
        let surplus = match changed {
            Compute::Inserted(..) => 0,
            Compute::Aborted(()) => 1,
            Compute::Updated { old: (_, old), .. } => {
                replaced(&old.value);
                1
            }
            Compute::Removed(_, old) => {
                replaced(&old.value);
                2
            }
        };
        self.len.fetch_sub(surplus, Ordering::Relaxed);
        if is_rejected { Err(Full) } else { Ok(()) }
    }

    /// Removes an id. Returns whether it was present.
    pub(super) fn remove(&self, id: &str) -> bool {
        let entries = self.entries.pin();
        let removed = entries.remove(&BorrowedId(id));
        if let Some(entry) = removed {
            self.note_removed(entry);
        }
        removed.is_some()
    }

    /// Removes all expired entries. Returns their number.
    pub(super) fn remove_expired(&self) -> usize {
        let mut count = 0;
        let entries = self.entries.pin();
        for (id, entry) in &entries {
            if self.has_expired(entry) {
                let removed = entries.remove_if(id, |_, entry| self.has_expired(entry));
                count += usize::from(self.note_if_removed(removed));
            }
        }
        count
    }

    fn remove_if_expired(&self, id: &str) {
        let entries = self.entries.pin();
        let removed = entries.remove_if(&BorrowedId(id), |_, entry| self.has_expired(entry));
        self.note_if_removed(removed);
    }

    /// Returns whether an entry was removed by `remove_if`, which fails if the entry was kept.
    fn note_if_removed<K, T>(&self, removed: Result<Option<(K, &Entry<V>)>, T>) -> bool {
        let Ok(Some((_, entry))) = removed else {
            return false;
        };
        self.note_removed(entry);
        true
    }

    fn note_removed(&self, entry: &Entry<V>) {
        self.len.fetch_sub(1, Ordering::Relaxed);
        (self.on_removed)(&entry.value);
    }

    fn entry(&self, value: V) -> Entry<V> {
        Entry {
            value,
            last_used: AtomicU64::new(self.now()),
        }
    }

    fn has_expired(&self, entry: &Entry<V>) -> bool {
        let idle = self
            .now()
            .saturating_sub(entry.last_used.load(Ordering::Relaxed));
        u128::from(idle) > self.lifetime.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(clock::elapsed(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/pool/by_id/expiring.rs"]
mod tests;
