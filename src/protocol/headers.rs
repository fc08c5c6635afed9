use std::collections::HashMap;
use std::hash::BuildHasher;

/// Where the headers of a borrowed event come from.
///
/// The wire carries headers grouped by name, so a source hands them out that way. Implemented for the
/// map of the published API, for slices of pairs and for headers in a received frame.
///
/// ```
/// use tollgate::HeaderSource;
///
/// let pairs = [("accept", "text/html"), ("host", "example.com"), ("accept", "*/*")];
/// let grouped: Vec<(&str, Vec<&str>)> = pairs[..]
///     .grouped()
///     .map(|(name, values)| (name, values.collect()))
///     .collect();
/// assert_eq!(grouped, [("accept", vec!["text/html", "*/*"]), ("host", vec!["example.com"])]);
/// ```
pub trait HeaderSource {
    /// Each distinct name with all its values.
    fn grouped(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str> + Clone)> + Clone;
}

impl<S: HeaderSource + ?Sized> HeaderSource for &S {
    fn grouped(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str> + Clone)> + Clone {
        (**self).grouped()
    }
}

impl<B: BuildHasher> HeaderSource for HashMap<String, Vec<String>, B> {
    fn grouped(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str> + Clone)> + Clone {
        self.iter()
            .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str)))
    }
}

/// Pairs in any order; names that differ only in case are one name, spelt as it stands first.
///
/// Grouping compares every name with those before it, which is the fastest way for as many headers as
/// a request has.
impl<N: AsRef<str>, V: AsRef<str>> HeaderSource for [(N, V)] {
    fn grouped(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str> + Clone)> + Clone {
        self.iter()
            .enumerate()
            .filter(|(at, (name, _))| !self[..*at].iter().any(|(earlier, _)| same(earlier, name)))
            .map(|(at, (name, _))| {
                let values = self[at..]
                    .iter()
                    .filter(move |(other, _)| same(other, name))
                    .map(|(_, value)| value.as_ref());
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
        let values = values.map(str::to_owned);
        map.entry(name.to_owned()).or_default().extend(values);
    }
    map
}
