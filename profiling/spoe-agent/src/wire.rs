//! The values of SPOP.

use crate::session::InvalidFrame;

/// Reads values from the beginning of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// A typed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// No value, or a boolean.
    Flag,
    Number(u64),
    /// An address of 4 or 16 bytes.
    Address(&'a [u8]),
    /// A string or binary data.
    Bytes(&'a [u8]),
}

/// Most bytes that the encoding of a number takes.
const MAX_VARINT: u32 = 10;

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, InvalidFrame> {
        let (&first, rest) = self.rest.split_first().ok_or(InvalidFrame)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], InvalidFrame> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(InvalidFrame)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a number in the encoding of SPOP, which is not that of protobuf: the bits that mark
    /// further bytes are part of the sum.
    pub(crate) fn varint(&mut self) -> Result<u64, InvalidFrame> {
        let first = self.byte()?;
        let mut sum = u64::from(first);
        if first < 240 {
            return Ok(sum);
        }
        for position in 0..MAX_VARINT - 1 {
            let byte = self.byte()?;
            sum = sum.wrapping_add(u64::from(byte) << (4 + 7 * position));
            if byte < 128 {
                return Ok(sum);
            }
        }
        Err(InvalidFrame)
    }

    /// Reads a string without a type: its length and its bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], InvalidFrame> {
        let len = usize::try_from(self.varint()?).map_err(|_| InvalidFrame)?;
        self.take(len)
    }

    pub(crate) fn value(&mut self) -> Result<Value<'a>, InvalidFrame> {
        match self.byte()? & 0x0f {
            0 | 1 => Ok(Value::Flag),
            2..=5 => self.varint().map(Value::Number),
            6 => self.take(4).map(Value::Address),
            7 => self.take(16).map(Value::Address),
            8 | 9 => self.string().map(Value::Bytes),
            _ => Err(InvalidFrame),
        }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    if number < 240 {
        return out.push(low_byte(number));
    }
    out.push(0xf0 | low_byte(number & 15));
    number = (number - 240) >> 4;
    while number >= 128 {
        out.push(0x80 | low_byte(number & 127));
        number = (number - 128) >> 7;
    }
    out.push(low_byte(number));
}

const fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a string with its type.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(0x08);
    put_string(out, text);
}

/// Appends a number with its type.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u32) {
    out.push(0x03);
    put_varint(out, number.into());
}
