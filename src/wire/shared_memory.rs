//! The offer of shared memory in the `tollgate` object of handshakes and registrations.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Message type of the frames that exchange the descriptors. They are no messages of a connection:
/// all of them are sent before it begins, and none in an envelope.
pub(crate) const SHARED_MEMORY: u8 = 0x64;

/// Version of the layout of shared memory.
const VERSION: u64 = 1;

/// Sizes of rings that are accepted, if they are powers of two.
const SIZES: RangeInclusive<u64> = 16 * 1024..=4 * 1024 * 1024;

/// Offer of shared memory, or the acceptance of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedMemoryOffer {
    #[serde(default)]
    versions: Vec<u64>,
    /// Size of the ring that the sender of the offer writes, in bytes.
    #[serde(default)]
    bytes: u64,
}

impl SharedMemoryOffer {
    /// Creates an offer of a ring of about this many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = (bytes as u64).clamp(*SIZES.start(), *SIZES.end());
        Self {
            versions: vec![VERSION],
            bytes: bytes.next_power_of_two(),
        }
    }

    /// Returns the size of the ring, if this version knows the layout and accepts the size.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let is_known = self.versions.contains(&VERSION)
            && self.bytes.is_power_of_two()
            && SIZES.contains(&self.bytes);
        is_known.then(|| usize::try_from(self.bytes).ok()).flatten()
    }
}

#[cfg(test)]
#[path = "../../tests/unit/wire/shared_memory.rs"]
mod tests;
