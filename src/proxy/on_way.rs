//! Chunks of a body on their way to the agents that see them first.

use super::ask::Replies;
use super::body::BodyError;
use super::coding::BodyDecoder;
use super::message::Message;
use super::rejection::Rejection;
use crate::memory::MemoryCharge;
use crate::pool::AgentPool;
use bytes::Bytes;
use std::collections::VecDeque;

/// The chunks of a body that wait for replies, oldest first. They are decoded if the body has a
/// coding, and charged to the memory limit of the pool.
pub(super) struct ChunksOnWay {
    message: Message,
    chunks: VecDeque<OnWay>,
    /// Length of the chunks in bytes, without what is charged by itself.
    len: usize,
    /// Charge for `len` and the decoder.
    charge: MemoryCharge,
    decoder: Option<BodyDecoder>,
}

/// A chunk on its way to the first agents.
pub(super) struct OnWay {
    pub(super) index: u32,
    /// The bytes as agents see them.
    pub(super) data: Bytes,
    /// The bytes as they came, if they were decoded.
    pub(super) original: Bytes,
    pub(super) is_last: bool,
    /// `None` if agents are not asked about this chunk.
    pub(super) replies: Option<Replies>,
}

impl ChunksOnWay {
    pub(super) fn new(message: Message, pool: &AgentPool) -> Self {
        Self {
            message,
            chunks: VecDeque::new(),
            len: 0,
            charge: pool.open_memory_charge(),
            decoder: None,
        }
    }

    /// Lets agents see chunks decoded from now on.
    pub(super) fn decode_with(&mut self, decoder: BodyDecoder) {
        self.decoder = Some(decoder);
    }

    pub(super) fn are_decoded(&self) -> bool {
        self.decoder.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut OnWay> {
        self.chunks.iter_mut()
    }

    /// Decodes and charges a chunk, which is on its way once it is pushed.
    pub(super) fn admit(
        &mut self,
        pool: &AgentPool,
        index: u32,
        chunk: Bytes,
        is_last: bool,
    ) -> Result<OnWay, Rejection> {
        let (data, original) = self.decode(chunk, is_last, pool.open_memory_charge())?;
        let chunk = OnWay {
            index,
            data,
            original,
            is_last,
            replies: None,
        };
        self.charge(self.len + chunk.uncharged_len())?;
        Ok(chunk)
    }

    pub(super) fn push(&mut self, chunk: OnWay) {
        self.chunks.push_back(chunk);
    }

    /// Takes the oldest chunk, which is charged no more.
    pub(super) fn pop(&mut self) -> Result<Option<OnWay>, Rejection> {
        let Some(chunk) = self.chunks.pop_front() else {
            return Ok(None);
        };
        self.charge(self.len - chunk.uncharged_len())?;
        Ok(Some(chunk))
    }

    fn charge(&mut self, len: usize) -> Result<(), Rejection> {
        let decoder = self.decoder.as_ref().map_or(0, BodyDecoder::memory);
        if !self.charge.resize(len + decoder) {
            return Err(self.message.body_error(BodyError::OverMemory));
        }
        self.len = len;
        Ok(())
    }

    /// Returns a chunk as agents see it, and as it came if that is something else.
    fn decode(
        &mut self,
        chunk: Bytes,
        is_last: bool,
        mut charge: MemoryCharge,
    ) -> Result<(Bytes, Bytes), Rejection> {
        let Some(decoder) = &mut self.decoder else {
            return Ok((chunk, Bytes::new()));
        };
        let mut decoded = Vec::new();
        let mut result = decoder.push(&chunk, &mut decoded);
        if is_last {
            result = result.and_then(|()| decoder.finish());
        }
        result.map_err(|error| self.message.coding_error(error))?;
        decoded.shrink_to_fit();
        if !charge.resize(decoded.len()) {
            return Err(self.message.body_error(BodyError::OverMemory));
        }
        Ok((Bytes::from_owner(Decoded(decoded, charge)), chunk))
    }
}

impl OnWay {
    /// Returns the bytes that are not charged by themselves: if the chunk was decoded, those that
    /// came.
    fn uncharged_len(&self) -> usize {
        if self.original.is_empty() {
            self.data.len()
        } else {
            self.original.len()
        }
    }
}

/// A decoded chunk, charged as long as it waits to be sent to an agent: also when the body that it
/// is of is over, as if its client has gone.
struct Decoded(Vec<u8>, #[expect(dead_code, reason = "held")] MemoryCharge);

impl AsRef<[u8]> for Decoded {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
