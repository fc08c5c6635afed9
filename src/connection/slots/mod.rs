//! The table of calls waiting for an answer on one connection.
//!
//! A table has a fixed number of slots. A caller *opens* one and gets a [`Ticket`]. The table's one
//! [`Completer`] puts a value into the slot, and the caller takes it through the ticket. Nothing
//! waits for a lock, and once ids have been stored in every slot, nothing is allocated.
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
//! The unsafe code relies on these invariants:
//! * Between taking a slot's bit and setting the phase to WAITING, only the opener accesses the
//!   slot's cells.
//! * While WAITING, nothing accesses them.
//! * While CLAIMED or ABANDONED, only the one who claimed the slot accesses them: the completer or,
//!   if the caller completes its own call, the ticket.
//! * While READY, only the ticket accesses them.
//! * There is one completer, so it makes no concurrent claims.

#![allow(unsafe_code)]

mod completer;
#[cfg(all(test, tollgate_loom))]
#[path = "../../../tests/unit/connection/slots_loom.rs"]
mod loom_tests;
#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../../tests/unit/connection/slots.rs"]
mod tests;

pub(crate) use completer::Completer;

use super::slot_bitmap::SlotBitmap;
use super::sync::{AtomicU64, AtomicWaker, Ordering, UnsafeCell, fence, spin_loop};
use super::wait_queue::WaitQueue;
use super::{Connection, SlotValue};
use crate::debug_fields::debug_fields;
use crate::wire::StreamId;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

/// Key of a free slot. A call may have it by chance, which is harmless: at worst it is taken for a
/// duplicate of a call that is just being opened, and rejected.
const NO_KEY: u64 = 0;

// Phases of a slot, as in the diagram above.
const FREE: u64 = 0;
const WAITING: u64 = 1;
const CLAIMED: u64 = 2;
const ABANDONED: u64 = 3;
const READY: u64 = 4;

/// A fixed number of slots for pending calls, found by id.
pub(crate) struct SlotTable<T> {
    /// Slots that are not free.
    occupied: SlotBitmap,
    /// Hash of the id in each slot, to find candidates without looking at the slots.
    keys: Box<[AtomicU64]>,
    /// Slots in rows. A row is allocated when one of its slots is first used, so that an idle
    /// connection needs little memory.
    rows: Box<[OnceLock<Row<T>>]>,
    pub(super) matching: Matching,
    /// Queues to notify when a slot becomes free.
    queues: Box<[Arc<WaitQueue>]>,
}

type Row<T> = Box<[Slot<T>; ROW_LEN]>;

/// Number of slots per row.
const ROW_LEN: usize = 8;

/// Key by which answers are matched with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matching {
    /// The caller's id, which only one pending call may have.
    ById,
    /// The stream id of the ticket.
    ByStream,
}

struct Slot<T> {
    phase: AtomicU64,
    /// Number of calls that have opened the slot so far.
    generation: AtomicU64,
    /// Time at which the call expires, in a unit of the table's user.
    deadline: AtomicU64,
    /// Time at which the value was received, in the unit of [`Completer::note_received`].
    received: AtomicU64,
    /// Wakes the caller.
    waker: AtomicWaker,
    /// The caller's id. Its memory is reused by the next call.
    id: UnsafeCell<String>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: by the invariants above, one thread at a time accesses a cell. Each change of phase that
// passes the access on is a release that the next thread acquires. `T` is sent between threads.
unsafe impl<T: Send> Sync for SlotTable<T> {}

/// Why a slot could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Every slot is taken.
    Full,
    /// A call with this id is pending, and answers are matched by id.
    SameId,
}

impl<T> SlotTable<T> {
    /// Creates a table and the one handle that completes its calls. Each of `queues` is notified of
    /// every slot that becomes free.
    pub(crate) fn new(
        capacity: usize,
        matching: Matching,
        queues: impl Into<Box<[Arc<WaitQueue>]>>,
    ) -> (Arc<Self>, Completer<T>) {
        let table = Arc::new(Self {
            occupied: SlotBitmap::new(capacity),
            keys: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            rows: (0..capacity.div_ceil(ROW_LEN))
                .map(|_| OnceLock::new())
                .collect(),
            matching,
            queues: queues.into(),
        });
        let completer = Completer::new(Arc::clone(&table));
        (table, completer)
    }

    /// Opens a slot for a call. `key` is a hash of `id`.
    ///
    /// A SeqCst fence comes last. So if a later check of the caller misses a change that another
    /// thread has made before a SeqCst fence of its own, then that thread sees this slot after its
    /// fence.
    pub(crate) fn open<P: TableRef<T>>(
        table: P,
        id: &str,
        key: u64,
        deadline: u64,
    ) -> Result<Ticket<P, T>, OpenError> {
        let slots = table.table();
        let index = slots.occupied.take().ok_or(OpenError::Full)?;
        let slot = slots.slot(index);
        slot.id.with_mut(|stored| {
            // SAFETY: the slot's bit was just taken and the slot is not WAITING yet.
            let stored = unsafe { &mut *stored };
            stored.clear();
            stored.push_str(id);
        });
        slot.deadline.store(deadline, Ordering::Relaxed);
        // Only the owner of the bit changes the generation.
        let generation = slot.generation.load(Ordering::Relaxed) + 1;
        slot.generation.store(generation, Ordering::Relaxed);
        slots.keys[index].store(key, Ordering::Relaxed);
        if slots.matching == Matching::ById {
            // Of two callers with the same id, at least one sees the key of the other. Both may,
            // and then both are rejected.
            fence(Ordering::SeqCst);
            if slots.has_other(key, index) {
                slots.release(index);
                return Err(OpenError::SameId);
            }
        }
        slot.phase.store(WAITING, Ordering::Release);
        fence(Ordering::SeqCst);
        Ok(Ticket {
            table,
            index,
            stream: stream_id(index, generation),
            holds_slot: true,
            value: PhantomData,
        })
    }

    /// Returns whether a call with this key could be opened, provided that a slot is free.
    pub(crate) fn accepts_key(&self, key: u64) -> bool {
        self.matching == Matching::ByStream || !self.contains(key)
    }

    /// Returns whether a call with this key is pending.
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.candidates(key).next().is_some()
    }

    /// Returns the number of pending calls.
    pub(crate) fn pending(&self) -> usize {
        self.occupied.count()
    }

    /// Returns the number of calls that were opened so far.
    #[cfg(feature = "__sim")]
    pub(crate) fn opened(&self) -> u64 {
        let slots = self
            .rows
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|row| row.iter());
        slots
            .map(|slot| slot.generation.load(Ordering::Relaxed))
            .sum()
    }

    /// Returns whether no further call can be opened.
    pub(crate) fn is_full(&self) -> bool {
        self.occupied.is_full()
    }

    /// Returns whether more than one call is pending.
    pub(crate) fn has_several(&self) -> bool {
        self.occupied.has_several()
    }

    /// Returns the maximum number of pending calls.
    pub(crate) fn capacity(&self) -> usize {
        self.occupied.capacity()
    }

    /// Returns whether another slot has this key.
    ///
    /// Different ids may have equal keys. Rejecting such a call too is harmless and, with 64 bits
    /// and a random seed, practically never happens.
    fn has_other(&self, key: u64, own: usize) -> bool {
        self.candidates(key).any(|index| index != own)
    }

    #[inline]
    fn slot(&self, index: usize) -> &Slot<T> {
        let row = &self.rows[index / ROW_LEN];
        let row = row.get_or_init(|| Box::new(std::array::from_fn(|_| Slot::new())));
        &row[index % ROW_LEN]
    }

    fn candidates(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        self.occupied
            .taken()
            .filter(move |&index| self.keys[index].load(Ordering::Relaxed) == key)
    }

    fn release(&self, index: usize) {
        self.slot(index).phase.store(FREE, Ordering::Release);
        // Keeps the next call, while it sets the slot up, from being taken for a call with this id.
        self.keys[index].store(NO_KEY, Ordering::Relaxed);
        self.occupied.release(index);
        self.queues.iter().for_each(|queue| queue.notify_one());
    }
}

debug_fields!(SlotTable<T>, |self| capacity: self.capacity(), pending: self.pending());

impl<T> Slot<T> {
    fn new() -> Self {
        Self {
            phase: AtomicU64::new(FREE),
            generation: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            received: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            id: UnsafeCell::new(String::new()),
            value: UnsafeCell::new(None),
        }
    }

    /// Puts a value into the slot, which the caller has claimed.
    fn put(&self, received: u64, value: T) {
        self.received.store(received, Ordering::Relaxed);
        self.value.with_mut(|cell| {
            // SAFETY: the slot is CLAIMED or ABANDONED, and the caller has claimed it.
            unsafe { *cell = Some(value) };
        });
    }

    fn transition(&self, from: u64, to: u64) -> bool {
        self.phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Returns the index of a slot in the low 32 bits, and the low 32 bits of its generation above. So
/// a stream id repeats only after 2^32 calls in one slot.
fn stream_id(index: usize, generation: u64) -> StreamId {
    StreamId(generation << 32 | index as u64)
}

/// A reference to a table, borrowed or owning.
///
/// # Safety
///
/// `table` must return the same table as long as the value lives, because tickets find their slots
/// by index.
pub(crate) unsafe trait TableRef<T> {
    fn table(&self) -> &SlotTable<T>;
}

// SAFETY: a shared reference always refers to the same table.
unsafe impl<T> TableRef<T> for &SlotTable<T> {
    fn table(&self) -> &SlotTable<T> {
        self
    }
}

// SAFETY: an `Arc` always refers to the same connection, which never changes its table.
unsafe impl TableRef<SlotValue> for Arc<Connection> {
    fn table(&self) -> &SlotTable<SlotValue> {
        &self.calls.slots
    }
}

/// A caller's ownership of an open slot. Dropping it releases the slot.
#[derive(Debug)]
pub(crate) struct Ticket<P: TableRef<T>, T> {
    table: P,
    index: usize,
    stream: StreamId,
    /// `true` until the slot is given back.
    holds_slot: bool,
    /// The ticket lends and gives out values, so it may be shared and sent as they may be.
    value: PhantomData<T>,
}

impl<P: TableRef<T>, T> Ticket<P, T> {
    /// Returns the reference to the table.
    pub(crate) fn table_ref(&self) -> &P {
        &self.table
    }

    /// Returns the stream id, by which the answer is matched with [`Matching::ByStream`].
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Returns the number of calls that have opened the slot so far, cut to 32 bits.
    pub(crate) fn generation(&self) -> u64 {
        self.stream.0 >> 32
    }

    /// Returns the time at which the value was received.
    pub(crate) fn received(&self) -> u64 {
        self.slot().received.load(Ordering::Relaxed)
    }

    /// Polls until the slot holds a value. Stays pending after the value was taken.
    pub(crate) fn poll_filled(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.holds_slot {
            return Poll::Pending;
        }
        if self.slot().phase.load(Ordering::Acquire) == READY {
            return Poll::Ready(());
        }
        self.slot().waker.register(cx.waker());
        if self.slot().phase.load(Ordering::Acquire) != READY {
            return Poll::Pending;
        }
        // The completer may have filled the slot and missed this waker. Nothing takes the waker
        // then, and it would keep the task alive.
        drop(self.slot().waker.take());
        Poll::Ready(())
    }

    /// Puts a value into the slot, for a call that its caller completes. Returns the value if the
    /// completer was first.
    pub(crate) fn fill(&mut self, received: u64, value: T) -> Result<(), T> {
        if !self.holds_slot {
            return Err(value);
        }
        let slot = self.slot();
        while !slot.transition(WAITING, CLAIMED) {
            if slot.phase.load(Ordering::Acquire) == READY {
                return Err(value);
            }
            // The completer has claimed the slot, and fills it or undoes that at once.
            spin_loop();
        }
        slot.put(received, value);
        slot.phase.store(READY, Ordering::Release);
        // It was registered in an earlier poll, and keeps the task alive.
        drop(slot.waker.take());
        Ok(())
    }

    /// Lets `read` look at the value in the slot. Returns `None` before it is there and after it
    /// was taken.
    pub(crate) fn peek<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        if !self.holds_slot || self.slot().phase.load(Ordering::Acquire) != READY {
            return None;
        }
        self.slot().value.with(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            unsafe { &*value }.as_ref().map(read)
        })
    }

    /// Lets `update` change the value in the slot, so that a large one need not be moved. Returns
    /// `None` before it is there and after it was taken.
    #[cfg(feature = "http")]
    pub(crate) fn update<R>(&mut self, update: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.holds_slot || self.slot().phase.load(Ordering::Acquire) != READY {
            return None;
        }
        self.slot().value.with_mut(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            unsafe { &mut *value }.as_mut().map(update)
        })
    }

    /// Gives the slot back, if that has not happened yet. Returns the value if there is one.
    pub(crate) fn abandon(&mut self) -> Option<T> {
        self.give_back(Option::take).flatten()
    }

    /// Gives the slot back, if that has not happened yet. If the slot holds a value, `end` takes or
    /// drops it first.
    fn give_back<R>(&mut self, end: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        if !std::mem::take(&mut self.holds_slot) {
            return None;
        }
        let slot = self.slot();
        loop {
            match slot.phase.load(Ordering::Acquire) {
                // The completer has claimed the slot. It gives the slot back when it is done.
                CLAIMED => {
                    // Not after the change: the waker may be that of the next call then.
                    drop(slot.waker.take());
                    if slot.transition(CLAIMED, ABANDONED) {
                        return None;
                    }
                }
                WAITING if slot.transition(WAITING, FREE) => {
                    drop(slot.waker.take());
                    self.release();
                    return None;
                }
                READY => break,
                _ => {}
            }
        }
        // Releases the slot when the value is out, which is large and so goes where it is returned.
        let _released = Released(self.table.table(), self.index);
        Some(slot.value.with_mut(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            end(unsafe { &mut *value })
        }))
    }

    fn release(&self) {
        self.table.table().release(self.index);
    }

    fn slot(&self) -> &Slot<T> {
        self.table.table().slot(self.index)
    }
}

/// Releases a slot when it is dropped.
struct Released<'t, T>(&'t SlotTable<T>, usize);

impl<T> Drop for Released<'_, T> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

#[cfg(test)]
impl<P: TableRef<T>, T> Ticket<P, T> {
    /// Takes the value once it is there.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<T> {
        match self.poll_filled(cx) {
            Poll::Ready(()) => self.abandon().map_or(Poll::Pending, Poll::Ready),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<P: TableRef<T>, T> Drop for Ticket<P, T> {
    fn drop(&mut self) {
        self.give_back(|value| *value = None);
    }
}
