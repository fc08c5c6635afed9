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

mod completer;
#[cfg(all(test, tollgate_loom))]
mod loom_tests;
#[cfg(all(test, not(tollgate_loom)))]
mod tests;

pub(crate) use completer::Completer;

use super::occupancy::Occupancy;
use super::sync::{AtomicU64, AtomicWaker, Ordering, UnsafeCell, fence};
use super::turnstile::Turnstile;
use super::{Connection, Reply};
use crate::wire::StreamId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
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
    /// Made when a slot of the row is used for the first time, so that an idle connection costs little.
    rows: Box<[OnceLock<Row<T>>]>,
    matching: Matching,
    /// Where callers wait for a free slot.
    lines: Box<[Arc<Turnstile>]>,
}

type Row<T> = Box<[Slot<T>; ROW_LEN]>;

const ROW_LEN: usize = 8;

/// How answers find their calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matching {
    /// By the caller's id, which only one pending call may have.
    ById,
    /// By the stream id of the ticket.
    ByStream,
}

struct Slot<T> {
    phase: AtomicU64,
    /// How many calls have opened the slot so far.
    generation: AtomicU64,
    /// When the call gives up, in the table's own unit of time.
    deadline: AtomicU64,
    /// When the value was received, in the unit of [`Completer::note_received`].
    received: AtomicU64,
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
    /// A call with the same id is pending, and answers are matched by id.
    SameId,
}

impl<T> SlotTable<T> {
    /// A table and the one handle that completes its calls. The head of each of `lines` learns of every slot
    /// that gets free.
    pub(crate) fn new(
        capacity: usize,
        matching: Matching,
        lines: impl Into<Box<[Arc<Turnstile>]>>,
    ) -> (Arc<Self>, Completer<T>) {
        let table = Arc::new(Self {
            places: Occupancy::new(capacity),
            keys: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            rows: (0..capacity.div_ceil(ROW_LEN))
                .map(|_| OnceLock::new())
                .collect(),
            matching,
            lines: lines.into(),
        });
        let completer = Completer::of(Arc::clone(&table));
        (table, completer)
    }

    /// Opens a slot for a call. `key` is a hash of `id`.
    ///
    /// Whatever the caller checks afterwards is checked behind a full fence: if it misses a change that
    /// another thread made before going through the table, that thread finds this slot.
    pub(crate) fn open<P: TableRef<T>>(
        table: P,
        id: &str,
        key: u64,
        deadline: u64,
    ) -> Result<Ticket<P, T>, OpenError> {
        let slots = table.table();
        let index = slots.places.take().ok_or(OpenError::Full)?;
        let slot = slots.slot(index);
        slot.id.with_mut(|stored| {
            // SAFETY: the place was just taken and the slot is not WAITING yet.
            let stored = unsafe { &mut *stored };
            stored.clear();
            stored.push_str(id);
        });
        slot.deadline.store(deadline, Ordering::Relaxed);
        // Nobody else counts while the place is taken.
        let generation = slot.generation.load(Ordering::Relaxed) + 1;
        slot.generation.store(generation, Ordering::Relaxed);
        slots.keys[index].store(key, Ordering::Relaxed);
        if slots.matching == Matching::ById {
            // Of two callers with one id at least one sees the other's key.
            fence(Ordering::SeqCst);
            if slots.others_with(key, index) {
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

    /// Whether a call with this key could be opened, if there is a free slot.
    pub(crate) fn admits(&self, key: u64) -> bool {
        self.matching == Matching::ByStream || !self.contains(key)
    }

    /// Whether a call with this key is pending.
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.candidates(key).next().is_some()
    }

    /// How many calls are pending.
    pub(crate) fn pending(&self) -> usize {
        self.places.count()
    }

    /// Whether no other call can be opened.
    pub(crate) fn is_full(&self) -> bool {
        self.places.is_full()
    }

    /// Whether more than one call is pending.
    pub(crate) fn has_several(&self) -> bool {
        self.places.has_several()
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

    #[inline]
    fn slot(&self, index: usize) -> &Slot<T> {
        let row = &self.rows[index / ROW_LEN];
        let row = row.get_or_init(|| Box::new(std::array::from_fn(|_| Slot::new())));
        &row[index % ROW_LEN]
    }

    fn candidates(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        self.places
            .taken()
            .filter(move |&index| self.keys[index].load(Ordering::Relaxed) == key)
    }

    fn release(&self, index: usize) {
        self.slot(index).phase.store(FREE, Ordering::Release);
        // The next holder is not to be taken for a call with this id while it sets the slot up.
        self.keys[index].store(NO_KEY, Ordering::Relaxed);
        self.places.release(index);
        self.lines.iter().for_each(|line| line.made_room());
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
            generation: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            received: AtomicU64::new(0),
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

/// The place of a slot, and above it how often that was opened, cut to 32 bits: a stream id comes again
/// after four thousand million calls in one slot.
fn stream_id(index: usize, generation: u64) -> StreamId {
    StreamId(generation << 32 | index as u64)
}

/// A way to hold on to a table.
///
/// # Safety
///
/// A value of this type must lead to the same table as long as it lives: tickets find their slots by
/// index.
pub(crate) unsafe trait TableRef<T> {
    fn table(&self) -> &SlotTable<T>;
}

// SAFETY: a shared reference leads to one table.
unsafe impl<T> TableRef<T> for &SlotTable<T> {
    fn table(&self) -> &SlotTable<T> {
        self
    }
}

// SAFETY: an `Arc` leads to one connection, and that never changes its table.
unsafe impl TableRef<Reply> for Arc<Connection> {
    fn table(&self) -> &SlotTable<Reply> {
        &self.slots
    }
}

/// A caller's hold on an open slot. Dropping it gives the slot back.
#[derive(Debug)]
pub(crate) struct Ticket<P: TableRef<T>, T> {
    table: P,
    index: usize,
    stream: StreamId,
    /// Whether the slot is not given back yet.
    holds_slot: bool,
    value: PhantomData<fn() -> T>,
}

impl<P: TableRef<T>, T> Ticket<P, T> {
    /// What holds on to the table.
    pub(crate) fn holder(&self) -> &P {
        &self.table
    }

    /// What the answer is matched by, if answers are matched by stream.
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// How many calls have opened the slot so far, cut to 32 bits.
    pub(crate) fn generation(&self) -> u64 {
        self.stream.0 >> 32
    }

    /// When the value was received that is there.
    pub(crate) fn received(&self) -> u64 {
        self.slot().received.load(Ordering::Relaxed)
    }

    /// Ready once the value is there. Never ready after it was taken.
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
        // Whoever filled the slot may have looked for a waker before this one was there.
        drop(self.slot().waker.take());
        Poll::Ready(())
    }

    /// Looks at the value where it is. `None` before it is there, and after it was taken.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        if !self.holds_slot || self.slot().phase.load(Ordering::Acquire) != READY {
            return None;
        }
        self.slot().value.with(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            unsafe { &*value }.as_ref().map(look)
        })
    }

    /// Changes the value where it is, so that a large one need not be moved. `None` before it is there, and after it was
    /// taken.
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.holds_slot || self.slot().phase.load(Ordering::Acquire) != READY {
            return None;
        }
        self.slot().value.with_mut(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            unsafe { &mut *value }.as_mut().map(change)
        })
    }

    /// Gives the slot back, if that has not happened yet. Returns the value if it came and was not taken.
    pub(crate) fn abandon(&mut self) -> Option<T> {
        self.give_back(Option::take).flatten()
    }

    /// Gives the slot back, if that has not happened yet. If the value came, it ends as `end` says.
    fn give_back<R>(&mut self, end: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        if !std::mem::take(&mut self.holds_slot) {
            return None;
        }
        let slot = self.slot();
        loop {
            match slot.phase.load(Ordering::Acquire) {
                // The completer is looking at the slot; it gives it back.
                CLAIMED if slot.change(CLAIMED, ABANDONED) => return None,
                WAITING if slot.change(WAITING, FREE) => {
                    drop(slot.waker.take());
                    self.release();
                    return None;
                }
                READY => break,
                _ => {}
            }
        }
        let ended = slot.value.with_mut(|value| {
            // SAFETY: the slot is READY and this is its ticket.
            end(unsafe { &mut *value })
        });
        self.release();
        Some(ended)
    }

    fn release(&self) {
        self.table.table().release(self.index);
    }

    fn slot(&self) -> &Slot<T> {
        self.table.table().slot(self.index)
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
