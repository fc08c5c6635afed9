//! Decoder of a body in any coding.

use super::brotli::Brotli;
use super::deflate::Deflate;
use super::gzip::Gzip;
use super::zstd::Zstd;
use super::{CodingError, DecodeLimits, Step};
use std::fmt;

/// Decoded bytes after which the limits are checked.
pub(super) const PIECE_LEN: usize = 16 * 1024;

/// Content coding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// Deflate in zlib's format, or without it, as many senders write it.
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// Returns the coding with this name, in any case.
    pub(crate) fn named(token: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Coding); 5] = [
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"deflate", Coding::Deflate),
            (b"br", Coding::Brotli),
            (b"zstd", Coding::Zstd),
        ];
        let mut names = NAMES.into_iter();
        names.find_map(|(name, coding)| name.eq_ignore_ascii_case(token).then_some(coding))
    }
}

/// Decodes a body as its bytes arrive.
///
/// After an error each call fails with the same error.
pub(crate) struct BodyDecoder {
    coding: Coding,
    limits: DecodeLimits,
    /// Created with the first byte: many bodies with a coding are empty, such as those of answers
    /// to HEAD.
    format: Option<Format>,
    /// Encoded bytes that have been read.
    encoded: u64,
    /// Decoded bytes, including those that exceeded a limit.
    decoded: u64,
    failure: Option<CodingError>,
}

impl BodyDecoder {
    /// Creates a decoder. It allocates nothing before the first byte.
    pub(crate) fn new(coding: Coding, limits: DecodeLimits) -> Self {
        Self {
            coding,
            limits,
            format: None,
            encoded: 0,
            decoded: 0,
            failure: None,
        }
    }

    /// Appends all that can be decoded of the bytes so far to `out`.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not valid, follow the end of the encoded data, or decode to more than
    /// the limits allow. What was decoded before is in `out`.
    pub(crate) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let pushed = self.decode(data, out);
        self.failure = pushed.err();
        pushed
    }

    /// Returns the bytes that the decoder has allocated for itself.
    pub(crate) fn memory(&self) -> usize {
        self.format.as_ref().map_or(0, Format::memory)
    }

    /// Ends the body, and frees the memory of the decoder. There is nothing more to put out by
    /// then.
    ///
    /// # Errors
    ///
    /// [`CodingError::Truncated`] if the encoded data has not ended. A body without a single byte
    /// is complete in every coding.
    pub(crate) fn finish(&mut self) -> Result<(), CodingError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.format.as_ref().is_none_or(Format::is_complete) {
            self.format = None;
            return Ok(());
        }
        self.failure = Some(CodingError::Truncated);
        Err(CodingError::Truncated)
    }

    fn decode(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        if data.is_empty() {
            return Ok(());
        }
        let mut piece = [0; PIECE_LEN];
        loop {
            let format = match &mut self.format {
                Some(format) => format,
                none => none.insert(Format::of(self.coding)?),
            };
            let step = format.step(data, &mut piece)?;
            data = &data[step.read..];
            self.encoded += step.read as u64;
            self.put(&piece[..step.written], out)?;
            // Without input, a decoder may still have bytes that its own buffers had no room for.
            if data.is_empty() && step == Step::default() {
                return Ok(());
            }
        }
    }

    /// Puts out a piece that the limits allow.
    fn put(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        let before = self.decoded;
        self.decoded += piece.len() as u64;
        if !self.limits.allow(self.encoded, self.decoded) {
            return Err(CodingError::TooLarge);
        }
        if out.capacity() - out.len() < piece.len() {
            // Grows by a quarter where `Vec` doubles, since only the bytes in use are charged to
            // the memory limit, and not beyond the limit of the size.
            let left = self.limits.max_size as u64 - before;
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            out.reserve_exact((out.capacity() / 4).max(piece.len()).min(left));
        }
        out.extend_from_slice(piece);
        Ok(())
    }
}

impl fmt::Debug for BodyDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyDecoder")
            .field("coding", &self.coding)
            .field("encoded", &self.encoded)
            .field("decoded", &self.decoded)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// State of the decoder of one coding.
enum Format {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Brotli),
    Zstd(Zstd),
}

impl Format {
    fn of(coding: Coding) -> Result<Self, CodingError> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Gzip::new()),
            Coding::Deflate => Self::Deflate(Deflate::new()),
            Coding::Brotli => Self::Brotli(Brotli::new()),
            Coding::Zstd => Self::Zstd(Zstd::new()?),
        })
    }

    /// Decodes some of the input into the piece. Each step with input makes progress. One without
    /// input that neither reads nor writes shows that all is put out.
    fn step(&mut self, input: &[u8], piece: &mut [u8]) -> Result<Step, CodingError> {
        match self {
            Self::Gzip(gzip) => gzip.step(input, piece),
            Self::Deflate(deflate) => deflate.step(input, piece),
            Self::Brotli(brotli) => brotli.step(input, piece),
            Self::Zstd(zstd) => zstd.step(input, piece),
        }
    }

    /// Returns the bytes that the decoder has allocated.
    fn memory(&self) -> usize {
        /// Window of 32 KiB, and tables.
        const INFLATE: usize = 48 * 1024;
        match self {
            Self::Gzip(_) | Self::Deflate(_) => INFLATE,
            Self::Brotli(brotli) => brotli.memory(),
            Self::Zstd(zstd) => zstd.memory(),
        }
    }

    /// Returns whether the encoded data has ended.
    fn is_complete(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_complete(),
            Self::Deflate(deflate) => deflate.is_complete(),
            Self::Brotli(brotli) => brotli.is_complete(),
            Self::Zstd(zstd) => zstd.is_complete(),
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/proxy/coding/mod.rs"]
mod tests;
