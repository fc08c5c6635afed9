//! The ring in shared memory: a stream of bytes from one writer to one reader.
//!
//! Pure logic over [`OwnMemory`] and [`PeerMemory`], so that loom can check it. Each side writes
//! only its own memory, keeps its own positions in private variables, and reads each word of the
//! peer once before it checks and uses the copy.
//!
//! Positions count bytes, only grow and are the same on both sides; a 64-bit position does not wrap
//! within the life of a machine. The byte at position `p` is at offset `(p - base) % size`.

use crate::connection::sync::{Ordering, fence};
use bytes::BytesMut;

/// Words of the control page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Position up to which bytes are published.
    Head,
    /// Position of the byte at offset 0.
    Base,
    /// Position up to which the side has taken the peer's bytes.
    Tail,
    /// Position up to which the side had taken the peer's bytes when it went to sleep.
    WakeAt,
    /// Position that the peer's `Tail` has to pass before the side can write again.
    RoomAt,
    /// Processor that the side last waited on, plus 1; 0 if it is not known.
    Processor,
}

/// Value of [`Word::WakeAt`] and [`Word::RoomAt`] that no position reaches.
pub(crate) const NEVER: u64 = u64::MAX;

/// Bytes behind the base from which an empty ring is rewound, so that a ring touches no more memory
/// than its deepest backlog needed.
const REWIND_AFTER: u64 = 16 * 1024;

/// Bytes after which a writer looks again whether the ring is empty. Each look takes the line of
/// the peer's `Tail` from it.
const REWIND_INTERVAL: u64 = 4 * 1024;

/// Places of the full fences. Each pairs with one on the other side: of a writer that publishes and
/// a reader that goes to sleep, at least one sees what the other stored before its fence. It is the
/// same with a reader that takes and a writer that waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    Published,
    GoesToSleep,
    Taken,
    WaitsForRoom,
}

/// Memory that this side writes and the peer reads.
pub(crate) trait OwnMemory {
    /// Number of bytes of the ring, a power of two.
    fn size(&self) -> u64;
    fn store(&self, word: Word, value: u64, ordering: Ordering);

    fn full_fence(&self, _place: Fence) {
        fence(Ordering::SeqCst);
    }
}

/// The ring in [`OwnMemory`], which only the writer has.
pub(crate) trait OwnBytes {
    /// Copies bytes into the ring, from an offset on. `offset + bytes.len()` is at most the size.
    fn write(&mut self, offset: usize, bytes: &[u8]);
}

/// Memory that the peer writes, whatever it likes and at any time.
pub(crate) trait PeerMemory {
    /// Number of bytes of the ring, a power of two, as it was checked when the memory was mapped.
    fn size(&self) -> u64;
    /// Loads a word, relaxed.
    fn load(&self, word: Word) -> u64;
    /// Appends a copy of bytes of the ring to `into`, which has room for them. `offset + len` is at
    /// most the size.
    fn append(&self, offset: usize, len: usize, into: &mut BytesMut);
}

/// A position of the peer that is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's shared memory holds an impossible position")]
pub(crate) struct ImpossiblePosition;

/// The writing half.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Position up to which bytes are written. Invariant: `head - tail` is at most the size.
    head: u64,
    /// Position up to which bytes are published.
    published: u64,
    base: u64,
    /// Position from which on it is worth a look whether the ring can be rewound.
    rewind_at: u64,
    /// Last `Tail` of the peer that was read.
    tail: u64,
    /// `published` when the peer's `WakeAt` was last compared.
    compared: u64,
}

impl Writer {
    /// Copies as much of `bytes` as there is room for. Returns the number of bytes.
    pub(crate) fn write(
        &mut self,
        own: &impl OwnMemory,
        ring: &mut impl OwnBytes,
        peer: &impl PeerMemory,
        bytes: &[u8],
    ) -> Result<usize, ImpossiblePosition> {
        if self.room(own) < bytes.len() as u64 {
            self.read_tail(peer)?;
        }
        // At most the length of `bytes`.
        let count = self.room(own).min(bytes.len() as u64) as usize;
        let offset = self.head.wrapping_sub(self.base) & (own.size() - 1);
        let until_end = ((own.size() - offset) as usize).min(count);
        let (first, second) = bytes[..count].split_at(until_end);
        ring.write(offset as usize, first);
        if !second.is_empty() {
            ring.write(0, second);
        }
        self.head = self.head.wrapping_add(count as u64);
        Ok(count)
    }

    /// Publishes what was written. Returns whether the peer sleeps and has to be woken.
    pub(crate) fn publish(&mut self, own: &impl OwnMemory, peer: &impl PeerMemory) -> bool {
        if self.published == self.head {
            return false;
        }
        // A writer that dies before this has published nothing of an unfinished copy.
        own.store(Word::Head, self.head, Ordering::Release);
        self.published = self.head;
        own.full_fence(Fence::Published);
        let wake_at = peer.load(Word::WakeAt);
        let wakes = (self.compared..self.published).contains(&wake_at);
        self.compared = self.published;
        wakes
    }

    /// Begins again at offset 0 if the ring is empty and has moved far enough.
    ///
    /// The peer then knows of no byte that it has not taken, and it reads `Base` after `Head`, so
    /// it finds the new base together with the first byte behind it.
    pub(crate) fn rewind(
        &mut self,
        own: &impl OwnMemory,
        peer: &impl PeerMemory,
    ) -> Result<(), ImpossiblePosition> {
        let distance = REWIND_AFTER.min(own.size() / 2);
        if self.head < self.rewind_at || self.head.wrapping_sub(self.base) < distance {
            return Ok(());
        }
        self.read_tail(peer)?;
        if self.tail == self.head {
            self.base = self.head;
            own.store(Word::Base, self.base, Ordering::Relaxed);
        } else {
            self.rewind_at = self.head.wrapping_add(REWIND_INTERVAL.min(distance));
        }
        Ok(())
    }

    /// Returns whether half of the ring is free. If not, asks the peer to ring once it is.
    pub(crate) fn has_room_or_asks(
        &mut self,
        own: &impl OwnMemory,
        peer: &impl PeerMemory,
    ) -> Result<bool, ImpossiblePosition> {
        if self.has_room(own, peer)? {
            return Ok(true);
        }
        own.store(Word::RoomAt, self.room_at(own), Ordering::Relaxed);
        own.full_fence(Fence::WaitsForRoom);
        self.has_room(own, peer)
    }

    /// Returns whether half of the ring is free.
    pub(crate) fn has_room(
        &mut self,
        own: &impl OwnMemory,
        peer: &impl PeerMemory,
    ) -> Result<bool, ImpossiblePosition> {
        self.read_tail(peer)?;
        Ok(self.room(own) >= own.size() / 2)
    }

    /// Returns the last position with which less than half of the ring is free.
    fn room_at(&self, own: &impl OwnMemory) -> u64 {
        self.head.wrapping_sub(own.size() / 2).wrapping_sub(1)
    }

    fn room(&self, own: &impl OwnMemory) -> u64 {
        own.size() - self.head.wrapping_sub(self.tail)
    }

    fn read_tail(&mut self, peer: &impl PeerMemory) -> Result<(), ImpossiblePosition> {
        let tail = peer.load(Word::Tail);
        // The peer has read what it has taken; it is overwritten only after that.
        fence(Ordering::Acquire);
        // Neither back, nor beyond what was written.
        if tail.wrapping_sub(self.tail) > self.head.wrapping_sub(self.tail) {
            return Err(ImpossiblePosition);
        }
        self.tail = tail;
        Ok(())
    }
}

/// The reading half.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Position up to which bytes are taken.
    tail: u64,
    /// `tail` when the peer's `RoomAt` was last compared.
    compared: u64,
}

/// Outcome of [`Reader::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) bytes: usize,
    /// Set if the peer waits for the room that was made, and has to be woken.
    pub(crate) wakes: bool,
}

impl Reader {
    /// Appends up to `limit` bytes to `into`, which has room for them.
    pub(crate) fn take(
        &mut self,
        own: &impl OwnMemory,
        peer: &impl PeerMemory,
        into: &mut BytesMut,
        limit: usize,
    ) -> Result<Taken, ImpossiblePosition> {
        let available = self.available(peer)?;
        let count = available.min(limit as u64) as usize;
        if count == 0 {
            return Ok(Taken {
                bytes: 0,
                wakes: false,
            });
        }
        let base = peer.load(Word::Base);
        // A false base only selects other bytes of the peer's own ring.
        let offset = self.tail.wrapping_sub(base) & (peer.size() - 1);
        let first = ((peer.size() - offset) as usize).min(count);
        peer.append(offset as usize, first, into);
        if count > first {
            peer.append(0, count - first, into);
        }
        self.tail = self.tail.wrapping_add(count as u64);
        own.store(Word::Tail, self.tail, Ordering::Release);
        own.full_fence(Fence::Taken);
        let room_at = peer.load(Word::RoomAt);
        let wakes = (self.compared..self.tail).contains(&room_at);
        self.compared = self.tail;
        Ok(Taken {
            bytes: count,
            wakes,
        })
    }

    /// Returns the number of bytes that are published and not taken.
    pub(crate) fn available(&self, peer: &impl PeerMemory) -> Result<u64, ImpossiblePosition> {
        let head = peer.load(Word::Head);
        // Memory that is mapped for reading only must not be read with a stronger ordering.
        fence(Ordering::Acquire);
        let available = head.wrapping_sub(self.tail);
        if available > peer.size() {
            return Err(ImpossiblePosition);
        }
        Ok(available)
    }

    /// Asks the peer to ring when it publishes more. Returns `false` if it has done so already:
    /// then it may not ring.
    pub(crate) fn goes_to_sleep(
        &self,
        own: &impl OwnMemory,
        peer: &impl PeerMemory,
    ) -> Result<bool, ImpossiblePosition> {
        own.store(Word::WakeAt, self.tail, Ordering::Relaxed);
        own.full_fence(Fence::GoesToSleep);
        Ok(self.available(peer)? == 0)
    }

    pub(crate) fn position(&self) -> u64 {
        self.tail
    }
}

#[cfg(all(test, tollgate_loom))]
#[path = "../../../tests/unit/transport/shared/ring_loom.rs"]
mod loom_tests;

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../../tests/unit/transport/shared/ring.rs"]
mod tests;
