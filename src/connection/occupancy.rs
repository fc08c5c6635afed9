//! Which slots of a table are taken, one bit each.

use super::sync::{AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

/// A set of free and taken places that many threads take from and give back to without waiting.
///
/// The lowest free place is taken, so that the taken ones stay together and are quick to go through.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// A set bit is a taken place. Invariant: bits beyond `capacity` are set for ever.
    words: Box<[CachePadded<AtomicU64>]>,
    capacity: usize,
}

impl Occupancy {
    pub(crate) fn new(capacity: usize) -> Self {
        let words = (0..capacity.div_ceil(64))
            .map(|word| CachePadded::new(AtomicU64::new(beyond(capacity - word * 64))))
            .collect();
        Self { words, capacity }
    }

    /// Takes the lowest free place. What its last holder wrote is visible from then on.
    pub(crate) fn take(&self) -> Option<usize> {
        self.words.iter().enumerate().find_map(|(at, word)| {
            // SeqCst throughout: see `release`. Success also pairs with the release of the place's last
            // holder.
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

    /// Gives a place back; only its holder may.
    ///
    /// SeqCst, because whoever gives a place back looks for waiters next, and a waiter looks for a place
    /// after it has announced itself: one of the two must see the other.
    pub(crate) fn release(&self, index: usize) {
        self.words[index / 64].fetch_and(!(1 << (index % 64)), Ordering::SeqCst);
    }

    /// The places that are taken at the moment, lowest first.
    pub(crate) fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let left = self.capacity - at * 64;
            let mut bits = word.load(Ordering::Acquire) & !beyond(left);
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(at * 64 + lowest as usize)
            })
        })
    }

    /// How many places are taken at the moment.
    pub(crate) fn count(&self) -> usize {
        let ones: u32 = self
            .words
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum();
        ones as usize - (self.words.len() * 64 - self.capacity)
    }

    /// Whether no place is free at the moment. Faster than counting those that are taken, as is [`Occupancy::has_several`].
    pub(crate) fn is_full(&self) -> bool {
        let mut words = self.words.iter();
        words.all(|word| word.load(Ordering::Relaxed) == u64::MAX)
    }

    /// Whether more than one place is taken at the moment.
    pub(crate) fn has_several(&self) -> bool {
        self.taken().nth(1).is_some()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// The bits of a word that stand for no place, if `left` places remain for it.
const fn beyond(left: usize) -> u64 {
    if left >= 64 { 0 } else { u64::MAX << left }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_taken_once() {
        for capacity in [1, 63, 64, 65, 100, 128] {
            let places = Occupancy::new(capacity);
            let taken: Vec<_> = std::iter::from_fn(|| places.take()).collect();
            assert_eq!(taken, (0..capacity).collect::<Vec<_>>());
            assert_eq!(places.count(), capacity);
            assert!(places.is_full());
            assert_eq!(places.taken().collect::<Vec<_>>(), taken);
        }
    }

    #[test]
    fn several_are_more_than_one() {
        let places = Occupancy::new(100);
        for taken in 0..100 {
            assert_eq!((places.has_several(), places.is_full()), (taken > 1, false));
            places.take();
        }
        (0..98).for_each(|place| places.release(place));
        assert!(places.has_several());
        places.release(99);
        assert!(!places.has_several());
    }

    #[test]
    fn the_lowest_place_is_taken_first() {
        let places = Occupancy::new(100);
        while places.take().is_some() {}
        places.release(70);
        places.release(3);
        assert_eq!(places.count(), 98);
        assert_eq!(places.take(), Some(3));
        assert_eq!(places.take(), Some(70));
        assert_eq!(places.take(), None);
    }
}
