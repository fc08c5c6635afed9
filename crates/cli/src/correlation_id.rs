//! Correlation ids for generated requests: unique across processes, formatted without allocating.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// A buffer that holds one correlation id at a time.
pub(crate) struct CorrelationId {
    text: String,
    prefix: usize,
}

impl CorrelationId {
    /// Creates a buffer for the ids of a run. The nonce makes them differ from other runs' ids.
    pub(crate) fn new(nonce: u64) -> Self {
        let mut text = String::with_capacity(64);
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "{nonce:016x}-");
        let prefix = text.len();
        Self { text, prefix }
    }

    /// Returns the id of the request with this number. Numbers are unique within a run.
    pub(crate) fn for_request(&mut self, number: u64) -> &str {
        self.text.truncate(self.prefix);
        let _ = write!(self.text, "{number}");
        &self.text
    }
}

/// Returns a random number for [`CorrelationId::new`].
pub(crate) fn nonce() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_reuse_the_buffer() {
        let mut id = CorrelationId::new(7);
        let buffer = id.for_request(1).as_ptr();
        assert_eq!(
            id.for_request(u64::MAX),
            "0000000000000007-18446744073709551615"
        );
        assert_eq!(id.for_request(2).as_ptr(), buffer);
    }
}
