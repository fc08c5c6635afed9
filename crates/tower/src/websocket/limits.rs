//! Settings of a relay.

use std::time::Duration;

/// Limits of one WebSocket connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest payload of a frame, in bytes. Longer frames end the connection with code 1009.
    pub(crate) max_frame: usize,
    /// Longest sum of the payloads of a message's frames, in bytes. Longer messages end the
    /// connection with code 1009.
    pub(crate) max_message: usize,
    /// Time that a peer has to answer a close frame, and to take the last frames and the end of
    /// the stream.
    pub(crate) close_timeout: Duration,
    /// Time for which the data of a peer is read and discarded after the end of the stream was
    /// sent to it. TCP resets a connection that is closed while data is unread, and the peer may
    /// then lose the close frame.
    pub(crate) drain_timeout: Duration,
    /// Number of bytes that are discarded at most.
    pub(crate) drain_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 1 << 20,
            max_message: 16 << 20,
            close_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(2),
            drain_bytes: 4 << 20,
        }
    }
}
