//! The two ends of a connection.

/// End of a WebSocket connection, seen from the relay between both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Opened the connection. Its frames are masked.
    Client,
    /// Accepted the connection. Its frames are not masked.
    Upstream,
}

impl Side {
    /// Returns the end that receives the frames of this one.
    pub(crate) const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}
