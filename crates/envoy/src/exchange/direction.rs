//! The request or the response of an exchange.

use crate::fold::Fold;
use crate::wire::{BodyMode, Head};
use bytes::Bytes;
use tokio::time::Instant;
use tollgate::proxy::HeldBody;

/// Progress of a request or a response.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Form in which the body comes; `None` if Envoy did not say.
    pub(super) mode: Option<BodyMode>,
    /// Set once the head has come.
    pub(super) has_head: bool,
    /// Set once nothing more comes.
    pub(super) has_ended: bool,
    /// Set if the handler is not asked about the body.
    pub(super) is_unasked: bool,
    /// Chunks that the handler was asked about.
    pub(super) chunks: u32,
    /// Bytes of the body so far.
    pub(super) bytes: usize,
    /// Length that the head announces.
    pub(super) length: Option<usize>,
    /// Set if the handler has asked for more and has not decided since.
    pub(super) is_undecided: bool,
    /// Set while the head is not answered, as its body is not judged.
    pub(super) holds_head: bool,
    /// Set once the head or a part of the body has gone on.
    pub(super) has_gone_on: bool,
    /// Changes to the head that have not been sent.
    pub(super) fold: Fold,
    /// Chunks that the handler has not decided on.
    pub(super) held: Option<Box<HeldBody>>,
    /// Time until which the body may be held.
    pub(super) held_until: Option<Instant>,
}

impl Direction {
    /// Notes what the head says about the body.
    pub(super) fn begin(&mut self, head: &Head<'_>, has_ended: bool) {
        self.has_head = true;
        self.has_ended = has_ended;
        self.length = head.content_length();
    }

    pub(super) fn is_duplex(&self) -> bool {
        self.mode == Some(BodyMode::FullDuplex)
    }

    /// Returns whether something waits for a decision.
    pub(super) fn is_held(&self) -> bool {
        self.holds_head || self.held.is_some()
    }

    /// Returns whether more of the body comes that the handler has to see.
    pub(super) fn is_open(&self) -> bool {
        let is_shown = !matches!(self.mode, None | Some(BodyMode::None)) && !self.is_unasked;
        (self.has_head || self.bytes > 0) && is_shown && !self.has_ended
    }

    /// Returns whether a body comes that the handler looks at and Envoy does not send.
    pub(super) fn is_unseen(&self) -> bool {
        self.mode == Some(BodyMode::None) && !self.is_unasked && !self.has_ended
    }

    /// Returns whether a chunk is the last one.
    pub(super) fn ends_with(&self, end_of_stream: bool) -> bool {
        end_of_stream
            || match self.mode {
                // Trailers may follow, but no body.
                Some(BodyMode::Buffered) => true,
                Some(BodyMode::BufferedPartial) => self.length == Some(self.bytes),
                _ => false,
            }
    }

    /// Returns whether the handler is asked about a chunk. The end of a body without bytes is only
    /// for a handler that asked for more.
    pub(super) fn is_asked_about(&self, data: &Bytes, is_last: bool) -> bool {
        !self.is_unasked
            && (!data.is_empty() || (is_last && (self.chunks > 0 || self.is_undecided)))
    }
}
