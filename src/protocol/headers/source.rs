//! The trait through which borrowed events read their headers.

use super::FieldValue;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Source of the headers of a borrowed event.
///
/// Headers are grouped by name on the wire, so a source yields them in groups. The trait is
/// implemented for maps from names to lists of values, such as `HashMap<String, Vec<String>>`, for
/// slices of pairs, for `http::HeaderMap` (feature `http`) and for the headers in a received frame.
/// None of them allocates, unless a value is not UTF-8 (see [`FieldValue`]) or there are more than
/// 64 pairs.
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
/// request usually has. More than 64 are sorted first, so that a client cannot make it slow.
impl<N: AsRef<str> + Sync, V: AsRef<str> + Sync> HeaderSource for [(N, V)] {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        Groups::of(self)
    }

    fn max_names(&self) -> usize {
        self.len()
    }
}

/// Iterator over pairs, grouped by name.
struct Groups<'h, N, V> {
    pairs: &'h [(N, V)],
    next: usize,
    /// Fingerprints that occur more than once. A name with another fingerprint occurs only once.
    shared: Fingerprints,
    /// One bit for each pair: set if its name was yielded with an earlier pair.
    taken: u64,
    /// Replaces `taken` if there are more than [`MAX_COMPARED`] pairs.
    places: Option<Arc<[Place]>>,
}

/// Number of pairs up to which names are compared with each other.
const MAX_COMPARED: usize = u64::BITS as usize;

/// Place of a pair among those of the same name.
#[derive(Debug, Clone, Copy)]
struct Place {
    is_first: bool,
    next: Option<u32>,
}

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
            places: (pairs.len() > MAX_COMPARED).then(|| places(pairs)),
        }
    }

    /// Returns the values of later pairs with the name of the pair `at`; `None` if the name was
    /// yielded before.
    #[cold]
    fn later(&mut self, at: usize, name: &str) -> Option<Later<'h, N, V>> {
        if let Some(places) = &self.places {
            let place = places[at];
            return place.is_first.then(|| Later {
                pairs: self.pairs,
                marks: 0,
                next: place.next.map(|next| (next, Arc::clone(places))),
            });
        }
        if self.taken >> at & 1 == 1 {
            return None;
        }
        let marks = self.marks_behind(at, name);
        self.taken |= marks;
        Some(Later {
            pairs: self.pairs,
            marks,
            next: None,
        })
    }

    fn marks_behind(&self, at: usize, name: &str) -> u64 {
        let behind = self.pairs.iter().enumerate().skip(at + 1);
        behind
            .filter(|(_, (other, _))| same(other.as_ref(), name))
            .fold(0, |marks, (at, _)| marks | 1 << at)
    }
}

/// Sorts the pairs by name and returns the place of each.
fn places<N: AsRef<str>, V>(pairs: &[(N, V)]) -> Arc<[Place]> {
    let name = |at: u32| pairs[at as usize].0.as_ref();
    let lowercase = |at: u32| name(at).bytes().map(|byte| byte.to_ascii_lowercase());
    // A message of `u32::MAX` headers does not fit a frame.
    let mut order: Vec<u32> = (0..).take(pairs.len()).collect();
    // Stable, so pairs of one name stay in order.
    order.sort_by(|one, other| lowercase(*one).cmp(lowercase(*other)));
    let alone = Place {
        is_first: true,
        next: None,
    };
    let mut places = vec![alone; pairs.len()];
    for neighbours in order.windows(2) {
        let [one, other] = [neighbours[0], neighbours[1]];
        if same(name(one), name(other)) {
            places[one as usize].next = Some(other);
            places[other as usize].is_first = false;
        }
    }
    places.into()
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
        Self {
            first: self.first,
            later: self.later.clone(),
        }
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
    /// One bit for each pair that has this name and was not yielded yet.
    marks: u64,
    /// The next pair of this name, if there are too many pairs for `marks`.
    next: Option<(u32, Arc<[Place]>)>,
}

impl<N, V> Clone for Later<'_, N, V> {
    fn clone(&self) -> Self {
        Self {
            pairs: self.pairs,
            marks: self.marks,
            next: self.next.clone(),
        }
    }
}

impl<'h, N, V> Iterator for Later<'h, N, V> {
    type Item = &'h V;

    #[cold]
    fn next(&mut self) -> Option<Self::Item> {
        if self.marks != 0 {
            let at = self.marks.trailing_zeros() as usize;
            self.marks &= self.marks - 1;
            return Some(&self.pairs[at].1);
        }
        let (at, places) = self.next.take()?;
        self.next = places[at as usize].next.map(|next| (next, places));
        Some(&self.pairs[at as usize].1)
    }
}

fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// Copies headers to the form of owned events. The values of names that occur more than once are
/// joined.
pub(crate) fn to_map<S: HeaderSource + ?Sized>(source: &S) -> HashMap<String, Vec<String>> {
    let mut map: HashMap<String, Vec<String>> = HashMap::new();
    for (name, values) in source.grouped() {
        let values = values.into_iter().map(|value| value.to_text().into_owned());
        map.entry(name.to_owned()).or_default().extend(values);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_of_one_fingerprint_are_grouped_in_time() {
        let names = (0..100_000).map(|n: u32| (format!("{n:06}-same-end"), String::new()));
        let mut pairs: Vec<_> = names.collect();
        pairs.extend(pairs.clone());
        let began = std::time::Instant::now();
        let values = pairs
            .grouped()
            .map(|(_, values)| values.into_iter().count());
        assert!(values.eq(std::iter::repeat_n(2, 100_000)));
        // Comparing each with each would take minutes.
        assert!(began.elapsed() < std::time::Duration::from_secs(10));
    }
}
