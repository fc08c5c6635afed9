//! A global allocator that counts allocations, so that reports can state the heap allocations per
//! request.
//!
//! It allocates with mimalloc, or with the system's allocator if [`ALLOCATOR_VARIABLE`] is set to
//! `system`, so that one program can be measured with either.
//!
//! Counting must not slow down programs that allocate often, or comparisons with programs that do
//! not would be unfair. Each thread therefore has its own counter on its own cache lines.

#![warn(missing_docs)]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// The counting allocator. Declare it with `#[global_allocator]` to count a program's allocations.
#[derive(Debug)]
pub struct CountingAlloc;

/// Name of the environment variable that selects the allocator: `system`, or any other value or
/// none for mimalloc.
pub const ALLOCATOR_VARIABLE: &CStr = c"TOLLGATE_ALLOCATOR";

/// Returns the name of the allocator of this process: `system` or `mimalloc`.
pub fn allocator() -> &'static str {
    if is_system() { "system" } else { "mimalloc" }
}

/// Returns the number of allocations of this process so far. Reallocations count as allocations.
pub fn allocations() -> u64 {
    COUNTERS
        .iter()
        .map(|counter| counter.0.load(Ordering::Relaxed))
        .sum()
}

/// Number of threads with their own counter. Later threads share the last counter.
const OWN_COUNTERS: usize = 127;

const UNASSIGNED: usize = usize::MAX;

static COUNTERS: [Counter; OWN_COUNTERS + 1] =
    [const { Counter(AtomicU64::new(0)) }; OWN_COUNTERS + 1];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Const-initialised and without a destructor, so that accessing it never allocates.
    static OWN_INDEX: Cell<usize> = const { Cell::new(UNASSIGNED) };
}

/// Aligned to 128 bytes because processors prefetch cache lines in pairs.
#[repr(align(128))]
struct Counter(AtomicU64);

fn count() {
    let chosen = OWN_INDEX.get();
    let index = if chosen == UNASSIGNED {
        assign_counter()
    } else {
        chosen
    };
    let counter = &COUNTERS[index].0;
    if index == OWN_COUNTERS {
        counter.fetch_add(1, Ordering::Relaxed);
    } else {
        // Only this thread writes to its counter, so no atomic read-modify-write is needed.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

#[cold]
fn assign_counter() -> usize {
    let index = THREADS.fetch_add(1, Ordering::Relaxed).min(OWN_COUNTERS);
    OWN_INDEX.set(index);
    index
}

/// Number of mimalloc's option `purge_delay`: the time in milliseconds after which freed memory is
/// returned to the system.
const PURGE_DELAY: i32 = 15;

const MIMALLOC: u8 = 1;
const SYSTEM: u8 = 2;

/// The underlying allocator, zero until the first allocation. Never changes afterwards: a block
/// must be freed by the allocator that it came from.
static UNDERLYING: AtomicU8 = AtomicU8::new(0);

fn is_system() -> bool {
    match UNDERLYING.load(Ordering::Relaxed) {
        0 => choose_underlying() == SYSTEM,
        chosen => chosen == SYSTEM,
    }
}

#[cold]
#[allow(unsafe_code)]
fn choose_underlying() -> u8 {
    // The standard library's functions for this would allocate.
    // SAFETY: the name ends with a zero byte. The first allocation happens before the program has a
    // second thread that could change the environment.
    let value = unsafe { libc::getenv(ALLOCATOR_VARIABLE.as_ptr()) };
    // SAFETY: a value that is not null ends with a zero byte, and no other thread exists that could
    // change it.
    let is_system = !value.is_null() && unsafe { CStr::from_ptr(value) } == c"system";
    let chosen = if is_system { SYSTEM } else { MIMALLOC };
    // With a delay, the memory of large frames would be returned only when more is freed later: an
    // idle process would keep all that its peers once made it hold.
    // SAFETY: the option exists, and no other thread exists that could use mimalloc.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
    UNDERLYING.store(chosen, Ordering::Relaxed);
    chosen
}

// SAFETY: every call is forwarded unchanged to one allocator, the same one for the life of the
// process, which upholds the contract. Counting neither allocates nor unwinds.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `GlobalAlloc`, which both allocators require.
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
        // SAFETY: the caller upholds the contract of `GlobalAlloc`, which both allocators require.
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
        // SAFETY: the caller upholds the contract of `GlobalAlloc`, which both allocators require.
        // The block came from the same allocator, as the choice never changes.
        unsafe {
            if is_system() {
                System.realloc(block, layout, new_size)
            } else {
                MiMalloc.realloc(block, layout, new_size)
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `GlobalAlloc`, which both allocators require.
        // The block came from the same allocator, as the choice never changes.
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
