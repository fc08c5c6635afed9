//! The `tollgate` object of handshakes and registrations, with the offer of shared memory in it.

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

/// The `tollgate` object of a message, if it has one. Other implementations ignore it.
///
/// It holds what the message says of the extension, and an offer of shared memory or its
/// acceptance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TollgateObject<T>(Option<Fields<T>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fields<T> {
    #[serde(flatten)]
    extension: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_memory: Option<SharedMemoryOffer>,
}

impl<T> TollgateObject<T> {
    pub(super) const ABSENT: Self = Self(None);

    /// Returns what the message says of the extension.
    pub(super) fn extension(&self) -> Option<&T> {
        self.0.as_ref().map(|fields| &fields.extension)
    }

    /// Returns the offer of shared memory, or its acceptance.
    pub(crate) fn shared_memory(&self) -> Option<&SharedMemoryOffer> {
        self.0.as_ref()?.shared_memory.as_ref()
    }

    /// Offers shared memory or accepts it, if the message speaks of the extension.
    pub(crate) fn set_shared_memory(&mut self, offer: Option<&SharedMemoryOffer>) {
        if let Some(fields) = &mut self.0 {
            fields.shared_memory = offer.cloned();
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> From<Option<T>> for TollgateObject<T> {
    fn from(extension: Option<T>) -> Self {
        Self(extension.map(|extension| Fields {
            extension,
            shared_memory: None,
        }))
    }
}

impl<T> Default for TollgateObject<T> {
    fn default() -> Self {
        Self::ABSENT
    }
}

#[cfg(test)]
#[path = "../../tests/unit/wire/shared_memory.rs"]
mod tests;
