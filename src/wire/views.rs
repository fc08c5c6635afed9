//! Views of headers that borrow from a received frame.

use super::borrowed_headers::{self, BorrowedHeaders};
use super::decode::{Decoded, Source};
#[cfg(feature = "grpc")]
use super::protobuf;
use super::{json, msgpack};
use crate::protocol::events::{RequestHeaders, ResponseHeaders};
use crate::protocol::{FieldValue, HeaderSource};
use std::fmt;

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
    /// Invariant: `names` pairs of a string and an array of strings follow.
    pairs: Cursor<'a>,
}

/// A cursor over headers in any encoding.
#[derive(Clone, Copy)]
pub(super) enum Cursor<'a> {
    Json(json::Reader<'a>),
    MessagePack(msgpack::Reader<'a>),
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

impl<'a> Cursor<'a> {
    fn str(&mut self) -> Decoded<&'a str> {
        match self {
            Self::Json(reader) => reader.str(),
            Self::MessagePack(reader) => reader.str(),
            Self::Borrowed(reader) => reader.str(),
            #[cfg(feature = "grpc")]
            Self::Protobuf(reader) => reader.str(),
        }
    }

    fn array(&mut self) -> Decoded<usize> {
        match self {
            Self::Json(reader) => reader.array(),
            Self::MessagePack(reader) => reader.array(),
            Self::Borrowed(reader) => reader.array(),
            #[cfg(feature = "grpc")]
            Self::Protobuf(reader) => reader.array(),
        }
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
    #[cfg(feature = "grpc")]
    pub(super) fn from_protobuf(headers: protobuf::HeaderReader<'a>, names: usize) -> Self {
        Self {
            names,
            pairs: Cursor::Protobuf(headers),
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
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.get_all(name).next()
    }

    /// Returns all values of a header. Names are compared without regard to case.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.by_name()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .flat_map(|(_, values)| values)
    }

    /// Iterates over all values with their names. A name is repeated for each of its values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.by_name()
            .flat_map(|(name, values)| values.map(move |value| (name, value)))
    }

    fn by_name(&self) -> Names<'a> {
        Names {
            remaining: self.names,
            cursor: self.pairs,
        }
    }
}

impl PartialEq for HeadersView<'_> {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = self.by_name().zip(other.by_name());
        self.names == other.names
            && pairs.all(|((name, values), (other, others))| name == other && values.eq(others))
    }
}

impl HeaderSource for HeadersView<'_> {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.by_name()
            .map(|(name, values)| (name, values.map(FieldValue::Text)))
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
#[derive(Clone)]
struct Names<'a> {
    remaining: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Names<'a> {
    type Item = (&'a str, Values<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let name = self.cursor.str().ok()?;
        let len = self.cursor.array().ok()?;
        let values = Values {
            remaining: len,
            cursor: self.cursor,
        };
        for _ in 0..len {
            self.cursor.str().ok()?;
        }
        Some((name, values))
    }
}

/// Iterator over the values of one name.
#[derive(Clone)]
struct Values<'a> {
    remaining: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        self.cursor.str().ok()
    }
}
