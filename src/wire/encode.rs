//! Writing of values, independent of the encoding.

use super::dialect::Dialect;
use super::{Encoding, json, msgpack};
use bytes::Bytes;

/// The content of one payload, which can be written in any encoding with named fields.
pub(super) trait Content {
    fn write_to<S: Sink>(&self, sink: &mut S);

    /// Appends the content to `out` as JSON or MessagePack.
    ///
    /// Returns the last part of the payload if it was not copied to `out`; it is sent after `out`.
    fn write(&self, dialect: Dialect, out: &mut Vec<u8>) -> Bytes {
        if dialect.encoding == Encoding::Json {
            self.write_to(&mut json::Writer::new(out));
            return Bytes::new();
        }
        let mut writer = msgpack::Writer::new(out, dialect.bodies());
        self.write_to(&mut writer);
        writer.into_detached()
    }
}

/// An encoder that takes the values of one payload in order.
///
/// A map begins with its number of pairs, followed by alternating keys and values. An array begins
/// with its number of items.
#[allow(unnameable_types, reason = "part of the sealed trait `Encode`")]
pub trait Sink {
    /// Set if request headers repeat their correlation id at the top level of the message, as
    /// `zentinel-agent-protocol` does in JSON.
    const REPEATS_CORRELATION_ID: bool;

    fn begin_map(&mut self, pairs: usize);
    fn end_map(&mut self);
    /// Writes a map whose number of pairs is not known in advance.
    ///
    /// `write_pairs` writes the pairs and returns their number, which is at most `at_most`.
    fn map_of_at_most(&mut self, at_most: usize, write_pairs: impl FnOnce(&mut Self) -> usize);
    fn begin_array(&mut self, items: usize);
    fn end_array(&mut self);
    fn key(&mut self, name: &str);
    fn str(&mut self, text: &str);
    fn uint(&mut self, number: u64);
    fn int(&mut self, number: i64);
    fn float(&mut self, number: f64);
    fn float32(&mut self, number: f32);
    fn bool(&mut self, flag: bool);
    fn null(&mut self);
    fn body(&mut self, data: &Bytes);

    /// Writes a body that is the last value of the message, so that it need not be copied.
    ///
    /// After it, only the ends of maps may be written.
    fn last_body(&mut self, data: &Bytes) {
        self.body(data);
    }

    /// Writes a size or null.
    fn optional_size(&mut self, size: Option<usize>) {
        match size {
            Some(size) => self.uint(size as u64),
            None => self.null(),
        }
    }

    /// Writes a key with a string.
    fn str_field(&mut self, name: &str, text: &str) {
        self.key(name);
        self.str(text);
    }

    /// Writes a key with a non-negative number.
    fn uint_field(&mut self, name: &str, number: u64) {
        self.key(name);
        self.uint(number);
    }

    /// Writes a map from strings to strings.
    fn str_map<'s>(&mut self, pairs: impl ExactSizeIterator<Item = (&'s str, &'s str)>) {
        self.begin_map(pairs.len());
        for (key, value) in pairs {
            self.str_field(key, value);
        }
        self.end_map();
    }
}
