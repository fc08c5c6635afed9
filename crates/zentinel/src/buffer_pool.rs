//! Buffers that are used again by the thread that used them before.

use bytes::BytesMut;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Capacity of a new buffer in bytes, at least.
pub const DEFAULT_BUFFER_SIZE: usize = 64 * 1024;

/// Number of buffers that a thread keeps.
pub const MAX_POOL_SIZE: usize = 16;

/// Largest capacity of a buffer that is kept, in bytes.
pub const MAX_POOLED_BUFFER_SIZE: usize = 256 * 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// The buffers of one thread.
struct Pool {
    free: Vec<BytesMut>,
    allocated: usize,
    reused: usize,
    dropped: usize,
}

impl Pool {
    const fn new() -> Self {
        Self {
            free: Vec::new(),
            allocated: 0,
            reused: 0,
            dropped: 0,
        }
    }

    fn take(&mut self, min_capacity: usize) -> BytesMut {
        let fits = self
            .free
            .iter()
            .rposition(|free| free.capacity() >= min_capacity);
        let free = fits
            .map(|at| self.free.swap_remove(at))
            .or_else(|| self.free.pop());
        let Some(mut buffer) = free else {
            self.allocated += 1;
            return BytesMut::with_capacity(min_capacity.max(DEFAULT_BUFFER_SIZE));
        };
        self.reused += 1;
        buffer.clear();
        buffer.reserve(min_capacity);
        buffer
    }

    fn give_back(&mut self, buffer: BytesMut) {
        if self.free.len() < MAX_POOL_SIZE && buffer.capacity() <= MAX_POOLED_BUFFER_SIZE {
            self.free.push(buffer);
        } else {
            self.dropped += 1;
        }
    }
}

/// A buffer that goes back to the pool of the thread that drops it.
#[derive(Debug)]
pub struct PooledBuffer(BytesMut);

impl PooledBuffer {
    /// Takes a buffer with room for this many bytes.
    pub fn new(min_capacity: usize) -> Self {
        Self(POOL.with_borrow_mut(|pool| pool.take(min_capacity)))
    }

    /// Takes a buffer with room for [`DEFAULT_BUFFER_SIZE`] bytes.
    pub fn default_size() -> Self {
        Self::new(DEFAULT_BUFFER_SIZE)
    }

    /// Returns the buffer.
    #[allow(
        clippy::should_implement_trait,
        reason = "the published crate has both"
    )]
    pub fn as_mut(&mut self) -> &mut BytesMut {
        &mut self.0
    }

    /// Returns the buffer.
    #[allow(
        clippy::should_implement_trait,
        reason = "the published crate has both"
    )]
    pub fn as_ref(&self) -> &BytesMut {
        &self.0
    }

    /// Returns the buffer, which does not go back to the pool.
    pub fn take(mut self) -> BytesMut {
        std::mem::take(&mut self.0)
    }

    /// Returns the number of bytes in the buffer.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no bytes in the buffer.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Removes all bytes.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A buffer that was taken out has no capacity. The pool is gone while the thread ends.
        if buffer.capacity() > 0 {
            let _ = POOL.try_with(|pool| pool.borrow_mut().give_back(buffer));
        }
    }
}

impl Deref for PooledBuffer {
    type Target = BytesMut;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Statistics of the pool of one thread.
#[derive(Debug, Clone, Copy)]
pub struct PoolStats {
    /// Buffers that are kept for the next use.
    pub pooled: usize,
    /// Buffers that were allocated.
    pub allocated: usize,
    /// Buffers that were used again.
    pub reused: usize,
    /// Buffers that were not kept.
    pub dropped: usize,
}

impl PoolStats {
    /// Returns the share of buffers that were used again, from 0 to 1.
    pub fn hit_rate(&self) -> f64 {
        let taken = self.allocated + self.reused;
        if taken == 0 {
            return 0.0;
        }
        self.reused as f64 / taken as f64
    }
}

/// Returns the statistics of this thread's pool.
pub fn pool_stats() -> PoolStats {
    POOL.with_borrow(|pool| PoolStats {
        pooled: pool.free.len(),
        allocated: pool.allocated,
        reused: pool.reused,
        dropped: pool.dropped,
    })
}

/// Drops the buffers of this thread's pool, and begins its statistics anew.
pub fn clear_pool() {
    let cleared = POOL.replace(Pool::new());
    drop(cleared);
}

/// Takes a buffer with room for this many bytes.
pub fn acquire(min_capacity: usize) -> PooledBuffer {
    PooledBuffer::new(min_capacity)
}

/// Takes a buffer with room for [`DEFAULT_BUFFER_SIZE`] bytes.
pub fn acquire_default() -> PooledBuffer {
    PooledBuffer::default_size()
}
