//! Reader for the protobuf wire format.

use crate::protocol::text;
use crate::wire::decode::{DecodeErrorKind, Decoded, expected};

/// Value of one field, by wire type.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Decoded<&'a [u8]> {
        expected!(self, Self::Bytes(bytes) => bytes)
    }

    pub(super) fn str(self) -> Decoded<&'a str> {
        text::from_utf8(self.bytes()?).map_err(|_| DecodeErrorKind::NotUtf8)
    }

    pub(super) fn string(self) -> Decoded<String> {
        self.str().map(str::to_owned)
    }

    pub(super) fn number<T: TryFrom<u64>>(self) -> Decoded<T> {
        let Self::Varint(number) = self else {
            return Err(DecodeErrorKind::WrongType);
        };
        T::try_from(number).map_err(|_| DecodeErrorKind::OutOfRange)
    }

    pub(super) fn bool(self) -> Decoded<bool> {
        self.number::<u64>().map(|number| number != 0)
    }

    pub(super) fn float(self) -> Decoded<f32> {
        expected!(self, Self::Fixed32(bits) => f32::from_bits(bits))
    }

    pub(super) fn fixed64(self) -> Decoded<u64> {
        expected!(self, Self::Fixed64(number) => number)
    }
}

/// Reader of the fields of a message, in the order in which they were written.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::wire) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns the number and the value of the next field; `None` at the end of the message.
    #[inline]
    pub(super) fn next(&mut self) -> Decoded<Option<(u32, Value<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| DecodeErrorKind::Syntax)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take_chunk()?)),
            2 => Value::Bytes(self.take_bytes()?),
            5 => Value::Fixed32(u32::from_le_bytes(self.take_chunk()?)),
            // Groups, which no message of this protocol has, and reserved wire types.
            _ => return Err(DecodeErrorKind::Syntax),
        };
        match tag >> 3 {
            0 => Err(DecodeErrorKind::Syntax),
            field => Ok(Some((field, value))),
        }
    }

    /// Takes the content of the next field if it has this one-byte tag. Otherwise, or if it is
    /// malformed, returns `None` and leaves the reader unchanged.
    #[inline]
    fn next_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut next = Self {
            rest: self.rest.strip_prefix(&[tag])?,
        };
        let bytes = next.take_bytes().ok()?;
        *self = next;
        Some(bytes)
    }

    /// Calls `read` with every field.
    #[inline]
    pub(in crate::wire) fn each(
        mut self,
        mut read: impl FnMut(u32, Value<'a>) -> Decoded<()>,
    ) -> Decoded<()> {
        while let Some((field, value)) = self.next()? {
            read(field, value)?;
        }
        Ok(())
    }

    #[inline]
    fn take_bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| DecodeErrorKind::CutShort)?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take_chunk<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (chunk, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        Ok(*chunk)
    }

    #[inline]
    fn varint(&mut self) -> Decoded<u64> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeErrorKind::CutShort)?;
        if first < 0x80 {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    // Not inlined, so that the readers of fields stay small enough to be inlined themselves.
    #[inline(never)]
    fn long_varint(&mut self) -> Decoded<u64> {
        let mut number = 0;
        for (at, &byte) in self.rest.iter().take(MAX_VARINT_LEN).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if at == MAX_VARINT_LEN - 1 && byte > 1 {
                return Err(DecodeErrorKind::OutOfRange);
            }
            number |= bits << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < MAX_VARINT_LEN {
            DecodeErrorKind::CutShort
        } else {
            DecodeErrorKind::Syntax
        })
    }
}

/// Length of the longest varint, in bytes.
const MAX_VARINT_LEN: usize = 10;

/// Reader of the headers of a message in groups: for each run of consecutive headers with the same
/// name, the name, then its values.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct HeaderReader<'a> {
    fields: Reader<'a>,
    /// Number of the field that holds the headers.
    field: u32,
    /// Values of the current name that were not read yet.
    values: usize,
}

impl<'a> HeaderReader<'a> {
    /// Creates a reader of the headers in the field with this number.
    pub(super) const fn new(message: &'a [u8], field: u32) -> Self {
        Self {
            fields: Reader::new(message),
            field,
            values: 0,
        }
    }

    /// Returns the name that comes next, or the next value of the current name.
    pub(in crate::wire) fn str(&mut self) -> Decoded<&'a str> {
        let next = match self.values.checked_sub(1) {
            None => self.peek().map(|header| header.map(|(name, _)| name)),
            Some(remaining) => {
                self.values = remaining;
                self.header().map(|header| header.map(|(_, value)| value))
            }
        };
        next?.ok_or(DecodeErrorKind::CutShort)
    }

    /// Returns the number of consecutive headers with the current name, whose values come next.
    pub(in crate::wire) fn array(&mut self) -> Decoded<usize> {
        let mut ahead = *self;
        let Some((name, _)) = ahead.header()? else {
            return Err(DecodeErrorKind::CutShort);
        };
        let mut values = 1;
        while ahead.header()?.is_some_and(|(next, _)| next == name) {
            values += 1;
        }
        self.values = values;
        Ok(values)
    }

    fn peek(mut self) -> Decoded<Option<(&'a str, &'a str)>> {
        self.header()
    }

    fn header(&mut self) -> Decoded<Option<(&'a str, &'a str)>> {
        while let Some((field, value)) = self.fields.next()? {
            if field == self.field {
                return header(value.bytes()?).map(Some);
            }
        }
        Ok(None)
    }
}

/// Sets a field, or a `oneof`, that must occur only once. Protobuf would merge repeated messages,
/// which no sender intends, and another parser might see only one of them.
pub(super) fn set_once<T>(slot: &mut Option<T>, value: T) -> Decoded<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeErrorKind::Contradiction),
    }
}

/// Validation of headers, which counts the groups of consecutive headers with equal names.
#[derive(Debug, Default)]
pub(super) struct HeaderCheck<'a> {
    /// Number of groups so far.
    pub(super) names: usize,
    last: Option<&'a str>,
}

impl<'a> HeaderCheck<'a> {
    #[inline]
    pub(super) fn take(&mut self, value: Value<'a>) -> Decoded<()> {
        let (name, _) = header(value.bytes()?)?;
        if self.last != Some(name) {
            self.names += 1;
            self.last = Some(name);
        }
        Ok(())
    }
}

/// Reads the name and the value of a header, or of a map entry, which has the same form.
pub(super) fn header(message: &[u8]) -> Decoded<(&str, &str)> {
    let mut fields = Reader::new(message);
    if let (Some(name), Some(value)) = (fields.next_if(NAME), fields.next_if(VALUE))
        && fields.rest.is_empty()
    {
        return Ok((Value::Bytes(name).str()?, Value::Bytes(value).str()?));
    }
    header_in_any_order(message)
}

/// Tag of the name of a header.
const NAME: u8 = 1 << 3 | 2;
/// Tag of the value of a header, which nearly every encoder writes after the name.
const VALUE: u8 = 2 << 3 | 2;

fn header_in_any_order(message: &[u8]) -> Decoded<(&str, &str)> {
    let (mut name, mut text) = ("", "");
    Reader::new(message).each(|field, value| {
        match field {
            1 => name = value.str()?,
            2 => text = value.str()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, text))
}
