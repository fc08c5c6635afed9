//! MessagePack decoding.

use super::{
    BIN_8, BIN_32, FIX_ARRAY, FIX_MAP, FIX_NEGATIVE, FIX_STR, I_64, NIL, RESERVED, STR_8, U_8,
    U_16, U_32, U_64,
};
use crate::protocol::text;
use crate::wire::decode::{DecodeErrorKind, Decoded, Kind, Source, base64, expected};
use bytes::Bytes;
use rmp::Marker;

/// A cursor over a MessagePack payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// Unread part. Invariant: the end of `payload`.
    rest: &'a [u8],
    payload: &'a Bytes,
}

/// Functions that read the length behind a marker, whose low bits or next 1, 2 or 4 bytes have it.
/// Each returns `None` for other markers.
macro_rules! lens {
    ($($name:ident: [$($fixed:ident)?] [$($len8:ident)?] $len16:ident $len32:ident;)*) => {$(
        fn $name(&mut self, marker: Marker) -> Decoded<Option<usize>> {
            Ok(Some(match marker {
                $(Marker::$fixed(len) => usize::from(len),)?
                $(Marker::$len8 => usize::from(self.u8()?),)?
                Marker::$len16 => usize::from(self.u16()?),
                Marker::$len32 => self.u32()? as usize,
                _ => return Ok(None),
            }))
        }
    )*};
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a Bytes) -> Self {
        Self {
            rest: payload,
            payload,
        }
    }

    /// Checks that the whole payload has been read.
    pub(crate) fn expect_end(&self) -> Decoded<()> {
        let is_at_end = self.rest.is_empty().then_some(());
        is_at_end.ok_or(DecodeErrorKind::Surplus)
    }

    /// Returns the index of the next byte in the payload.
    pub(in crate::wire) fn index(&self) -> usize {
        self.payload.len() - self.rest.len()
    }

    /// Returns a cursor at an index of the payload.
    pub(in crate::wire) fn at(&self, index: usize) -> Self {
        Self {
            rest: self.payload.get(index..).unwrap_or_default(),
            payload: self.payload,
        }
    }

    /// Skips this number below 128, if it is next and in its shortest form. Returns whether it was.
    #[inline]
    pub(in crate::wire) fn skip_short_uint(&mut self, expected: u8) -> bool {
        debug_assert!(expected < FIX_MAP, "larger numbers have a marker");
        match self.rest {
            [number, rest @ ..] if *number == expected => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads a number that is not negative.
    #[inline]
    pub(in crate::wire) fn uint(&mut self) -> Decoded<u64> {
        let (number, rest) = match *self.rest {
            [number @ 0..FIX_MAP, ref rest @ ..] => (u64::from(number), rest),
            [U_16, a, b, ref rest @ ..] => (u64::from(u16::from_be_bytes([a, b])), rest),
            [U_32, a, b, c, d, ref rest @ ..] => {
                (u64::from(u32::from_be_bytes([a, b, c, d])), rest)
            }
            [U_64, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            _ => return self.number(),
        };
        self.rest = rest;
        Ok(number)
    }

    /// Returns whether an integer is next.
    #[inline]
    pub(in crate::wire) fn is_at_integer(&self) -> bool {
        matches!(self.rest, [0..FIX_MAP | U_8..=I_64 | FIX_NEGATIVE.., ..])
    }

    /// Returns whether bytes are next.
    #[inline]
    pub(in crate::wire) fn is_at_bin(&self) -> bool {
        matches!(self.rest, [BIN_8..=BIN_32, ..])
    }

    /// Skips pairs of a number below 128 and bytes, in their shortest forms, as long as the next
    /// pair is complete and up to this many. Returns their number.
    #[inline]
    pub(in crate::wire) fn skip_numbered_bins(&mut self, at_most: usize) -> usize {
        let (mut rest, mut skipped) = (self.rest, 0);
        while skipped < at_most
            && let [0..FIX_MAP, BIN_8, len, after @ ..] = rest
            && let Some(after) = after.get(usize::from(*len)..)
        {
            rest = after;
            skipped += 1;
        }
        self.rest = rest;
        skipped
    }

    /// Reads bytes.
    #[inline]
    pub(in crate::wire) fn bin(&mut self) -> Decoded<&'a [u8]> {
        if let [BIN_8, len, bytes @ ..] = self.rest {
            self.rest = bytes;
            return self.take(usize::from(*len));
        }
        self.long_bin()
    }

    /// Reads bytes that share the memory of the payload.
    pub(in crate::wire) fn bin_slice(&mut self) -> Decoded<Bytes> {
        self.bin().map(|bytes| self.payload.slice_ref(bytes))
    }

    #[cold]
    fn long_bin(&mut self) -> Decoded<&'a [u8]> {
        let marker = self.marker()?;
        let len = self.bin_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Decoded<u8> {
        self.take_array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Decoded<u16> {
        self.take_array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Decoded<u32> {
        self.take_array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Decoded<u64> {
        self.take_array().map(u64::from_be_bytes)
    }

    /// Reads a string that is not in one of the two short forms.
    #[cold]
    fn long_str(&mut self) -> Decoded<&'a str> {
        let marker = self.marker()?;
        let len = self.str_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        text::from_utf8(self.take(len)?).map_err(|_| DecodeErrorKind::NotUtf8)
    }

    fn marker(&mut self) -> Decoded<Marker> {
        self.u8().map(Marker::from_u8)
    }

    fn peek_marker(&self) -> Decoded<Marker> {
        let first = self.rest.first().ok_or(DecodeErrorKind::CutShort)?;
        Ok(Marker::from_u8(*first))
    }

    lens! {
        str_len: [FixStr] [Str8] Str16 Str32;
        bin_len: [] [Bin8] Bin16 Bin32;
        array_len: [FixArray] [] Array16 Array32;
        map_len: [FixMap] [] Map16 Map32;
    }

    /// Returns the number of bytes after a scalar's marker and length; `None` for arrays and maps.
    fn scalar_len(&mut self, marker: Marker) -> Decoded<Option<usize>> {
        if let Some(len) = self.str_len(marker)? {
            return Ok(Some(len));
        }
        if let Some(len) = self.bin_len(marker)? {
            return Ok(Some(len));
        }
        Ok(Some(match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
                0
            }
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixExt1 => 2,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => usize::from(self.u8()?) + 1,
            Marker::Ext16 => usize::from(self.u16()?) + 1,
            Marker::Ext32 => self.u32()? as usize + 1,
            Marker::Reserved => return Err(DecodeErrorKind::Syntax),
            _ => return Ok(None),
        }))
    }

    /// Rejects a number of items that exceeds the remaining bytes, since each item takes at least
    /// one.
    fn checked_len(&self, items: usize) -> Decoded<usize> {
        if items > self.rest.len() {
            return Err(DecodeErrorKind::CutShort);
        }
        Ok(items)
    }
}

impl<'a> Source<'a> for Reader<'a> {
    fn peek(&self) -> Decoded<Kind> {
        Ok(match self.peek_marker()? {
            Marker::Null => Kind::Null,
            Marker::True | Marker::False => Kind::Bool,
            Marker::F32 | Marker::F64 => Kind::Float,
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => Kind::Str,
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => Kind::Array,
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Kind::Map,
            Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::U8
            | Marker::U16
            | Marker::U32
            | Marker::U64
            | Marker::I8
            | Marker::I16
            | Marker::I32
            | Marker::I64 => Kind::Integer,
            Marker::Reserved => return Err(DecodeErrorKind::Syntax),
            _ => Kind::Bytes,
        })
    }

    fn map(&mut self) -> Decoded<usize> {
        if let [marker @ FIX_MAP..FIX_ARRAY, rest @ ..] = self.rest {
            self.rest = rest;
            return self.checked_len(usize::from(marker & 0x0f));
        }
        let marker = self.marker()?;
        let len = self.map_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        self.checked_len(len)
    }

    #[inline]
    fn array(&mut self) -> Decoded<usize> {
        if let [marker @ FIX_ARRAY..FIX_STR, rest @ ..] = self.rest {
            self.rest = rest;
            return self.checked_len(usize::from(marker & 0x0f));
        }
        let marker = self.marker()?;
        let len = self.array_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        self.checked_len(len)
    }

    fn str(&mut self) -> Decoded<&'a str> {
        let (len, text) = match self.rest {
            [marker @ FIX_STR..NIL, text @ ..] => (usize::from(marker & 0x1f), text),
            [STR_8, len, text @ ..] => (usize::from(*len), text),
            _ => return self.long_str(),
        };
        let (text, rest) = text
            .split_at_checked(len)
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        text::from_utf8(text).map_err(|_| DecodeErrorKind::NotUtf8)
    }

    fn bool(&mut self) -> Decoded<bool> {
        expected!(self.marker()?, Marker::True => true, Marker::False => false)
    }

    fn integer(&mut self) -> Decoded<i128> {
        Ok(match self.marker()? {
            Marker::FixPos(value) => i128::from(value),
            Marker::FixNeg(value) => i128::from(value),
            Marker::U8 => i128::from(self.u8()?),
            Marker::U16 => i128::from(self.u16()?),
            Marker::U32 => i128::from(self.u32()?),
            Marker::U64 => i128::from(self.u64()?),
            Marker::I8 => i128::from(self.take_array().map(i8::from_be_bytes)?),
            Marker::I16 => i128::from(self.take_array().map(i16::from_be_bytes)?),
            Marker::I32 => i128::from(self.take_array().map(i32::from_be_bytes)?),
            Marker::I64 => i128::from(self.take_array().map(i64::from_be_bytes)?),
            _ => return Err(DecodeErrorKind::WrongType),
        })
    }

    fn float(&mut self) -> Decoded<f64> {
        match self.peek_marker()? {
            Marker::F32 => {
                self.marker()?;
                self.take_array().map(f32::from_be_bytes).map(f64::from)
            }
            Marker::F64 => {
                self.marker()?;
                self.take_array().map(f64::from_be_bytes)
            }
            _ => self.integer().map(|number| number as f64),
        }
    }

    /// Like the provided method, but without determining the kind of other values.
    #[inline]
    fn null(&mut self) -> Decoded<bool> {
        match self.rest {
            [NIL, rest @ ..] => {
                self.rest = rest;
                Ok(true)
            }
            [RESERVED, ..] => Err(DecodeErrorKind::Syntax),
            [] => Err(DecodeErrorKind::CutShort),
            _ => Ok(false),
        }
    }

    fn body(&mut self) -> Decoded<Bytes> {
        let marker = self.peek_marker()?;
        if matches!(marker, Marker::Bin8 | Marker::Bin16 | Marker::Bin32) {
            return self.bin_slice();
        }
        base64(self.str()?)
    }

    fn skip_key(&mut self, name: &str) -> bool {
        debug_assert!(name.len() < 32, "longer strings have a different marker");
        let marker = Marker::FixStr(name.len() as u8).to_u8();
        let after = match self.rest.split_first() {
            Some((first, key)) if *first == marker => key.strip_prefix(name.as_bytes()),
            _ => None,
        };
        after.map(|rest| self.rest = rest).is_some()
    }

    /// Counts the values that remain to be skipped instead of recursing, so depth cannot overflow
    /// the stack.
    fn skip(&mut self) -> Decoded<()> {
        let mut pending: u64 = 1;
        while pending > 0 {
            pending -= 1;
            let marker = self.marker()?;
            if let Some(len) = self.scalar_len(marker)? {
                self.take(len)?;
            } else if let Some(len) = self.array_len(marker)? {
                pending += len as u64;
            } else if let Some(len) = self.map_len(marker)? {
                pending += 2 * len as u64;
            }
        }
        Ok(())
    }
}
