//! The memory of a ring: a sealed memory file that its writer has made, mapped by both sides.
//!
//! Invariants:
//! * A region is a control page and then a power of two of bytes. Both are checked before it is
//!   mapped, and the seals keep its file from shrinking, so no access within it can fault.
//! * Our own region is written by this process alone. The peer's is mapped for reading only.
//! * Pointers into a region stay inside this module and `copy`, and do not outlive the mapping.

#![allow(
    unsafe_code,
    reason = "maps memory and reaches it through raw pointers"
)]

use super::copy;
use super::ring::{NEVER, OwnBytes, OwnMemory, PeerMemory, Word};
use bytes::BytesMut;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::process::{Resource, getrlimit};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Size of the control page.
const CONTROL: usize = 4096;

/// Distance between the words of different lines: two lines, since processors fetch them in pairs.
const LINE: usize = 128;

/// Seals that keep a file from shrinking under a mapping, and from growing.
const FIXED_SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The control page of the memory that this side writes.
#[derive(Debug)]
pub(crate) struct OwnWords(Arc<Mapping>);

/// The ring of the memory that this side writes. There is one for each mapping.
#[derive(Debug)]
pub(crate) struct OwnRing(Arc<Mapping>);

/// The memory that the peer writes.
#[derive(Debug)]
pub(crate) struct PeerRegion(Mapping);

/// Reason why a peer's descriptor cannot be used.
#[derive(Debug)]
pub(crate) enum NotMapped {
    /// It is no sealed memory file of the agreed size.
    Invalid(&'static str),
    /// The system refuses to map it.
    System,
}

/// Creates a region with a ring of `bytes` bytes. Returns it with the descriptor for the peer.
pub(crate) fn create(bytes: usize) -> io::Result<(OwnWords, OwnRing, OwnedFd)> {
    let file = create_file()?;
    let len = CONTROL + bytes;
    // Beyond this limit the system would end the process by a signal.
    let limit = getrlimit(Resource::Fsize).current;
    if limit.is_some_and(|limit| limit < len as u64) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    ftruncate(&file, len as u64)?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let mapping = Arc::new(Mapping::new(&file, len, access)?);
    // After the mapping, which stays the only one that can write.
    let seals = FIXED_SIZE | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    let words = OwnWords(Arc::clone(&mapping));
    words.store(Word::WakeAt, NEVER, Ordering::Relaxed);
    words.store(Word::RoomAt, NEVER, Ordering::Relaxed);
    Ok((words, OwnRing(mapping), file))
}

/// Creates an empty memory file that can be sealed.
fn create_file() -> io::Result<OwnedFd> {
    let create = |flags| rustix::fs::memfd_create("tollgate", flags);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match create(flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => Ok(create(flags)?),
        created => Ok(created?),
    }
}

impl PeerRegion {
    /// Maps a region of the peer with a ring of `bytes` bytes.
    pub(crate) fn map(file: &OwnedFd, bytes: usize) -> Result<Self, NotMapped> {
        let len = CONTROL + bytes;
        let seals = fcntl_get_seals(file);
        // Other kinds of files have no seals at all.
        let seals = seals.map_err(|_| NotMapped::Invalid("it is no memory file"))?;
        if !seals.contains(FIXED_SIZE) {
            return Err(NotMapped::Invalid("its size is not sealed"));
        }
        let status = fstat(file).map_err(|_| NotMapped::System)?;
        if u64::try_from(status.st_size) != Ok(len as u64) {
            return Err(NotMapped::Invalid("it has another size than agreed"));
        }
        // A file of huge pages can fault although it is sealed.
        if usize::try_from(status.st_blksize) != Ok(rustix::param::page_size()) {
            return Err(NotMapped::Invalid("its pages have another size"));
        }
        Mapping::new(file, len, ProtFlags::READ)
            .map(Self)
            .map_err(|_| NotMapped::System)
    }
}

impl OwnMemory for OwnWords {
    fn size(&self) -> u64 {
        self.0.ring_size()
    }

    fn store(&self, word: Word, value: u64, ordering: Ordering) {
        let at = self.0.word(word);
        // SAFETY: the mapping is writable, and `at` is an aligned word in it that lives as long as
        // `self`. Within this process it is accessed by atomic operations only.
        unsafe { AtomicU64::from_ptr(at) }.store(value, ordering);
    }
}

impl OwnBytes for OwnRing {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let to = self.0.bytes(offset, bytes.len());
        // SAFETY: the mapping is writable and has as many bytes there. In this process only the
        // one `OwnRing` of the mapping accesses them, and it is borrowed exclusively.
        unsafe { copy::write(to, bytes) };
    }
}

impl PeerMemory for PeerRegion {
    fn size(&self) -> u64 {
        self.0.ring_size()
    }

    fn load(&self, word: Word) -> u64 {
        let at = self.0.word(word);
        // SAFETY: `at` is an aligned word of the mapping that lives as long as `self`, and a
        // relaxed load of a word is allowed in memory that is mapped for reading only.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Relaxed)
    }

    fn append(&self, offset: usize, len: usize, into: &mut BytesMut) {
        let from = self.0.bytes(offset, len);
        // SAFETY: the mapping has `len` bytes there, and this process never writes them.
        unsafe { copy::append(from, len, into) };
    }
}

/// A mapping of a whole region.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    /// Invariant: `CONTROL` and a power of two.
    len: usize,
}

// SAFETY: the mapping belongs to no thread. It is accessed by atomic operations, and by the copies
// of `OwnRing`, which needs exclusive access to itself.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &OwnedFd, len: usize, access: ProtFlags) -> io::Result<Self> {
        debug_assert!((len - CONTROL).is_power_of_two());
        // SAFETY: a new mapping at an address that the system chooses overlaps no other memory.
        let start = unsafe { mmap(null_mut(), len, access, MapFlags::SHARED, file.as_fd(), 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self { start, len };
        // A forked process must not write here, and a core dump needs no copy of the traffic.
        for advice in [Advice::LinuxDontFork, Advice::LinuxDontDump] {
            // SAFETY: neither advice changes memory, and the range is the mapping just made.
            unsafe { madvise(mapping.address(), len, advice) }?;
        }
        Ok(mapping)
    }

    fn address(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }

    fn ring_size(&self) -> u64 {
        (self.len - CONTROL) as u64
    }

    /// Returns the address of a word in the control page.
    fn word(&self, word: Word) -> *mut u64 {
        let offset = match word {
            Word::Head => 0,
            Word::Base => 8,
            Word::Tail => LINE,
            Word::WakeAt => 2 * LINE,
            Word::RoomAt => 2 * LINE + 8,
            Word::Processor => 2 * LINE + 16,
        };
        // SAFETY: all offsets are within the control page, and multiples of 8 from its start.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    /// Returns the address of `len` bytes of the ring.
    fn bytes(&self, offset: usize, len: usize) -> *mut u8 {
        let ring = self.len - CONTROL;
        assert!(
            offset <= ring && len <= ring - offset,
            "outside of the ring"
        );
        // SAFETY: the bytes are within the mapping, by the check above.
        unsafe { self.start.as_ptr().add(CONTROL + offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more: pointers into it live no longer than
        // borrows of `self`. Fails only for an invalid range.
        let _ = unsafe { munmap(self.address(), self.len) };
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../../tests/unit/transport/shared/region.rs"]
mod tests;
