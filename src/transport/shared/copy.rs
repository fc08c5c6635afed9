//! Copies into memory that the peer reads, and out of memory that the peer may write meanwhile.
//!
//! No reference to shared bytes is ever formed, since a reference promises that nobody writes what
//! it refers to. Bytes of the peer are loaded by atomic loads, or by an instruction that the
//! compiler knows nothing of; both race with nothing. What is decoded later is the private copy.

#![allow(
    unsafe_code,
    reason = "shared memory is reached through raw pointers only"
)]

use bytes::{BufMut, BytesMut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Bytes from which on starting one instruction for all of them is worth it.
const LONG: usize = 512;

/// Copies `bytes` to `to`.
///
/// # Safety
///
/// `to` is valid for writes of as many bytes, and nothing else in this process accesses them
/// meanwhile.
pub(super) unsafe fn write(to: *mut u8, bytes: &[u8]) {
    // SAFETY: the caller's promise. `bytes` is private memory, so the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// Appends a copy of `len` bytes from `from` to `into`.
///
/// # Safety
///
/// `from` is valid for reads of `len` bytes. Other processes may write them meanwhile; this process
/// does not, other than by atomic stores.
///
/// # Panics
///
/// Panics if `into` has less spare capacity.
pub(super) unsafe fn append(from: *const u8, len: usize, into: &mut BytesMut) {
    let spare = into.spare_capacity_mut();
    let to = spare[..len].as_mut_ptr().cast::<u8>();
    // SAFETY: `from` by the caller's promise, and `to` is the start of `len` bytes of spare
    // capacity.
    unsafe {
        if len < LONG {
            copy_out(from, to, len);
        } else {
            copy_long(from, to, len);
        }
    }
    // SAFETY: these bytes were initialised above.
    unsafe { into.advance_mut(len) };
}

/// Copies by one instruction, which takes a quarter of the time of words for 64 KiB.
///
/// # Safety
///
/// As for [`append`]; `to` is valid for writes of `len` bytes that only this thread accesses.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn copy_long(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the ranges are valid by the caller's promise, and the direction flag is clear, as it
    // always is at the begin of an `asm!` block. What other processes write meanwhile counts as a
    // row of relaxed loads of bytes.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use copy_out as copy_long;

/// Copies by words where the source is aligned, and by bytes before and after.
///
/// # Safety
///
/// As for [`append`]; `to` is valid for writes of `len` bytes that only this thread accesses.
unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    let before = from.align_offset(size_of::<u64>()).min(len);
    let words = (len - before) / size_of::<u64>();
    let after = before + words * size_of::<u64>();
    // SAFETY: each range is within the `len` bytes that the caller vouches for.
    unsafe {
        copy_bytes(from, to, before);
        copy_words(from.add(before), to.add(before), words);
        copy_bytes(from.add(after), to.add(after), len - after);
    }
}

/// # Safety
///
/// As for [`copy_out`].
unsafe fn copy_bytes(from: *const u8, to: *mut u8, len: usize) {
    for index in 0..len {
        // SAFETY: `index` is below `len`. A byte needs no alignment, and a relaxed load of it is
        // allowed in memory that is mapped for reading only.
        unsafe {
            let byte = AtomicU8::from_ptr(from.add(index).cast_mut()).load(Ordering::Relaxed);
            to.add(index).write(byte);
        }
    }
}

/// # Safety
///
/// As for [`copy_out`], for `words` words. `from` is aligned for them, `to` need not be.
unsafe fn copy_words(from: *const u8, to: *mut u8, words: usize) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    for index in 0..words {
        // SAFETY: `index` is below `words`, and `from` is aligned. A relaxed load of a word is
        // allowed in memory that is mapped for reading only.
        unsafe {
            let word = AtomicU64::from_ptr(from.add(index).cast_mut()).load(Ordering::Relaxed);
            to.add(index).write_unaligned(word);
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../../tests/unit/transport/shared/copy.rs"]
mod tests;
