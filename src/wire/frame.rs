//! Framing: each frame is a length, a message type and a payload.

use bytes::{Buf, Bytes, BytesMut};
use std::time::Duration;

/// Length (4 bytes, big endian, counting type and payload) and type (1 byte).
pub(super) const FRAME_HEADER_LEN: usize = 5;

/// Largest `length` that is accepted or sent: 16 MiB, the limit of `zentinel-agent-protocol`.
pub(crate) const MAX_FRAME_LEN: usize = 16 * 1024 * 1024;

/// Default time in which an incomplete frame has to make progress.
pub(crate) const DEFAULT_FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Capacity reserved at the end of a read buffer, so that one read can return many frames.
const READ_SIZE: usize = 16 * 1024;

/// Capacity above which an empty read buffer is replaced, so that one large frame does not hold
/// memory.
const MAX_KEPT: usize = 512 * 1024;

/// Defines the message types by their numbers.
macro_rules! message_types {
    ($($name:ident = $number:literal,)*) => {
        /// Message type of a frame, with its number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum MessageType {
            $($name = $number,)*
        }

        impl MessageType {
            /// Returns the message type with this number, or `None` if this version does not know
            /// it.
            pub(crate) const fn from_number(number: u8) -> Option<Self> {
                Some(match number {
                    $($number => Self::$name,)*
                    _ => return None,
                })
            }
        }
    };
}

message_types! {
    HandshakeRequest = 0x01,
    HandshakeResponse = 0x02,
    RequestHeaders = 0x10,
    RequestBodyChunk = 0x11,
    ResponseHeaders = 0x12,
    ResponseBodyChunk = 0x13,
    RequestComplete = 0x14,
    WebSocketFrame = 0x15,
    GuardrailInspect = 0x16,
    Configure = 0x17,
    AgentResponse = 0x20,
    HealthStatus = 0x30,
    MetricsReport = 0x31,
    ConfigUpdateRequest = 0x32,
    FlowControl = 0x33,
    Cancel = 0x40,
    Ping = 0x41,
    Pong = 0x42,
    ConfigUpdateResponse = 0x60,
    Drain = 0x61,
    Shutdown = 0x62,
    Log = 0x63,
}

/// A frame that violates the protocol. The connection cannot continue after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame length is 0")]
    Empty,
    #[error("frame of {length} bytes exceeds the limit of {limit} bytes")]
    TooLarge { length: usize, limit: usize },
    #[cfg(feature = "grpc")]
    #[error("compressed gRPC message, but compression was not negotiated")]
    Compressed,
}

/// Receive buffer that splits a byte stream into frames.
///
/// Its memory grows with the bytes that arrive, never with the length that a frame header
/// announces.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: BytesMut,
}

impl FrameBuffer {
    /// Returns the buffer to append received bytes to, with spare capacity.
    pub(crate) fn spare(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && self.bytes.capacity() > MAX_KEPT {
            self.bytes = BytesMut::new();
        }
        if self.bytes.capacity() - self.bytes.len() < READ_SIZE / 4 {
            self.grow();
        }
        &mut self.bytes
    }

    /// Makes room for one read. The buffer of a large frame grows to at most twice what has
    /// arrived, and not beyond the end of the frame.
    fn grow(&mut self) {
        let len = self.bytes.len();
        if len < MAX_KEPT {
            return self.bytes.reserve(READ_SIZE);
        }
        let announced = self.bytes.first_chunk().map_or(0, |&announced| {
            u32::from_be_bytes(announced) as usize + FRAME_HEADER_LEN
        });
        let more = announced.saturating_sub(len).min(len).max(READ_SIZE);
        // `BytesMut` would grow beyond that. A vector of this size is usually moved by the system,
        // without a copy, and neither of the conversions copies.
        let mut bytes = Vec::from(std::mem::take(&mut self.bytes));
        bytes.reserve_exact(more);
        self.bytes = BytesMut::from(Bytes::from(bytes));
    }

    /// Returns the size of the buffer's memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Removes and returns the next complete frame: its message number and its payload.
    ///
    /// Returns `None` while the frame is incomplete. `limit` is the largest length allowed. An
    /// invalid length is rejected as soon as its four bytes have arrived, before the message type.
    pub(crate) fn next_frame(
        &mut self,
        limit: usize,
    ) -> Result<Option<(u8, BytesMut)>, FrameError> {
        let Some((length, rest)) = self.bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 {
            return Err(FrameError::Empty);
        }
        if length > limit {
            return Err(FrameError::TooLarge { length, limit });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = rest[0];
        self.bytes.advance(FRAME_HEADER_LEN);
        Ok(Some((message, self.bytes.split_to(length - 1))))
    }

    /// Returns whether the buffer holds no bytes of an incomplete frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Encoded frames to send, and a body that follows them without being copied.
#[derive(Debug, Default)]
pub(crate) struct OutgoingFrame {
    pub(crate) written: Vec<u8>,
    /// Sent after `written`; often empty.
    pub(crate) body: Bytes,
}

impl OutgoingFrame {
    pub(crate) fn len(&self) -> usize {
        self.written.len() + self.body.len()
    }
}

impl From<Vec<u8>> for OutgoingFrame {
    fn from(written: Vec<u8>) -> Self {
        Self {
            written,
            body: Bytes::new(),
        }
    }
}

/// Appends a frame to `out`.
///
/// `write_payload` appends the payload. It may return the last part of the payload instead of
/// copying it; that part is returned to the caller, which sends it after `out`.
///
/// If the length of the frame exceeds `limit`, `out` is restored and an error is returned.
pub(crate) fn write_frame(
    out: &mut Vec<u8>,
    message: MessageType,
    limit: usize,
    write_payload: impl FnOnce(&mut Vec<u8>) -> Bytes,
) -> Result<Bytes, FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, message as u8]);
    let detached = write_payload(out);
    let length = out.len() - start - 4 + detached.len();
    match u32::try_from(length) {
        Ok(announced) if length <= limit => {
            out[start..start + 4].copy_from_slice(&announced.to_be_bytes());
            Ok(detached)
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLarge { length, limit })
        }
    }
}

/// Appends a frame with an already encoded payload to `out`.
pub(crate) fn write_message(
    out: &mut Vec<u8>,
    message: MessageType,
    limit: usize,
    payload: &[u8],
) -> Result<(), FrameError> {
    write_frame(out, message, limit, |out| {
        out.extend_from_slice(payload);
        Bytes::new()
    })
    .map(drop)
}

/// Returns a frame with an already encoded payload.
pub(crate) fn frame_of(message: MessageType, payload: &[u8]) -> Result<OutgoingFrame, FrameError> {
    let mut out = Vec::with_capacity(FRAME_HEADER_LEN + payload.len());
    write_message(&mut out, message, MAX_FRAME_LEN, payload)?;
    Ok(out.into())
}

#[cfg(test)]
#[path = "../../tests/unit/wire/frame.rs"]
mod tests;
