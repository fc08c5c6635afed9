//! Memory for what a decoded event borrows but its message does not contain.

use super::compact::HeaderTexts;
use crate::protocol::IpText;
use crate::protocol::timestamp::LastTimestamp;

/// Texts that stand as numbers or bytes in the message of an event. It is kept for later events of
/// a connection, whose timestamps are often of the same second.
#[derive(Debug)]
pub(crate) struct EventScratch {
    pub(super) client_ip: IpText,
    pub(super) timestamp: LastTimestamp,
    pub(super) headers: HeaderTexts,
}

impl EventScratch {
    /// Frees what only the last event needed.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.headers.release();
    }
}

impl Default for EventScratch {
    fn default() -> Self {
        Self {
            client_ip: IpText::EMPTY,
            timestamp: LastTimestamp::default(),
            headers: HeaderTexts::default(),
        }
    }
}
