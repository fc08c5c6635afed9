use super::intern_header_name;
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;
use std::collections::HashMap;

/// The values of one header: a single one, as nearly every header has, is stored without a list on the heap.
pub type HeaderValues = SmallVec<[String; 1]>;

/// Headers by name.
pub type OptimizedHeaderMap = HashMap<String, HeaderValues>;

/// A header name that is static or a string of its own; see [`intern_header_name`].
pub type CowHeaderName = Cow<'static, str>;

/// Headers by name, where the names that everybody uses take no memory.
///
/// ```
/// use tollgate::{CowHeaderMap, HeaderValues, intern_header_name};
///
/// let mut headers = CowHeaderMap::new();
/// let values = HeaderValues::from_iter(["application/json".to_owned()]);
/// headers.insert(intern_header_name("Content-Type"), values);
/// assert_eq!(headers["content-type"][0], "application/json");
/// ```
pub type CowHeaderMap = HashMap<CowHeaderName, HeaderValues>;

/// Moves headers to an [`OptimizedHeaderMap`]. Allocates the map alone.
pub fn to_optimized(headers: HashMap<String, Vec<String>>) -> OptimizedHeaderMap {
    headers
        .into_iter()
        .map(|(name, values)| (name, inline(values)))
        .collect()
}

/// Moves headers out of an [`OptimizedHeaderMap`], which allocates a list for each single value.
pub fn from_optimized(headers: OptimizedHeaderMap) -> HashMap<String, Vec<String>> {
    headers
        .into_iter()
        .map(|(name, values)| (name, values.into_vec()))
        .collect()
}

/// Moves headers to a [`CowHeaderMap`], with names in lower case. Names that differed only in case become
/// one name with the values of both.
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

/// Moves headers out of a [`CowHeaderMap`], which allocates known names, and a list for each single value.
pub fn from_cow_optimized(headers: CowHeaderMap) -> HashMap<String, Vec<String>> {
    headers
        .into_iter()
        .map(|(name, values)| (name.into_owned(), values.into_vec()))
        .collect()
}

/// Each value with its name, without an allocation.
pub fn iter_flat(headers: &HashMap<String, Vec<String>>) -> impl Iterator<Item = (&str, &str)> {
    flat(headers)
}

/// Each value with its name, without an allocation.
pub fn iter_flat_optimized(headers: &OptimizedHeaderMap) -> impl Iterator<Item = (&str, &str)> {
    flat(headers)
}

/// Each value with its name, without an allocation.
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

/// A list that has room for several values stays on the heap unless it is taken apart.
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
    fn maps_go_there_and_back() {
        let original = headers(&[("host", &["a"]), ("accept", &["b", "c"]), ("x-none", &[])]);
        assert_eq!(from_optimized(to_optimized(original.clone())), original);
        let cow = to_cow_optimized(original.clone());
        assert_eq!(from_cow_optimized(cow), original);
    }

    #[test]
    fn every_value_comes_with_its_name() {
        let original = headers(&[("host", &["a"]), ("accept", &["c", "b"]), ("x-none", &[])]);
        let expected = [("accept", "b"), ("accept", "c"), ("host", "a")];
        assert_eq!(sorted(iter_flat(&original)), expected);
        let optimized = to_optimized(original.clone());
        assert_eq!(sorted(iter_flat_optimized(&optimized)), expected);
        let cow = to_cow_optimized(original);
        assert_eq!(sorted(iter_flat_cow(&cow)), expected);
    }

    #[test]
    fn single_values_are_inline_whatever_list_they_come_from() {
        let mut roomy = Vec::with_capacity(8);
        roomy.push("a".to_owned());
        let optimized = to_optimized(HashMap::from([("host".to_owned(), roomy)]));
        assert!(!optimized["host"].spilled());
    }

    #[test]
    fn names_that_differ_in_case_lose_nothing() {
        let cow = to_cow_optimized(headers(&[("Host", &["a"]), ("host", &["b", "c"])]));
        let mut values = cow["host"].to_vec();
        values.sort_unstable();
        assert_eq!(values, ["a", "b", "c"]);
        assert_eq!(cow.len(), 1);
    }
}
