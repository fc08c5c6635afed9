//! Recovery of the correlation id from a payload that cannot be decoded.

use super::decode::{DecodeError, DecodeErrorKind, Kind, Source};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Keys of maps that may contain a correlation id. It may also be at the top level.
const PARENTS: &[&str] = &["metadata", "audit", "custom"];

/// Depth of the search. The maps named by [`PARENTS`] are at most this deep below the top level.
const MAX_SEARCH_DEPTH: usize = 3;

/// A message that cannot be decoded.
#[derive(Debug, PartialEq)]
pub struct Undecodable {
    /// The error.
    pub error: DecodeError,
    /// Correlation id of the message, if it was found before the invalid part.
    pub correlation_id: Option<String>,
}

impl Undecodable {
    /// Searches values that can be read, although they are not a valid message.
    pub(super) fn from_values<'a>(error: DecodeError, mut source: impl Source<'a>) -> Self {
        let mut found = None;
        // The search ends at the first invalid value. An id found before it is used.
        let _ = find_id(&mut source, &mut found, MAX_SEARCH_DEPTH);
        Self {
            error,
            correlation_id: found.filter(|id| !id.is_empty()).map(str::to_owned),
        }
    }

    /// Searches text that is not valid JSON.
    pub(super) fn from_json_text(error: DecodeError, payload: &[u8]) -> Self {
        let mut found = None;
        let mut json = serde_json::Deserializer::from_slice(payload);
        let _ = FindId(&mut found).deserialize(&mut json);
        Self {
            error,
            correlation_id: found.filter(|id| !id.is_empty()),
        }
    }

    /// Creates an error without a correlation id.
    pub(super) fn without_id(error: DecodeError) -> Self {
        Self {
            error,
            correlation_id: None,
        }
    }
}

fn find_id<'a, S: Source<'a>>(
    source: &mut S,
    found: &mut Option<&'a str>,
    depth: usize,
) -> Result<(), DecodeErrorKind> {
    if source.peek()? == Kind::Array {
        // Structs written as arrays begin with their correlation id if they have one.
        source.array()?;
        if source.peek()? == Kind::Str {
            found.get_or_insert(source.str()?);
        }
        return Ok(());
    }
    for _ in 0..source.map()? {
        match source.str()? {
            "correlation_id" if source.peek()? == Kind::Str => {
                found.get_or_insert(source.str()?);
            }
            key if PARENTS.contains(&key) && depth > 0 => {
                let mut nested = source.clone();
                let skipped = source.skip();
                // Search even if the map is invalid, since the id may precede the invalid part.
                let _ = find_id(&mut nested, found, depth - 1);
                skipped?;
            }
            _ => source.skip()?,
        }
    }
    Ok(())
}

/// Searches a JSON value for a correlation id, and keeps the id even if an error follows.
struct FindId<'f>(&'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for FindId<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FindId<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut candidate = None;
        loop {
            // An id is accepted only if valid JSON follows it.
            let key = map.next_key::<String>()?;
            if let Some(id) = candidate.take() {
                self.0.get_or_insert(id);
            }
            match key.as_deref() {
                None => return Ok(()),
                Some("correlation_id") => candidate = Some(map.next_value::<String>()?),
                Some(key) if PARENTS.contains(&key) => map.next_value_seed(FindId(&mut *self.0))?,
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{JsonParser, msgpack};
    use bytes::Bytes;

    const ERROR: DecodeError = DecodeError {
        message: "test",
        kind: DecodeErrorKind::Syntax,
    };

    fn json(text: &str) -> Option<String> {
        Undecodable::from_json_text(ERROR, text.as_bytes()).correlation_id
    }

    fn parsed_json(text: &str) -> Option<String> {
        let mut text = text.as_bytes().to_vec();
        let mut parser = JsonParser::default();
        let document = parser.parse(&mut text).unwrap();
        Undecodable::from_values(ERROR, document.reader()).correlation_id
    }

    fn in_msgpack(payload: &Bytes) -> Option<String> {
        Undecodable::from_values(ERROR, msgpack::Reader::new(payload)).correlation_id
    }

    fn msgpack(value: &serde_json::Value) -> Bytes {
        rmp_serde::to_vec_named(value).unwrap().into()
    }

    #[test]
    fn ids_are_found_at_every_known_location() {
        assert_eq!(json(r#"{"correlation_id":"a"}"#).as_deref(), Some("a"));
        assert_eq!(
            json(r#"{"x":[1],"metadata":{"y":2,"correlation_id":"a"}}"#).as_deref(),
            Some("a")
        );
        let answer =
            serde_json::json!({"decision": 7, "audit": {"custom": {"correlation_id": "a"}}});
        assert_eq!(json(&answer.to_string()).as_deref(), Some("a"));
        assert_eq!(in_msgpack(&msgpack(&answer)).as_deref(), Some("a"));
    }

    #[test]
    fn escapes_in_an_id_are_decoded_once() {
        let id = "a\",\"correlation_id\":\"b";
        let text = serde_json::json!({"correlation_id": id, "status": "x"}).to_string();
        assert_eq!(parsed_json(&text).as_deref(), Some(id));
        assert_eq!(json(&text).as_deref(), Some(id));
    }

    #[test]
    fn ids_before_the_invalid_part_are_found() {
        assert_eq!(
            json(r#"{"correlation_id":"a","data":"#).as_deref(),
            Some("a")
        );
        assert_eq!(
            json(r#"{"metadata":{"correlation_id":"a","x":"#).as_deref(),
            Some("a")
        );
        let whole = msgpack(&serde_json::json!({"correlation_id": "a", "data": "xxxxxxxxxxx"}));
        let cut = whole.slice(..whole.len() - 3);
        assert_eq!(in_msgpack(&cut).as_deref(), Some("a"));
        let nested =
            msgpack(&serde_json::json!({"metadata": {"correlation_id": "a", "x": "xxxx"}}));
        let cut = nested.slice(..nested.len() - 3);
        assert_eq!(in_msgpack(&cut).as_deref(), Some("a"));
    }

    #[test]
    fn no_id_is_found_in_invalid_input() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            r#"{"correlation_id":7}"#,
            r#"{"correlation_id":"a"b"}"#,
        ] {
            assert_eq!(json(text), None, "{text}");
        }
        for bytes in [&[][..], &[0xc1], &[0x80], &[0x91], &[0x81, 0xa1, b'x']] {
            let payload = Bytes::copy_from_slice(bytes);
            assert_eq!(in_msgpack(&payload), None);
        }
    }
}
