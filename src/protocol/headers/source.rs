//! The trait through which borrowed events read their headers.

use super::FieldValue;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// Source of the headers of a borrowed event.
///
/// Headers are grouped by name on the wire, so a source yields them in groups. The trait is
/// implemented for maps from names to lists of values, such as `HashMap<String, Vec<String>>`, for
/// slices of pairs, for `http::HeaderMap` (feature `http`) and for the headers in a received frame.
/// None of them allocates, unless a value is not UTF-8 (see [`FieldValue`]) or a slice has more
/// than 64 pairs.
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
pub trait HeaderSource: Sync {
    /// Iterates over the distinct names, each with all its values. It is called twice for each
    /// event and must yield the same headers both times.
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)>;

    /// Iterates over the headers if every name has exactly one value and the source knows that
    /// without a search; otherwise `None`, the default. The headers must be those of
    /// [`HeaderSource::grouped`]. Writing them this way is faster.
    fn singles(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        None::<std::iter::Empty<_>>
    }

    /// Iterates over the headers one by one if there are so many that comparing their names, to
    /// group them, would be slow; otherwise `None`, the default. The headers must be those of
    /// [`HeaderSource::grouped`], those of one name in the same order.
    fn ungrouped(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        None::<std::iter::Empty<_>>
    }

    /// Returns an upper bound of the number of distinct names that [`HeaderSource::grouped`] and
    /// [`HeaderSource::singles`] yield. By default the names are counted; override it if that is
    /// slow.
    fn max_names(&self) -> usize {
        self.grouped().count()
    }
}

impl<S: HeaderSource + ?Sized> HeaderSource for &S {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        (**self).grouped()
    }

    fn singles(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        (**self).singles()
    }

    fn ungrouped(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        (**self).ungrouped()
    }

    fn max_names(&self) -> usize {
        (**self).max_names()
    }
}

impl<N, V, B> HeaderSource for HashMap<N, V, B>
where
    N: AsRef<str> + Sync,
    V: AsRef<[String]> + Sync,
    B: BuildHasher + Sync,
{
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.iter().map(|(name, values)| {
            let values = values.as_ref().iter();
            (name.as_ref(), values.map(|value| FieldValue::Text(value)))
        })
    }

    fn max_names(&self) -> usize {
        self.len()
    }
}

/// Pairs in any order. Names that differ only in case are one name, spelled as in its first pair.
///
/// Grouping compares names with each other, which is the fastest way for as many headers as a
/// request usually has. More than 64 are written another way, so that a client cannot make it slow.
impl<N: AsRef<str> + Sync, V: AsRef<str> + Sync> HeaderSource for [(N, V)] {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        Groups::of(self)
    }

    fn singles(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        let is_single = self.len() <= MARKED && has_distinct_names(self);
        is_single.then(|| fields(self))
    }

    fn ungrouped(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        (self.len() > MARKED).then(|| fields(self))
    }

    fn max_names(&self) -> usize {
        self.len()
    }
}

fn fields<N: AsRef<str>, V: AsRef<str>>(
    pairs: &[(N, V)],
) -> impl Iterator<Item = (&str, FieldValue<'_>)> {
    let pairs = pairs.iter();
    pairs.map(|(name, value)| (name.as_ref(), FieldValue::Text(value.as_ref())))
}

/// Returns whether no name occurs twice. Only names whose fingerprints are equal are compared.
fn has_distinct_names<N: AsRef<str>, V>(pairs: &[(N, V)]) -> bool {
    let mut seen = Fingerprints::default();
    pairs.iter().enumerate().all(|(at, (name, _))| {
        let name = name.as_ref();
        let is_new = !seen.insert(fingerprint(name));
        is_new
            || !pairs[..at]
                .iter()
                .any(|(other, _)| same(other.as_ref(), name))
    })
}

/// Iterator over pairs, grouped by name.
struct Groups<'h, N, V> {
    pairs: &'h [(N, V)],
    next: usize,
    /// Fingerprints that occur more than once. A name with another fingerprint occurs only once.
    shared: Fingerprints,
    /// One bit for each of the first [`MARKED`] pairs: set if its name was yielded with an earlier
    /// pair.
    taken: u64,
}

/// Number of pairs whose comparisons are remembered in a bitmap. Pairs behind them are compared
/// each time an iterator passes them.
const MARKED: usize = u64::BITS as usize;

impl<'h, N: AsRef<str>, V> Groups<'h, N, V> {
    fn of(pairs: &'h [(N, V)]) -> Self {
        let (mut seen, mut shared) = (Fingerprints::default(), Fingerprints::default());
        for (name, _) in pairs {
            let fingerprint = fingerprint(name.as_ref());
            if seen.insert(fingerprint) {
                shared.insert(fingerprint);
            }
        }
        Self {
            pairs,
            next: 0,
            shared,
            taken: 0,
        }
    }

    /// Returns the values of later pairs with the name of the pair `at`; `None` if the name was
    /// yielded before.
    #[cold]
    fn later(&mut self, at: usize, name: &'h str) -> Option<Later<'h, N, V>> {
        if self.is_taken(at, name) {
            return None;
        }
        let marks = self.marks_behind(at, name);
        self.taken |= marks;
        Some(Later {
            pairs: self.pairs,
            name,
            marks,
            unmarked: MARKED.max(at + 1),
        })
    }

    fn is_taken(&self, at: usize, name: &str) -> bool {
        if at < MARKED {
            return self.taken >> at & 1 == 1;
        }
        let earlier = &self.pairs[..at];
        earlier.iter().any(|(other, _)| same(other.as_ref(), name))
    }

    fn marks_behind(&self, at: usize, name: &str) -> u64 {
        let behind = self.pairs.iter().take(MARKED).enumerate().skip(at + 1);
        behind
            .filter(|(_, (other, _))| same(other.as_ref(), name))
            .fold(0, |marks, (at, _)| marks | 1 << at)
    }
}

impl<'h, N: AsRef<str>, V> Iterator for Groups<'h, N, V> {
    type Item = (&'h str, ValuesOf<'h, N, V>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.next;
            let (name, value) = self.pairs.get(at)?;
            let name = name.as_ref();
            self.next += 1;
            let mut later = None;
            if self.shared.contains(fingerprint(name)) {
                later = self.later(at, name);
                if later.is_none() {
                    continue;
                }
            }
            let first = Some(value);
            return Some((name, ValuesOf { first, later }));
        }
    }
}

/// A set of fingerprints, as a bitmap.
#[derive(Default)]
struct Fingerprints([u64; 4]);

impl Fingerprints {
    /// Adds a fingerprint and returns whether the set contained it before.
    fn insert(&mut self, fingerprint: u8) -> bool {
        let (word, bit) = Self::position(fingerprint);
        let was_present = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was_present
    }

    fn contains(&self, fingerprint: u8) -> bool {
        let (word, bit) = Self::position(fingerprint);
        self.0[word] & bit != 0
    }

    fn position(fingerprint: u8) -> (usize, u64) {
        (usize::from(fingerprint >> 6), 1 << (fingerprint & 63))
    }
}

/// Hashes a name's length and last eight bytes, ignoring case. Equal names have equal fingerprints;
/// most other names differ.
fn fingerprint(name: &str) -> u8 {
    /// In ASCII, the bit in which upper-case and lower-case letters differ.
    const CASE: u64 = 0x2020_2020_2020_2020;
    /// 2⁶⁴ divided by the golden ratio, whose multiples spread evenly (Knuth, volume 3, section
    /// 6.4).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = name.as_bytes();
    let end = match (bytes.last_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
        (Some(end), _, _) => u64::from_le_bytes(*end),
        (_, Some(start), Some(end)) => {
            u64::from(u32::from_le_bytes(*start)) << 32 | u64::from(u32::from_le_bytes(*end))
        }
        _ => bytes
            .iter()
            .fold(0, |end, byte| end << 8 | u64::from(*byte)),
    };
    let hash = ((end | CASE) ^ bytes.len() as u64).wrapping_mul(SPREAD);
    (hash >> (u64::BITS - u8::BITS)) as u8
}

/// Iterator over the values of one name.
struct ValuesOf<'h, N, V> {
    first: Option<&'h V>,
    /// Set if other pairs may have the same name.
    later: Option<Later<'h, N, V>>,
}

impl<N, V> Clone for ValuesOf<'_, N, V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'h, N: AsRef<str>, V: AsRef<str>> Iterator for ValuesOf<'h, N, V> {
    type Item = FieldValue<'h>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = match self.first.take() {
            Some(first) => first,
            None => self.later.as_mut()?.next()?,
        };
        Some(FieldValue::Text(value.as_ref()))
    }
}

/// Iterator over the values of a name after the first.
struct Later<'h, N, V> {
    pairs: &'h [(N, V)],
    name: &'h str,
    /// One bit for each of the first [`MARKED`] pairs: set if it has this name and was not yielded
    /// yet.
    marks: u64,
    /// Next pair to compare among those without a bit.
    unmarked: usize,
}

impl<N, V> Clone for Later<'_, N, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N, V> Copy for Later<'_, N, V> {}

impl<'h, N: AsRef<str>, V> Iterator for Later<'h, N, V> {
    type Item = &'h V;

    #[cold]
    fn next(&mut self) -> Option<Self::Item> {
        if self.marks != 0 {
            let at = self.marks.trailing_zeros() as usize;
            self.marks &= self.marks - 1;
            return Some(&self.pairs[at].1);
        }
        let mut rest = self.pairs.get(self.unmarked..)?.iter();
        let ahead = rest.position(|(other, _)| same(other.as_ref(), self.name))?;
        let at = self.unmarked + ahead;
        self.unmarked = at + 1;
        Some(&self.pairs[at].1)
    }
}

fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// Groups headers by name. Names that differ only in case are one name, spelled as in its first
/// header.
#[cold]
pub(crate) fn group<'h>(
    headers: impl Iterator<Item = (&'h str, FieldValue<'h>)>,
) -> Vec<(&'h str, Vec<FieldValue<'h>>)> {
    let mut places = HashMap::new();
    let mut groups: Vec<(&str, Vec<FieldValue<'_>>)> = Vec::new();
    for (name, value) in headers {
        let place = *places
            .entry(name.to_ascii_lowercase())
            .or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => groups.push((name, vec![value])),
        }
    }
    groups
}

/// Returns the headers as a map of owned texts.
pub(crate) fn to_map<S: HeaderSource + ?Sized>(source: &S) -> HashMap<String, Vec<String>> {
    let text = |value: FieldValue<'_>| value.to_text().into_owned();
    if let Some(headers) = source.ungrouped() {
        let groups = group(headers).into_iter();
        return groups
            .map(|(name, values)| (name.to_owned(), values.into_iter().map(text).collect()))
            .collect();
    }
    let mut map: HashMap<String, Vec<String>> = HashMap::new();
    for (name, values) in source.grouped() {
        let values = values.into_iter().map(text);
        map.entry(name.to_owned()).or_default().extend(values);
    }
    map
}
