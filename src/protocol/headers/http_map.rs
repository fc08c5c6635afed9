//! [`HeaderSource`] for `http::HeaderMap`.

use super::{FieldValue, HeaderSource};
use http::header::{HeaderName, ValueIter};
use http::{HeaderMap, HeaderValue};
use std::iter::Map;

impl HeaderSource for HeaderMap {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.keys()
            .map(|name| (name.as_str(), Values { map: self, name }))
    }

    /// Yields the pairs of the map if no name has several values. Otherwise `grouped` looks up each
    /// name a second time for its values, which costs more than writing them.
    #[inline]
    fn singles(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        let is_single = self.len() == self.keys_len();
        is_single.then(|| {
            self.iter()
                .map(|(name, value)| (name.as_str(), FieldValue::Bytes(value.as_bytes())))
        })
    }

    fn max_names(&self) -> usize {
        self.keys_len()
    }
}

/// The values of one name, which can be iterated over several times.
#[derive(Clone, Copy)]
struct Values<'a> {
    map: &'a HeaderMap,
    name: &'a HeaderName,
}

impl<'a> IntoIterator for Values<'a> {
    type Item = FieldValue<'a>;
    type IntoIter = Map<ValueIter<'a, HeaderValue>, fn(&'a HeaderValue) -> FieldValue<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        let values = self.map.get_all(self.name).into_iter();
        values.map(|value| FieldValue::Bytes(value.as_bytes()))
    }
}
