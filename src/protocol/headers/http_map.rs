use super::{FieldValue, HeaderSource};
use http::header::{HeaderName, Iter, Keys, ValueIter};
use http::{HeaderMap, HeaderValue};

impl HeaderSource for HeaderMap {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        if self.len() == self.keys_len() {
            Names::Distinct(self.iter())
        } else {
            Names::Repeated(self, self.keys())
        }
    }

    fn max_names(&self) -> usize {
        self.keys_len()
    }
}

/// The names of a map. Looking them up again for their values costs more than all the rest of writing them, so
/// that is done only if some come repeatedly.
enum Names<'a> {
    Distinct(Iter<'a, HeaderValue>),
    Repeated(&'a HeaderMap, Keys<'a, HeaderValue>),
}

impl<'a> Iterator for Names<'a> {
    type Item = (&'a str, Values<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Distinct(headers) => headers
                .next()
                .map(|(name, value)| (name.as_str(), Values::One(value))),
            Self::Repeated(map, names) => names
                .next()
                .map(|name| (name.as_str(), Values::Of(map, name))),
        }
    }
}

/// The values of one name, to be gone through as often as is wanted.
#[derive(Clone, Copy)]
enum Values<'a> {
    One(&'a HeaderValue),
    Of(&'a HeaderMap, &'a HeaderName),
}

impl<'a> IntoIterator for Values<'a> {
    type Item = FieldValue<'a>;
    type IntoIter = ValuesIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        match self {
            Self::One(value) => ValuesIter::One(Some(value)),
            Self::Of(map, name) => ValuesIter::Several(map.get_all(name).into_iter()),
        }
    }
}

enum ValuesIter<'a> {
    One(Option<&'a HeaderValue>),
    Several(ValueIter<'a, HeaderValue>),
}

impl<'a> Iterator for ValuesIter<'a> {
    type Item = FieldValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let value = match self {
            Self::One(value) => value.take(),
            Self::Several(values) => values.next(),
        };
        value.map(|value| FieldValue::Bytes(value.as_bytes()))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::One(value) => value.iter().size_hint(),
            Self::Several(values) => values.size_hint(),
        }
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
        /// Names in lower case with all their values in order, whatever the values hold.
        #[test]
        fn every_header_is_there(
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
            prop_assert_eq!(to_map(&map), expected);
        }
    }
}
