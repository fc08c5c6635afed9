//! JSON encoding.

use crate::wire::encode::Sink;
use bytes::Bytes;
use std::io::Write as _;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends JSON to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    out: &'b mut Vec<u8>,
    /// Set if the current map or array already has a key or item, so that a comma precedes the
    /// next.
    needs_comma: bool,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(out: &'b mut Vec<u8>) -> Self {
        Self {
            out,
            needs_comma: false,
        }
    }

    fn separate(&mut self) {
        if self.needs_comma {
            self.out.push(b',');
        }
        self.needs_comma = true;
    }

    fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.needs_comma = false;
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.needs_comma = true;
    }

    fn quoted(&mut self, text: &str) {
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        escape(text.as_bytes(), self.out);
        self.out.push(b'"');
    }

    fn integer(&mut self, number: impl itoa::Integer) {
        self.separate();
        let mut digits = itoa::Buffer::new();
        self.out.extend_from_slice(digits.format(number).as_bytes());
    }

    /// Writes null for infinities and NaN, which JSON cannot express, as serde_json does.
    fn decimal(&mut self, number: impl std::fmt::Debug, is_finite: bool) {
        if !is_finite {
            return self.null();
        }
        self.separate();
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{number:?}");
    }
}

impl Sink for Writer<'_> {
    const REPEATS_CORRELATION_ID: bool = true;

    fn begin_map(&mut self, _: usize) {
        self.open(b'{');
    }

    fn end_map(&mut self) {
        self.close(b'}');
    }

    fn map_of_at_most(&mut self, at_most: usize, write_pairs: impl FnOnce(&mut Self) -> usize) {
        self.begin_map(at_most);
        write_pairs(self);
        self.end_map();
    }

    fn begin_array(&mut self, _: usize) {
        self.open(b'[');
    }

    fn end_array(&mut self) {
        self.close(b']');
    }

    fn key(&mut self, name: &str) {
        self.separate();
        self.quoted(name);
        self.out.push(b':');
        self.needs_comma = false;
    }

    fn str(&mut self, text: &str) {
        self.separate();
        self.quoted(text);
    }

    fn uint(&mut self, number: u64) {
        self.integer(number);
    }

    fn int(&mut self, number: i64) {
        self.integer(number);
    }

    fn float(&mut self, number: f64) {
        self.decimal(number, number.is_finite());
    }

    fn float32(&mut self, number: f32) {
        self.decimal(number, number.is_finite());
    }

    fn bool(&mut self, flag: bool) {
        self.separate();
        self.out
            .extend_from_slice(if flag { b"true" } else { b"false" });
    }

    fn null(&mut self) {
        self.separate();
        self.out.extend_from_slice(b"null");
    }

    fn body(&mut self, data: &Bytes) {
        self.separate();
        self.out.push(b'"');
        base64_simd::STANDARD.encode_append(data, &mut *self.out);
        self.out.push(b'"');
    }
}

/// Appends the text of a string, escaping the bytes that JSON requires to be escaped.
///
/// Nearly all strings have no such bytes. The loop that checks for them has no early exit, so the
/// compiler can vectorize it.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let needs_escapes = text.iter().fold(false, |found, &byte| {
        found | (byte < 0x20) | (byte == b'"') | (byte == b'\\')
    });
    if needs_escapes {
        escape_each(text, out);
    } else {
        out.extend_from_slice(text);
    }
}

fn escape_each(text: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    for (index, &byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x00..=0x1f => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[done..index]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', b'0' + (byte >> 4), HEX[usize::from(byte & 15)]]);
        }
        done = index + 1;
    }
    out.extend_from_slice(&text[done..]);
}
