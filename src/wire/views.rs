//! Views of headers that borrow from a received frame.

use super::borrowed_headers::{self, BorrowedHeaders};
use super::compact::{HeaderCursor, HeaderName};
use super::decode::{Decoded, Source};
#[cfg(feature = "grpc")]
use super::protobuf;
use super::{json, msgpack};
use crate::protocol::events::{RequestHeaders, ResponseHeaders};
use crate::protocol::{FieldValue, HeaderSource};
use std::fmt;
use std::marker::PhantomData;

/// Request headers that borrow from a received frame, or from the event of a proxy in the same
/// process.
pub type RequestHeadersView<'a> = RequestHeaders<'a, HeadersView<'a>>;

/// Response headers that borrow from a received frame, or from the event of a proxy in the same
/// process.
pub type ResponseHeadersView<'a> = ResponseHeaders<'a, HeadersView<'a>>;

/// Headers that are read in place from a received frame, without copying, or from the event of a
/// proxy in the same process.
#[derive(Clone, Copy)]
pub struct HeadersView<'a> {
    names: usize,
    /// Invariant: `names` pairs of a name and its values follow.
    pairs: Cursor<'a>,
}

/// A cursor over headers in any encoding.
#[derive(Clone, Copy)]
pub(super) enum Cursor<'a> {
    Json(json::Reader<'a>),
    MessagePack(msgpack::Reader<'a>),
    Compact(HeaderCursor<'a>),
    Borrowed(borrowed_headers::Reader<'a>),
    #[cfg(feature = "grpc")]
    Protobuf(protobuf::HeaderReader<'a>),
}

impl<'a> From<json::Reader<'a>> for Cursor<'a> {
    fn from(reader: json::Reader<'a>) -> Self {
        Self::Json(reader)
    }
}

impl<'a> From<msgpack::Reader<'a>> for Cursor<'a> {
    fn from(reader: msgpack::Reader<'a>) -> Self {
        Self::MessagePack(reader)
    }
}

#[cfg(feature = "grpc")]
impl<'a> From<protobuf::HeaderReader<'a>> for Cursor<'a> {
    fn from(headers: protobuf::HeaderReader<'a>) -> Self {
        Self::Protobuf(headers)
    }
}

impl<'a> From<HeaderCursor<'a>> for Cursor<'a> {
    fn from(headers: HeaderCursor<'a>) -> Self {
        Self::Compact(headers)
    }
}

impl<'a> Cursor<'a> {
    fn name(&mut self) -> Decoded<HeaderName<'a>> {
        match self {
            Self::Json(reader) => reader.str().map(HeaderName::Text),
            Self::MessagePack(reader) => reader.str().map(HeaderName::Text),
            Self::Borrowed(reader) => reader.str().map(HeaderName::Text),
            Self::Compact(headers) => headers.name(),
            #[cfg(feature = "grpc")]
            Self::Protobuf(reader) => reader.str().map(HeaderName::Text),
        }
    }

    /// Returns the number of values of the name before the cursor, which follow.
    fn value_count(&mut self) -> Decoded<usize> {
        match self {
            Self::Json(reader) => reader.array(),
            Self::MessagePack(reader) => reader.array(),
            Self::Borrowed(reader) => reader.array(),
            Self::Compact(headers) => headers.value_count(),
            #[cfg(feature = "grpc")]
            Self::Protobuf(reader) => reader.array(),
        }
    }

    fn text(&mut self) -> Decoded<&'a str> {
        match self {
            Self::Json(reader) => reader.str(),
            Self::MessagePack(reader) => reader.str(),
            Self::Compact(headers) => headers.text(),
            Self::Borrowed(reader) => reader.str(),
            #[cfg(feature = "grpc")]
            Self::Protobuf(reader) => reader.str(),
        }
    }

    fn bytes(&mut self) -> Decoded<&'a [u8]> {
        match self {
            Self::Compact(headers) => headers.bytes(),
            _ => self.text().map(str::as_bytes),
        }
    }

    fn skip_value(&mut self) -> Decoded<()> {
        self.bytes().map(drop)
    }
}

/// A form of header values.
trait Form<'a>: Sized {
    fn read(cursor: &mut Cursor<'a>) -> Decoded<Self>;
}

impl<'a> Form<'a> for &'a str {
    fn read(cursor: &mut Cursor<'a>) -> Decoded<Self> {
        cursor.text()
    }
}

impl<'a> Form<'a> for FieldValue<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Decoded<Self> {
        match cursor {
            Cursor::Compact(headers) => headers.bytes().map(FieldValue::Bytes),
            _ => cursor.text().map(FieldValue::Text),
        }
    }
}

impl<'a> Form<'a> for &'a [u8] {
    fn read(cursor: &mut Cursor<'a>) -> Decoded<Self> {
        cursor.bytes()
    }
}

impl<'a> HeadersView<'a> {
    /// Validates the headers at the cursor and moves past them.
    pub(super) fn read<S>(source: &mut S) -> Decoded<Self>
    where
        S: Source<'a> + Into<Cursor<'a>>,
    {
        let names = source.map()?;
        let pairs = source.clone().into();
        for _ in 0..names {
            source.str()?;
            for _ in 0..source.array()? {
                source.str()?;
            }
        }
        Ok(Self { names, pairs })
    }

    /// Creates a view of the headers of a borrowed event.
    pub(super) fn borrowed(headers: &'a BorrowedHeaders<'a>) -> Self {
        Self {
            names: headers.names(),
            pairs: Cursor::Borrowed(headers.reader()),
        }
    }

    /// Creates a view of `names` distinct headers that are already validated.
    pub(super) fn new(names: usize, headers: impl Into<Cursor<'a>>) -> Self {
        Self {
            names,
            pairs: headers.into(),
        }
    }

    /// Returns the number of distinct names.
    pub fn len(&self) -> usize {
        self.names
    }

    /// Returns whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// Returns the first value of a header. Names are compared without regard to case.
    ///
    /// A value that is not UTF-8 is text in which each byte is the character with that number; see
    /// [`bytes_of_latin1`](crate::headers::bytes_of_latin1).
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.get_all(name).next()
    }

    /// Returns all values of a header. Names are compared without regard to case.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values_of(name)
    }

    /// Returns the first value of a header as bytes. Names are compared without regard to case.
    ///
    /// With version 2 of the extension in MessagePack they are the bytes of the HTTP message.
    /// Otherwise they are those of the text that [`get`](Self::get) returns.
    pub fn get_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.get_all_bytes(name).next()
    }

    /// Returns all values of a header as bytes, as [`get_bytes`](Self::get_bytes) returns the
    /// first.
    pub fn get_all_bytes(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.values_of(name)
    }

    /// Iterates over all values with their names. A name is repeated for each of its values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.named_values()
    }

    /// Iterates over all values as bytes, with their names. A name is repeated for each of its
    /// values. See [`get_bytes`](Self::get_bytes).
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.named_values()
    }

    fn values_of<F: Form<'a>>(&self, name: &str) -> impl Iterator<Item = F> {
        let wanted = HeaderName::wanted(name);
        self.by_name()
            .filter(move |(candidate, _)| candidate.is(wanted))
            .flat_map(|(_, values)| values)
    }

    fn named_values<F: Form<'a>>(&self) -> impl Iterator<Item = (&'a str, F)> + use<'a, F> {
        self.by_name()
            .flat_map(|(name, values)| values.map(move |value| (name.as_str(), value)))
    }

    fn by_name<F>(&self) -> Names<'a, F> {
        Names {
            remaining: self.names,
            cursor: self.pairs,
            form: PhantomData,
        }
    }
}

impl PartialEq for HeadersView<'_> {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = self.by_name::<&str>().zip(other.by_name::<&str>());
        self.names == other.names
            && pairs.all(|((name, values), (other, others))| {
                name.as_str() == other.as_str() && values.eq(others)
            })
    }
}

impl HeaderSource for HeadersView<'_> {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.by_name().map(|(name, values)| (name.as_str(), values))
    }

    fn max_names(&self) -> usize {
        self.names
    }
}

impl fmt::Debug for HeadersView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterator over names, each with an iterator over its values.
struct Names<'a, F> {
    remaining: usize,
    cursor: Cursor<'a>,
    form: PhantomData<fn() -> F>,
}

impl<'a, F> Iterator for Names<'a, F> {
    type Item = (HeaderName<'a>, Values<'a, F>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let name = self.cursor.name().ok()?;
        let len = self.cursor.value_count().ok()?;
        let values = Values {
            remaining: len,
            cursor: self.cursor,
            form: PhantomData,
        };
        for _ in 0..len {
            self.cursor.skip_value().ok()?;
        }
        Some((name, values))
    }
}

/// Iterator over the values of one name.
struct Values<'a, F> {
    remaining: usize,
    cursor: Cursor<'a>,
    form: PhantomData<fn() -> F>,
}

impl<F> Clone for Values<'_, F> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, F: Form<'a>> Iterator for Values<'a, F> {
    type Item = F;

    fn next(&mut self) -> Option<F> {
        self.remaining = self.remaining.checked_sub(1)?;
        F::read(&mut self.cursor).ok()
    }
}
