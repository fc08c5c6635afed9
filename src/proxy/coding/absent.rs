//! Replaces the decoders if the feature `codings` is off: no coding is known, so there is
//! none to create a decoder of.

use super::{CodingError, DecodeLimits};

/// Content coding that can be decoded: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {}

impl Coding {
    /// Returns the coding with a name: none.
    pub(crate) fn named(_: &[u8]) -> Option<Self> {
        None
    }
}

/// Decoder of a body, which cannot be created.
#[derive(Debug)]
pub(crate) struct BodyDecoder(Coding);

impl BodyDecoder {
    /// Creates a decoder.
    pub(crate) fn new(coding: Coding, _: DecodeLimits) -> Self {
        Self(coding)
    }

    /// Appends what can be decoded of the bytes so far to `out`.
    pub(crate) fn push(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), CodingError> {
        match self.0 {}
    }

    /// Returns the bytes that the decoder has allocated for itself.
    pub(crate) fn memory(&self) -> usize {
        match self.0 {}
    }

    /// Ends the body.
    pub(crate) fn finish(&mut self) -> Result<(), CodingError> {
        match self.0 {}
    }
}
