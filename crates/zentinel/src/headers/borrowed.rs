//! Views of a header map that avoid copies.

use super::{FieldValue, HeaderSource, iter_flat};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::slice;

type Headers = HashMap<String, Vec<String>>;

/// A read-only view of a header map. Lookups are case-sensitive.
#[derive(Debug, Clone, Copy)]
pub struct HeadersRef<'a>(&'a Headers);

impl<'a> HeadersRef<'a> {
    /// Creates a view of `headers`.
    pub const fn new(headers: &'a Headers) -> Self {
        Self(headers)
    }

    /// Returns all values of a header; `None` if the map does not contain it.
    pub fn get(&self, name: &str) -> Option<&'a Vec<String>> {
        self.0.get(name)
    }

    /// Returns the first value of a header.
    pub fn get_first(&self, name: &str) -> Option<&'a str> {
        first(self.0, name)
    }

    /// Returns whether the map contains a header of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the map contains no names.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Vec<String>)> + use<'a> {
        by_name(self.0)
    }

    /// Iterates over all values, each with its name.
    pub fn iter_flat(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        iter_flat(self.0)
    }

    /// Copies the map.
    #[allow(
        clippy::should_implement_trait,
        reason = "the name that `zentinel-agent-protocol` has; the trait would return a `HeadersRef`"
    )]
    pub fn to_owned(&self) -> Headers {
        self.0.clone()
    }

    /// Returns the map itself.
    pub const fn as_inner(&self) -> &'a Headers {
        self.0
    }
}

/// A view of a header map that copies the map on the first change. Lookups are case-sensitive.
#[derive(Debug, Clone)]
pub struct HeadersCow<'a>(Cow<'a, Headers>);

impl<'a> HeadersCow<'a> {
    /// Creates a view of a map, which is copied on the first change.
    pub const fn borrowed(headers: &'a Headers) -> Self {
        Self(Cow::Borrowed(headers))
    }

    /// Creates a view that owns its map and never copies it.
    pub const fn owned(headers: Headers) -> Self {
        Self(Cow::Owned(headers))
    }

    /// Returns all values of a header; `None` if the map does not contain it.
    pub fn get(&self, name: &str) -> Option<&Vec<String>> {
        self.0.get(name)
    }

    /// Returns the first value of a header.
    pub fn get_first(&self, name: &str) -> Option<&str> {
        first(&self.0, name)
    }

    /// Returns whether the map contains a header of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Replaces all values of a header by one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.to_mut().insert(name.into(), vec![value.into()]);
    }

    /// Adds a value to a header and keeps the existing ones.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let values = self.0.to_mut().entry(name.into()).or_default();
        values.push(value.into());
    }

    /// Removes a header and returns its values. Does not copy the map if it does not contain the
    /// header.
    pub fn remove(&mut self, name: &str) -> Option<Vec<String>> {
        if !self.contains(name) {
            return None;
        }
        self.0.to_mut().remove(name)
    }

    /// Returns whether the view owns its map, because it was changed or created with
    /// [`owned`](Self::owned).
    pub const fn is_owned(&self) -> bool {
        matches!(self.0, Cow::Owned(_))
    }

    /// Returns the map, and copies it if the view does not own it.
    pub fn into_owned(self) -> Headers {
        self.0.into_owned()
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the map contains no names.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Vec<String>)> {
        by_name(&self.0)
    }
}

impl Default for HeadersCow<'_> {
    fn default() -> Self {
        Self::owned(HashMap::new())
    }
}

impl<'a> From<&'a Headers> for HeadersCow<'a> {
    fn from(headers: &'a Headers) -> Self {
        Self::borrowed(headers)
    }
}

impl From<Headers> for HeadersCow<'_> {
    fn from(headers: Headers) -> Self {
        Self::owned(headers)
    }
}

impl HeaderSource for HeadersRef<'_> {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.0.grouped()
    }
}

impl HeaderSource for HeadersCow<'_> {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.0.grouped()
    }
}

/// Iterator over all header values, each with its name.
#[derive(Debug, Clone)]
pub struct HeaderIterator<'a> {
    names: hash_map::Iter<'a, String, Vec<String>>,
    name: &'a str,
    values: slice::Iter<'a, String>,
}

impl<'a> HeaderIterator<'a> {
    /// Creates an iterator over `headers`.
    pub fn new(headers: &'a Headers) -> Self {
        Self {
            names: headers.iter(),
            name: "",
            values: [].iter(),
        }
    }
}

impl<'a> Iterator for HeaderIterator<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.values.next() {
                return Some((self.name, value));
            }
            let (name, values) = self.names.next()?;
            (self.name, self.values) = (name, values.iter());
        }
    }
}

fn first<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.get(name)?.first().map(String::as_str)
}

fn by_name(headers: &Headers) -> impl Iterator<Item = (&str, &Vec<String>)> {
    headers.iter().map(|(name, values)| (name.as_str(), values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        HashMap::from([
            ("host".to_owned(), vec!["a".to_owned()]),
            ("accept".to_owned(), vec!["b".to_owned(), "c".to_owned()]),
            ("x-none".to_owned(), vec![]),
        ])
    }

    #[test]
    fn view_shows_every_header() {
        let map = headers();
        let headers = HeadersRef::new(&map);
        assert_eq!(headers.get_first("accept"), Some("b"));
        assert_eq!(headers.get("accept").map(Vec::len), Some(2));
        assert!(headers.contains("x-none") && !headers.contains("Host"));
        assert_eq!((headers.get_first("x-none"), headers.len()), (None, 3));
        assert!(!headers.is_empty());
        assert_eq!(headers.iter().count(), 3);
        assert_eq!(headers.iter_flat().count(), 3);
        assert_eq!(&headers.to_owned(), headers.as_inner());
        let pairs: Vec<_> = HeaderIterator::new(&map).collect();
        assert_eq!(pairs, iter_flat(&map).collect::<Vec<_>>());
    }

    #[test]
    fn first_change_copies_the_map() {
        let map = headers();
        let mut headers = HeadersCow::from(&map);
        assert_eq!(headers.remove("not-there"), None);
        assert!(!headers.is_owned());
        headers.set("host", "z");
        assert!(headers.is_owned());
        headers.add("host", "y");
        headers.add("new", "n");
        assert_eq!(headers.get("host").unwrap(), &["z", "y"]);
        assert_eq!(headers.get_first("new"), Some("n"));
        assert_eq!(headers.remove("accept").unwrap(), ["b", "c"]);
        assert_eq!((headers.len(), headers.iter().count()), (3, 3));
        assert!(map.contains_key("accept") && headers.contains("x-none"));
        assert_eq!(headers.into_owned()["host"], ["z", "y"]);
        assert!(HeadersCow::default().is_empty());
    }
}
