//! The coding `deflate`: zlib's format (RFC 1950), or deflate without it (RFC 1951).

use super::{CodingError, Step};
use flate2::{Decompress, FlushDecompress, Status};

/// Decoder of `deflate`.
pub(super) enum Deflate {
    /// Before the second byte, which tells the format.
    Start(Option<u8>),
    Data(Decompress),
    Ended,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self::Start(None)
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Ended)
    }

    pub(super) fn step(&mut self, input: &[u8], piece: &mut [u8]) -> Result<Step, CodingError> {
        match self {
            Self::Start(first) => match (*first, input) {
                (_, []) => Ok(Step::default()),
                (None, [only]) => {
                    *first = Some(*only);
                    Ok(Step {
                        read: 1,
                        written: 0,
                    })
                }
                (None, [first, second, ..]) => {
                    let inflater = Decompress::new(is_zlib(*first, *second));
                    *self = Self::Data(inflater);
                    self.step(input, piece)
                }
                (Some(first), [second, ..]) => {
                    let mut inflater = Decompress::new(is_zlib(first, *second));
                    let (step, _) = inflate(&mut inflater, &[first], piece)?;
                    *self = Self::Data(inflater);
                    // The first byte has been counted.
                    Ok(Step { read: 0, ..step })
                }
            },
            Self::Data(inflater) => {
                let (step, has_ended) = inflate(inflater, input, piece)?;
                if has_ended {
                    *self = Self::Ended;
                }
                Ok(step)
            }
            Self::Ended if input.is_empty() => Ok(Step::default()),
            Self::Ended => Err(CodingError::TrailingData),
        }
    }
}

/// Returns whether data that begins with these bytes is in zlib's format. Browsers decide likewise.
fn is_zlib(first: u8, second: u8) -> bool {
    const DEFLATE: u8 = 8;
    const MAX_WINDOW: u8 = 7;
    let is_method = first & 0x0f == DEFLATE && first >> 4 <= MAX_WINDOW;
    is_method && u16::from_be_bytes([first, second]).is_multiple_of(31)
}

/// Decodes some of the input into the piece. Also returns whether the deflated data has ended.
///
/// With flate2's default backend, a distance that reaches before the first byte reads zeros. zlib
/// refuses such data.
pub(super) fn inflate(
    inflater: &mut Decompress,
    input: &[u8],
    piece: &mut [u8],
) -> Result<(Step, bool), CodingError> {
    let (read, written) = (inflater.total_in(), inflater.total_out());
    let status = inflater
        .decompress(input, piece, FlushDecompress::None)
        .map_err(|_| CodingError::Corrupt)?;
    // Neither exceeds the length of a slice.
    let step = Step {
        read: (inflater.total_in() - read) as usize,
        written: (inflater.total_out() - written) as usize,
    };
    let has_ended = status == Status::StreamEnd;
    if step == Step::default() && !has_ended && !input.is_empty() {
        return Err(CodingError::Corrupt);
    }
    Ok((step, has_ended))
}
