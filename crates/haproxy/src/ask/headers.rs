//! Headers of a message: HAProxy's binary list, or its text.

use super::fault::Fault;
use crate::wire::Reader;
use std::borrow::Cow;
use tollgate::HeaderSource;
use tollgate::headers::FieldValue;

/// Headers up to which names are compared with each other to group them.
const MAX_COMPARED: usize = 64;

/// Valid headers of a message, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderList<'a> {
    pairs: Pairs<'a>,
    count: usize,
    /// Set if every name is known to occur once.
    is_distinct: bool,
    /// First value of `content-length`.
    pub(super) content_length: Option<&'a [u8]>,
    /// Set if there is a `transfer-encoding`.
    pub(super) has_transfer_coding: bool,
}

/// Iterator over headers, which ends at the first that is not valid.
#[derive(Debug, Clone, Copy)]
struct Pairs<'a>(Form<'a>);

/// A name and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    /// Names and values with their lengths, ended by an empty name with an empty value.
    Binary(Reader<'a>),
    /// Lines, ended by an empty one.
    Lines(&'a [u8]),
}

impl<'a> HeaderList<'a> {
    /// No headers.
    pub(super) const EMPTY: Self = Self {
        pairs: Pairs(Form::Lines(b"\r\n")),
        count: 0,
        is_distinct: true,
        content_length: None,
        has_transfer_coding: false,
    };

    /// Reads the value of `req.hdrs_bin`.
    pub(super) fn of_binary(list: &'a [u8]) -> Result<Self, Fault> {
        Self::checked(Pairs(Form::Binary(Reader::new(list))))
    }

    /// Reads the value of `req.hdrs`.
    pub(super) fn of_text(text: &'a [u8]) -> Result<Self, Fault> {
        Self::checked(Pairs(Form::Lines(text)))
    }

    fn checked(pairs: Pairs<'a>) -> Result<Self, Fault> {
        let mut seen = [0u64; 8];
        let mut list = Self {
            pairs,
            ..Self::EMPTY
        };
        let mut rest = pairs;
        while let Some((name, value)) = rest.read()? {
            if !is_name(name) {
                return Err(Fault::InvalidArgument);
            }
            let fingerprint = fingerprint(name);
            let (word, bit) = (fingerprint >> 6, 1 << (fingerprint & 63));
            if seen[word] & bit != 0 && list.is_distinct {
                list.is_distinct = list.count < MAX_COMPARED && !list.has(name);
            }
            seen[word] |= bit;
            list.count += 1;
            list.note(name, value);
        }
        Ok(list)
    }

    /// Returns whether a name is among the headers that were counted.
    fn has(&self, name: &[u8]) -> bool {
        let mut pairs = self.pairs.take(self.count);
        pairs.any(|(other, _)| other.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Notes a header that frames the body, so that it need not be searched for.
    fn note(&mut self, name: &[u8], value: &'a [u8]) {
        const LENGTH: &[u8] = b"content-length";
        const CODING: &[u8] = b"transfer-encoding";
        if name.len() == LENGTH.len() && name.eq_ignore_ascii_case(LENGTH) {
            self.content_length.get_or_insert(value);
        } else if name.len() == CODING.len() && name.eq_ignore_ascii_case(CODING) {
            self.has_transfer_coding = true;
        }
    }
}

/// Returns whether this may be the name of a header. Every byte is looked at, which is faster than
/// to stop at the first wrong one.
fn is_name(name: &[u8]) -> bool {
    let is_valid = |byte: &u8| NAME_BYTES[usize::from(*byte)];
    !name.is_empty() && name.iter().fold(true, |valid, byte| valid & is_valid(byte))
}

/// The bytes that names may have.
static NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        bytes[byte as usize] = byte != b':';
        byte += 1;
    }
    bytes
};

impl<'a> Pairs<'a> {
    /// Reads the next header; `None` at the end of the list, after which nothing may follow.
    #[inline]
    fn read(&mut self) -> Result<Option<Pair<'a>>, Fault> {
        let (name, value) = match &mut self.0 {
            Form::Binary(reader) => {
                let pair = (reader.string()?, reader.string()?);
                if pair.0.is_empty() && pair.1.is_empty() {
                    return end(reader.rest());
                }
                pair
            }
            Form::Lines(text) => {
                let line = next_line(text).ok_or(Fault::InvalidArgument)?;
                if line.is_empty() {
                    return end(text);
                }
                let colon = line.iter().position(|byte| *byte == b':');
                let (name, value) = line.split_at(colon.ok_or(Fault::InvalidArgument)?);
                (name, value[1..].trim_ascii())
            }
        };
        Ok(Some((name, value)))
    }
}

fn end<T>(rest: &[u8]) -> Result<Option<T>, Fault> {
    if rest.is_empty() {
        Ok(None)
    } else {
        Err(Fault::InvalidArgument)
    }
}

/// Takes a line, without its end, from the beginning of a text.
fn next_line<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let at = text.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = text.split_at(at);
    *text = &rest[1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.read().ok()??;
        match FieldValue::Bytes(name).to_text() {
            Cow::Borrowed(name) => Some((name, value)),
            // Never: names are ASCII.
            Cow::Owned(_) => None,
        }
    }
}

impl HeaderSource for HeaderList<'_> {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        let all = self.pairs;
        self.pairs
            .enumerate()
            .filter_map(move |(at, (name, first))| {
                let is_same = move |other: &str| other.eq_ignore_ascii_case(name);
                let mut earlier = all.take(if self.is_distinct { 0 } else { at });
                if earlier.any(|(other, _)| is_same(other)) {
                    return None;
                }
                let later = all
                    .skip(at + 1)
                    .take(if self.is_distinct { 0 } else { usize::MAX });
                let later = later.filter(move |(other, _)| is_same(other));
                let values = std::iter::once(first).chain(later.map(|(_, value)| value));
                Some((name, values.map(FieldValue::Bytes)))
            })
    }

    fn singles(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        let pairs = self
            .pairs
            .map(|(name, value)| (name, FieldValue::Bytes(value)));
        self.is_distinct.then_some(pairs)
    }

    fn ungrouped(&self) -> Option<impl Iterator<Item = (&str, FieldValue<'_>)>> {
        let pairs = self
            .pairs
            .map(|(name, value)| (name, FieldValue::Bytes(value)));
        (self.count > MAX_COMPARED).then_some(pairs)
    }

    fn max_names(&self) -> usize {
        self.count
    }
}

/// Hashes the length and some bytes of a name, ignoring case, to 9 bits. Equal names have equal
/// fingerprints; most other names differ.
fn fingerprint(name: &[u8]) -> usize {
    /// 2³² divided by the golden ratio, whose multiples spread evenly.
    const SPREAD: u32 = 0x9e37_79b9;
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 0;
    };
    let middle = name[name.len() / 2];
    // A longer name than fits has the fingerprint of a shorter one, which is allowed.
    let bytes = u32::from_le_bytes([*first, middle, *last, name.len() as u8]);
    ((bytes | 0x0020_2020).wrapping_mul(SPREAD) >> 23) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;
    use proptest::prelude::*;

    fn binary(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut list = Vec::new();
        let mut writer = Writer(&mut list);
        for (name, value) in pairs.iter().chain(&[("", "")]) {
            writer.string(name);
            writer.string(value);
        }
        list
    }

    fn groups(list: &HeaderList<'_>) -> Vec<(String, Vec<String>)> {
        list.grouped()
            .map(|(name, values)| {
                let values = values.into_iter().map(|value| value.to_text().into_owned());
                (name.to_owned(), values.collect())
            })
            .collect()
    }

    #[test]
    fn example_of_the_protocol() {
        let bytes = b"\x04host\x04a.io\x03x-a\x00\x00\x00";
        let list = HeaderList::of_binary(bytes).unwrap();
        let expected = [("host", "a.io"), ("x-a", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        assert_eq!(groups(&list), expected);
        assert!(list.singles().is_some());
    }

    #[test]
    fn names_are_grouped_whatever_their_case() {
        let bytes = binary(&[("accept", "a"), ("host", "b"), ("Accept", "c")]);
        let list = HeaderList::of_binary(&bytes).unwrap();
        assert!(list.singles().is_none());
        let groups = groups(&list);
        assert_eq!(groups[0], ("accept".into(), vec!["a".into(), "c".into()]));
        assert_eq!(groups.len(), 2);
    }

    proptest! {
        #[test]
        fn repeated_names_are_found(names in prop::collection::vec("[a-cA-C]{1,3}", 0..80)) {
            let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
            let bytes = binary(&pairs);
            let list = HeaderList::of_binary(&bytes).unwrap();
            let mut distinct: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
            distinct.sort();
            distinct.dedup();
            let is_few = names.len() <= MAX_COMPARED;
            prop_assert!(!list.is_distinct || distinct.len() == names.len());
            prop_assert!(list.is_distinct || !is_few || distinct.len() < names.len());
            let groups = groups(&list);
            prop_assert_eq!(groups.len(), distinct.len());
            let values: usize = groups.iter().map(|(_, values)| values.len()).sum();
            prop_assert_eq!(values, names.len());
        }
    }

    #[test]
    fn fuzz_header_lists() {
        bolero::check!().for_each(|bytes: &[u8]| {
            for read in [HeaderList::of_binary, HeaderList::of_text] {
                let Ok(list) = read(bytes) else {
                    continue;
                };
                assert_eq!(list.pairs.count(), list.count);
                assert!(list.grouped().all(|(name, _)| is_name(name.as_bytes())));
            }
        });
    }

    #[test]
    fn names_have_no_spaces_and_colons() {
        for byte in 0..=255 {
            let is_valid = matches!(byte, b'!'..=b'~') && byte != b':';
            assert_eq!(is_name(&[b'a', byte]), is_valid, "{byte}");
        }
        assert!(!is_name(b""));
    }

    #[test]
    fn text_is_read_as_well() {
        let list = HeaderList::of_text(b"host: a.io\r\nx-a:\r\n\r\n").unwrap();
        assert_eq!(groups(&list)[0], ("host".into(), vec!["a.io".into()]));
        assert_eq!(groups(&list)[1], ("x-a".into(), vec![String::new()]));
        assert_eq!(list.max_names(), 2);
        let list = HeaderList::of_text(b"Content-Length: 7\r\n\r\n").unwrap();
        assert_eq!(list.content_length, Some(&b"7"[..]));
        assert!(!list.has_transfer_coding);
    }

    #[test]
    fn lists_without_their_end_are_refused() {
        for list in [
            &b""[..],
            b"\x04host\x04a.io",
            b"\x04host\x04a.io\x00",
            b"\x04ho",
            b"\x00",
        ] {
            assert!(HeaderList::of_binary(list).is_err(), "{list:?}");
        }
        assert!(HeaderList::of_binary(b"\x00\x00").is_ok());
        assert!(HeaderList::of_binary(b"\x00\x00\x00").is_err());
        assert!(HeaderList::of_binary(b"\x00\x01a\x00\x00").is_err());
        for text in [
            &b""[..],
            b"host: a",
            b"host: a\r\n",
            b"host\r\n\r\n",
            b": a\r\n\r\n",
        ] {
            assert!(HeaderList::of_text(text).is_err(), "{text:?}");
        }
        assert!(HeaderList::of_text(b"a: b\r\n\r\nc: d\r\n").is_err());
    }
}
