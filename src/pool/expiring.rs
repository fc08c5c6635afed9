use foldhash::fast::RandomState;
use papaya::{Compute, Equivalent, HashMap, Operation};
use seize::Collector;
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

/// Each batch of removed entries costs a few allocations, whatever its size.
const RECLAIMED_AT_ONCE: usize = 128;

/// A map that is smaller is rebuilt again and again by ids that come and go.
const INITIAL_CAPACITY: usize = 1024;

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
            entries: HashMap::builder()
                .capacity(INITIAL_CAPACITY)
                .hasher(RandomState::default())
                .collector(Collector::new().batch_size(RECLAIMED_AT_ONCE))
                .build(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const NEVER: Option<Duration> = None;

    fn set(map: &ExpiringMap<u32>, id: &str, value: u32) -> Result<(), Full> {
        map.change(id, |_| Some(value))
    }

    fn get(map: &ExpiringMap<u32>, id: &str) -> Option<u32> {
        map.get(id, |value| *value)
    }

    #[test]
    fn ids_of_every_length_are_told_apart() {
        let map = ExpiringMap::new(1_000, NEVER);
        let ids: Vec<String> = (0..100).map(|length| "x".repeat(length)).collect();
        for (value, id) in ids.iter().enumerate() {
            assert_eq!(set(&map, id, value as u32), Ok(()));
        }
        for (value, id) in ids.iter().enumerate() {
            assert_eq!(get(&map, id), Some(value as u32));
        }
        assert_eq!(map.len(), 100);
        assert_eq!(get(&map, "y"), None);
    }

    #[test]
    fn the_bound_holds() {
        let map = ExpiringMap::new(2, NEVER);
        assert_eq!(set(&map, "a", 1), Ok(()));
        assert_eq!(set(&map, "b", 2), Ok(()));
        assert_eq!(set(&map, "c", 3), Err(Full));
        assert_eq!(set(&map, "b", 4), Ok(()), "it is there already");
        assert!(map.remove("a") && !map.remove("a"));
        assert_eq!(set(&map, "c", 3), Ok(()));
        assert_eq!(map.change("b", |_| None), Ok(()));
        assert_eq!(map.change("b", |_| None), Ok(()));
        assert_eq!(
            (get(&map, "b"), get(&map, "c"), map.len()),
            (None, Some(3), 1)
        );
        assert!(map.any(|value| *value == 3) && !map.any(|value| *value == 4));
    }

    #[test]
    fn what_is_not_used_is_forgotten() {
        let mut map = ExpiringMap::new(10, Some(Duration::from_secs(60)));
        set(&map, "a", 1).expect("there is room");
        set(&map, "b", 2).expect("there is room");
        let Some(past) = map.epoch.checked_sub(Duration::from_secs(59)) else {
            return;
        };
        map.epoch = past;
        assert_eq!(get(&map, "b"), Some(2), "a use");
        map.epoch -= Duration::from_secs(2);
        assert_eq!(map.remove_outdated(), 1);
        assert_eq!(
            (get(&map, "a"), get(&map, "b"), map.len()),
            (None, Some(2), 1)
        );
        map.epoch -= Duration::from_secs(61);
        assert_eq!((get(&map, "b"), map.len()), (None, 0), "found outdated");
    }

    #[test]
    fn the_count_is_right_whoever_comes_and_goes() {
        let map = ExpiringMap::new(50, Some(Duration::ZERO));
        thread::scope(|scope| {
            for seed in 0..4_u64 {
                let map = &map;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..20_000 {
                        let id = random.u32(..100).to_string();
                        match random.u32(..5) {
                            0 => drop(map.remove(&id)),
                            1 => drop(map.change(&id, |_| None)),
                            2 => drop(get(map, &id)),
                            3 if random.u32(..100) == 0 => drop(map.remove_outdated()),
                            _ => drop(set(map, &id, seed as u32)),
                        }
                    }
                });
            }
        });
        assert_eq!(map.len(), map.entries.pin().len());
        assert!(map.len() <= 50);
        for id in 0..100 {
            map.remove(&id.to_string());
        }
        assert_eq!(map.len(), 0);
    }

    /// The map's own entry is one, and what it retires in batches is a little more.
    #[test]
    fn an_entry_costs_one_allocation() {
        let map = ExpiringMap::new(100, NEVER);
        let round = |n: u64| {
            let id = format!("0f8fad5b-d9cb-469f-a165-{n:012x}");
            let counted = allocation_counter::measure(|| {
                set(&map, &id, 1).expect("there is room");
                assert_eq!(get(&map, &id), Some(1));
                assert!(map.remove(&id));
            });
            counted.count_total
        };
        assert!((0..1_000).map(round).sum::<u64>() > 0);
        let allocations: u64 = (1_000..11_000).map(round).sum();
        assert!(allocations <= 11_000, "{allocations} for 10,000 entries");
    }
}
