//! The calls that wait for an answer on one connection.
//!
//! A table has a fixed number of slots. A caller *opens* one and gets a [`Ticket`]; the one
//! [`Completer`] of the table puts a value into it; the ticket gives the value to the caller. Nothing
//! waits for a lock and, once ids have been stored in every slot, nothing is allocated.
//!
//! A slot goes through these phases:
//!
//! ```text
//!            open                 claim               fill
//!   FREE ──────────▶ WAITING ──────────▶ CLAIMED ──────────▶ READY
//!    ▲                │    ▲                │ │                │
//!    │   ticket drops │    └────────────────┘ │ ticket drops   │ ticket drops
//!    ├────────────────┘       id differs      ▼                │
//!    ├─────────────────────────────────── ABANDONED            │
//!    └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants, on which the unsafe code rests:
//! * Between taking a place and making it WAITING, its opener alone touches the slot's cells.
//! * While WAITING, nobody touches them.
//! * From CLAIMED (or ABANDONED) until it leaves that phase, the completer alone touches them.
//! * While READY, the ticket alone touches them.
//! * There is one completer, so no two claim at once.

#![allow(unsafe_code)]

use super::occupancy::Occupancy;
use super::sync::{AtomicU64, AtomicWaker, Ordering, UnsafeCell, fence};
use super::turnstile::Turnstile;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The key of a slot that has none. A call may have it by chance, which is harmless.
const NO_KEY: u64 = 0;

const FREE: u64 = 0;
const WAITING: u64 = 1;
const CLAIMED: u64 = 2;
const ABANDONED: u64 = 3;
const READY: u64 = 4;

/// A fixed number of slots for pending calls, found by id.
pub(crate) struct SlotTable<T> {
    places: Occupancy,
    /// A hash of each slot's id, for finding candidates.
    keys: Box<[AtomicU64]>,
    slots: Box<[Slot<T>]>,
    /// Where callers wait for a free slot.
    room: Turnstile,
}

struct Slot<T> {
    phase: AtomicU64,
    /// When the call gives up, in the table's own unit of time.
    deadline: AtomicU64,
    waker: AtomicWaker,
    /// The caller's id. Its memory stays for the next call.
    id: UnsafeCell<String>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: by the invariants above a cell is touched by one thread at a time, and each change of phase
// that hands it on is a release that the next one acquires. `T` moves between threads.
unsafe impl<T: Send> Sync for SlotTable<T> {}

/// Why a slot could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Every slot is taken.
    Full,
    /// A call with the same id is pending.
    SameId,
}

impl<T> SlotTable<T> {
    /// A table and the one handle that completes its calls.
    pub(crate) fn new(capacity: usize) -> (Arc<Self>, Completer<T>) {
        let table = Arc::new(Self {
            places: Occupancy::new(capacity),
            keys: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            slots: (0..capacity).map(|_| Slot::new()).collect(),
            room: Turnstile::default(),
        });
        let completer = Completer(Arc::clone(&table));
        (table, completer)
    }

    /// Opens a slot for a call. `key` is a hash of `id`.
    ///
    /// Whatever the caller checks afterwards is checked behind a full fence: if it misses a change that
    /// another thread made before going through the table, that thread finds this slot.
    pub(crate) fn open(
        &self,
        id: &str,
        key: u64,
        deadline: u64,
    ) -> Result<Ticket<'_, T>, OpenError> {
        let index = self.places.take().ok_or(OpenError::Full)?;
        let slot = &self.slots[index];
        slot.id.with_mut(|stored| {
            // SAFETY: the place was just taken and the slot is not WAITING yet.
            let stored = unsafe { &mut *stored };
            stored.clear();
            stored.push_str(id);
        });
        slot.deadline.store(deadline, Ordering::Relaxed);
        self.keys[index].store(key, Ordering::Relaxed);
        // Of two callers with one id at least one sees the other's key.
        fence(Ordering::SeqCst);
        if self.others_with(key, index) {
            self.release(index);
            return Err(OpenError::SameId);
        }
        slot.phase.store(WAITING, Ordering::Release);
        fence(Ordering::SeqCst);
        Ok(Ticket { table: self, index })
    }

    /// Whether a call with this key is pending.
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.candidates(key).next().is_some()
    }

    /// How many calls are pending.
    pub(crate) fn pending(&self) -> usize {
        self.places.count()
    }

    /// Where callers wait for a free slot.
    pub(crate) fn room(&self) -> &Turnstile {
        &self.room
    }

    /// How many calls can be pending at once.
    pub(crate) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    /// The ids may still differ behind equal keys; refusing such a call too is harmless and, with 64
    /// bits seeded at random, never seen.
    fn others_with(&self, key: u64, own: usize) -> bool {
        self.candidates(key).any(|index| index != own)
    }

    fn candidates(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        self.places
            .taken()
            .filter(move |&index| self.keys[index].load(Ordering::Relaxed) == key)
    }

    fn release(&self, index: usize) {
        self.slots[index].phase.store(FREE, Ordering::Release);
        // The next holder is not to be taken for a call with this id while it sets the slot up.
        self.keys[index].store(NO_KEY, Ordering::Relaxed);
        self.places.release(index);
        self.room.made_room();
    }
}

impl<T> fmt::Debug for SlotTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotTable")
            .field("capacity", &self.capacity())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self {
            phase: AtomicU64::new(FREE),
            deadline: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            id: UnsafeCell::new(String::new()),
            value: UnsafeCell::new(None),
        }
    }

    fn change(&self, from: u64, to: u64) -> bool {
        self.phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A caller's hold on an open slot. Dropping it gives the slot back.
#[derive(Debug)]
pub(crate) struct Ticket<'t, T> {
    table: &'t SlotTable<T>,
    index: usize,
}

impl<T> Ticket<'_, T> {
    /// Takes the value once it is there.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<T> {
        if let Some(value) = self.take() {
            return Poll::Ready(value);
        }
        self.slot().waker.register(cx.waker());
        match self.take() {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }

    fn take(&self) -> Option<T> {
        if self.slot().phase.load(Ordering::Acquire) != READY {
            return None;
        }
        self.slot().value.with_mut(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            unsafe { &mut *value }.take()
        })
    }

    fn slot(&self) -> &Slot<T> {
        &self.table.slots[self.index]
    }
}

impl<T> Ticket<'_, T> {
    /// Gives the slot back. Returns the value if it came and was not taken.
    pub(crate) fn abandon(self) -> Option<T> {
        let value = self.give_back();
        std::mem::forget(self);
        value
    }

    fn give_back(&self) -> Option<T> {
        let slot = self.slot();
        loop {
            match slot.phase.load(Ordering::Acquire) {
                // The completer is looking at the slot; it gives it back.
                CLAIMED if slot.change(CLAIMED, ABANDONED) => return None,
                WAITING if slot.change(WAITING, FREE) => break,
                READY => break,
                _ => {}
            }
        }
        let value = self.take();
        drop(slot.waker.take());
        self.table.release(self.index);
        value
    }
}

impl<T> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The one handle that completes the calls of a table.
#[derive(Debug)]
pub(crate) struct Completer<T>(Arc<SlotTable<T>>);

impl<T> Completer<T> {
    /// Completes the call with this id. Gives the value back if there is none.
    pub(crate) fn complete(&mut self, id: &str, key: u64, value: T) -> Result<(), T> {
        let table = Arc::clone(&self.0);
        for index in table.candidates(key) {
            if !table.slots[index].change(WAITING, CLAIMED) {
                continue;
            }
            if self.id_of(index) == id {
                return self.fill(index, value);
            }
            self.unclaim(index);
        }
        Err(value)
    }

    /// Completes every call whose deadline is at or before `now`.
    pub(crate) fn expire(&mut self, now: u64, value: impl FnMut(&str) -> T) -> usize {
        self.complete_where(|deadline| deadline <= now, value)
    }

    /// Completes every pending call; `value` gets its id.
    pub(crate) fn complete_all(&mut self, value: impl FnMut(&str) -> T) -> usize {
        self.complete_where(|_| true, value)
    }

    fn complete_where(
        &mut self,
        chosen: impl Fn(u64) -> bool,
        mut value: impl FnMut(&str) -> T,
    ) -> usize {
        let table = Arc::clone(&self.0);
        let mut completed = 0;
        for index in table.places.taken() {
            let slot = &table.slots[index];
            if !chosen(slot.deadline.load(Ordering::Relaxed)) || !slot.change(WAITING, CLAIMED) {
                continue;
            }
            // Another call may have opened the slot since its deadline was read.
            if !chosen(slot.deadline.load(Ordering::Relaxed)) {
                self.unclaim(index);
                continue;
            }
            let value = value(self.id_of(index));
            completed += usize::from(self.fill(index, value).is_ok());
        }
        completed
    }

    /// The id of a claimed slot.
    fn id_of(&self, index: usize) -> &str {
        self.0.slots[index].id.with(|id| {
            // SAFETY: the slot is CLAIMED or ABANDONED, and stays so while `self` is borrowed.
            unsafe { &*id }
        })
    }

    /// Puts a value into a claimed slot.
    fn fill(&mut self, index: usize, value: T) -> Result<(), T> {
        let slot = &self.0.slots[index];
        slot.value.with_mut(|place| {
            // SAFETY: the slot is CLAIMED or ABANDONED and this is the completer.
            unsafe { *place = Some(value) };
        });
        if slot.change(CLAIMED, READY) {
            slot.waker.wake();
            return Ok(());
        }
        let value = slot.value.with_mut(|place| {
            // SAFETY: the change failed, so the slot is ABANDONED and this is the completer.
            unsafe { &mut *place }.take()
        });
        self.0.release(index);
        value.map_or(Ok(()), Err)
    }

    /// Leaves a claimed slot as it was.
    fn unclaim(&mut self, index: usize) {
        if !self.0.slots[index].change(CLAIMED, WAITING) {
            self.0.release(index);
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;
    use std::task::Waker;

    fn poll<T>(ticket: &mut Ticket<'_, T>) -> Poll<T> {
        ticket.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_value_goes_to_the_call_with_its_id_even_behind_equal_keys() {
        let (table, mut completer) = SlotTable::new(4);
        let mut a = table.open("a", 1, 0).unwrap();
        assert_eq!(completer.complete("b", 1, 7), Err(7));
        assert_eq!(poll(&mut a), Poll::Pending);
        assert_eq!(completer.complete("a", 1, 8), Ok(()));
        assert_eq!(completer.complete("a", 1, 9), Err(9));
        assert_eq!(poll(&mut a), Poll::Ready(8));
        drop(a);
        assert_eq!(completer.complete("a", 1, 10), Err(10));
        assert_eq!(table.pending(), 0);
    }

    #[test]
    fn slots_run_out_and_come_back() {
        let (table, _completer) = SlotTable::<u8>::new(2);
        let first = table.open("a", 1, 0).unwrap();
        let _second = table.open("b", 2, 0).unwrap();
        assert_eq!(table.open("c", 3, 0).unwrap_err(), OpenError::Full);
        drop(first);
        assert!(table.open("c", 3, 0).is_ok());
    }

    #[test]
    fn one_call_per_id() {
        let (table, _completer) = SlotTable::<u8>::new(2);
        let first = table.open("a", 1, 0).unwrap();
        assert_eq!(table.open("a", 1, 0).unwrap_err(), OpenError::SameId);
        assert_eq!(table.pending(), 1);
        drop(first);
        assert!(table.open("a", 1, 0).is_ok());
    }

    #[test]
    fn only_what_is_due_expires() {
        let (table, mut completer) = SlotTable::new(70);
        let mut tickets: Vec<_> = (0..70)
            .map(|n| table.open(&n.to_string(), n, n).unwrap())
            .collect();
        assert_eq!(completer.expire(9, |_| 1), 10);
        for (n, ticket) in tickets.iter_mut().enumerate() {
            assert_eq!(poll(ticket).is_ready(), n < 10);
        }
        assert_eq!(completer.complete_all(|id| id.len()), 60);
    }

    #[test]
    fn the_waiting_task_is_woken() {
        use futures_util::task::{ArcWake, waker};
        use std::sync::atomic::{AtomicUsize, Ordering};

        #[derive(Default)]
        struct Wakes(AtomicUsize);
        impl ArcWake for Wakes {
            fn wake_by_ref(wakes: &Arc<Self>) {
                wakes.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        let wakes = Arc::new(Wakes::default());
        let (table, mut completer) = SlotTable::new(1);
        let mut ticket = table.open("a", 1, 0).unwrap();
        let waker = waker(Arc::clone(&wakes));
        assert!(ticket.poll(&Context::from_waker(&waker)).is_pending());
        completer.complete("a", 1, ()).unwrap();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }
}

#[cfg(all(test, tollgate_loom))]
mod loom_tests;
