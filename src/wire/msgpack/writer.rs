use crate::wire::encode::Sink;
use bytes::Bytes;
use rmp::{Marker, encode};

/// Writes MessagePack to the end of a buffer.
///
/// Bodies are written as base64 text, the form that every peer reads (the published crate takes bytes
/// for base64 where it can).
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }
}

/// Writing to a `Vec` cannot fail, whatever the types say.
fn written<T, E>(result: Result<T, E>) {
    debug_assert!(result.is_ok());
}

fn len32(len: usize) -> u32 {
    // A longer value cannot be in a frame of at most 16 MiB; the frame is refused once it is complete.
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Sink for Writer<'_> {
    const REPEATS_CORRELATION_ID: bool = false;

    fn begin_map(&mut self, pairs: usize) {
        written(encode::write_map_len(self.out, len32(pairs)));
    }

    fn end_map(&mut self) {}

    fn begin_array(&mut self, items: usize) {
        written(encode::write_array_len(self.out, len32(items)));
    }

    fn end_array(&mut self) {}

    fn key(&mut self, name: &str) {
        self.str(name);
    }

    fn str(&mut self, text: &str) {
        // Nearly every string of a message is short; one reservation serves marker and text.
        match u8::try_from(text.len()) {
            Ok(len @ 0..32) => {
                self.out.reserve(1 + text.len());
                self.out.push(Marker::FixStr(len).to_u8());
                self.out.extend_from_slice(text.as_bytes());
            }
            _ => written(encode::write_str(self.out, text)),
        }
    }

    fn uint(&mut self, number: u64) {
        written(encode::write_uint(self.out, number));
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
        let base64 = base64_simd::STANDARD;
        let len = base64.encoded_length(data.len());
        written(encode::write_str_len(self.out, len32(len)));
        base64.encode_append(data, &mut *self.out);
    }
}
