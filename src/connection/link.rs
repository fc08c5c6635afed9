//! What a connection needs of whatever its frames travel over.

use crate::wire::OutgoingFrame;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// Both halves of what carries a connection's frames.
pub(crate) struct Link {
    pub(crate) sender: Box<dyn LinkSender>,
    pub(crate) receiver: Box<dyn LinkReceiver>,
    /// The largest length of a frame that may be sent over it.
    pub(crate) max_frame: usize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// The sending half. Several tasks may send, one at a time.
pub(crate) trait LinkSender: Send + Sync + 'static {
    /// Sends what goes out without waiting and takes it out of the batch; buffers go to `recycle`.
    ///
    /// An empty batch means that all went; a batch that is not, that the link has no room.
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()>;

    /// Waits until the link has room again. One task may wait at a time.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the link in both directions, so that the other side learns of it at once.
    fn close(&self);

    /// Whether the other side can still take answers once it has said all that it will say.
    fn outlasts_the_other_side(&self) -> bool {
        false
    }

    /// Whether sending costs so much, however little is sent, that calls had better go together than over several links.
    fn is_costly(&self) -> bool {
        false
    }

    /// Says why the link is about to end, where there are words for it.
    fn say_why(&self, _why: Why, _detail: &dyn Display) {}
}

/// Why an agent ends a proxy's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It said what nobody understands, or what does not belong there.
    Invalid,
    /// It has sent too much, or too many others wait as well.
    TooMuch,
    /// It took too long.
    TooSlow,
    /// The agent stops.
    Stopping,
}

/// The receiving half.
pub(crate) trait LinkReceiver: Send + 'static {
    /// Appends received bytes. Zero bytes mean that the other side has ended the connection.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>>;
}

/// Frames on their way out, in order. The first may be partly sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    frames: VecDeque<OutgoingFrame>,
    /// Bytes of the first frame that are sent. Invariant: less than its length.
    sent: usize,
}

/// Pieces of memory handed to the system at once; more than it takes (1,024) would be refused.
pub(crate) const MAX_SLICES: usize = 64;

impl Batch {
    pub(crate) fn push(&mut self, frame: OutgoingFrame) {
        if frame.len() > 0 {
            self.frames.push_back(frame);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Takes the first frame out whole, for links that send no parts of frames.
    #[cfg(feature = "grpc")]
    pub(crate) fn take_frame(&mut self) -> Option<OutgoingFrame> {
        debug_assert_eq!(self.sent, 0);
        self.frames.pop_front()
    }

    /// Fills `slices` with what is to be sent next; returns how many were filled.
    pub(crate) fn fill<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        let mut skip = self.sent;
        let pieces = self
            .frames
            .iter()
            .flat_map(|frame| [&frame.written[..], &frame.body[..]])
            .filter_map(|piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                Some(&piece[skipped..]).filter(|rest| !rest.is_empty())
            });
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Takes `bytes` sent bytes out. Buffers that are done go to `recycle`.
    pub(crate) fn advance(&mut self, bytes: usize, mut recycle: impl FnMut(Vec<u8>)) {
        self.sent += bytes;
        while let Some(first) = self.frames.front() {
            if self.sent < first.len() {
                break;
            }
            self.sent -= first.len();
            if let Some(frame) = self.frames.pop_front() {
                recycle(frame.written);
            }
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_batch_sent_in_pieces_goes_out_whole() {
        let frames: [(&[u8], &'static [u8]); 4] =
            [(b"ab", b"c"), (b"", b""), (b"d", b""), (b"ef", b"gh")];
        for step in 1..=8 {
            let mut batch = Batch::default();
            for (written, body) in frames {
                batch.push(OutgoingFrame {
                    written: written.to_vec(),
                    body: Bytes::from_static(body),
                });
            }
            let mut out: Vec<u8> = Vec::new();
            let mut recycled = 0;
            while !batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = batch.fill(&mut slices);
                let bytes: Vec<u8> = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                let sent = step.min(bytes.len());
                out.extend(&bytes[..sent]);
                batch.advance(sent, |_| recycled += 1);
            }
            assert_eq!(out, b"abcdefgh");
            assert_eq!(recycled, 3);
        }
    }
}
