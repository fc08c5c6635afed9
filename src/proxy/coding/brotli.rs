//! The coding `br` (RFC 7932).

use super::{CodingError, Step};
use brotli_decompressor::{
    BrotliDecoderErrorCode, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc,
};

/// Decoder of `br`.
pub(super) struct Brotli {
    /// The state has several kilobytes.
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    has_ended: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let allocator = StandardAlloc::default();
        Self {
            // Strict: without the extension for windows of more than 16 MiB.
            state: Box::new(BrotliState::new_strict(allocator, allocator, allocator)),
            has_ended: false,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.has_ended
    }

    /// Returns the bytes that the decoder has allocated. The window is most of them.
    pub(super) fn memory(&self) -> usize {
        /// Of codes and context maps.
        const TABLES: usize = 64 * 1024;
        let window = usize::try_from(self.state.ringbuffer_size).unwrap_or_default();
        size_of_val(&*self.state) + TABLES + window
    }

    pub(super) fn step(&mut self, input: &[u8], piece: &mut [u8]) -> Result<Step, CodingError> {
        if self.has_ended {
            return match input {
                [] => Ok(Step::default()),
                _ => Err(CodingError::TrailingData),
            };
        }
        let (mut input_left, mut space_left) = (input.len(), piece.len());
        let mut step = Step::default();
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut step.read,
            input,
            &mut space_left,
            &mut step.written,
            piece,
            &mut 0,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultSuccess => self.has_ended = true,
            BrotliResult::ResultFailure => return Err(self.failure()),
            BrotliResult::NeedsMoreInput if input_left > 0 => return Err(CodingError::Corrupt),
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(step)
    }

    fn failure(&self) -> CodingError {
        match self.state.error_code {
            BrotliDecoderErrorCode::BROTLI_DECODER_ERROR_FORMAT_WINDOW_BITS => {
                CodingError::WindowTooLarge
            }
            _ => CodingError::Corrupt,
        }
    }
}
