//! Writing values, whatever the encoding.

use super::dialect::Dialect;
use super::{Encoding, json, msgpack};
use bytes::Bytes;

/// What makes one payload.
pub(super) trait Content {
    fn write_to<S: Sink>(&self, sink: &mut S);

    /// Writes it as JSON or MessagePack to the end of `out`. Returns the end of the payload that is not written there.
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

/// Takes the values of one payload in order.
///
/// A map is begun with the number of its pairs, then come key and value in turn; an array is begun with
/// the number of its items.
#[allow(unnameable_types, reason = "part of the sealed trait `Encode`")]
pub trait Sink {
    /// Whether the head of a request repeats its correlation id at the top, as the published crate
    /// writes it in JSON.
    const REPEATS_CORRELATION_ID: bool;

    fn begin_map(&mut self, pairs: usize);
    fn end_map(&mut self);
    /// A map whose pairs are counted while they are written by `write_pairs`: no more than `at_most`.
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

    /// A body with which the message ends, so that it can stay where it is; only maps may end behind it.
    fn last_body(&mut self, data: &Bytes) {
        self.body(data);
    }

    /// A string or null.
    fn optional_str(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.str(text),
            None => self.null(),
        }
    }

    /// A count or null.
    fn optional_size(&mut self, size: Option<usize>) {
        match size {
            Some(size) => self.uint(size as u64),
            None => self.null(),
        }
    }

    /// A key with a string.
    fn str_field(&mut self, name: &str, text: &str) {
        self.key(name);
        self.str(text);
    }

    /// A key with a string or null.
    fn optional_str_field(&mut self, name: &str, text: Option<&str>) {
        self.key(name);
        self.optional_str(text);
    }

    /// A key with a non-negative number.
    fn uint_field(&mut self, name: &str, number: u64) {
        self.key(name);
        self.uint(number);
    }

    /// A list of strings.
    fn str_list<T: AsRef<str>>(&mut self, items: &[T]) {
        self.begin_array(items.len());
        for item in items {
            self.str(item.as_ref());
        }
        self.end_array();
    }

    /// A map from strings to strings.
    fn str_map<'s>(&mut self, pairs: impl ExactSizeIterator<Item = (&'s str, &'s str)>) {
        self.begin_map(pairs.len());
        for (key, value) in pairs {
            self.str_field(key, value);
        }
        self.end_map();
    }
}
