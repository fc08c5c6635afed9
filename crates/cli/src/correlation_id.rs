//! Ids that join the events of one request, unique across processes, written without allocating.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// Writes the id of each request into the same memory.
pub(crate) struct CorrelationId {
    text: String,
    prefix: usize,
}

impl CorrelationId {
    /// For a run with this nonce.
    pub(crate) fn new(nonce: u64) -> Self {
        let mut text = String::with_capacity(64);
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "{nonce:016x}-");
        let prefix = text.len();
        Self { text, prefix }
    }

    /// The id of the request with this number; all workers of a run share the numbers.
    pub(crate) fn of(&mut self, number: u64) -> &str {
        self.text.truncate(self.prefix);
        let _ = write!(self.text, "{number}");
        &self.text
    }
}

/// A number that no other run is likely to have.
pub(crate) fn nonce() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_number_and_keep_their_memory() {
        let mut id = CorrelationId::new(7);
        let memory = id.of(1).as_ptr();
        assert_eq!(id.of(u64::MAX), "0000000000000007-18446744073709551615");
        assert_eq!(id.of(2).as_ptr(), memory);
    }
}
