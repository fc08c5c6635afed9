use crate::protocol::BodyMutation;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// Body chunks that are kept back until agents have decided on them.
///
/// An agent that answers [`needs_more`](crate::AgentResponse::needs_more) wants to see more of the body before it
/// decides. Chunks that are kept until then can still be replaced, dropped, or never sent at all.
///
/// ```
/// use tollgate::{BodyMutation, Bytes, proxy::HeldBody};
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
    /// By their index, in order.
    chunks: SmallVec<[(u32, Bytes); 2]>,
    held: usize,
    limit: usize,
}

/// What cannot be done with the chunks of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Agents ask for more than is kept for them.
    #[error("agents want to see more than {limit} bytes of the body at once")]
    TooLarge {
        /// How much is kept, in bytes.
        limit: usize,
    },
    /// A chunk is to be changed that is gone already, or was never there.
    #[error("there is no body chunk {index} to change")]
    NoSuchChunk {
        /// Which chunk, counted from 0.
        index: u32,
    },
}

impl HeldBody {
    /// Keeps at most so many bytes. A chunk that is alone is always taken.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            chunks: SmallVec::new(),
            held: 0,
            limit,
        }
    }

    /// Keeps a chunk behind those that are there.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](BodyError::TooLarge), if others are kept and there is no room beside them.
    pub fn keep(&mut self, index: u32, data: Bytes) -> Result<(), BodyError> {
        if self.held > 0 && self.held.saturating_add(data.len()) > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.held += data.len();
        self.chunks.push((index, data));
        Ok(())
    }

    /// Replaces and drops chunks, in the order of the mutations.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`](BodyError::NoSuchChunk) for a mutation of a chunk that is not kept, unless it leaves that
    /// as it is. Mutations before it are made.
    pub fn change<'m>(
        &mut self,
        mutations: impl IntoIterator<Item = &'m BodyMutation>,
    ) -> Result<(), BodyError> {
        for mutation in mutations {
            let Some(data) = &mutation.data else { continue };
            let index = mutation.chunk_index;
            let mut chunks = self.chunks.iter_mut();
            let (_, chunk) = chunks
                .find(|(kept, _)| *kept == index)
                .ok_or(BodyError::NoSuchChunk { index })?;
            self.held = self.held - chunk.len() + data.len();
            *chunk = data.clone();
        }
        Ok(())
    }

    /// What became of the chunk that was kept last.
    pub fn last(&self) -> Option<&Bytes> {
        self.chunks.last().map(|(_, data)| data)
    }

    /// Lets everything go that is kept. A chunk that is alone is not copied.
    pub fn release(&mut self) -> Bytes {
        self.held = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(chunks: &[&'static str]) -> HeldBody {
        let mut held = HeldBody::with_limit(10);
        for (index, chunk) in (0..).zip(chunks) {
            held.keep(index, Bytes::from_static(chunk.as_bytes()))
                .unwrap();
        }
        held
    }

    #[test]
    fn a_chunk_alone_is_neither_refused_nor_copied() {
        let large = Bytes::from_static(b"longer than ten bytes");
        let mut held = HeldBody::with_limit(10);
        held.keep(3, large.clone()).unwrap();
        assert_eq!(held.release().as_ptr(), large.as_ptr());
        assert!(held.release().is_empty());
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let mut held = kept(&["12345", "67890"]);
        let one_more = || Bytes::from_static(b"x");
        assert_eq!(
            held.keep(2, one_more()),
            Err(BodyError::TooLarge { limit: 10 })
        );
        assert_eq!(held.release(), "1234567890");
        held.keep(2, one_more()).unwrap();
        assert_eq!(held.release(), "x");
    }

    #[test]
    fn mutations_are_made_in_order_and_count_for_the_limit() {
        let mut held = kept(&["12345", "67890"]);
        let mutations = [
            BodyMutation::replace(1, "first"),
            BodyMutation::pass_through(9),
            BodyMutation::replace(1, "2nd"),
            BodyMutation::drop_chunk(0),
        ];
        held.change(&mutations).unwrap();
        assert_eq!(held.last().unwrap(), "2nd");
        held.keep(2, Bytes::from_static(b"1234567")).unwrap();
        assert_eq!(held.release(), "2nd1234567");
    }

    #[test]
    fn a_chunk_that_is_gone_cannot_be_changed() {
        let mut held = kept(&["12345"]);
        held.release();
        held.keep(1, Bytes::from_static(b"x")).unwrap();
        let late = [BodyMutation::replace(0, "y")];
        assert_eq!(held.change(&late), Err(BodyError::NoSuchChunk { index: 0 }));
    }
}
