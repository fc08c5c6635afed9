//! MessagePack encoding.

use super::{BIN_8, FIX_ARRAY, FIX_MAP, FIX_STR, STR_8};
use crate::wire::dialect::{Bodies, MAX_INLINE_BODY};
use crate::wire::encode::Sink;
use bytes::Bytes;
use rmp::encode;

/// Appends MessagePack to a buffer.
#[derive(Debug)]
#[allow(unnameable_types, reason = "part of the sealed trait `Encode`")]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    bodies: Bodies,
    /// Body that follows the written bytes.
    detached: Bytes,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(out: &'b mut Vec<u8>, bodies: Bodies) -> Self {
        Self {
            out,
            bodies,
            detached: Bytes::new(),
        }
    }

    /// Writes a number below 128.
    #[inline]
    pub(in crate::wire) fn short_uint(&mut self, number: u8) {
        debug_assert!(number < FIX_MAP, "larger numbers have a marker");
        self.out.push(number);
    }

    /// Writes bytes.
    #[inline]
    pub(in crate::wire) fn bin(&mut self, bytes: &[u8]) {
        match bytes.len() {
            len @ 0..256 => self.out.extend_from_slice(&[BIN_8, len as u8]),
            len => written(encode::write_bin_len(self.out, len32(len)).map(drop)),
        }
        self.out.extend_from_slice(bytes);
    }

    /// Writes a number below 128 and at most 255 bytes.
    #[inline(always)]
    pub(in crate::wire) fn numbered_bin(&mut self, number: u8, bytes: &[u8]) {
        debug_assert!(
            number < FIX_MAP && bytes.len() < 256,
            "others have other markers"
        );
        self.out
            .extend_from_slice(&[number, BIN_8, bytes.len() as u8]);
        self.out.extend_from_slice(bytes);
    }

    /// Returns the body that ends the payload if it was not copied to the buffer.
    pub(crate) fn into_detached(self) -> Bytes {
        self.detached
    }
}

/// Discards a result, since writing to a `Vec` cannot fail.
fn written<T, E>(result: Result<T, E>) {
    debug_assert!(result.is_ok());
}

fn len32(len: usize) -> u32 {
    // A longer value does not fit into a frame of at most 16 MiB. The complete frame is rejected.
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Sink for Writer<'_> {
    const REPEATS_CORRELATION_ID: bool = false;

    fn begin_map(&mut self, pairs: usize) {
        match pairs {
            0..16 => self.out.push(FIX_MAP | pairs as u8),
            _ => written(encode::write_map_len(self.out, len32(pairs))),
        }
    }

    fn end_map(&mut self) {}

    fn map_of_at_most(&mut self, at_most: usize, write_pairs: impl FnOnce(&mut Self) -> usize) {
        let start = self.out.len();
        self.begin_map(at_most);
        let header = start..self.out.len();
        let pairs = write_pairs(self);
        debug_assert!(pairs <= at_most);
        // The header was written in the form for `at_most` pairs, which can hold any smaller
        // number.
        let pairs = len32(pairs).to_be_bytes();
        match &mut self.out[header] {
            [fixed] => *fixed = FIX_MAP | pairs[3] & 0x0f,
            [_, wide @ ..] => wide.copy_from_slice(&pairs[4 - wide.len()..]),
            [] => {}
        }
    }

    #[inline(always)]
    fn begin_array(&mut self, items: usize) {
        match items {
            // Most arrays are header values with one item.
            0..16 => self.out.push(FIX_ARRAY | items as u8),
            _ => written(encode::write_array_len(self.out, len32(items))),
        }
    }

    fn end_array(&mut self) {}

    /// Inlined because most keys are literals, whose length is then known at compile time.
    #[inline(always)]
    fn key(&mut self, name: &str) {
        match name.len() {
            len @ 0..32 => {
                self.out.push(FIX_STR | len as u8);
                self.out.extend_from_slice(name.as_bytes());
            }
            _ => self.str(name),
        }
    }

    fn str(&mut self, text: &str) {
        // Most strings are short.
        match text.len() {
            len @ 0..32 => self.out.push(FIX_STR | len as u8),
            len @ 32..256 => self.out.extend_from_slice(&[STR_8, len as u8]),
            len => written(encode::write_str_len(self.out, len32(len)).map(drop)),
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    fn uint(&mut self, number: u64) {
        match number {
            0..0x80 => self.out.push(number as u8),
            _ => written(encode::write_uint(self.out, number)),
        }
    }

    fn int(&mut self, number: i64) {
        written(encode::write_sint(self.out, number));
    }

    fn float(&mut self, number: f64) {
        written(encode::write_f64(self.out, number));
    }

    fn float32(&mut self, number: f32) {
        written(encode::write_f32(self.out, number));
    }

    fn bool(&mut self, flag: bool) {
        written(encode::write_bool(self.out, flag));
    }

    fn null(&mut self) {
        written(encode::write_nil(self.out));
    }

    fn body(&mut self, data: &Bytes) {
        match self.bodies {
            Bodies::Base64 => {
                let base64 = base64_simd::STANDARD;
                let len = base64.encoded_length(data.len());
                written(encode::write_str_len(self.out, len32(len)));
                base64.encode_append(data, &mut *self.out);
            }
            Bodies::Binary => self.bin(data),
        }
    }

    fn last_body(&mut self, data: &Bytes) {
        if self.bodies == Bodies::Base64 || data.len() <= MAX_INLINE_BODY {
            return self.body(data);
        }
        written(encode::write_bin_len(self.out, len32(data.len())));
        self.detached = data.clone();
    }
}
