//! A bitmap of taken slots.

use super::sync::{AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

/// Tracks which slots of a table are taken, one bit each. Lock-free.
///
/// The lowest free slot is taken first, so that taken slots stay close together and are quick to
/// iterate over.
#[derive(Debug)]
pub(crate) struct SlotBitmap {
    /// A set bit is a taken slot. Invariant: bits beyond `capacity` are always set.
    words: Box<[CachePadded<AtomicU64>]>,
    capacity: usize,
}

impl SlotBitmap {
    pub(crate) fn new(capacity: usize) -> Self {
        let words = (0..capacity.div_ceil(64))
            .map(|word| CachePadded::new(AtomicU64::new(unused_bits(capacity - word * 64))))
            .collect();
        Self { words, capacity }
    }

    /// Takes the lowest free slot. Writes of its last owner are visible afterwards.
    pub(crate) fn take(&self) -> Option<usize> {
        self.words.iter().enumerate().find_map(|(at, word)| {
            // SeqCst throughout: see `release`. A successful exchange also acquires what the slot's
            // last owner wrote before its `release`.
            let mut taken = word.load(Ordering::SeqCst);
            while taken != u64::MAX {
                let lowest = taken.trailing_ones();
                match word.compare_exchange_weak(
                    taken,
                    taken | 1 << lowest,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                ) {
                    Ok(_) => return Some(at * 64 + lowest as usize),
                    Err(current) => taken = current,
                }
            }
            None
        })
    }

    /// Releases a slot. Only its owner may call this.
    ///
    /// SeqCst, because the owner checks for waiters next, while a waiter announces itself and then
    /// checks for a free slot. At least one of the two has to see the other: see
    /// [`WaitQueue`](super::wait_queue).
    pub(crate) fn release(&self, index: usize) {
        self.words[index / 64].fetch_and(!(1 << (index % 64)), Ordering::SeqCst);
    }

    /// Returns the slots that are taken at the moment, lowest first.
    pub(crate) fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let remaining = self.capacity - at * 64;
            let mut bits = word.load(Ordering::Acquire) & !unused_bits(remaining);
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(at * 64 + lowest as usize)
            })
        })
    }

    /// Returns the number of slots that are taken at the moment.
    pub(crate) fn count(&self) -> usize {
        let ones: u32 = self
            .words
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum();
        ones as usize - (self.words.len() * 64 - self.capacity)
    }

    /// Returns whether all slots are taken at the moment. Faster than [`SlotBitmap::count`], like
    /// [`SlotBitmap::has_several`].
    pub(crate) fn is_full(&self) -> bool {
        let mut words = self.words.iter();
        words.all(|word| word.load(Ordering::Relaxed) == u64::MAX)
    }

    /// Returns whether more than one slot is taken at the moment.
    pub(crate) fn has_several(&self) -> bool {
        self.taken().nth(1).is_some()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Returns the bits of a word that stand for no slot, if `remaining` slots are left for this word
/// and those after it.
const fn unused_bits(remaining: usize) -> u64 {
    if remaining >= 64 {
        0
    } else {
        u64::MAX << remaining
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/slot_bitmap.rs"]
mod tests;
