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

#[cfg(test)]
mod tests {
    use super::super::to_map;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Names are in lower case, and values in order, whether or not they are UTF-8.
        #[test]
        fn every_header_is_yielded(
            headers in vec(("[a-zA-Z][a-z0-9-]{0,3}", vec(0x20_u8..=0xff, 0..6)), 0..40),
        ) {
            let mut map = HeaderMap::new();
            let mut expected: HashMap<String, Vec<String>> = HashMap::new();
            for (name, bytes) in &headers {
                let Ok(value) = HeaderValue::from_bytes(bytes) else { continue };
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
                let text = FieldValue::Bytes(bytes).to_text().into_owned();
                expected.entry(name.to_ascii_lowercase()).or_default().push(text);
            }
            prop_assert_eq!(to_map(&map), expected.clone());
            let singles = map.singles().map(|singles| {
                let single = |(name, value): (&str, FieldValue<'_>)| {
                    (name.to_owned(), vec![value.to_text().into_owned()])
                };
                singles.map(single).collect::<HashMap<_, _>>()
            });
            let is_single = expected.values().all(|values| values.len() == 1);
            prop_assert_eq!(singles, is_single.then_some(expected));
        }
    }
}
