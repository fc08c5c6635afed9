//! The decision on each frame.

use super::Side;
use bytes::Bytes;
use tollgate::events::WebSocketOpcode;

/// Decides on the frames of one direction.
pub(crate) trait Judge {
    /// Returns the decision on a frame.
    ///
    /// The next frame of the direction is read after the decision. The future is dropped when the
    /// connection ends for another reason.
    ///
    /// # Errors
    ///
    /// Any error ends the connection: frames that were not judged are not forwarded.
    fn judge(
        &mut self,
        frame: Frame<'_>,
    ) -> impl Future<Output = Result<FrameVerdict, JudgeError>> + Send;
}

/// The judges of a connection, by the sender of the frames.
#[derive(Debug, Clone)]
pub(crate) struct Judges<J> {
    /// Judges the frames of the client.
    pub(crate) client: J,
    /// Judges the frames of the upstream.
    pub(crate) upstream: J,
}

/// A valid frame that is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Sender of the frame.
    pub(crate) from: Side,
    /// Kind of frame. Later fragments of a message are continuations.
    pub(crate) opcode: WebSocketOpcode,
    /// Payload, unmasked.
    pub(crate) data: &'a Bytes,
    /// Index of the frame in its direction, counted from 0. Frames that are dropped count.
    pub(crate) index: u64,
    /// Set if the message ends with this frame.
    pub(crate) fin: bool,
}

/// Decision on a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameVerdict {
    /// Forward the frame.
    Forward,
    /// Do not forward the frame.
    ///
    /// The rest of a message is dropped with its fragment. If earlier fragments were forwarded, an
    /// empty fragment ends the message; if they end within a character of a text, the connection
    /// is closed with code 1008 instead. A close frame is forwarded without its payload, since its
    /// sender sends no more frames.
    Drop,
    /// Close the connection in both directions.
    Close {
        /// Close code of RFC 6455. One that must not be sent becomes 1008.
        code: u16,
        /// Close reason, of which the first 123 bytes are sent.
        reason: String,
    },
}

/// Reason for which a frame was not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JudgeError {
    /// The agent failed. The connection is closed with code 1011.
    Failed,
    /// The agent has no capacity. The connection is closed with code 1013.
    Busy,
}
