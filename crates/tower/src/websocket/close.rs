//! Close frames that the relay sends, and the codes in them.

use bytes::{BufMut, Bytes, BytesMut};

pub(super) const PROTOCOL_ERROR: u16 = 1002;
pub(super) const INVALID_DATA: u16 = 1007;
pub(super) const POLICY_VIOLATION: u16 = 1008;
pub(super) const TOO_BIG: u16 = 1009;
pub(super) const INTERNAL_ERROR: u16 = 1011;
pub(super) const TRY_AGAIN_LATER: u16 = 1013;

/// A control frame has at most 125 bytes, of which 2 are the code.
const MAX_REASON: usize = 123;

/// Returns whether a code may be sent: it is registered and not reserved for use without a frame,
/// or it is of the ranges for libraries and applications.
pub(super) const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Payload of a close frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ClosePayload(Bytes);

impl ClosePayload {
    /// Returns a payload with a code and the start of a reason. A code that must not be sent
    /// becomes 1008.
    pub(super) fn new(code: u16, reason: &str) -> Self {
        let reason = start_of(reason);
        let mut payload = BytesMut::with_capacity(2 + reason.len());
        payload.put_u16(if may_be_sent(code) {
            code
        } else {
            POLICY_VIOLATION
        });
        payload.put_slice(reason.as_bytes());
        Self(payload.freeze())
    }

    /// Returns the payload without code and reason.
    pub(super) fn empty() -> Self {
        Self::default()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Returns as many whole characters as fit in a frame.
fn start_of(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
