//! Reads frames, one at a time and whole.

use super::header::Header;
use super::limits::Limits;
use super::mask;
use super::rules::{Sequence, Violation};
use super::side::Side;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tollgate::events::WebSocketOpcode;

/// Room for one read of a connection that waits for its next frame.
const MIN_READ: usize = 4 * 1024;
/// Room for one read within a frame. The memory of a frame grows with what has arrived, not with
/// the length that its header announces.
const MAX_READ: usize = 64 * 1024;

/// Reads the frames of one peer.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    io: R,
    from: Side,
    buffer: BytesMut,
    sequence: Sequence,
    is_at_end: bool,
    has_closed: bool,
    frames: u64,
    bytes: u64,
}

/// A frame that has been read whole, and is valid.
#[derive(Debug)]
pub(super) struct IncomingFrame {
    pub(super) opcode: WebSocketOpcode,
    pub(super) fin: bool,
    /// Payload, unmasked.
    pub(super) data: Bytes,
    pub(super) index: u64,
    /// Set if the earlier fragments of the message end within a character.
    pub(super) is_within_character: bool,
}

/// Reason for which there is no next frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// The peer has broken a rule.
    Violation(Violation),
    /// The stream has ended or failed, perhaps within a frame.
    HungUp,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, from: Side) -> Self {
        Self {
            io,
            from,
            buffer: BytesMut::new(),
            sequence: Sequence::default(),
            is_at_end: false,
            has_closed: false,
            frames: 0,
            bytes: 0,
        }
    }

    /// Returns the number of frames that were read.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the length of these frames, with their headers.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns whether a close frame was read.
    pub(super) const fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Reads the next frame.
    pub(super) async fn next(&mut self, limits: &Limits) -> Result<IncomingFrame, NoFrame> {
        let header = loop {
            if let Some(header) =
                Header::parse(&self.buffer, self.from).map_err(NoFrame::Violation)?
            {
                break header;
            }
            self.fill(MIN_READ).await?;
        };
        self.sequence
            .check_header(&header, limits)
            .map_err(NoFrame::Violation)?;
        // A payload within the limits fits in memory.
        let length = header.len.saturating_add(header.payload as usize);
        while self.buffer.len() < length {
            self.fill(length - self.buffer.len()).await?;
        }
        let mut data = self.take(length);
        data.advance(header.len);
        if let Some(key) = header.mask {
            mask::apply(&mut data, key);
        }
        let is_within_character = self.sequence.is_within_character();
        self.sequence
            .check_payload(&header, &data)
            .map_err(NoFrame::Violation)?;
        self.has_closed |= header.opcode == WebSocketOpcode::Close;
        let index = self.frames;
        self.frames += 1;
        self.bytes += length as u64;
        Ok(IncomingFrame {
            opcode: header.opcode,
            fin: header.fin,
            data: data.freeze(),
            index,
            is_within_character,
        })
    }

    /// Reads and discards data until the stream ends or more than `max_bytes` were discarded.
    pub(super) async fn discard(&mut self, max_bytes: usize) {
        let mut discarded = 0;
        while discarded <= max_bytes && !self.is_at_end {
            discarded += self.buffer.len();
            self.buffer.clear();
            if self.fill(MIN_READ).await.is_err() {
                return;
            }
        }
    }

    /// Takes a frame out of the buffer, and returns the memory that a long one needed.
    fn take(&mut self, length: usize) -> BytesMut {
        let frame = self.buffer.split_to(length);
        if length > MAX_READ && self.buffer.len() <= MAX_READ {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        frame
    }

    /// Reads once.
    async fn fill(&mut self, missing: usize) -> Result<(), NoFrame> {
        if self.is_at_end {
            return Err(NoFrame::HungUp);
        }
        self.buffer.reserve(missing.clamp(MIN_READ, MAX_READ));
        match self.io.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => {
                self.is_at_end = true;
                Err(NoFrame::HungUp)
            }
            Ok(_) => Ok(()),
        }
    }
}
