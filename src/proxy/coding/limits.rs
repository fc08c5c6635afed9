//! Limits of what decoding may produce.

/// Decoded bytes of a body up to which the ratio is not limited.
#[cfg(feature = "codings")]
pub(crate) const RATIO_FREE_SIZE: u64 = 64 * 1024;

/// Limits of the decoded bytes of one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecodeLimits {
    /// Decoded bytes for each encoded one. Ignored up to [`RATIO_FREE_SIZE`] decoded bytes.
    pub(crate) max_ratio: u32,
    /// Decoded bytes of the body.
    pub(crate) max_size: usize,
}

impl Default for DecodeLimits {
    /// Allows 10 MiB, and 100 decoded bytes for each encoded one.
    fn default() -> Self {
        Self {
            max_ratio: 100,
            max_size: 10 * 1024 * 1024,
        }
    }
}

impl DecodeLimits {
    /// Returns whether a body, or the beginning of one, is within the limits.
    #[cfg(feature = "codings")]
    pub(super) fn allow(&self, encoded: u64, decoded: u64) -> bool {
        let by_ratio = encoded.saturating_mul(u64::from(self.max_ratio));
        decoded <= self.max_size as u64 && decoded <= by_ratio.max(RATIO_FREE_SIZE)
    }
}
