//! Stream ids of the tollgate extension.

use std::fmt;

/// Number that joins an event and its response if both sides use the tollgate extension.
///
/// The proxy chooses it and the agent repeats it. It precedes the payload as 8 bytes in big endian;
/// in protobuf it is a field of the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId(pub(crate) u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
