//! Links: the interface between a connection and the transport that carries its frames.

pub(crate) use super::link_error::LinkError;

use super::shared_memory::{SharedMemoryRefusal, Terms};
use crate::handler::LocalAgent;
use crate::wire::{FrameBuffer, OutgoingFrame};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::fmt::Display;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Both halves of a transport connection.
pub(crate) struct Link {
    pub(crate) sender: Box<dyn LinkSender>,
    pub(crate) receiver: Box<dyn LinkReceiver>,
    /// Maximum length of a frame that may be sent.
    pub(crate) max_frame: usize,
}

/// Sending half of a link. Several tasks may send, one at a time.
pub(crate) trait LinkSender: Send + Sync + 'static {
    /// Sends as much as possible without waiting, and removes it from the batch. Buffers of sent
    /// frames go to `recycle`.
    ///
    /// If the batch is not empty afterwards, the link is full.
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError>;

    /// Returns whether the peer sleeps and has to be woken for what was sent.
    fn has_to_ring(&self) -> bool {
        false
    }

    /// Wakes the peer if it sleeps and something was sent. Has to follow [`LinkSender::try_send`];
    /// links that wake the peer by sending do nothing.
    fn ring(&self) {}

    /// Polls until the link can take more. One task may wait at a time.
    fn poll_room(&self, cx: &mut Context<'_>) -> LinkPoll<()>;

    /// Closes the link in both directions, so that the peer notices at once.
    fn close(&self);

    /// Returns whether the peer has closed both directions, although what it sent before may be
    /// unread. `false` if that is not known.
    fn is_peer_gone(&self) -> bool {
        false
    }

    /// Returns whether the transport supports half-close: whether the peer can still receive after
    /// it has stopped sending.
    fn supports_half_close(&self) -> bool {
        false
    }

    /// Returns whether each send has a high fixed cost, so that calls should share one link rather
    /// than be spread over several.
    fn prefers_batching(&self) -> bool {
        false
    }

    /// Returns whether sending needs no system call as long as the peer is awake, so that every
    /// caller should send at once.
    fn is_cheap(&self) -> bool {
        false
    }

    /// Returns whether the peer has not gone to sleep since it was last woken, as far as that is
    /// known without asking. Calls then have the best answer on this link.
    fn is_peer_awake(&self) -> bool {
        false
    }

    /// Drops this half without ending the stream, which another link has taken over.
    fn hand_over(self: Box<Self>) {}

    /// Sends a close reason, if the transport can carry one.
    fn send_close_reason(&self, _reason: CloseReason, _detail: &dyn Display) {}

    /// Returns the agent itself, if it is in this process. Nothing is sent to it then.
    fn local_agent(&self) -> Option<&Arc<LocalAgent>> {
        None
    }
}

/// Why an agent ends a proxy's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The proxy sent something that is malformed or not allowed at this point.
    Invalid,
    /// The proxy exceeded a limit, or too many proxies are connecting.
    LimitExceeded,
    /// The proxy did not complete the handshake in time.
    HandshakeTimeout,
    /// The agent is shutting down.
    Stopping,
    /// The agent rejects the settings that the proxy gave it.
    SettingsRejected,
}

/// Receiving half of a link.
pub(crate) trait LinkReceiver: Send + 'static {
    /// Appends received bytes to `into` and returns their number. Zero means that the peer has
    /// closed its side.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize>;

    /// Prepares to replace the link by shared memory, or returns why that cannot be.
    ///
    /// Until the upgrade is over or dropped, the link keeps descriptors that come with what it
    /// receives.
    fn begin_upgrade(&mut self) -> Result<Box<dyn LinkUpgrade>, SharedMemoryRefusal> {
        Err(SharedMemoryRefusal::NotSupported)
    }

    /// Sets whether the peer is expected to send something soon. A link may then wait without
    /// sleeping. Without this, it expects something after everything that it received.
    fn set_expecting(&mut self, _is_expecting: bool) {}

    /// Polls for what the peer signals beside bytes, while nothing is to be received: that a link
    /// which is full has room. The sending half may not learn of it otherwise.
    fn poll_signals(&mut self, _cx: &mut Context<'_>) -> LinkPoll<()> {
        Poll::Pending
    }
}

/// The replacement of a socket by shared memory, before it is known whether it takes place.
pub(crate) trait LinkUpgrade: Send {
    /// Exchanges descriptors with a peer that has agreed to it in the handshake. `buffer` holds
    /// what was received after the handshake.
    fn upgrade<'b>(
        self: Box<Self>,
        buffer: &'b mut FrameBuffer,
        terms: Terms,
    ) -> BoxFuture<'b, Result<Upgraded, LinkError>>;
}

/// The halves of a link.
pub(crate) type Halves = (Box<dyn LinkSender>, Box<dyn LinkReceiver>);

/// The halves of the new link, or why the old one stays.
pub(crate) type Upgraded = Result<Halves, SharedMemoryRefusal>;

/// A result of a link, once it is there.
pub(crate) type LinkPoll<T> = Poll<Result<T, LinkError>>;

/// Frames being sent, in order. The first may be sent in part.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    frames: VecDeque<OutgoingFrame>,
    /// Number of bytes of the first frame that are sent. Invariant: less than its length.
    sent: usize,
}

/// Maximum number of slices in one vectored write. The system rejects more than 1,024.
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

    /// Removes the first frame, for links that send whole frames only.
    #[cfg(feature = "grpc")]
    pub(crate) fn take_frame(&mut self) -> Option<OutgoingFrame> {
        debug_assert_eq!(self.sent, 0);
        self.frames.pop_front()
    }

    /// Returns the bytes to send next, in pieces that are not empty.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        self.frames
            .iter()
            .flat_map(|frame| [&frame.written[..], &frame.body[..]])
            .filter_map(move |piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                Some(&piece[skipped..]).filter(|rest| !rest.is_empty())
            })
    }

    /// Fills `slices` with the bytes to send next. Returns the number of filled slices.
    pub(crate) fn fill<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        let mut filled = 0;
        // A `for` loop over nested iterators takes more instructions.
        let _ = self.pieces().try_for_each(|piece| {
            *slices.get_mut(filled)? = IoSlice::new(piece);
            filled += 1;
            Some(())
        });
        filled
    }

    /// Removes the first `bytes` bytes, which were sent. Buffers of finished frames go to
    /// `recycle`.
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
#[path = "../../tests/unit/connection/link.rs"]
mod tests;
