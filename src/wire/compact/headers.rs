//! Headers: a map from names, of which well-known ones are numbers, to bytes.

use super::header_names::{known, name_of, number_of, number_of_any_case};
use super::numbers::{number, write_header_name};
use crate::protocol::headers::group;
use crate::protocol::{FieldValue, HeaderSource, text};
use crate::wire::decode::{Decoded, Source};
use crate::wire::encode::Sink;
use crate::wire::msgpack::{Reader, Writer};
use std::sync::OnceLock;

/// Writes headers, grouped by name.
#[inline]
pub(super) fn write_headers<H: HeaderSource>(headers: &H, writer: &mut Writer<'_>) {
    if headers.ungrouped().is_some() {
        return write_many(headers, writer);
    }
    writer.map_of_at_most(headers.max_names(), |writer| {
        if let Some(singles) = headers.singles() {
            // A `for` loop would store each item before it is written.
            return singles.fold(0, |names, (name, value)| {
                write_header(name, value.as_bytes(), writer);
                names + 1
            });
        }
        let mut names = 0;
        for (name, values) in headers.grouped() {
            names += 1;
            let mut rest = values.clone().into_iter();
            if let (Some(value), None) = (rest.next(), rest.next()) {
                write_header(name, value.as_bytes(), writer);
                continue;
            }
            write_header_name(name, writer);
            write_values(values, writer);
        }
        names
    });
}

#[cold]
fn write_many<H: HeaderSource>(headers: &H, writer: &mut Writer<'_>) {
    let groups = headers.ungrouped().map(group).unwrap_or_default();
    writer.begin_map(groups.len());
    for (name, values) in &groups {
        write_header_name(name, writer);
        write_values(values.iter().copied(), writer);
    }
}

/// Writes a name with its only value.
#[inline(always)]
fn write_header(name: &str, value: &[u8], writer: &mut Writer<'_>) {
    match number_of(name) {
        Some(number) if value.len() < 256 => writer.numbered_bin(number, value),
        _ => {
            write_header_name(name, writer);
            writer.bin(value);
        }
    }
}

/// Writes one value as bytes, and any other number of them as an array.
fn write_values<'h>(
    values: impl IntoIterator<Item = FieldValue<'h>> + Clone,
    writer: &mut Writer<'_>,
) {
    let mut rest = values.clone().into_iter();
    if let (Some(value), None) = (rest.next(), rest.next()) {
        return writer.bin(value.as_bytes());
    }
    writer.begin_array(values.clone().into_iter().count());
    for value in values {
        writer.bin(value.as_bytes());
    }
}

/// Where the headers are in a message, and the texts of those values that are not UTF-8, once one
/// of them is asked for.
#[derive(Debug, Default)]
pub(crate) struct HeaderTexts {
    /// Index of the first byte of the headers in the message.
    at: usize,
    texts: OnceLock<Latin1Texts>,
}

/// Values as text in which each byte is a character.
#[derive(Debug, Default)]
struct Latin1Texts {
    text: String,
    /// For each value the index of its end in the message and the end of its text, in ascending
    /// order. A message has at most 16 MiB.
    places: Vec<(u32, u32)>,
}

impl Latin1Texts {
    /// Converts all values that are not UTF-8.
    fn of(mut headers: Reader<'_>) -> Decoded<Self> {
        let mut texts = Self::default();
        for _ in 0..headers.map()? {
            read_name(&mut headers)?;
            for _ in 0..value_count(&mut headers)? {
                let value = headers.bin()?;
                if text::from_utf8(value).is_err() {
                    texts.text.extend(value.iter().copied().map(char::from));
                    let place = (headers.index() as u32, texts.text.len() as u32);
                    texts.places.push(place);
                }
            }
        }
        Ok(texts)
    }

    /// Returns the text of the value that ends at an index.
    fn ending_at(&self, end: usize) -> Option<&str> {
        let place = self
            .places
            .binary_search_by_key(&end, |&(end, _)| end as usize);
        let place = place.ok()?;
        let start = place
            .checked_sub(1)
            .map_or(0, |before| self.places[before].1);
        self.text.get(start as usize..self.places[place].1 as usize)
    }
}

impl HeaderTexts {
    #[inline]
    pub(in crate::wire) fn release(&mut self) {
        self.texts.take();
    }

    /// Returns the text of the value before the cursor, which is not UTF-8.
    ///
    /// The first call converts all such values, so that no other one allocates.
    #[cold]
    fn before<'a>(&'a self, cursor: &Reader<'a>) -> &'a str {
        let texts = self.texts.get_or_init(|| {
            // A view is only made of headers that are valid.
            Latin1Texts::of(cursor.at(self.at)).unwrap_or_default()
        });
        texts.ending_at(cursor.index()).unwrap_or_default()
    }
}

/// Checks the headers at the cursor and moves past them. Returns the number of names and a cursor
/// over them.
#[inline]
pub(super) fn read_headers<'a>(
    source: &mut Reader<'a>,
    texts: &'a mut HeaderTexts,
) -> Decoded<(usize, HeaderCursor<'a>)> {
    texts.release();
    texts.at = source.index();
    let names = source.map()?;
    let reader = *source;
    let mut read = source.skip_numbered_bins(names);
    while read < names {
        read_name(source)?;
        for _ in 0..value_count(source)? {
            source.bin()?;
        }
        // Every short number has a name.
        read += 1 + source.skip_numbered_bins(names - read - 1);
    }
    Ok((names, HeaderCursor { reader, texts }))
}

/// Returns the number of values of a name, which follow.
#[inline]
fn value_count(source: &mut Reader<'_>) -> Decoded<usize> {
    if source.is_at_bin() {
        return Ok(1);
    }
    source.array()
}

#[inline]
fn read_name<'a>(source: &mut Reader<'a>) -> Decoded<HeaderName<'a>> {
    match number(source)? {
        Some(number) => known(number).map(HeaderName::Known),
        None => source.str().map(HeaderName::Text),
    }
}

/// Name of a header.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) enum HeaderName<'a> {
    Known(u8),
    Text(&'a str),
}

impl<'a> HeaderName<'a> {
    /// Returns a name to search for.
    pub(in crate::wire) fn wanted(name: &'a str) -> (Option<u8>, &'a str) {
        (number_of_any_case(name), name)
    }

    /// Returns whether this is a wanted name. Case does not matter.
    pub(in crate::wire) fn is(self, (number, name): (Option<u8>, &str)) -> bool {
        match self {
            Self::Known(known) => number == Some(known),
            Self::Text(text) => text.eq_ignore_ascii_case(name),
        }
    }

    pub(in crate::wire) fn as_str(self) -> &'a str {
        match self {
            Self::Known(number) => name_of(number),
            Self::Text(text) => text,
        }
    }
}

/// A cursor over headers that are already checked.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct HeaderCursor<'a> {
    reader: Reader<'a>,
    texts: &'a HeaderTexts,
}

impl<'a> HeaderCursor<'a> {
    pub(in crate::wire) fn name(&mut self) -> Decoded<HeaderName<'a>> {
        read_name(&mut self.reader)
    }

    /// Returns the number of values of the name before the cursor, which follow.
    pub(in crate::wire) fn value_count(&mut self) -> Decoded<usize> {
        value_count(&mut self.reader)
    }

    pub(in crate::wire) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        self.reader.bin()
    }

    /// Returns a value as text. If it is not UTF-8, each byte is the character with that number.
    pub(in crate::wire) fn text(&mut self) -> Decoded<&'a str> {
        let value = self.reader.bin()?;
        let texts = self.texts;
        Ok(text::from_utf8(value).unwrap_or_else(|_| texts.before(&self.reader)))
    }
}
