//! Writer for the protobuf wire format.

use crate::wire::dialect::MAX_INLINE_BODY;
use bytes::Bytes;

// Wire types: the form of a field's value.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// Writer that appends the fields of one protobuf message to a buffer.
///
/// Fields without presence are omitted if they have their default value, as proto3 requires. Fields
/// with presence are written by methods that take an `Option` or begin with `some_`.
#[derive(Debug)]
#[allow(unnameable_types, reason = "part of the sealed trait `Encode`")]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    /// Body with which the message ends, if it was not copied to `out`.
    detached: Bytes,
}

impl<'b> Writer<'b> {
    pub(in crate::wire) fn new(out: &'b mut Vec<u8>) -> Self {
        Self {
            out,
            detached: Bytes::new(),
        }
    }

    /// Returns the body with which the message ends; empty if it was copied to the buffer.
    pub(in crate::wire) fn into_detached(self) -> Bytes {
        self.detached
    }

    pub(super) fn uint(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.some_uint(field, number);
        }
    }

    pub(super) fn some_uint(&mut self, field: u32, number: u64) {
        self.tag(field, VARINT);
        self.varint(number);
    }

    pub(super) fn bool(&mut self, field: u32, flag: bool) {
        self.uint(field, u64::from(flag));
    }

    pub(super) fn some_bool(&mut self, field: u32, flag: bool) {
        self.some_uint(field, u64::from(flag));
    }

    pub(super) fn some_float(&mut self, field: u32, number: f32) {
        self.tag(field, FIXED32);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn some_fixed64(&mut self, field: u32, number: u64) {
        self.tag(field, FIXED64);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn str(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.some_str(field, text);
        }
    }

    pub(super) fn some_str(&mut self, field: u32, text: &str) {
        self.some_bytes(field, text.as_bytes());
    }

    pub(super) fn optional_str(&mut self, field: u32, text: Option<&str>) {
        if let Some(text) = text {
            self.some_str(field, text);
        }
    }

    pub(super) fn some_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn copied_bytes(&mut self, field: u32, bytes: &Bytes) {
        self.some_bytes(field, bytes);
    }

    /// Writes the last field of this message and of all that enclose it. Large bytes are not
    /// copied: they are returned by [`into_detached`](Self::into_detached).
    pub(super) fn last_bytes(&mut self, field: u32, bytes: &Bytes) {
        if bytes.len() <= MAX_INLINE_BODY {
            return self.some_bytes(field, bytes);
        }
        self.head(field, bytes.len());
        self.detached = bytes.clone();
    }

    /// Appends fields that are encoded already.
    pub(super) fn append(&mut self, fields: &[u8]) {
        self.out.extend_from_slice(fields);
    }

    /// Writes a message that is usually shorter than 128 bytes.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.nested(field, 1, write);
    }

    /// Writes a message that is usually not shorter than 128 bytes.
    pub(super) fn large_message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.nested(field, 2, write);
    }

    /// Writes pairs of strings in the form of map entries.
    pub(super) fn str_pairs<'s>(
        &mut self,
        field: u32,
        pairs: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) {
        for (key, value) in pairs {
            self.str_pair(field, key, value);
        }
    }

    pub(super) fn str_pair(&mut self, field: u32, key: &str, value: &str) {
        self.head(field, str_len(key) + str_len(value));
        self.str(1, key);
        self.str(2, value);
    }

    /// Writes a nested message. Its length is known only afterwards, so `reserved` bytes are left
    /// free for it; if the length needs more or fewer bytes, the content is moved.
    fn nested(&mut self, field: u32, reserved: usize, write: impl FnOnce(&mut Self)) {
        self.tag(field, BYTES);
        let at = self.out.len();
        let start = at + reserved;
        self.out.resize(start, 0);
        write(self);
        let end = self.out.len();
        let len = end - start + self.detached.len();
        let needed = varint_len(len as u64);
        if needed > reserved {
            self.out.resize(end + needed - reserved, 0);
        }
        if needed != reserved {
            self.out.copy_within(start..end, at + needed);
            self.out.truncate(end + needed - reserved);
        }
        let mut rest = len;
        for byte in &mut self.out[at..at + needed] {
            *byte = (rest & 0x7f) as u8 | 0x80;
            rest >>= 7;
        }
        self.out[at + needed - 1] &= 0x7f;
    }

    /// Writes the tag and the length of a field of bytes.
    #[inline]
    fn head(&mut self, field: u32, len: usize) {
        let tag = field << 3 | BYTES;
        if tag < 0x80 && len < 0x80 {
            self.out.extend_from_slice(&[tag as u8, len as u8]);
        } else {
            self.varint(u64::from(tag));
            self.varint(len as u64);
        }
    }

    #[inline]
    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    #[inline]
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
}

/// Returns the encoded size of a string in a field with a number below 16; 0 for an empty string,
/// which is omitted.
fn str_len(text: &str) -> usize {
    match text.len() {
        0 => 0,
        len => 1 + varint_len(len as u64) + len,
    }
}

fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
