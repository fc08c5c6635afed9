//! MessagePack decoding.

use super::{FIX_ARRAY, FIX_MAP, FIX_STR, NIL, RESERVED, STR_8};
use crate::protocol::text;
use crate::wire::decode::{DecodeErrorKind, Kind, Source, base64};
use bytes::Bytes;
use rmp::Marker;

/// A cursor over a MessagePack payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// Unread part. Invariant: a subslice of `payload`.
    rest: &'a [u8],
    payload: &'a Bytes,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a Bytes) -> Self {
        Self {
            rest: payload,
            payload,
        }
    }

    /// Checks that the whole payload has been read.
    pub(crate) fn expect_end(&self) -> Result<(), DecodeErrorKind> {
        let is_at_end = self.rest.is_empty().then_some(());
        is_at_end.ok_or(DecodeErrorKind::Surplus)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeErrorKind> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeErrorKind> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeErrorKind::CutShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, DecodeErrorKind> {
        self.take_array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeErrorKind> {
        self.take_array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeErrorKind> {
        self.take_array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeErrorKind> {
        self.take_array().map(u64::from_be_bytes)
    }

    /// Reads a string that is not in one of the two short forms.
    #[cold]
    fn long_str(&mut self) -> Result<&'a str, DecodeErrorKind> {
        let marker = self.marker()?;
        let len = self.str_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        text::from_utf8(self.take(len)?).map_err(|_| DecodeErrorKind::NotUtf8)
    }

    fn marker(&mut self) -> Result<Marker, DecodeErrorKind> {
        self.u8().map(Marker::from_u8)
    }

    fn peek_marker(&self) -> Result<Marker, DecodeErrorKind> {
        let first = self.rest.first().ok_or(DecodeErrorKind::CutShort)?;
        Ok(Marker::from_u8(*first))
    }

    fn str_len(&mut self, marker: Marker) -> Result<Option<usize>, DecodeErrorKind> {
        Ok(Some(match marker {
            Marker::FixStr(len) => usize::from(len),
            Marker::Str8 => usize::from(self.u8()?),
            Marker::Str16 => usize::from(self.u16()?),
            Marker::Str32 => self.u32()? as usize,
            _ => return Ok(None),
        }))
    }

    fn bin_len(&mut self, marker: Marker) -> Result<Option<usize>, DecodeErrorKind> {
        Ok(Some(match marker {
            Marker::Bin8 => usize::from(self.u8()?),
            Marker::Bin16 => usize::from(self.u16()?),
            Marker::Bin32 => self.u32()? as usize,
            _ => return Ok(None),
        }))
    }

    fn array_len(&mut self, marker: Marker) -> Result<Option<usize>, DecodeErrorKind> {
        Ok(Some(match marker {
            Marker::FixArray(len) => usize::from(len),
            Marker::Array16 => usize::from(self.u16()?),
            Marker::Array32 => self.u32()? as usize,
            _ => return Ok(None),
        }))
    }

    fn map_len(&mut self, marker: Marker) -> Result<Option<usize>, DecodeErrorKind> {
        Ok(Some(match marker {
            Marker::FixMap(len) => usize::from(len),
            Marker::Map16 => usize::from(self.u16()?),
            Marker::Map32 => self.u32()? as usize,
            _ => return Ok(None),
        }))
    }

    /// Returns the number of bytes after a scalar's marker and length; `None` for arrays and maps.
    fn scalar_len(&mut self, marker: Marker) -> Result<Option<usize>, DecodeErrorKind> {
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
    fn checked_len(&self, items: usize) -> Result<usize, DecodeErrorKind> {
        if items > self.rest.len() {
            return Err(DecodeErrorKind::CutShort);
        }
        Ok(items)
    }
}

impl<'a> Source<'a> for Reader<'a> {
    fn peek(&self) -> Result<Kind, DecodeErrorKind> {
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

    fn map(&mut self) -> Result<usize, DecodeErrorKind> {
        if let [marker @ FIX_MAP..FIX_ARRAY, rest @ ..] = self.rest {
            self.rest = rest;
            return self.checked_len(usize::from(marker & 0x0f));
        }
        let marker = self.marker()?;
        let len = self.map_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        self.checked_len(len)
    }

    #[inline]
    fn array(&mut self) -> Result<usize, DecodeErrorKind> {
        if let [marker @ FIX_ARRAY..FIX_STR, rest @ ..] = self.rest {
            self.rest = rest;
            return self.checked_len(usize::from(marker & 0x0f));
        }
        let marker = self.marker()?;
        let len = self.array_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
        self.checked_len(len)
    }

    fn str(&mut self) -> Result<&'a str, DecodeErrorKind> {
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

    fn bool(&mut self) -> Result<bool, DecodeErrorKind> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            _ => Err(DecodeErrorKind::WrongType),
        }
    }

    fn integer(&mut self) -> Result<i128, DecodeErrorKind> {
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

    fn float(&mut self) -> Result<f64, DecodeErrorKind> {
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
    fn null(&mut self) -> Result<bool, DecodeErrorKind> {
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

    fn body(&mut self) -> Result<Bytes, DecodeErrorKind> {
        let marker = self.peek_marker()?;
        if matches!(marker, Marker::Bin8 | Marker::Bin16 | Marker::Bin32) {
            self.marker()?;
            let len = self.bin_len(marker)?.ok_or(DecodeErrorKind::WrongType)?;
            let data = self.take(len)?;
            return Ok(self.payload.slice_ref(data));
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
    fn skip(&mut self) -> Result<(), DecodeErrorKind> {
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
