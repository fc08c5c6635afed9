//! The coding `gzip` (RFC 1952).

use super::deflate::inflate;
use super::{CodingError, Step};
use flate2::{Crc, Decompress};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;

/// Members of a body. Each costs the clearing of a window, however short it is.
const MAX_MEMBERS: u32 = 1_000;

/// Length of the fields at the beginning of each member.
const FIXED_LEN: usize = 10;

const HAS_HEADER_CRC: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Decoder of `gzip`. Verifies the checksums of each member, and of its header.
pub(super) struct Gzip {
    part: Part,
    /// Flags of the member that say which parts of its header follow. Cleared one after another.
    flags: u8,
    /// Bytes of a field of fixed length that has not arrived as a whole.
    field: [u8; FIXED_LEN],
    /// Length of what has arrived of it.
    filled: usize,
    /// Checksum of the member's header, then of its data.
    crc: Crc,
    inflater: Decompress,
    /// Members that have ended.
    members: u32,
}

/// Part of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Fixed,
    ExtraLen,
    /// With the number of bytes that are left.
    Extra(u16),
    Name,
    Comment,
    HeaderCrc,
    Data,
    Trailer,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            part: Part::Fixed,
            flags: 0,
            field: [0; FIXED_LEN],
            filled: 0,
            crc: Crc::new(),
            inflater: Decompress::new(false),
            members: 0,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.part == Part::Fixed && self.filled == 0 && self.members > 0
    }

    pub(super) fn step(&mut self, input: &[u8], piece: &mut [u8]) -> Result<Step, CodingError> {
        let mut left = input;
        while self.part != Part::Data {
            if left.is_empty() {
                return Ok(Step {
                    read: input.len(),
                    written: 0,
                });
            }
            self.read_part(&mut left)?;
        }
        let (step, has_ended) = inflate(&mut self.inflater, left, piece)?;
        self.crc.update(&piece[..step.written]);
        if has_ended {
            self.part = Part::Trailer;
        }
        Ok(Step {
            read: input.len() - left.len() + step.read,
            ..step
        })
    }

    /// Reads what there is of a part of the header or of the trailer.
    fn read_part(&mut self, input: &mut &[u8]) -> Result<(), CodingError> {
        match self.part {
            Part::Fixed => self.read_fixed(input)?,
            Part::ExtraLen => {
                if let Some([low, high]) = self.header_field(input) {
                    self.part = Part::Extra(u16::from_le_bytes([low, high]));
                    self.end_extra();
                }
            }
            Part::Extra(left) => {
                let taken = input.len().min(usize::from(left));
                self.crc.update(&input[..taken]);
                *input = &input[taken..];
                self.part = Part::Extra(left - taken as u16);
                self.end_extra();
            }
            Part::Name => self.skip_text(input, HAS_NAME),
            Part::Comment => self.skip_text(input, HAS_COMMENT),
            Part::HeaderCrc => {
                // The lower half of the checksum of all that is before it.
                if let Some(field) = self.field(input) {
                    if u16::from_le_bytes(field) != self.crc.sum() as u16 {
                        return Err(CodingError::Corrupt);
                    }
                    self.flags &= !HAS_HEADER_CRC;
                    self.go_on();
                }
            }
            Part::Data => {}
            Part::Trailer => self.read_trailer(input)?,
        }
        Ok(())
    }

    fn read_fixed(&mut self, input: &mut &[u8]) -> Result<(), CodingError> {
        let whole = self.header_field::<FIXED_LEN>(input);
        // Bytes that begin no member fail at once.
        let magic_len = match whole {
            Some(_) => MAGIC.len(),
            None => self.filled.min(MAGIC.len()),
        };
        if self.field[..magic_len] != MAGIC[..magic_len] {
            return Err(if self.members > 0 {
                CodingError::TrailingData
            } else {
                CodingError::Corrupt
            });
        }
        let Some([_, _, method, flags, ..]) = whole else {
            return Ok(());
        };
        if method != DEFLATE || flags & RESERVED != 0 || self.members == MAX_MEMBERS {
            return Err(CodingError::Corrupt);
        }
        self.flags = flags;
        self.go_on();
        Ok(())
    }

    fn read_trailer(&mut self, input: &mut &[u8]) -> Result<(), CodingError> {
        let Some(trailer) = self.field::<8>(input) else {
            return Ok(());
        };
        let expected = u64::from(self.crc.amount()) << 32 | u64::from(self.crc.sum());
        if u64::from_le_bytes(trailer) != expected {
            return Err(CodingError::Corrupt);
        }
        self.members += 1;
        self.part = Part::Fixed;
        self.crc.reset();
        Ok(())
    }

    /// Goes on to the next part of the header that the member has, or to its data.
    fn go_on(&mut self) {
        self.part = match self.flags {
            flags if flags & HAS_EXTRA != 0 => Part::ExtraLen,
            flags if flags & HAS_NAME != 0 => Part::Name,
            flags if flags & HAS_COMMENT != 0 => Part::Comment,
            flags if flags & HAS_HEADER_CRC != 0 => Part::HeaderCrc,
            _ => Part::Data,
        };
        if self.part == Part::Data {
            self.crc.reset();
            if self.members > 0 {
                self.inflater.reset(false);
            }
        }
    }

    fn end_extra(&mut self) {
        if self.part == Part::Extra(0) {
            self.flags &= !HAS_EXTRA;
            self.go_on();
        }
    }

    /// Skips a text, which ends with a zero.
    fn skip_text(&mut self, input: &mut &[u8], flag: u8) {
        let end = memchr::memchr(0, input);
        let taken = end.map_or(input.len(), |end| end + 1);
        self.crc.update(&input[..taken]);
        *input = &input[taken..];
        if end.is_some() {
            self.flags &= !flag;
            self.go_on();
        }
    }

    /// As [`field`](Self::field), for a field that the checksum of the header includes.
    fn header_field<const LEN: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; LEN]> {
        let field = self.field(input)?;
        self.crc.update(&field);
        Some(field)
    }

    /// Reads a field of fixed length. Returns `None`, and keeps what there is of it, if more input
    /// is needed.
    fn field<const LEN: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; LEN]> {
        let taken = input.len().min(LEN - self.filled);
        self.field[self.filled..][..taken].copy_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.filled += taken;
        if self.filled < LEN {
            return None;
        }
        self.filled = 0;
        self.field.first_chunk().copied()
    }
}
