//! Reads values from the beginning of a slice.

use super::Malformed;
use super::value::Value;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Most bytes that a number takes.
const MAX_NUMBER_LEN: u32 = 10;

/// Numbers below this are one byte.
pub(super) const ONE_BYTE: u8 = 240;

/// Reads values from the beginning of a slice. What is read borrows from the slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns what was not read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads one byte.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] at the end of the data.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    /// Reads a number of bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] if there are fewer.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.rest.split_at_checked(len);
        let (taken, rest) = taken.ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads a number of four bytes, most significant first.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] if there are fewer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a number of variable length. The encoding is not that of protobuf: the bits that mark
    /// further bytes are part of the sum.
    ///
    /// # Errors
    ///
    /// [`Malformed::LongNumber`] if it has more than ten bytes or 64 bits, and
    /// [`Malformed::Truncated`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        if first < ONE_BYTE {
            return Ok(first.into());
        }
        self.long_varint(first)
    }

    fn long_varint(&mut self, first: u8) -> Result<u64, Malformed> {
        let mut sum = u64::from(first);
        for position in 0..MAX_NUMBER_LEN - 1 {
            let byte = self.byte()?;
            let shift = 4 + 7 * position;
            let part = u64::from(byte) << shift;
            if part >> shift != u64::from(byte) {
                return Err(Malformed::LongNumber);
            }
            sum = sum.checked_add(part).ok_or(Malformed::LongNumber)?;
            if byte < 128 {
                return Ok(sum);
            }
        }
        Err(Malformed::LongNumber)
    }

    /// Reads a string without a type: its length and its bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed::LongNumber`] and [`Malformed::Truncated`].
    #[inline]
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| Malformed::Truncated)?)
    }

    /// Reads a typed value.
    ///
    /// # Errors
    ///
    /// [`Malformed::UnknownType`], [`Malformed::OutOfRange`], [`Malformed::LongNumber`] and
    /// [`Malformed::Truncated`].
    pub fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let tag = self.byte()?;
        Ok(match tag & 0x0f {
            0 => Value::Null,
            1 => Value::Bool(tag & 0x10 != 0),
            2 => Value::Int32(int32(self.varint()?)?),
            3 => Value::Uint32(u32::try_from(self.varint()?).map_err(|_| Malformed::OutOfRange)?),
            4 => Value::Int64(self.varint()?.cast_signed()),
            5 => Value::Uint64(self.varint()?),
            6 => Value::Ipv4(Ipv4Addr::from(self.array::<4>()?)),
            7 => Value::Ipv6(Ipv6Addr::from(self.array::<16>()?)),
            8 => Value::String(self.string()?),
            9 => Value::Binary(self.string()?),
            unknown => return Err(Malformed::UnknownType(unknown)),
        })
    }
}

/// Returns a signed number of 32 bits, which peers write as 32 or as 64 bits.
fn int32(number: u64) -> Result<i32, Malformed> {
    if let Ok(short) = u32::try_from(number) {
        return Ok(short.cast_signed());
    }
    i32::try_from(number.cast_signed()).map_err(|_| Malformed::OutOfRange)
}
