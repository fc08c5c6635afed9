//! Body chunks that wait for a decision.

use crate::AgentPool;
use crate::memory::MemoryCharge;
use crate::protocol::BodyMutation;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// Body chunks that are held back until agents have decided on them.
///
/// An agent that answers [`needs_more`](crate::AgentResponse::needs_more) wants to see more of the
/// body before it decides. Chunks that are held until then can still be replaced or dropped, or the
/// whole body discarded.
///
/// ```
/// use tollgate::{Bytes, proxy::HeldBody, response::BodyMutation};
///
/// let mut held = HeldBody::with_limit(1024);
/// held.keep(0, Bytes::from_static(b"card 4111"))?;
/// held.keep(1, Bytes::from_static(b" 1111"))?;
/// held.change(&[BodyMutation::replace(0, "card ****"), BodyMutation::drop_chunk(1)])?;
/// assert_eq!(held.release(), "card ****");
/// # Ok::<(), tollgate::proxy::BodyError>(())
/// ```
#[derive(Debug)]
pub struct HeldBody {
    /// Chunks with their index, in the order of the body.
    chunks: SmallVec<[(u32, Bytes); 2]>,
    /// Set if the index of each chunk is greater than that of the one before.
    has_ascending_indices: bool,
    /// Length of all chunks together, in bytes.
    held: usize,
    /// Limit of `held`, in bytes.
    limit: usize,
    /// Charge of a pool or server for the chunks.
    charge: Option<MemoryCharge>,
}

/// Error of a [`HeldBody`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The agents ask for more of the body than may be held.
    #[error("agents ask for more than {limit} bytes of the body, the limit of what is held")]
    TooLarge {
        /// Number of bytes that may be held.
        limit: usize,
    },
    /// The memory limit of the pool or server is exceeded: see [`HeldBody::charged_to`].
    #[error("the memory limit leaves no room for more of the body")]
    OverMemory,
    /// A mutation names a chunk that was released already or was never held.
    #[error("an agent changes body chunk {index}, which is not held")]
    NoSuchChunk {
        /// Index of the chunk, counted from 0.
        index: u32,
    },
    /// The new content of a chunk is text that is not base64: see
    /// [`BodyMutation::is_plain_text`].
    #[error("an agent replaces body chunk {index} by text that is not base64")]
    NotBase64 {
        /// Index of the chunk, counted from 0.
        index: u32,
    },
}

impl HeldBody {
    /// Creates an empty body that holds at most `limit` bytes. A single chunk may exceed the limit.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            chunks: SmallVec::new(),
            has_ascending_indices: true,
            held: 0,
            limit,
            charge: None,
        }
    }

    /// Charges what is held to the [`max_memory`](crate::AgentPoolConfig::max_memory) of a pool.
    ///
    /// The limit of one body does not bound the sum of all. A body that is charged cannot grow
    /// beyond what the pool's connections and other bodies leave.
    #[must_use]
    pub fn charged_to(mut self, pool: &AgentPool) -> Self {
        self.charge = Some(pool.open_memory_charge());
        self
    }

    /// Charges what is held to the [`max_memory`](crate::AgentServerBuilder::max_memory) of a
    /// server, for a crate that serves another protocol.
    #[must_use]
    pub fn with_charge(mut self, charge: MemoryCharge) -> Self {
        self.charge = Some(charge);
        self
    }

    /// Appends a chunk.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](BodyError::TooLarge) if other chunks are held and the limit would be exceeded,
    /// [`OverMemory`](BodyError::OverMemory) if that of the pool or server would be.
    pub fn keep(&mut self, index: u32, data: Bytes) -> Result<(), BodyError> {
        if self.held > 0 && self.held.saturating_add(data.len()) > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.resize(self.held + data.len(), self.chunks.len() + 1)?;
        let ascends = self.chunks.last().is_none_or(|(last, _)| *last < index);
        self.has_ascending_indices =
            ascends && (self.has_ascending_indices || self.chunks.is_empty());
        self.chunks.push((index, data));
        Ok(())
    }

    /// Replaces and drops chunks, in the order of the mutations.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`](BodyError::NoSuchChunk) for a mutation that changes a chunk that is not
    /// held, [`NotBase64`](BodyError::NotBase64) for one whose text is not base64,
    /// [`OverMemory`](BodyError::OverMemory) if the limit of the pool would be exceeded. The
    /// mutations before it have been applied by then.
    pub fn change<'m>(
        &mut self,
        mutations: impl IntoIterator<Item = &'m BodyMutation>,
    ) -> Result<(), BodyError> {
        for mutation in mutations {
            let Some(data) = &mutation.data else { continue };
            let index = mutation.chunk_index;
            if mutation.is_plain_text() {
                return Err(BodyError::NotBase64 { index });
            }
            let at = self
                .position(index)
                .ok_or(BodyError::NoSuchChunk { index })?;
            let held = self.held - self.chunks[at].1.len() + data.len();
            self.resize(held, self.chunks.len())?;
            self.chunks[at].1 = data.clone();
        }
        Ok(())
    }

    fn resize(&mut self, held: usize, chunks: usize) -> Result<(), BodyError> {
        // A chunk takes a place even if it is empty. The first have theirs in this value.
        let places = chunks.saturating_sub(self.chunks.inline_size()) * size_of::<(u32, Bytes)>();
        if let Some(charge) = &mut self.charge
            && !charge.resize(held + places)
        {
            return Err(BodyError::OverMemory);
        }
        self.held = held;
        Ok(())
    }

    /// Returns the position of a chunk. Indices usually ascend, and then the chunks before it are
    /// not looked at: an agent may ask to change one with each answer.
    pub(super) fn position(&self, index: u32) -> Option<usize> {
        if self.has_ascending_indices {
            return self
                .chunks
                .binary_search_by_key(&index, |(held, _)| *held)
                .ok();
        }
        self.chunks.iter().position(|(held, _)| *held == index)
    }

    /// Returns the number of bytes that are held.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Returns whether no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Returns the most recent chunk as the mutations left it; `None` if no chunk is held.
    pub fn last(&self) -> Option<&Bytes> {
        self.chunks.last().map(|(_, data)| data)
    }

    /// Returns the index and the data of a chunk by its position among those that are held.
    pub(super) fn chunk(&self, position: usize) -> Option<(u32, &Bytes)> {
        let (index, data) = self.chunks.get(position)?;
        Some((*index, data))
    }

    /// Removes all chunks and returns them as one. A single chunk is not copied.
    pub fn release(&mut self) -> Bytes {
        // Less than before is always granted.
        let _ = self.resize(0, 0);
        if let [(_, only)] = &mut self.chunks[..] {
            let only = std::mem::take(only);
            self.chunks.clear();
            return only;
        }
        let mut whole =
            BytesMut::with_capacity(self.chunks.iter().map(|(_, data)| data.len()).sum());
        for (_, data) in self.chunks.drain(..) {
            whole.extend_from_slice(&data);
        }
        whole.freeze()
    }
}
