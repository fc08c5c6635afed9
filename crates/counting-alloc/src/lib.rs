//! mimalloc, counting, so that reports can say what a request costs on the heap.
//!
//! Counting must not slow down a program that allocates a lot, or comparing it with one that does not would
//! be unfair: each thread has a counter of its own, on a cache line of its own.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Declare one with `#[global_allocator]` to have a program's allocations counted.
#[derive(Debug)]
pub struct CountingAlloc;

/// How often this process has asked for heap memory so far; growing a block counts like a new one.
pub fn allocations() -> u64 {
    COUNTERS
        .iter()
        .map(|counter| counter.0.load(Ordering::Relaxed))
        .sum()
}

/// Threads that get a counter to themselves; later ones share the last.
const OWN_COUNTERS: usize = 127;

const NOT_CHOSEN: usize = usize::MAX;

static COUNTERS: [Counter; OWN_COUNTERS + 1] =
    [const { Counter(AtomicU64::new(0)) }; OWN_COUNTERS + 1];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Without a destructor and set up by the compiler, so that using it never allocates.
    static CHOSEN: Cell<usize> = const { Cell::new(NOT_CHOSEN) };
}

/// As wide as the pairs of lines that processors fetch.
#[repr(align(128))]
struct Counter(AtomicU64);

fn count() {
    let chosen = CHOSEN.get();
    let index = if chosen == NOT_CHOSEN {
        choose()
    } else {
        chosen
    };
    let counter = &COUNTERS[index].0;
    if index == OWN_COUNTERS {
        counter.fetch_add(1, Ordering::Relaxed);
    } else {
        // Nobody else writes to it, which spares the locked instruction.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

#[cold]
fn choose() -> usize {
    let index = THREADS.fetch_add(1, Ordering::Relaxed).min(OWN_COUNTERS);
    CHOSEN.set(index);
    index
}

// SAFETY: every call goes unchanged to mimalloc, which keeps the contract; counting neither allocates
// nor unwinds.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that mimalloc asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that mimalloc asks for.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that mimalloc asks for, and the block is mimalloc's.
        unsafe { MiMalloc.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the ones that mimalloc asks for, and the block is mimalloc's.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: CountingAlloc = CountingAlloc;

    #[test]
    fn counts_new_and_grown_blocks_of_all_threads() {
        let before = allocations();
        let grown = std::thread::spawn(|| {
            let mut text = String::with_capacity(8);
            text.push_str("longer than eight bytes");
            text
        });
        let text = grown.join().unwrap();
        assert!(allocations() >= before + 2, "{text}");
    }
}
