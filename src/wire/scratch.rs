//! Memory for what a decoded event borrows but its message does not contain.

use super::compact::HeaderTexts;
use crate::protocol::{IpText, Timestamp};

/// Texts that stand as numbers or bytes in the message of an event.
#[derive(Debug)]
pub(crate) struct EventScratch {
    pub(super) client_ip: IpText,
    pub(super) timestamp: Timestamp,
    pub(super) headers: HeaderTexts,
}

impl Default for EventScratch {
    fn default() -> Self {
        Self {
            client_ip: IpText::EMPTY,
            timestamp: Timestamp::default(),
            headers: HeaderTexts::default(),
        }
    }
}
