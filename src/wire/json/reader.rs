//! JSON parsing with simd-json, and checks for invalid JSON that simd-json accepts.

use super::long_numbers::has_malformed_long_number;
use crate::debug_fields::debug_fields;
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded, Kind, Source, base64, expected};
use crate::wire::recover_id::Undecodable;
use bytes::Bytes;
use simd_json::{Buffers, ErrorType, Node, StaticNode};

/// Working memory for more than this many values is not kept.
const MAX_KEPT_NODES: usize = 16 * 1024;

/// Working memory for a longer payload is not kept.
const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Bytes of buffers that simd-json needs at most for each byte of a payload: a copy, the decoded
/// strings, and an index of four bytes.
const BUFFERS_PER_BYTE: usize = 6;

/// Maximum number of values and keys in a payload.
///
/// Each takes some 30 bytes while the payload is parsed, however short it is, so a frame full of
/// them would take 15 times its size.
const MAX_NODES: usize = 500_000;

/// Length from which a payload may have more than [`MAX_NODES`] values: each takes two bytes.
const MIN_COUNTED_LEN: usize = 2 * MAX_NODES;

/// JSON parser that keeps its working memory between messages, so that parsing allocates nothing
/// once warm.
#[derive(Default)]
pub(crate) struct JsonParser {
    buffers: Buffers,
    nodes: Option<simd_json::Tape<'static>>,
    /// Length of the longest payload that `buffers` were used for.
    longest: usize,
    /// Set if the last payload that was rejected has not been modified.
    is_unmodified: bool,
}

impl JsonParser {
    /// Parses `payload` in place, which overwrites it.
    pub(crate) fn parse<'p>(&mut self, payload: &'p mut [u8]) -> Decoded<Document<'p>> {
        let len = payload.len();
        self.is_unmodified = true;
        if len >= MIN_COUNTED_LEN && has_too_many_nodes(payload) {
            return Err(DecodeErrorKind::TooMany);
        }
        if has_lone_surrogate(payload) {
            return Err(DecodeErrorKind::NotUtf8);
        }
        // A zero byte is never valid in JSON. simd-json treats it as the end of a number and skips
        // what follows.
        if memchr::memchr(0, payload).is_some() || has_malformed_long_number(payload) {
            return Err(DecodeErrorKind::Syntax);
        }
        // simd-json decodes escapes in place, and otherwise does not modify the payload.
        self.is_unmodified = memchr::memchr(b'\\', payload).is_none();
        let mut nodes = match self.nodes.take() {
            Some(nodes) => nodes.reset(),
            None => simd_json::Tape(Vec::new()),
        };
        let filled = simd_json::fill_tape(payload, &mut self.buffers, &mut nodes);
        if len > MAX_KEPT_BYTES || nodes.0.capacity() > MAX_KEPT_NODES {
            // Freed at once: a handler may wait for long, and they take more than the payload.
            self.buffers = Buffers::default();
            self.longest = 0;
        } else {
            self.longest = self.longest.max(len);
        }
        let document = Document { nodes };
        match filled {
            Ok(()) => Ok(document),
            Err(error) => {
                self.reclaim(document);
                Err(syntax_error(error.error()))
            }
        }
    }

    /// Returns the error for a payload that [`JsonParser::parse`] has just rejected.
    ///
    /// Includes the correlation id if the payload is unmodified and the id can be found.
    pub(crate) fn undecodable(&self, error: DecodeError, payload: &[u8]) -> Undecodable {
        if self.is_unmodified {
            return Undecodable::from_json_text(error, payload);
        }
        Undecodable {
            error,
            correlation_id: None,
        }
    }

    /// Returns at least the size of the working memory that is kept, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let nodes = self.nodes.as_ref().map_or(0, |nodes| nodes.0.capacity());
        nodes * size_of::<Node<'_>>() + self.longest * BUFFERS_PER_BYTE
    }

    /// Reuses the memory of a document for the next one, unless it is unusually large.
    pub(crate) fn reclaim(&mut self, document: Document<'_>) {
        if document.nodes.0.capacity() <= MAX_KEPT_NODES {
            self.nodes = Some(document.nodes.reset());
        }
    }
}

debug_fields!(JsonParser, |self|);

/// Returns whether an escape encodes half of a surrogate pair without the other half.
///
/// simd-json would decode it to a string that is not valid UTF-8.
fn has_lone_surrogate(json: &[u8]) -> bool {
    let mut expected_low = None;
    let mut after_escape = 0;
    for at in memchr::memchr_iter(b'\\', json) {
        // The second backslash of an escaped backslash does not begin an escape.
        if at < after_escape {
            continue;
        }
        if expected_low.is_some_and(|expected| expected != at) {
            return true;
        }
        after_escape = at + 2;
        let unit = utf16_unit(&json[at + 1..]);
        let is_low = unit.is_some_and(|unit| (0xdc00..0xe000).contains(&unit));
        if is_low != expected_low.take().is_some() {
            return true;
        }
        if unit.is_some_and(|unit| (0xd800..0xdc00).contains(&unit)) {
            expected_low = Some(at + 6);
        }
    }
    expected_low.is_some()
}

/// Returns whether a payload has more than [`MAX_NODES`] values and keys: whether as many commas,
/// colons and opening brackets are outside of its strings.
fn has_too_many_nodes(json: &[u8]) -> bool {
    let mut nodes = 1;
    let mut at = 0;
    while nodes <= MAX_NODES
        && let Some(&byte) = json.get(at)
    {
        at += 1;
        match byte {
            b'"' => at += string_len(&json[at..]),
            b',' | b':' | b'[' | b'{' => nodes += 1,
            _ => {}
        }
    }
    nodes > MAX_NODES
}

/// Returns the length of the rest of a string, with its closing quote.
fn string_len(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &rest[at.min(rest.len())..]) {
        at += found + 1;
        if rest[at - 1] == b'"' {
            return at;
        }
        // The character after a backslash does not end the string.
        at += 1;
    }
    rest.len()
}

/// Returns the UTF-16 code unit of an escape such as `u00e9`.
fn utf16_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn syntax_error(error: &ErrorType) -> DecodeErrorKind {
    match error {
        ErrorType::InvalidUtf8 => DecodeErrorKind::NotUtf8,
        _ => DecodeErrorKind::Syntax,
    }
}

/// A parsed payload.
#[derive(Debug)]
pub(crate) struct Document<'p> {
    nodes: simd_json::Tape<'p>,
}

impl Document<'_> {
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            nodes: &self.nodes.0,
        }
    }

    /// Returns the size of the document's memory in bytes, apart from the payload.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.0.capacity() * size_of::<Node<'_>>()
    }
}

/// A cursor over parsed JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    nodes: &'a [Node<'a>],
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Decoded<Node<'a>> {
        let (first, rest) = self.nodes.split_first().ok_or(DecodeErrorKind::CutShort)?;
        self.nodes = rest;
        Ok(*first)
    }
}

impl<'a> Source<'a> for Reader<'a> {
    fn peek(&self) -> Decoded<Kind> {
        Ok(match self.nodes.first().ok_or(DecodeErrorKind::CutShort)? {
            Node::String(_) => Kind::Str,
            Node::Object { .. } => Kind::Map,
            Node::Array { .. } => Kind::Array,
            Node::Static(StaticNode::Null) => Kind::Null,
            Node::Static(StaticNode::Bool(_)) => Kind::Bool,
            Node::Static(StaticNode::F64(_)) => Kind::Float,
            Node::Static(_) => Kind::Integer,
        })
    }

    fn map(&mut self) -> Decoded<usize> {
        expected!(self.next()?, Node::Object { len, .. } => len)
    }

    fn array(&mut self) -> Decoded<usize> {
        expected!(self.next()?, Node::Array { len, .. } => len)
    }

    fn str(&mut self) -> Decoded<&'a str> {
        expected!(self.next()?, Node::String(text) => text)
    }

    fn bool(&mut self) -> Decoded<bool> {
        expected!(self.next()?, Node::Static(StaticNode::Bool(flag)) => flag)
    }

    fn integer(&mut self) -> Decoded<i128> {
        match self.next()? {
            Node::Static(StaticNode::U64(number)) => Ok(i128::from(number)),
            Node::Static(StaticNode::I64(number)) => Ok(i128::from(number)),
            _ => Err(DecodeErrorKind::WrongType),
        }
    }

    fn float(&mut self) -> Decoded<f64> {
        match self.next()? {
            Node::Static(StaticNode::F64(number)) => Ok(number),
            Node::Static(StaticNode::U64(number)) => Ok(number as f64),
            Node::Static(StaticNode::I64(number)) => Ok(number as f64),
            _ => Err(DecodeErrorKind::WrongType),
        }
    }

    fn body(&mut self) -> Decoded<Bytes> {
        base64(self.str()?)
    }

    fn skip_key(&mut self, name: &str) -> bool {
        match self.nodes.split_first() {
            Some((Node::String(key), rest)) if *key == name => {
                self.nodes = rest;
                true
            }
            _ => false,
        }
    }

    fn skip(&mut self) -> Decoded<()> {
        let nested = match self.next()? {
            Node::Object { count, .. } | Node::Array { count, .. } => count,
            Node::String(_) | Node::Static(_) => 0,
        };
        self.nodes = self.nodes.get(nested..).ok_or(DecodeErrorKind::CutShort)?;
        Ok(())
    }
}
