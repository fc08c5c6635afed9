//! Reader of the protobuf wire format.

use super::Malformed;
use std::borrow::Cow;
use tollgate::headers::FieldValue;

/// Value of one field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::WireType),
        }
    }

    #[inline]
    pub(crate) fn str(self) -> Result<&'a str, Malformed> {
        // Much faster than `std::str::from_utf8` for short texts. Only what is not UTF-8 is owned.
        match FieldValue::Bytes(self.bytes()?).to_text() {
            Cow::Borrowed(text) => Ok(text),
            Cow::Owned(_) => Err(Malformed::Utf8),
        }
    }

    pub(crate) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(Malformed::WireType),
        }
    }

    pub(crate) fn bool(self) -> Result<bool, Malformed> {
        self.number().map(|number| number != 0)
    }

    pub(crate) fn double(self) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Malformed::WireType),
        }
    }
}

/// Reader of the fields of a message, in the order in which they were written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// Length of the longest varint, in bytes.
const MAX_VARINT_LEN: usize = 10;

impl<'a> Fields<'a> {
    pub(crate) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns the number and the value of the next field; `None` at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::Syntax)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take_chunk()?)),
            2 => Value::Bytes(self.take_bytes()?),
            5 => Value::Fixed32(u32::from_le_bytes(self.take_chunk()?)),
            // Groups, which no message of Envoy has, and reserved wire types.
            _ => return Err(Malformed::Syntax),
        };
        match tag >> 3 {
            0 => Err(Malformed::Syntax),
            field => Ok(Some((field, value))),
        }
    }

    /// Calls `read` with every field.
    pub(crate) fn each(
        mut self,
        mut read: impl FnMut(u32, Value<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        while let Some((field, value)) = self.next()? {
            read(field, value)?;
        }
        Ok(())
    }

    fn take_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.varint()?).map_err(|_| Malformed::CutShort)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed::CutShort)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take_chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(Malformed::CutShort)?;
        self.rest = rest;
        Ok(*chunk)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        // Most numbers are field numbers and short lengths.
        if let [byte @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for at in 0..MAX_VARINT_LEN {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::CutShort)?;
            self.rest = rest;
            if at == MAX_VARINT_LEN - 1 && byte > 1 {
                return Err(Malformed::Syntax);
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Syntax)
    }
}

/// Sets a field that must occur only once. Protobuf would merge repeated messages, which Envoy does
/// not send, and another parser might see only one of them.
pub(crate) fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Repeated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        let mut found = Vec::new();
        Fields::of(message).each(|field, value| {
            found.push((field, value));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn fields_of_each_wire_type() {
        let message = [
            8, 0x96, 1, 17, 1, 0, 0, 0, 0, 0, 0, 0, 26, 2, b'a', b'b', 37, 2, 0, 0, 0,
        ];
        assert_eq!(
            all(&message).unwrap(),
            [
                (1, Value::Varint(150)),
                (2, Value::Fixed64(1)),
                (3, Value::Bytes(b"ab")),
                (4, Value::Fixed32(2)),
            ]
        );
    }

    #[test]
    fn malformed_messages() {
        for (message, error) in [
            (&[8][..], Malformed::CutShort),
            (&[10, 2, 0], Malformed::CutShort),
            (&[10, 0xff, 0xff, 0xff, 0xff, 0x0f], Malformed::CutShort),
            (&[0, 0], Malformed::Syntax),
            (&[11, 12], Malformed::Syntax),
            (&[15], Malformed::Syntax),
            (
                &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                Malformed::Syntax,
            ),
        ] {
            assert_eq!(all(message), Err(error), "{message:?}");
        }
    }
}
