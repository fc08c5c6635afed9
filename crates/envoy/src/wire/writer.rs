//! Writer of the protobuf wire format.

use bytes::BytesMut;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

/// Writer that appends the fields of one message to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    out: &'b mut BytesMut,
    /// Bytes that follow the buffer as the end of the message.
    detached: usize,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(out: &'b mut BytesMut) -> Self {
        Self { out, detached: 0 }
    }

    /// Writes a number, also if it is 0.
    pub(crate) fn number(&mut self, field: u32, number: u64) {
        self.varint(u64::from(field << 3 | VARINT));
        self.varint(number);
    }

    pub(crate) fn double(&mut self, field: u32, number: f64) {
        self.varint(u64::from(field << 3 | FIXED64));
        self.out.extend_from_slice(&number.to_bits().to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn str(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Writes the head of the last field of this message and of all that enclose it. Its content of
    /// `len` bytes has to follow the buffer.
    pub(crate) fn detached_bytes(&mut self, field: u32, len: usize) {
        self.head(field, len);
        self.detached = len;
    }

    /// Writes a nested message. Its length is known only afterwards, so one byte is left free for
    /// it; if it needs more, the content is moved.
    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.varint(u64::from(field << 3 | BYTES));
        let at = self.out.len();
        self.out.extend_from_slice(&[0]);
        write(self);
        let end = self.out.len();
        let len = end - at - 1 + self.detached;
        let extra = varint_len(len as u64) - 1;
        if extra > 0 {
            self.out.resize(end + extra, 0);
            self.out.copy_within(at + 1..end, at + 1 + extra);
        }
        let mut rest = len;
        for byte in &mut self.out[at..=at + extra] {
            *byte = (rest & 0x7f) as u8 | 0x80;
            rest >>= 7;
        }
        self.out[at + extra] &= 0x7f;
    }

    fn head(&mut self, field: u32, len: usize) {
        self.varint(u64::from(field << 3 | BYTES));
        self.varint(len as u64);
    }

    fn varint(&mut self, mut number: u64) {
        let mut encoded = [0; 10];
        let mut len = 0;
        while number >= 0x80 {
            encoded[len] = number as u8 | 0x80;
            number >>= 7;
            len += 1;
        }
        encoded[len] = number as u8;
        self.out.extend_from_slice(&encoded[..=len]);
    }
}

fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_messages_of_every_length() {
        for len in [0, 1, 125, 126, 127, 128, 16_383, 16_384] {
            let mut out = BytesMut::new();
            let content = vec![7; len];
            Writer::new(&mut out).message(1, |message| message.bytes(2, &content));
            let mut fields = super::super::Fields::of(&out);
            let (field, value) = fields.next().unwrap().unwrap();
            assert_eq!(field, 1);
            let mut inner = super::super::Fields::of(value.bytes().unwrap());
            let (field, value) = inner.next().unwrap().unwrap();
            assert_eq!((field, value.bytes().unwrap()), (2, &content[..]));
            assert!(inner.next().unwrap().is_none());
            assert!(fields.next().unwrap().is_none());
        }
    }
}
