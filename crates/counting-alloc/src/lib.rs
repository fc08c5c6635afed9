//! mimalloc, counting, so that reports can say what a request costs on the heap.
//!
//! With [`ALLOCATOR_VARIABLE`] set to `system` it is the system's allocator that counts, so that the same program can be
//! measured with either.
//!
//! Counting must not slow down a program that allocates a lot, or comparing it with one that does not would
//! be unfair: each thread has a counter of its own, on a cache line of its own.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Declare one with `#[global_allocator]` to have a program's allocations counted.
#[derive(Debug)]
pub struct CountingAlloc;

/// The environment variable that says what the memory comes from: `system`, or else `mimalloc`.
pub const ALLOCATOR_VARIABLE: &CStr = c"TOLLGATE_ALLOCATOR";

/// What [`ALLOCATOR_VARIABLE`] calls the allocator that this process has.
pub fn allocator() -> &'static str {
    if is_system() { "system" } else { "mimalloc" }
}

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

const MIMALLOC: u8 = 1;
const SYSTEM: u8 = 2;

/// Zero until the first allocation. Never changes afterwards, since a block must go back to where it came from.
static BENEATH: AtomicU8 = AtomicU8::new(0);

fn is_system() -> bool {
    match BENEATH.load(Ordering::Relaxed) {
        0 => choose_beneath() == SYSTEM,
        chosen => chosen == SYSTEM,
    }
}

#[cold]
#[allow(unsafe_code)]
fn choose_beneath() -> u8 {
    // SAFETY: the name ends with a zero, and the first allocation is made before a program has a second thread that
    // could change its environment. Reading it by the standard library would allocate.
    let value = unsafe { libc::getenv(ALLOCATOR_VARIABLE.as_ptr()) };
    // SAFETY: a value that is there ends with a zero, and nothing changes it while it is looked at.
    let is_system = !value.is_null() && unsafe { CStr::from_ptr(value) } == c"system";
    let chosen = if is_system { SYSTEM } else { MIMALLOC };
    BENEATH.store(chosen, Ordering::Relaxed);
    chosen
}

// SAFETY: every call goes unchanged to one allocator, the same for the life of the process, which keeps the contract;
// counting neither allocates nor unwinds.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that either allocator asks for.
        unsafe {
            if is_system() {
                System.alloc(layout)
            } else {
                MiMalloc.alloc(layout)
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that either allocator asks for.
        unsafe {
            if is_system() {
                System.alloc_zeroed(layout)
            } else {
                MiMalloc.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that either asks for, and the block is from the one that is asked.
        unsafe {
            if is_system() {
                System.realloc(block, layout, new_size)
            } else {
                MiMalloc.realloc(block, layout, new_size)
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the ones that either asks for, and the block is from the one that is asked.
        unsafe {
            if is_system() {
                System.dealloc(block, layout);
            } else {
                MiMalloc.dealloc(block, layout);
            }
        }
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
