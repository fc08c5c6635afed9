//! The command's allocator: mimalloc, counting, so that reports can say what a request costs on the heap.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static GLOBAL: CountingAlloc = CountingAlloc;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// How often this process has asked for heap memory so far; growing a block counts like a new one.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// One shared counter is enough: what is counted is meant to be rare.
fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

struct CountingAlloc;

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

    #[test]
    fn counts_new_and_grown_blocks() {
        let before = allocations();
        let mut text = String::with_capacity(8);
        text.push_str("longer than eight bytes");
        assert!(allocations() >= before + 2, "{text}");
    }
}
