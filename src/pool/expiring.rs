use foldhash::fast::RandomState;
use papaya::{Compute, Equivalent, HashMap, Operation};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A bounded map from ids to values that are forgotten when nobody asks for them. Nothing waits for a lock.
#[derive(Debug)]
pub(super) struct ExpiringMap<V> {
    entries: HashMap<Id, Entry<V>, RandomState>,
    /// Places that are taken: entries, and additions under way.
    len: AtomicUsize,
    max: usize,
    lifetime: Option<Duration>,
    epoch: Instant,
}

/// An id; the usual ones, such as UUIDs, are held without an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id(SmallVec<[u8; 36]>);

/// An id that is looked for.
struct Sought<'a>(&'a str);

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// Milliseconds since the map's epoch.
    last_used: AtomicU64,
}

/// The map holds as many entries as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

impl Equivalent<Id> for Sought<'_> {
    fn equivalent(&self, id: &Id) -> bool {
        *self.0.as_bytes() == id.0[..]
    }
}

impl<V: Clone> ExpiringMap<V> {
    /// A map of at most `max` entries, each forgotten when it was not used for `lifetime`.
    pub(super) fn new(max: usize, lifetime: Option<Duration>) -> Self {
        Self {
            entries: HashMap::with_hasher(RandomState::default()),
            len: AtomicUsize::new(0),
            max,
            lifetime,
            epoch: Instant::now(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Looks at the value of an id, which counts as a use. An outdated one is removed.
    pub(super) fn get<T>(&self, id: &str, read: impl FnOnce(&V) -> T) -> Option<T> {
        let entries = self.entries.pin();
        let entry = entries.get(&Sought(id))?;
        if self.is_outdated(entry) {
            self.remove_if_outdated(id);
            return None;
        }
        entry.last_used.store(self.now(), Ordering::Relaxed);
        Some(read(&entry.value))
    }

    /// Sets the value of an id to what `change` makes of the present one, which counts as a use; `None` removes
    /// it. `change` may be asked again when others change the same id.
    pub(super) fn change(
        &self,
        id: &str,
        change: impl Fn(Option<&V>) -> Option<V>,
    ) -> Result<(), Full> {
        let entries = self.entries.pin();
        // Taken in advance, so that the bound is never exceeded; given back below if it was not needed.
        let has_place = self.len.fetch_add(1, Ordering::Relaxed) < self.max;
        let mut is_refused = false;
        let changed = entries.compute(Id(SmallVec::from_slice(id.as_bytes())), |present| {
            is_refused = false;
            match (present, change(present.map(|(_, entry)| &entry.value))) {
                (Some(_), None) => Operation::Remove,
                (None, None) => Operation::Abort(()),
                (None, Some(_)) if !has_place => {
                    is_refused = true;
                    Operation::Abort(())
                }
                (_, Some(value)) => Operation::Insert(self.entry(value)),
            }
        });
        let surplus = match changed {
            Compute::Inserted(..) => 0,
            Compute::Updated { .. } | Compute::Aborted(()) => 1,
            Compute::Removed(..) => 2,
        };
        self.len.fetch_sub(surplus, Ordering::Relaxed);
        if is_refused { Err(Full) } else { Ok(()) }
    }

    /// Says whether there was one.
    pub(super) fn remove(&self, id: &str) -> bool {
        let removed = self.entries.pin().remove(&Sought(id)).is_some();
        self.note_removed(usize::from(removed));
        removed
    }

    /// Removes what was not used for too long. Returns how many there were.
    pub(super) fn remove_outdated(&self) -> usize {
        let mut removed = 0;
        let entries = self.entries.pin();
        for (id, entry) in &entries {
            if self.is_outdated(entry) {
                let gone = entries.remove_if(id, |_, entry| self.is_outdated(entry));
                removed += usize::from(matches!(gone, Ok(Some(_))));
            }
        }
        self.note_removed(removed);
        removed
    }

    /// Whether any value is such.
    pub(super) fn any(&self, is_such: impl Fn(&V) -> bool) -> bool {
        self.entries
            .pin()
            .values()
            .any(|entry| is_such(&entry.value))
    }

    fn remove_if_outdated(&self, id: &str) {
        let entries = self.entries.pin();
        let gone = entries.remove_if(&Sought(id), |_, entry| self.is_outdated(entry));
        self.note_removed(usize::from(matches!(gone, Ok(Some(_)))));
    }

    fn note_removed(&self, count: usize) {
        self.len.fetch_sub(count, Ordering::Relaxed);
    }

    fn entry(&self, value: V) -> Entry<V> {
        Entry {
            value,
            last_used: AtomicU64::new(self.now()),
        }
    }

    fn is_outdated(&self, entry: &Entry<V>) -> bool {
        let idle = self
            .now()
            .saturating_sub(entry.last_used.load(Ordering::Relaxed));
        self.lifetime
            .is_some_and(|lifetime| u128::from(idle) > lifetime.as_millis())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
