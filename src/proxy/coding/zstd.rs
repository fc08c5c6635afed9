//! The coding `zstd` (RFC 8878 and RFC 9659).

use super::{CodingError, Step};
use zstd::stream::raw::{DParameter, Decoder, Operation};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Binary logarithm of the largest window, 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// Length of the longest header of a frame without a dictionary: magic number, descriptor, and
/// either a window's descriptor or not, and a length of the content.
const MAX_HEADER_LEN: usize = 4 + 1 + 1 + 8;

/// Decoder of `zstd`, of one frame without a dictionary.
pub(super) struct Zstd {
    part: Part,
    /// Size of the window in bytes; 0 until the frame's header has arrived.
    window: usize,
    decoder: Decoder<'static>,
}

enum Part {
    /// The beginning of the frame's header has arrived.
    Header {
        bytes: [u8; MAX_HEADER_LEN],
        filled: usize,
    },
    Blocks,
    Ended,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, CodingError> {
        // Creating a decoder fails only for lack of memory.
        let create = || {
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
            Ok::<_, std::io::Error>(decoder)
        };
        Ok(Self {
            part: Part::Header {
                bytes: [0; MAX_HEADER_LEN],
                filled: 0,
            },
            window: 0,
            decoder: create().map_err(|_| CodingError::TooLarge)?,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.part, Part::Ended)
    }

    /// Returns the bytes that the decoder has allocated, as `ZSTD_estimateDStreamSize` does.
    pub(super) fn memory(&self) -> usize {
        /// Of the decoder's state, and of the block that it reads and the one that it writes.
        const BESIDE: usize = (96 + 128 + 128) * 1024;
        BESIDE + self.window
    }

    pub(super) fn step(&mut self, input: &[u8], piece: &mut [u8]) -> Result<Step, CodingError> {
        match &mut self.part {
            Part::Header { bytes, filled } => {
                let len = header_len(&bytes[..*filled]);
                let taken = input.len().min(len - *filled);
                bytes[*filled..][..taken].copy_from_slice(&input[..taken]);
                *filled += taken;
                let header = &bytes[..*filled];
                self.window = check_header(header)?;
                if header.len() == header_len(header) {
                    // As one input, with nothing behind it. Else the decoder may take the frame,
                    // or what it takes for one, as a whole, without a limit of its window.
                    run(&mut self.decoder, header, piece)?;
                    self.part = Part::Blocks;
                }
                Ok(Step {
                    read: taken,
                    written: 0,
                })
            }
            Part::Blocks => {
                let (step, has_ended) = run(&mut self.decoder, input, piece)?;
                if has_ended {
                    self.part = Part::Ended;
                }
                Ok(step)
            }
            Part::Ended if input.is_empty() => Ok(Step::default()),
            Part::Ended => Err(CodingError::TrailingData),
        }
    }
}

/// Returns the length of a frame's header that begins with these bytes. If they do not tell, the
/// length of a beginning that does.
fn header_len(header: &[u8]) -> usize {
    let Some(descriptor) = header.get(MAGIC.len()) else {
        return MAGIC.len() + 1;
    };
    MAGIC.len() + 1 + window_len(*descriptor) + content_len_bytes(*descriptor)
}

/// Returns the length of the window's descriptor. A frame of a single segment has none.
fn window_len(descriptor: u8) -> usize {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    usize::from(descriptor & SINGLE_SEGMENT == 0)
}

/// Returns the length of the field that has the length of the content.
fn content_len_bytes(descriptor: u8) -> usize {
    match descriptor >> 6 {
        // Without a window, the content's length is the window's.
        0 => 1 - window_len(descriptor),
        log => 1 << log,
    }
}

/// Checks what there is of a frame's header, and returns the size of the window in bytes once it is
/// whole. The decoder checks the rest then.
fn check_header(header: &[u8]) -> Result<usize, CodingError> {
    const DICTIONARY: u8 = 0b11;
    let magic_len = header.len().min(MAGIC.len());
    if header[..magic_len] != MAGIC[..magic_len] {
        return Err(CodingError::Corrupt);
    }
    let [descriptor, rest @ ..] = &header[magic_len..] else {
        return Ok(0);
    };
    if descriptor & DICTIONARY != 0 {
        return Err(CodingError::Corrupt);
    }
    if header.len() < header_len(header) {
        return Ok(0);
    }
    let window = usize::try_from(window_size(*descriptor, rest)).ok();
    let allowed = window.filter(|window| *window <= 1 << MAX_WINDOW_LOG);
    allowed.ok_or(CodingError::WindowTooLarge)
}

/// Returns the size of the window in bytes, from the fields after the frame's descriptor.
fn window_size(descriptor: u8, fields: &[u8]) -> u64 {
    if window_len(descriptor) == 1 {
        let (exponent, mantissa) = (fields[0] >> 3, fields[0] & 0b111);
        let base = 1_u64 << (10 + exponent);
        return base + base / 8 * u64::from(mantissa);
    }
    let mut content_len = [0; 8];
    content_len[..fields.len()].copy_from_slice(fields);
    let content_len = u64::from_le_bytes(content_len);
    // Two bytes have the length less the 256 that one byte could have.
    content_len + if fields.len() == 2 { 256 } else { 0 }
}

/// Decodes some of the input into the piece. Also returns whether the frame has ended.
fn run(
    decoder: &mut Decoder<'static>,
    input: &[u8],
    piece: &mut [u8],
) -> Result<(Step, bool), CodingError> {
    // The decoder fails by itself if it is called in vain again and again.
    let status = decoder
        .run_on_buffers(input, piece)
        .map_err(|_| CodingError::Corrupt)?;
    let step = Step {
        read: status.bytes_read,
        written: status.bytes_written,
    };
    Ok((step, status.remaining == 0))
}
