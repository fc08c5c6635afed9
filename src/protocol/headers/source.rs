use super::FieldValue;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// Where the headers of a borrowed event come from.
///
/// The wire carries headers grouped by name, so a source hands them out that way. Implemented for maps from
/// names to lists of values (the published API's, [`OptimizedHeaderMap`](super::OptimizedHeaderMap),
/// [`CowHeaderMap`](super::CowHeaderMap)), for slices of pairs, for `http::HeaderMap` (feature `http`) and for
/// headers in a received frame. None of them allocates, unless a value is not UTF-8: see [`FieldValue`].
///
/// ```
/// use tollgate::HeaderSource;
///
/// let pairs = [("accept", "text/html"), ("host", "example.com"), ("accept", "*/*")];
/// let grouped: Vec<(&str, Vec<_>)> = pairs[..]
///     .grouped()
///     .map(|(name, values)| (name, values.into_iter().map(|value| value.to_text()).collect()))
///     .collect();
/// assert_eq!(grouped.len(), 2);
/// assert_eq!(grouped[0].1, ["text/html", "*/*"]);
/// assert_eq!(grouped[1].1, ["example.com"]);
/// ```
pub trait HeaderSource {
    /// Each distinct name with all its values. Asked twice for each event, the same must come each time.
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)>;
}

impl<S: HeaderSource + ?Sized> HeaderSource for &S {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        (**self).grouped()
    }
}

impl<N, V, B> HeaderSource for HashMap<N, V, B>
where
    N: AsRef<str>,
    V: AsRef<[String]>,
    B: BuildHasher,
{
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.iter().map(|(name, values)| {
            let values = values.as_ref().iter();
            (name.as_ref(), values.map(|value| FieldValue::Text(value)))
        })
    }
}

/// Pairs in any order; names that differ only in case are one name, spelt as it stands first.
///
/// Grouping compares every name with those before it, which is the fastest way for as many headers as
/// a request has.
impl<N: AsRef<str>, V: AsRef<str>> HeaderSource for [(N, V)] {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.iter()
            .enumerate()
            .filter(|(at, (name, _))| !self[..*at].iter().any(|(earlier, _)| same(earlier, name)))
            .map(|(at, (name, _))| {
                let values = self[at..]
                    .iter()
                    .filter(move |(other, _)| same(other, name))
                    .map(|(_, value)| FieldValue::Text(value.as_ref()));
                (name.as_ref(), values)
            })
    }
}

fn same<N: AsRef<str>>(left: &N, right: &N) -> bool {
    left.as_ref().eq_ignore_ascii_case(right.as_ref())
}

/// The headers in the published API's form. A name that comes twice has the values of both.
pub(crate) fn to_map<S: HeaderSource + ?Sized>(source: &S) -> HashMap<String, Vec<String>> {
    let mut map: HashMap<String, Vec<String>> = HashMap::new();
    for (name, values) in source.grouped() {
        let values = values.into_iter().map(|value| value.to_text().into_owned());
        map.entry(name.to_owned()).or_default().extend(values);
    }
    map
}
