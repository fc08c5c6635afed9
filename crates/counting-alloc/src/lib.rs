//! A global allocator that counts allocations, so that reports can state the heap allocations per
//! request.
//!
//! It allocates with mimalloc, or with the system's allocator if [`ALLOCATOR_VARIABLE`] is set to
//! `system`, so that one program can be measured with either. Large blocks always come from the
//! system, which gets them back when they are freed.
//!
//! Counting must not slow down programs that allocate often, or comparisons with programs that do
//! not would be unfair. Each thread therefore has its own counter on its own cache lines.

#![warn(missing_docs)]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The counting allocator. Declare it with `#[global_allocator]` to count a program's allocations.
///
/// Blocks of `LARGE` bytes and more come from the system, by default those of 256 KiB. mimalloc
/// would keep those that another thread frees, which is usual for the buffers of connections, until
/// their own thread allocates again. Blocks between 64 KiB and 512 KiB share pages of 4 MiB, which
/// mimalloc returns only as a whole: a program that must not exceed a limit sets 64 KiB. It pays
/// with system calls for each such block.
#[derive(Debug)]
pub struct CountingAlloc<const LARGE: usize = { 256 * 1024 }>;

/// Name of the environment variable that selects the allocator: `system`, or any other value or
/// none for mimalloc.
pub const ALLOCATOR_VARIABLE: &CStr = c"TOLLGATE_ALLOCATOR";

/// Returns the name of the allocator of this process: `system` or `mimalloc`.
pub fn allocator() -> &'static str {
    if SYSTEM_FROM.load(Ordering::Relaxed) == 0 {
        "system"
    } else {
        "mimalloc"
    }
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

const UNDECIDED: usize = usize::MAX;

/// Size from which blocks come from the system's allocator: 0 or that of the program once it is
/// decided. Never changes afterwards: a block must be freed by the allocator that it came from.
static SYSTEM_FROM: AtomicUsize = AtomicUsize::new(UNDECIDED);

#[cold]
#[allow(unsafe_code)]
fn decide(large: usize) -> usize {
    // The standard library's functions for this would allocate.
    // SAFETY: the name ends with a zero byte. The first allocation happens before the program has a
    // second thread that could change the environment.
    let value = unsafe { libc::getenv(ALLOCATOR_VARIABLE.as_ptr()) };
    // SAFETY: a value that is not null ends with a zero byte, and no other thread exists that could
    // change it.
    let only_system = !value.is_null() && unsafe { CStr::from_ptr(value) } == c"system";
    // With a delay, freed memory would be returned only when more is freed later: an idle process
    // would keep all that its peers once made it hold.
    // SAFETY: the option exists, and no other thread exists that could use mimalloc.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
    // Without a fixed threshold, glibc keeps large blocks as well, once some were freed.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if !only_system {
        // SAFETY: the parameter exists, and no other thread exists that could allocate.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, large as libc::c_int) };
    }
    let decided = if only_system { 0 } else { large };
    SYSTEM_FROM.store(decided, Ordering::Relaxed);
    decided
}

// SAFETY: every call is forwarded to one of two allocators that uphold the contract. Which one
// depends on the size of the block alone, which is the same when it is allocated and freed.
// Counting neither allocates nor unwinds.
#[allow(unsafe_code)]
unsafe impl<const LARGE: usize> GlobalAlloc for CountingAlloc<LARGE> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { Self::allocate(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `GlobalAlloc`, which both allocators require.
        unsafe {
            if Self::is_system(layout.size()) {
                System.alloc_zeroed(layout)
            } else {
                MiMalloc.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `GlobalAlloc`, which both allocators require.
        // If the block has to move to the other allocator, both blocks have at least the bytes that
        // are copied, and the old one is freed only if there is a new one.
        unsafe {
            match (Self::is_system(layout.size()), Self::is_system(new_size)) {
                (true, true) => System.realloc(block, layout, new_size),
                (false, false) => MiMalloc.realloc(block, layout, new_size),
                _ => {
                    let moved =
                        Self::allocate(Layout::from_size_align_unchecked(new_size, layout.align()));
                    if !moved.is_null() {
                        block.copy_to_nonoverlapping(moved, layout.size().min(new_size));
                        Self::free(block, layout);
                    }
                    moved
                }
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { Self::free(block, layout) }
    }
}

impl<const LARGE: usize> CountingAlloc<LARGE> {
    /// Returns whether a block of this size comes from the system's allocator.
    fn is_system(size: usize) -> bool {
        match SYSTEM_FROM.load(Ordering::Relaxed) {
            UNDECIDED => size >= decide(LARGE),
            from => size >= from,
        }
    }

    /// Allocates without counting.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::alloc`].
    #[allow(unsafe_code)]
    unsafe fn allocate(layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract, which both allocators require.
        unsafe {
            if Self::is_system(layout.size()) {
                System.alloc(layout)
            } else {
                MiMalloc.alloc(layout)
            }
        }
    }

    /// Frees a block.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::dealloc`].
    #[allow(unsafe_code)]
    unsafe fn free(block: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract, which both allocators require. The block came
        // from the same allocator, since that depends on its size alone.
        unsafe {
            if Self::is_system(layout.size()) {
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

    #[test]
    fn blocks_keep_their_content_when_they_become_large_or_small() {
        const LARGE: usize = 256 * 1024;
        let pattern = |len: usize| (0..len).map(|at| (at % 251) as u8);
        let mut bytes: Vec<u8> = pattern(LARGE - 1).collect();
        for len in [LARGE, 3 * LARGE, LARGE - 1, 100, 2 * LARGE, LARGE] {
            bytes.truncate(len);
            bytes.extend(pattern(len).skip(bytes.len()));
            bytes.shrink_to_fit();
            assert!(bytes.iter().copied().eq(pattern(len)), "{len}");
        }
    }
}
