//! Header maps with fewer allocations than `HashMap<String, Vec<String>>`.

use super::intern_header_name;
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;
use std::collections::HashMap;

/// Values of one header. A single value, the usual case, is stored without a list on the heap.
pub type HeaderValues = SmallVec<[String; 1]>;

/// Header values by name.
pub type OptimizedHeaderMap = HashMap<String, HeaderValues>;

/// A header name: a static string or an owned one. See [`intern_header_name`].
pub type CowHeaderName = Cow<'static, str>;

/// Header values by name, where common names are static strings that take no memory.
///
/// ```
/// use zentinel_agent_protocol::headers::{CowHeaderMap, HeaderValues, intern_header_name};
///
/// let mut headers = CowHeaderMap::new();
/// let values = HeaderValues::from_iter(["application/json".to_owned()]);
/// headers.insert(intern_header_name("Content-Type"), values);
/// assert_eq!(headers["content-type"][0], "application/json");
/// ```
pub type CowHeaderMap = HashMap<CowHeaderName, HeaderValues>;

/// Converts headers to an [`OptimizedHeaderMap`]. Allocates only the map.
pub fn to_optimized(headers: HashMap<String, Vec<String>>) -> OptimizedHeaderMap {
    headers
        .into_iter()
        .map(|(name, values)| (name, inline(values)))
        .collect()
}

/// Converts headers from an [`OptimizedHeaderMap`]. Allocates a list for each single value.
pub fn from_optimized(headers: OptimizedHeaderMap) -> HashMap<String, Vec<String>> {
    headers
        .into_iter()
        .map(|(name, values)| (name, values.into_vec()))
        .collect()
}

/// Converts headers to a [`CowHeaderMap`], with names in lower case. Names that differ only in case
/// are merged into one with the values of both.
pub fn to_cow_optimized(headers: HashMap<String, Vec<String>>) -> CowHeaderMap {
    let mut optimized = CowHeaderMap::with_capacity(headers.len());
    for (name, values) in headers {
        let merged = optimized.entry(intern_header_name(&name)).or_default();
        if merged.is_empty() {
            *merged = inline(values);
        } else {
            merged.extend(values);
        }
    }
    optimized
}

/// Converts headers from a [`CowHeaderMap`]. Allocates the common names, and a list for each single
/// value.
pub fn from_cow_optimized(headers: CowHeaderMap) -> HashMap<String, Vec<String>> {
    headers
        .into_iter()
        .map(|(name, values)| (name.into_owned(), values.into_vec()))
        .collect()
}

/// Iterates over all values, each with its name. Does not allocate.
pub fn iter_flat(headers: &HashMap<String, Vec<String>>) -> impl Iterator<Item = (&str, &str)> {
    flat(headers)
}

/// Iterates over all values, each with its name. Does not allocate.
pub fn iter_flat_optimized(headers: &OptimizedHeaderMap) -> impl Iterator<Item = (&str, &str)> {
    flat(headers)
}

/// Iterates over all values, each with its name. Does not allocate.
pub fn iter_flat_cow(headers: &CowHeaderMap) -> impl Iterator<Item = (&str, &str)> {
    flat(headers)
}

fn flat<N: AsRef<str>, V: AsRef<[String]>>(
    headers: &HashMap<N, V>,
) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().flat_map(|(name, values)| {
        let values = values.as_ref().iter();
        values.map(move |value| (name.as_ref(), value.as_str()))
    })
}

/// Stores a single value inline. `SmallVec::from_vec` would keep a list with spare capacity on the
/// heap.
fn inline(mut values: Vec<String>) -> HeaderValues {
    match (values.len(), values.pop()) {
        (1, Some(value)) => smallvec![value],
        (_, last) => {
            values.extend(last);
            HeaderValues::from_vec(values)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &[&str])]) -> HashMap<String, Vec<String>> {
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        pairs
            .iter()
            .map(|(name, values)| ((*name).to_owned(), owned(values)))
            .collect()
    }

    fn sorted<'h>(pairs: impl Iterator<Item = (&'h str, &'h str)>) -> Vec<(&'h str, &'h str)> {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn maps_round_trip() {
        let original = headers(&[("host", &["a"]), ("accept", &["b", "c"]), ("x-none", &[])]);
        assert_eq!(from_optimized(to_optimized(original.clone())), original);
        let cow = to_cow_optimized(original.clone());
        assert_eq!(from_cow_optimized(cow), original);
    }

    #[test]
    fn flat_iteration_yields_every_value() {
        let original = headers(&[("host", &["a"]), ("accept", &["c", "b"]), ("x-none", &[])]);
        let expected = [("accept", "b"), ("accept", "c"), ("host", "a")];
        assert_eq!(sorted(iter_flat(&original)), expected);
        let optimized = to_optimized(original.clone());
        assert_eq!(sorted(iter_flat_optimized(&optimized)), expected);
        let cow = to_cow_optimized(original);
        assert_eq!(sorted(iter_flat_cow(&cow)), expected);
    }

    #[test]
    fn single_value_is_inline_despite_spare_capacity() {
        let mut spare = Vec::with_capacity(8);
        spare.push("a".to_owned());
        let optimized = to_optimized(HashMap::from([("host".to_owned(), spare)]));
        assert!(!optimized["host"].spilled());
    }

    #[test]
    fn names_that_differ_in_case_are_merged() {
        let cow = to_cow_optimized(headers(&[("Host", &["a"]), ("host", &["b", "c"])]));
        let mut values = cow["host"].to_vec();
        values.sort_unstable();
        assert_eq!(values, ["a", "b", "c"]);
        assert_eq!(cow.len(), 1);
    }
}
